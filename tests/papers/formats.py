"""How numbers are kept between steps, as plain loops over words and floats: struct and Python's integers alone.

    word(index, number) = b ^ (b >> 16),   b = (a ^ (a >> 16) ^ k1 ^ stream) 0x7FEB352D,
    a = index 0x9E3779B1 + k0 + number 0x85EBCA77                                              (all modulo 2^32)

Rounding at random: of the bits to be cut off, as many random bits are added, and then they are cut off.
A word is the 32 bits of a float32. Subnormal means below 2^-126, in float16 below 2^-14.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

GROUP = 128
ALL = 0xFFFFFFFF
MAGNITUDE = 0x7FFFFFFF
SIGN = 0x80000000
INF = 0x7F800000
NAN = 0x7FC00000
LARGEST = 0x7F7FFFFF
NORMAL = 0x00800000
ONE = 0x3F800000


def word_of(x: float) -> int:
    """Return the 32 bits of a number, rounded to float32 (to infinity, where it is too large)."""
    try:
        return int(struct.unpack("<I", struct.pack("<f", x))[0])
    except OverflowError:
        return INF | (SIGN if x < 0 else 0)


def real_of(word: int) -> float:
    """Return the float32 with these bits."""
    return float(struct.unpack("<f", struct.pack("<I", word & ALL))[0])


def half_of(x: float) -> int:
    """Return the 16 bits of the nearest float16, ties to even (infinity from 65520 on)."""
    try:
        return int(struct.unpack("<H", struct.pack("<e", x))[0])
    except OverflowError:
        return 0x7C00 | (0x8000 if x < 0 else 0)


def from_half(half: int) -> float:
    """Return the float16 with these bits."""
    return float(struct.unpack("<e", struct.pack("<H", half))[0])


def signed(word: int, bits: int) -> int:
    """Return the lowest bits as a number in two's complement."""
    word &= (1 << bits) - 1
    return word - (word >> (bits - 1) << bits)


# Random bits.


def random_word(index: int, stream: int, keys: tuple[int, int], number: int = 0) -> int:
    """Return the number-th random word of an element in a step."""
    k0, k1 = keys
    a = (index * 0x9E3779B1 + k0 + number * 0x85EBCA77) & ALL
    b = ((a ^ (a >> 16) ^ k1 ^ stream) * 0x7FEB352D) & ALL
    return b ^ (b >> 16)


@dataclass
class Draws:
    """The random bits of one element in a step, taken by its parameter and then by its slots."""

    index: int
    stream: int
    keys: tuple[int, int]
    halves: int = 0

    def __call__(self, bits: int) -> int:
        """Return the next bits: of 9 to 16, one half of a word after the other; fewer are not used up."""
        if bits <= 8:
            return self._word(0) & ((1 << bits) - 1)
        number, high = divmod(self.halves, 2)
        self.halves += 1
        return self._word(number) >> (32 - bits) if high else self._word(number) & ((1 << bits) - 1)

    def _word(self, number: int) -> int:
        return random_word(self.index & ALL, self.stream, self.keys, number)


# Eight bits: 128 neighbours share an exponent. Of a magnitude's bits the distance from the power of two above that
# exponent is quartered, and the result is the bits of y; code c is y = (c + 1) / 2^8, or 2^7.

ZERO = ONE - (ONE >> 2)
LEAST = 3


def scale_of(words: Sequence[int], non_negative: bool = False) -> int:
    """Return the biased exponent of the largest magnitude among a group's normal finite numbers, and no less than 20.

    Where no number should be negative, those that are do not count, and it is no less than 24.
    """
    exponents = (word >> 23 & 0xFF for word in words if _is_normal(word) and not (non_negative and word & SIGN))
    return max(24 if non_negative else 20, *exponents, 0)


def _is_normal(word: int) -> bool:
    return NORMAL <= word & MAGNITUDE < INF


def _place(magnitude: int, scale: int, codes: int) -> int:
    """Return the bits of 1 + y, less a step of 1 / codes, before rounding to such steps."""
    x = max(magnitude - (((scale + 1) << 23) - ONE), 0)
    return word_of(1 + real_of((x >> 2) + ZERO)) - (word_of(1 + 1 / codes) - ONE)


def _decode(code: int, scale: int, codes: int) -> int:
    above = 0x7F7FFFFC if scale == 254 else (scale + 1) << 23
    return (((word_of((code + 1) / codes) - ZERO) << 2) + above - ONE) & ALL


