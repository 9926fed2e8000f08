"""Parameters in 16 bits: rounded to nearest, stochastically, or with further bits stored beside them."""

from __future__ import annotations

from typing import Any

from steprule.formats.codec import Codec, Planes, PlaneSpec, plain
from steprule.formats.rounding import Rounding
from steprule.language import where
from steprule.language.bits import from_bits, round_to_half, to_bits, to_float

__all__ = ["WEIGHTS", "weights"]

_MAGNITUDE, _SIGN, _NAN = 0x7FFFFFFF, 0x80000000, 0x7FC00000
_BFLOAT16 = PlaneSpec("", "uint16")


def _word_of(value: Any) -> Any:
    """Return the bits of a number; of a NaN those that no rounding turns into another number."""
    return where(value == value, to_bits(value), _NAN)


def _nearest_bfloat16(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Round to nearest, ties to even: add half of the last place kept, less one where that place is even."""
    word = _word_of(value)
    return {"": (word + (((word >> 16) & 1) + 0x7FFF)) >> 16}


def _stochastic_bfloat16(value: Any, rounding: Rounding) -> dict[str, Any]:
    return {"": (_word_of(value) + rounding.addend(16)) >> 16}


def _widened(planes: Planes) -> Any:
    return from_bits(planes[""] << 16)


def _split32_bfloat16(value: Any, rounding: Rounding) -> dict[str, Any]:
    return _split(_word_of(value), 0)


def _split24_bfloat16(value: Any, rounding: Rounding) -> dict[str, Any]:
    return _split(_word_of(value) + rounding.addend(8), 8)


def _split(word: Any, shift: int) -> dict[str, Any]:
    """Return the nearest bfloat16, and its signed distance from the word without its lowest ``shift`` bits."""
    word = word & (2**32 - 2**shift) if shift else word
    high = (word + 0x8000) >> 16
    return {"": high, "low": (word - (high << 16)) >> shift}


def _joined32_bfloat16(planes: Planes) -> Any:
    return from_bits((planes[""] << 16) + planes["low"])


def _joined24_bfloat16(planes: Planes) -> Any:
    return from_bits((planes[""] << 16) + (planes["low"] << 8))


_SMALLEST_NORMAL_HALF = 0x38800000
"""The bits of 2^-14. Below, float16 has numbers at equal distances, of 2^-24."""
_MAGIC, _MAGIC_BITS = 12582912.0, 0x4B400000
"""A number to which small integers, of either sign, are added in the last bits."""


def _fixed_float16(value: Any) -> Any:
    """Return a magnitude with 13 places beyond those of float16: a float32's bits, or from 2^-14 down fixed ones."""
    size = to_bits(value) & _MAGNITUDE
    return where(size < _SMALLEST_NORMAL_HALF, to_bits(from_bits(size) * 2.0**24 + 1024.0), size)


def _cut_float16(fixed: Any, value: Any) -> Any:
    """Return the float16 that is left without these places, with the sign of ``value``, or its NaN."""
    cut = fixed & (2**32 - 2**13)
    is_small = (to_bits(value) & _MAGNITUDE) < _SMALLEST_NORMAL_HALF
    size = where(is_small, to_bits((from_bits(cut) - 1024.0) * 2.0**-24), cut)
    return where(value == value, from_bits(size | (to_bits(value) & _SIGN)), value)


def _stochastic_float16(value: Any, rounding: Rounding) -> dict[str, Any]:
    return {"": _cut_float16(_fixed_float16(value) + rounding.addend(13), value)}


def _distance_float16(value: Any, kept: Any) -> Any:
    """Return how far a number is from the float16 beside it, in a float32's last places, or in 2^-39."""
    small = to_bits((value - kept) * 2.0**39 + _MAGIC) - _MAGIC_BITS
    return where(_is_small_half(kept), small, to_bits(value) - to_bits(kept))


def _is_small_half(kept: Any) -> Any:
    """Whether the distance is counted in steps of one size: below 2^-14, and there, since a number may lie below it."""
    return (to_bits(kept) & _MAGNITUDE) < _SMALLEST_NORMAL_HALF + 1


def _is_finite(kept: Any) -> Any:
    return (to_bits(kept) & _MAGNITUDE) < 0x7F800000


def _split32_float16(value: Any, rounding: Rounding) -> dict[str, Any]:
    kept = round_to_half(value)
    return {"": kept, "low": where(_is_finite(kept), _distance_float16(value, kept), 0)}


def _split24_float16(value: Any, rounding: Rounding) -> dict[str, Any]:
    """Round stochastically to 8 places beyond float16's, then to the nearest float16: the distance has 8 bits."""
    fixed = (_fixed_float16(value) + rounding.addend(5)) & (2**32 - 2**5)
    nearest = fixed + 2**12
    kept = _cut_float16(nearest, value)
    low = (fixed - (nearest & (2**32 - 2**13))) >> 5
    return {"": kept, "low": where(_is_finite(round_to_half(kept)), low, 0)}


def _joined32_float16(planes: Planes) -> Any:
    kept, low = planes[""], planes["low"]
    near = where(_is_small_half(kept), kept + to_float(low) * 2.0**-39, from_bits(to_bits(kept) + low))
    return where(_is_finite(kept), near, kept)


def _joined24_float16(planes: Planes) -> Any:
    kept, low = planes[""], planes["low"]
    small = to_bits(from_bits(to_bits(kept) & _MAGNITUDE) + to_float(low) * 2.0**-32) | (to_bits(kept) & _SIGN)
    return where(_is_finite(kept), from_bits(where(_is_small_half(kept), small, to_bits(kept) + (low << 5))), kept)


_HALF = PlaneSpec("", "float16")
WEIGHTS: dict[str, dict[str, Codec]] = {
    "bfloat16": {
        "nearest": Codec("nearest", (_BFLOAT16,), _widened, _nearest_bfloat16),
        "stochastic": Codec("stochastic", (_BFLOAT16,), _widened, _stochastic_bfloat16),
        "split24": Codec("split24", (_BFLOAT16, PlaneSpec("low", "int8")), _joined24_bfloat16, _split24_bfloat16),
        "split32": Codec("split32", (_BFLOAT16, PlaneSpec("low", "int16")), _joined32_bfloat16, _split32_bfloat16),
    },
    "float16": {
        "nearest": plain("float16", flushes=False),
        "stochastic": Codec("stochastic", (_HALF,), lambda planes: planes[""], _stochastic_float16),
        "split24": Codec("split24", (_HALF, PlaneSpec("low", "int8")), _joined24_float16, _split24_float16),
        "split32": Codec("split32", (_HALF, PlaneSpec("low", "int16")), _joined32_float16, _split32_float16),
    },
}
"""The codecs of 16-bit parameters, by their type and the option ``weights``."""


def weights(dtype: str, how: str) -> Codec:
    """Return the codec of parameters of a type; wider ones are stored as they are."""
    return WEIGHTS[dtype][how] if dtype in WEIGHTS else plain(dtype, flushes=False)
