"""Slots in 4 bits: two codes a byte, and an exponent for every group of neighbours.

So few codes are best spent on range: a code is a power of two, and what lies between two of them is rounded
stochastically to one of them, without bias. In the bits of a float32 that is an exponent, which random bits
are added to and carried into: no root, and no table.
"""

from __future__ import annotations

from typing import Any

from steprule.formats.codec import GROUP, Codec, Planes, PlaneSpec
from steprule.formats.curve import INFINITY, MAGNITUDE, NAN, NORMAL, largest_exponent
from steprule.formats.rounding import Rounding
from steprule.formats.slot import SlotFormat
from steprule.language import maximum, minimum, where
from steprule.language.bits import from_bits, to_bits

__all__ = ["FOUR_BIT"]

_LARGEST = 0x7F7FFFFF
_SIGN, _TOP = 8, 7
_UNKNOWN_SIGNED, _UNKNOWN = _SIGN, 1
"""The codes of what is not finite: of a signed slot, that of -0. It takes no part in the scale of its group."""


def _scale(word: Any, octaves: int) -> Any:
    """Return the exponent of a group's largest finite number, or that whose least code is the smallest normal number.

    The last code is the power of two above that number, the least so many octaves below.
    """
    return maximum(largest_exponent(word), octaves)


def _encode_signed(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Codes: 1 to 7 a magnitude, 0 zero; 8 more is the sign. 8 is NaN.

    What lies below the least code becomes it or zero, stochastically too: if always zero, an element would never move
    beside one whose gradients are 64 times as large.
    """
    word = to_bits(value)
    size = word & MAGNITUDE
    scale = _scale(size, _TOP - 1)
    known = where(size < NORMAL, 0, size)
    least = (scale - (_TOP - 2)) << 23
    # In the octave below the least code lie the numbers from zero to it, at equal distances.
    place = where(known < least, to_bits(from_bits(known) + from_bits(least)) - (1 << 23), known)
    code = ((place + (rounding.addend(16) << 7)) >> 23) - (scale - (_TOP - 1))
    code = where(code == 0, 0, code | ((word >> 28) & _SIGN))
    return {"": where(size < INFINITY, code, _UNKNOWN_SIGNED), "scale": scale}


def _decode_signed(planes: Planes) -> Any:
    code = planes[""]
    size = code & _TOP
    # Beside the largest exponent the last code would be infinity.
    word = where(size == 0, 0, minimum((size + (planes["scale"] - (_TOP - 1))) << 23, _LARGEST))
    return from_bits(where(code == _UNKNOWN_SIGNED, NAN, word | ((code & _SIGN) << 28)))


_FIRST, _MIDDLE, _LAST = 2, 7, 15
_OCTAVES = _MIDDLE - _FIRST + (_LAST - _MIDDLE) // 2


def _encode_non_negative(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Codes: 2 to 15 a number, 0 zero, 1 infinity, also for NaN and for what is negative, which there must not be.

    From code 7, a 16th of the last, there is one halfway between two powers of two as well: a step is divided by the
    root of what is kept. No number falls to less than half of itself, and none to zero: that would make a huge step.
    """
    scale = _scale(to_bits(value), _OCTAVES)
    word = to_bits(value + 0.0)  # of -0.0 as of 0.0
    middle = (scale - 3) << 23
    # Half octaves as long as octaves are. Signed: a number far below the least code has none.
    place = where(word < middle, word, (word << 1) - middle)
    code = ((place + (rounding.addend(16) << 7)) >> 23) - (scale - 3 - _MIDDLE)
    code = where(word < NORMAL, 0, maximum(code, _FIRST))
    return {"": where(word < INFINITY, code, _UNKNOWN), "scale": scale}


def _decode_non_negative(planes: Planes) -> Any:
    code = planes[""]
    above = code - _MIDDLE
    word = ((planes["scale"] - 3) << 23) + where(code < _MIDDLE, above << 23, above << 22)
    return from_bits(where(code == _UNKNOWN, INFINITY, where(code == 0, 0, minimum(word, _LARGEST))))


_NAME = "4bit"
_PLANES = (PlaneSpec("", "uint8", packing=2), PlaneSpec("scale", "uint8", "group"))
FOUR_BIT = SlotFormat(
    _NAME,
    "4 bits",
    signed=Codec(_NAME, _PLANES, _decode_signed, _encode_signed, f"{_NAME} signed {GROUP}"),
    non_negative=Codec(_NAME, _PLANES, _decode_non_negative, _encode_non_negative, f"{_NAME} non-negative {GROUP}"),
    error=0.5,  # a power of two for what is up to a half above it makes 0.27
)
