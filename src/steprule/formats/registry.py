"""The formats that slots may have besides the type of the arithmetic: each in its own file, and a line here.

Rounded to nearest, an average that moves by less than half a step of its format stands still: with beta2 = 0.999 the
second moment can neither grow nor decay. So in all of them what is cut off decides by chance which way a number is
rounded, and the mean is right (docs/formats.md has the measurements).
"""

from __future__ import annotations

from steprule.formats.bfloat16 import BFLOAT16
from steprule.formats.eight_bit import EIGHT_BIT
from steprule.formats.four_bit import FOUR_BIT
from steprule.formats.slot import SlotFormat

__all__ = ["SLOT_FORMATS", "STATES"]

SLOT_FORMATS: dict[str, SlotFormat] = {
    slot_format.name: slot_format
    for slot_format in (
        BFLOAT16,
        EIGHT_BIT,
        FOUR_BIT,
    )
}
STATES = ("float32", *SLOT_FORMATS)
"""What ``states=`` may say. ``float32`` stands for the type of the arithmetic, float64 for float64 parameters."""
