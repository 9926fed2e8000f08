"""Codes of a group of neighbours: dense near its largest number, and down to a small part of it."""

from __future__ import annotations

from typing import Any

from steprule.language import maximum, where
from steprule.language.bits import from_bits, group_max, to_bits, to_float

__all__ = ["INFINITY", "MAGNITUDE", "NAN", "NORMAL", "Curve", "ordinary"]

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
        self.below = 23 - size  # binary places that are cut off
        self.least = _ONE + (3 << self.below)
        # The exponent of a group whose least code is the smallest normal number: groups of smaller ones have it, too.
        self._lowest = 4 * (size - 2)

    def scale(self, word: Any) -> Any:
        """Return the exponent of the largest number of the group, as a float's bits have it."""
        return maximum(group_max(word) >> 23, self._lowest)

    def place(self, word: Any, scale: Any) -> Any:
        """Return a code with ``below`` binary places more, above the bits of a one: 1 + y as bits, less a step."""
        least = (scale << 23) - (126 << 23)
        x = maximum(word, least) - least
        return to_bits(from_bits((x >> self._ROOT) + self._ZERO) + 1.0) - (1 << self.below)

    def word(self, code: Any, scale: Any) -> Any:
        """Return the bits of a code's number; those of some number for code 0."""
        # Beside the largest exponent the last code would be infinity; four units down it is a number.
        above = where(scale == 254, INFINITY - 4, (scale + 1) << 23)
        steps = self._ZERO + (self._size << 23)  # of y in the bits of 2**size y
        return (to_bits(to_float(code + 1)) << self._ROOT) + (above - _ONE - (steps << self._ROOT))


def ordinary(word: Any) -> Any:
    """Return a word that is the bits of a normal number, and 0 for others: zero, smaller ones, and not finite ones."""
    return where((word - NORMAL) < INFINITY - NORMAL, word, 0)