def encode_non_negative(word: int, scale: int, draws: Draws) -> int:
    """Return the code of a number that should not be negative: 0 zero, 1 what is not finite or negative, 3 to 255."""
    random = draws(15)
    if word != SIGN and (word & SIGN or word >= INF):
        return 1
    if not _is_normal(word):
        return 0
    return max((_place(word, scale, 256) + random) >> 15, (ONE >> 15) + LEAST) & 0xFF


def decode_non_negative(code: int, scale: int) -> int:
    """Return the word that a code stands for."""
    return _decode(code, scale, 256) if code > 1 else INF * code


def encode_signed(word: int, scale: int, draws: Draws) -> int:
    """Return the code of a number of either sign: 0 zero, 1 what is not finite, 3 to 127, and 128 for the sign."""
    random = draws(16)
    if word & MAGNITUDE >= INF:
        return 1
    code = 0
    if _is_normal(word):
        place = _place(word & MAGNITUDE, scale, 128)
        code = ((place + random) >> 16) & 0x7F if place >= ONE + (LEAST << 16) else 0
    return code | word >> 31 << 7


def decode_signed(code: int, scale: int) -> int:
    """Return the word that a code stands for."""
    sign, code = (code & 0x80) << 24, code & 0x7F
    return sign | (_decode(code, scale, 128) if code > 1 else NAN * code)


# Four bits: 128 neighbours share an exponent; code c of a signed slot is a power of two, 2^(c - 7) times the one above
# the group's largest; of a non-negative one 2^(c - 11) times up to 7, and then twice as much every second code.


def scale_of_four_bits(words: Sequence[int], non_negative: bool = False) -> int:
    """Return the biased exponent of the largest magnitude as ``scale_of`` does, and no less than 6 or 9."""
    exponents = (word >> 23 & 0xFF for word in words if _is_normal(word) and not (non_negative and word & SIGN))
    return max(9 if non_negative else 6, *exponents, 0)


def _octave(magnitude: int, random: int) -> int:
    """Return the biased exponent of the power of two below a number or above it: 16 bits of chance are carried."""
    return (magnitude + (random << 7)) >> 23


def encode_four_non_negative(word: int, scale: int, draws: Draws) -> int:
    """Return the code of a number that should not be negative: 0 zero, 1 what is not finite or negative, 2 to 15."""
    random = draws(16)
    if word != SIGN and (word & SIGN or word >= INF):
        return 1
    if not _is_normal(word):
        return 0
    if word < (scale - 3) << 23:
        return max(_octave(word, random) - scale + 10, 2)
    return 7 + ((word + (random << 6)) >> 22) - (scale - 3) * 2


def decode_four_non_negative(code: int, scale: int) -> int:
    """Return the word that a code stands for."""
    if code < 2:
        return INF * code
    return _finite((scale - 3 << 23) + (code - 7 << (23 if code < 7 else 22)))


def encode_four_signed(word: int, scale: int, draws: Draws) -> int:
    """Return the code of a number of either sign: 0 zero, 8 what is not finite, 1 to 7, and 8 for the sign."""
    random, magnitude, sign = draws(16), word & MAGNITUDE, word >> 31 << 3
    if magnitude >= INF:
        return 8
    if not _is_normal(word):
        return 0
    code = _octave(magnitude, random) - scale + 6
    least = (scale - 5) << 23
    if magnitude < least:
        share = real_of(word_of(real_of(magnitude) + real_of(least))) / real_of(least) - 1
        code = int(share * 2**23 + (random << 7) >= 2**23)
    return code | sign if code else 0


def decode_four_signed(code: int, scale: int) -> int:
    """Return the word that a code stands for."""
    size, sign = code & 7, code >> 3 << 31
    return sign | _finite(size + scale - 6 << 23) if size else NAN * (code >> 3)


def _finite(word: int) -> int:
    """Return a word of 32 bits, not infinity."""
    word &= ALL
    return word if word & SIGN else min(word, LARGEST)


def halves(items: Sequence[int], count: int) -> list[int]:
    """Return the numbers of which bytes hold two, the first in the lower half: as many as there are."""
    return [item >> 4 * half & 15 for item in items for half in (0, 1)][:count]


def bytes_of(codes: Sequence[int]) -> list[int]:
    """Return the bytes that hold two numbers each, with a zero where the last has one alone."""
    return [low | high << 4 for low, high in zip(codes[::2], [*codes[1::2], 0][: len(codes[::2])], strict=True)]


