"""Slots in fewer bits: bfloat16, and 8 bits with an exponent for every group of neighbours.

Rounded to nearest, an average that moves by less than half a step of its format stands still: with beta2 = 0.999 the
second moment can neither grow nor decay. So what is cut off decides by chance which way a number is rounded, and the
mean is right (docs/formats.md has the measurements).
"""

from __future__ import annotations

from typing import Any

from steprule.formats.draws import Draws
from steprule.formats.kept import GROUP, Kept, Part, Parts
from steprule.formats.plain import flush
from steprule.language import maximum, minimum, where
from steprule.language.words import bits, group_max, real, whole

__all__ = ["BFLOAT16", "NON_NEGATIVE_8BIT", "SIGNED_8BIT"]

_ONE = 0x3F800000
_INFINITY, _NAN, _LARGEST, _NORMAL = 0x7F800000, 0x7FC00000, 0x7F7FFFFF, 0x00800000
_MAGNITUDE = 0x7FFFFFFF
_SIGN = 0x80000000


def _encode_bfloat16(value: Any, draws: Draws) -> dict[str, Any]:
    """Keep the upper half. A finite number stays finite."""
    word = bits(flush(value, "float32"))
    size = word & _MAGNITUDE
    rounded = minimum(size + draws.take(16), _LARGEST) | (word & _SIGN)
    return {"": where(size < _INFINITY, rounded, where(value == value, word, _NAN)) >> 16}


BFLOAT16 = Kept("bfloat16", (Part("", "uint16"),), lambda parts: real(parts[""] << 16), _encode_bfloat16)


class _Curve:
    """Where the codes of a group lie: denser near its largest number, and down to a 2^20th or a 2^24th of it.

    With 2^e the power of two above the largest magnitude of the group, x = |value| / 2^e lies in (0, 1). Read as an
    integer, a float's bits are a piecewise linear logarithm; a quarter of them is the bits of a piecewise linear
    fourth root y of x. Code c stands for y = (c + 1) / ``2**size``: the last is 2^e itself, every power of two has a
    code, and between two codes x is linear in y, so that rounding y by chance keeps the mean of x. All is done in
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
        return bits(real((x >> self._ROOT) + self._ZERO) + 1.0) - (1 << self.below)

    def word(self, code: Any, scale: Any) -> Any:
        """Return the bits of a code's number; those of some number for code 0."""
        # Beside the largest exponent the last code would be infinity; four units down it is a number.
        above = where(scale == 254, _INFINITY - 4, (scale + 1) << 23)
        steps = self._ZERO + (self._size << 23)  # of y in the bits of 2**size y
        return (bits(whole(code + 1)) << self._ROOT) + (above - _ONE - (steps << self._ROOT))


def _ordinary(word: Any) -> Any:
    """Return a word that is the bits of a normal number, and 0 for others: zero, smaller ones, and not finite ones."""
    return where((word - _NORMAL) < _INFINITY - _NORMAL, word, 0)


_UNKNOWN = 1
"""The code of what is not finite. It takes no part in the scale, so its neighbours are as they are."""
_SIGNED = _Curve(size=7)


def _encode_signed(value: Any, draws: Draws) -> dict[str, Any]:
    """Codes: 3 to 127 a magnitude, 0 zero; 128 more is the sign. 1 is NaN, of no sign.

    What lies below the least code becomes zero: no number grows to more than twice itself.
    """
    word = bits(value)
    size = word & _MAGNITUDE
    known = _ordinary(size)
    scale = _SIGNED.scale(known)
    place = _SIGNED.place(known, scale)
    code = (place + draws.take(_SIGNED.below)) >> _SIGNED.below
    code = where(place < _SIGNED.least, 0, code & 0x7F) | ((word >> 24) & 0x80)
    return {"": where(size < _INFINITY, code, _UNKNOWN), "scale": scale}


def _decode_signed(parts: Parts) -> Any:
    size = parts[""] & 0x7F
    word = where(size == 0, 0, _SIGNED.word(size, parts["scale"]))
    return real(where(size == _UNKNOWN, _NAN, word) | ((parts[""] & 0x80) << 24))


_NON_NEGATIVE = _Curve(size=8)


def _encode_non_negative(value: Any, draws: Draws) -> dict[str, Any]:
    """Codes: 3 to 255 a number, 0 zero, 1 infinity, also for NaN and for what is negative, which there must not be.

    No number falls to less than half of itself, and none to zero: dividing by its root would make a huge step. A step
    divided by infinity is none.
    """
    word = bits(value + 0.0)  # of -0.0 as of 0.0
    known = _ordinary(word)
    scale = _NON_NEGATIVE.scale(known)
    place = _NON_NEGATIVE.place(known, scale)
    code = maximum((place + draws.take(15)) >> 15, _NON_NEGATIVE.least >> 15)
    code = where(known == 0, 0, code & 0xFF)
    return {"": where(word < _INFINITY, code, _UNKNOWN), "scale": scale}


def _decode_non_negative(parts: Parts) -> Any:
    code = parts[""]
    word = where(code == 0, 0, _NON_NEGATIVE.word(code, parts["scale"]))
    return real(where(code == _UNKNOWN, _INFINITY, word))


_PARTS = (Part("", "uint8"), Part("scale", "uint8", "group"))
SIGNED_8BIT = Kept("8bit", _PARTS, _decode_signed, _encode_signed, f"8bit signed {GROUP}")
NON_NEGATIVE_8BIT = Kept("8bit", _PARTS, _decode_non_negative, _encode_non_negative, f"8bit non-negative {GROUP}")
