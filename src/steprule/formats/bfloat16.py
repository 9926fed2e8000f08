"""Slots in bfloat16: the upper half of a float32."""

from __future__ import annotations

from typing import Any

from steprule.formats.draws import Draws
from steprule.formats.kept import Kept, Part
from steprule.formats.plain import flush
from steprule.formats.slot import SlotFormat
from steprule.language import minimum, where
from steprule.language.words import bits, real

__all__ = ["BFLOAT16"]

_INFINITY, _NAN, _LARGEST = 0x7F800000, 0x7FC00000, 0x7F7FFFFF
_MAGNITUDE, _SIGN = 0x7FFFFFFF, 0x80000000


def _encode(value: Any, draws: Draws) -> dict[str, Any]:
    """Keep the upper half. A finite number stays finite."""
    word = bits(flush(value, "float32"))
    size = word & _MAGNITUDE
    rounded = minimum(size + draws.take(16), _LARGEST) | (word & _SIGN)
    return {"": where(size < _INFINITY, rounded, where(value == value, word, _NAN)) >> 16}


_KEPT = Kept("bfloat16", (Part("", "uint16"),), lambda parts: real(parts[""] << 16), _encode)
BFLOAT16 = SlotFormat("bfloat16", "bfloat16", signed=_KEPT, non_negative=_KEPT)