# States of 16 bits.


def encode_state(word: int, draws: Draws) -> int:
    """Return the bfloat16 of a state, rounded at random; no number becomes infinite, none is subnormal."""
    random = draws(16)
    magnitude, sign = word & MAGNITUDE, word >> 31 << 15
    if magnitude > INF:
        return NAN >> 16
    if magnitude < NORMAL:
        return 0
    if magnitude < INF:
        magnitude = min(magnitude + random, LARGEST)
    return magnitude >> 16 | sign


def decode_state(state: int) -> int:
    """Return the word that a bfloat16 stands for."""
    return state << 16


# Parameters of 16 bits: what is kept in their place, and beside them.


def encode_bfloat16(word: int, way: str, draws: Draws) -> tuple[int, int]:
    """Return the 16 bits of a bfloat16 parameter, and the distance that is kept beside it (0 where none is)."""
    random = draws(16) if way == "stochastic" else draws(8) if way == "split24" else 0
    if word & MAGNITUDE > INF:
        return NAN >> 16, 0
    if way == "nearest":
        return (word + 0x7FFF + (word >> 16 & 1)) >> 16, 0
    if way == "stochastic":
        return (word + random) >> 16, 0
    kept = (word + random) & ~0xFF if way == "split24" else word
    high = (kept + 0x8000) >> 16
    low = kept - (high << 16)
    return high, low >> 8 if way == "split24" else low


def decode_bfloat16(high: int, low: int, way: str) -> int:
    """Return the word of a bfloat16 parameter and the distance beside it."""
    return ((high << 16) + (low << 8 if way == "split24" else low)) & ALL


def encode_float16(word: int, way: str, draws: Draws) -> tuple[int, int]:
    """Return the 16 bits of a float16 parameter, and the distance that is kept beside it (0 where none is).

    The distance is counted in float32's units of the magnitude (split32) or in 32 of these, and from 2^-14 downwards,
    where the spacing is constant, in 2^-39 or 2^-32; then it has the number's sign.
    """
    random = draws(13) if way == "stochastic" else draws(5) if way == "split24" else 0
    x = real_of(word)
    if x != x:
        return 0x7E00, 0
    if way == "stochastic":
        return _stochastic_half(word, random), 0
    if way == "split24":
        return _split24_half(word, random)
    high = half_of(x)
    return high, 0 if way == "nearest" else _distance(word, high)


def _split24_half(word: int, random: int) -> tuple[int, int]:
    """Round at random to 8 places beyond those of float16, then to the nearest float16, ties away from zero."""
    magnitude, sign = word & MAGNITUDE, word >> 31 << 15
    is_small = magnitude < word_of(2.0**-14)
    places = round(real_of(magnitude) * 2.0**37) if is_small else magnitude
    places = (places + random) >> 5
    near = (places + 128) >> 8
    high = half_of(near * 2.0**-24) if is_small else half_of(real_of(min(near << 13, INF)))
    return high | sign, 0 if high == 0x7C00 else places - (near << 8)


def _stochastic_half(word: int, random: int) -> int:
    magnitude, sign = word & MAGNITUDE, word >> 31 << 15
    if magnitude < word_of(2.0**-14):
        # Half the spacing is 2^-25: what is left of the number below 2^-37 is rounded to the nearest.
        return (round(real_of(magnitude) * 2.0**37) + random) >> 13 | sign
    if magnitude < INF:
        magnitude = (magnitude + random) & ~0x1FFF
    return half_of(real_of(magnitude)) | sign


def _distance(word: int, high: int) -> int:
    near = from_half(high)
    if abs(near) == float("inf"):
        return 0
    if abs(near) <= 2.0**-14:
        return round((real_of(word) - near) * 2.0**39)
    return (word & MAGNITUDE) - (word_of(near) & MAGNITUDE)


def decode_float16(high: int, low: int, way: str) -> int:
    """Return the word of a float16 parameter and the distance beside it."""
    near = from_half(high)
    if near != near or abs(near) == float("inf") or not way.startswith("split"):
        return word_of(near)
    if abs(near) <= 2.0**-14 and way == "split24":
        return word_of(abs(near) + low * 2.0**-32) | high >> 15 << 31
    if abs(near) <= 2.0**-14:
        return word_of(near + low * 2.0**-39)
    return word_of(near) + (low << 5 if way == "split24" else low)
