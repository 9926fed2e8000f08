"""Slots in bfloat16: the upper half of a float32."""

from __future__ import annotations

from typing import Any

from steprule.formats.codec import Codec, PlaneSpec
from steprule.formats.plain import flush
from steprule.formats.rounding import Rounding
from steprule.formats.slot import SlotFormat
from steprule.language import minimum, where
from steprule.language.bits import from_bits, to_bits

__all__ = ["BFLOAT16"]

_INFINITY, _NAN, _LARGEST = 0x7F800000, 0x7FC00000, 0x7F7FFFFF
_MAGNITUDE, _SIGN = 0x7FFFFFFF, 0x80000000


def _encode(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Keep the upper half. A finite number stays finite."""
    word = to_bits(flush(value, "float32"))
    size = word & _MAGNITUDE
    rounded = minimum(size + rounding.addend(16), _LARGEST) | (word & _SIGN)
    return {"": where(size < _INFINITY, rounded, where(value == value, word, _NAN)) >> 16}


_CODEC = Codec("bfloat16", (PlaneSpec("", "uint16"),), lambda planes: from_bits(planes[""] << 16), _encode)
BFLOAT16 = SlotFormat("bfloat16", "bfloat16", signed=_CODEC, non_negative=_CODEC)
