"""Slots in bfloat16: the upper half of a float32."""

from __future__ import annotations

from typing import Any

from steprule.formats.codec import Codec, PlaneSpec
from steprule.formats.rounding import Rounding
from steprule.formats.slot import SlotFormat
from steprule.language import maximum, minimum, where
from steprule.language.bits import from_bits, to_bits

__all__ = ["BFLOAT16"]

_NORMAL, _NAN, _LARGEST = 0x00800000, 0x7FC00000, 0x7F7FFFFF
_MAGNITUDE, _SIGN = 0x7FFFFFFF, 0x80000000


def _encode(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Keep the upper half. A finite number stays finite, and what is below the smallest normal one becomes zero."""
    word = to_bits(value)
    size = word & _MAGNITUDE
    # The bound of an infinity is itself.
    rounded = minimum(size + rounding.addend(16), maximum(size, _LARGEST)) | (word & _SIGN)
    return {"": where(size < _NORMAL, 0, where(value == value, rounded, _NAN) >> 16)}


_CODEC = Codec("bfloat16", (PlaneSpec("", "uint16"),), lambda planes: from_bits(planes[""] << 16), _encode)
BFLOAT16 = SlotFormat("bfloat16", "bfloat16", signed=_CODEC, non_negative=_CODEC)
