"""Slots in 8 bits: a code for each element, and an exponent for every group of neighbours."""

from __future__ import annotations

from typing import Any

from steprule.formats.codec import GROUP, Codec, Planes, PlaneSpec
from steprule.formats.curve import INFINITY, MAGNITUDE, NAN, NORMAL, Curve
from steprule.formats.rounding import Rounding
from steprule.formats.slot import SlotFormat
from steprule.language import maximum, where
from steprule.language.bits import from_bits, to_bits

__all__ = ["EIGHT_BIT"]

_UNKNOWN = 1
"""The code of what is not finite. It takes no part in the scale, so its neighbours are as they are."""
_SIGNED = Curve(size=7)


def _encode_signed(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Codes: 3 to 127 a magnitude, 0 zero; 128 more is the sign. 1 is NaN, of no sign.

    What lies below the least code becomes zero: no number grows to more than twice itself.
    """
    word = to_bits(value)
    size = word & MAGNITUDE
    scale = _SIGNED.scale(size)
    code = where(size < _SIGNED.least_place(scale), 0, _SIGNED.code(size, scale, rounding))
    code = (code & 0x7F) | ((word >> 24) & 0x80)
    return {"": where(size < INFINITY, code, _UNKNOWN), "scale": scale}


def _decode_signed(planes: Planes) -> Any:
    size = planes[""] & 0x7F
    word = where(size == 0, 0, _SIGNED.word(size, planes["scale"]))
    return from_bits(where(size == _UNKNOWN, NAN, word) | ((planes[""] & 0x80) << 24))


_NON_NEGATIVE = Curve(size=8)


def _encode_non_negative(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Codes: 3 to 255 a number, 0 zero, 1 infinity, also for NaN and for what is negative, which there must not be.

    No number falls to less than half of itself, and none to zero: dividing by its root would make a huge step. A step
    divided by infinity is none.
    """
    scale = _NON_NEGATIVE.scale(to_bits(value))
    word = to_bits(value + 0.0)  # of -0.0 as of 0.0
    code = _NON_NEGATIVE.code(maximum(word, _NON_NEGATIVE.least(scale)), scale, rounding)
    code = where(word < NORMAL, 0, code & 0xFF)
    return {"": where(word < INFINITY, code, _UNKNOWN), "scale": scale}


def _decode_non_negative(planes: Planes) -> Any:
    code = planes[""]
    word = where(code == 0, 0, _NON_NEGATIVE.word(code, planes["scale"]))
    return from_bits(where(code == _UNKNOWN, INFINITY, word))


_NAME = "8bit"
_PLANES = (PlaneSpec("", "uint8"), PlaneSpec("scale", "uint8", "group"))
EIGHT_BIT = SlotFormat(
    _NAME,
    "8 bits",
    signed=Codec(_NAME, _PLANES, _decode_signed, _encode_signed, f"{_NAME} signed {GROUP}"),
    non_negative=Codec(_NAME, _PLANES, _decode_non_negative, _encode_non_negative, f"{_NAME} non-negative {GROUP}"),
)
