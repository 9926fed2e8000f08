"""How a number is stored between steps: its planes in memory, and the codec that encodes and decodes them."""

from steprule.formats.codec import CODING, EARLIER_CODING, GROUP, Codec, PlaneSpec, rows_of, shape_of
from steprule.formats.plain import FORMATS, Format, flush
from steprule.formats.registry import SLOT_FORMATS, STATES
from steprule.formats.rounding import RoundToNearest, StochasticRounding, keys, stream
from steprule.formats.slot import SlotFormat
from steprule.formats.storage import (
    MIN_ELEMENTS,
    WEIGHT_FORMATS,
    Formats,
    Storage,
    check_effects,
    check_seed,
    saved_codec,
    without_effect,
)

__all__ = [
    "CODING",
    "EARLIER_CODING",
    "FORMATS",
    "GROUP",
    "MIN_ELEMENTS",
    "SLOT_FORMATS",
    "STATES",
    "WEIGHT_FORMATS",
    "Codec",
    "Format",
    "Formats",
    "PlaneSpec",
    "RoundToNearest",
    "SlotFormat",
    "StochasticRounding",
    "Storage",
    "check_effects",
    "check_seed",
    "flush",
    "keys",
    "rows_of",
    "saved_codec",
    "shape_of",
    "stream",
    "without_effect",
]
