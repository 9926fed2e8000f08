"""Codes of a group of neighbours: dense near its largest number, and down to a small part of it."""

from __future__ import annotations

from typing import Any

from steprule.formats.rounding import Rounding
from steprule.language import maximum, where
from steprule.language.bits import from_bits, group_max, to_bits, to_float

__all__ = ["INFINITY", "MAGNITUDE", "NAN", "NORMAL", "Curve", "largest_exponent"]

_ONE = 0x3F800000
INFINITY, NAN, NORMAL, MAGNITUDE = 0x7F800000, 0x7FC00000, 0x00800000, 0x7FFFFFFF


class Curve:
    """Where the codes of a group lie: denser near its largest number, and down to a 2^20th or a 2^24th of it.

    With 2^e the power of two above the largest magnitude of the group, x = |value| / 2^e lies in (0, 1). Read as an
    integer, a float's bits are a piecewise linear logarithm; a quarter of them is the bits of a piecewise linear
    fourth root y of x. Code c stands for y = (c + 1) / ``2**size``: the last is 2^e itself, every power of two has a
    code, and between two codes x is linear in y, so that stochastic rounding of y keeps the mean of x. All is done in
    integers, so nothing over- or underflows, and a code's number is encoded as that code again. A number that is not
    zero has a code of at least 3, where codes are a factor of 2 apart.

    Args:
        size: bits of a code.
    """

    _ROOT = 2  # twice a square root
    _ZERO = _ONE - (_ONE >> _ROOT)

    def __init__(self, size: int) -> None:
        self._size = size
        self._below = 23 - size  # binary places that are cut off
        # The exponent of a group whose least code is the smallest normal number: groups of smaller ones have it, too.
        self._lowest = 4 * (size - 2)

    def scale(self, word: Any) -> Any:
        """Return the exponent of the largest finite number of the group, as a float's bits have it."""
        return maximum(largest_exponent(word), self._lowest)

    def least(self, scale: Any) -> Any:
        """Return the bits of the number of code 3, the least."""
        return (scale - (self._lowest - 1)) << 23

    def least_place(self, scale: Any) -> Any:
        """Return the bits of the smallest normal number whose place is that of code 3, to which 1 + y is rounded."""
        return maximum(self.least(scale) - (1 << self._size), NORMAL)

    def code(self, word: Any, scale: Any, rounding: Rounding) -> Any:
        """Return the code of a number from ``least_place`` up; of what lies below or is not finite some bits.

        It has further bits above those of a code.
        """
        # In front of the binary point is a one, so that the places have a fixed value.
        fixed = to_bits(from_bits((word >> self._ROOT) + (self._ZERO - self._root_of_least(scale))) + 1.0)
        # One less, since y is that of the next code. Beside random bits this costs nothing: it is a bit pattern.
        return (fixed + (rounding.addend(self._below) - (1 << self._below))) >> self._below

    def _root_of_least(self, scale: Any) -> Any:
        """Return a quarter of the bits of 2^e, less those of one; of integers, which may be negative."""
        return (scale << (23 - self._ROOT)) - (126 << (23 - self._ROOT))

    def word(self, code: Any, scale: Any) -> Any:
        """Return the bits of a code's number; those of some number for code 0."""
        # Beside the largest exponent the last code would be infinity; four units down it is a number.
        above = where(scale == 254, INFINITY - 4, (scale + 1) << 23)
        steps = self._ZERO + (self._size << 23)  # of y in the bits of 2**size y
        return (to_bits(to_float(code + 1)) << self._ROOT) + (above - _ONE - (steps << self._ROOT))


def largest_exponent(word: Any) -> Any:
    """Return the exponent of the largest finite number of a group, as its bits have it; 0 where there is none.

    Args:
        word: the bits of numbers. Those with a sign count as not finite.
    """
    # Counted from infinity on, the bits of finite numbers are larger than all others: one operation instead of three.
    largest = group_max(word - INFINITY) + INFINITY
    return where(largest < INFINITY, largest >> 23, 0)
