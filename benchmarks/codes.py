"""Candidates for a code of 8 bits, as NumPy text that is read rather than fast: each is a curve and its levels.

A group of neighbours is divided by its scale, so that magnitudes x lie in [0, 1]. A curve takes x to a place among
the codes 0, 1, 2, ..., and levels take codes back to x. A signed number has 7 bits for its magnitude.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_ONE = 0x3F800000


@dataclass(frozen=True)
class Curve:
    """Where the codes of a group lie.

    Attributes:
        top: the largest code.
        place: from magnitudes in [0, 1] to places among the codes, whose whole part is the code below.
        level: from codes to magnitudes.
        first: the least code that stands for a number; smaller ones are left out.
        power_of_two: whether the scale is the power of two above the largest number, or that number itself.
    """

    top: int
    place: Callable[[Array], Array]
    level: Callable[[Array], Array]
    first: int = 1
    power_of_two: bool = False


def linear(size: int) -> Curve:
    """Return equal steps."""
    return power(size, 1)


def power(size: int, exponent: int) -> Curve:
    """Return equal steps of a root of x: ``x = (code / top)**exponent``."""
    top = 2**size - 1
    return Curve(top, lambda x: _root(x, exponent) * top, lambda code: (code / top) ** exponent)


def _root(x: Array, exponent: int) -> Array:
    """Return the root of x for an exponent of 1, 2 or 4; NumPy's general power is slow."""
    for _ in range(exponent.bit_length() - 1):
        x = np.sqrt(x)
    return x


def softsign(size: int) -> Curve:
    """Return equal steps of ``2 x / (1 + x)``, which FlashOptim has for the first moment."""
    top = 2**size - 1
    return Curve(top, lambda x: 2 * x / (1 + x) * top, lambda code: code / (2 * top - code))


def minifloat(size: int, mantissa: int) -> Curve:
    """Return the floating-point numbers of so many bits of mantissa up to 1: a logarithm, in pieces."""
    top, below = 2**size - 1, 23 - mantissa
    base = _ONE - ((top - 1) << below)
    return Curve(
        top,
        lambda x: np.maximum((_bits(x) - base) / 2**below + 1, 0),
        lambda code: np.where(code > 0, _real(base + ((code - 1) << below)), 0),
        power_of_two=True,
    )


def pseudo_root(size: int, root: int, first: int, aligned: bool = False) -> Curve:
    """Return equal steps of the number that a float's bits, halved ``root`` times, stand for: ours.

    That is a square root (1) or fourth root (2) in pieces, with no root to be taken. The pieces meet at powers of two.

    Args:
        size: bits of a code.
        root: how often the square root is taken.
        first: the least code.
        aligned: whether the last code is the power of two above the group, so that the powers of two below it are
            codes, too; otherwise they lie between codes, a little below one.
    """
    zero, steps = _ONE - (_ONE >> root), 2**size
    last = np.float32(1 if aligned else 1 - 1 / steps)
    top = ((int(_bits(last)) - zero) << root) - _ONE
    return Curve(
        steps - 1,
        lambda x: _real((np.maximum(_bits(x) + top, 0) >> root) + zero) * steps - aligned,
        lambda code: np.where(code > 0, _real(((_bits((code + aligned) / steps) - zero) << root) - top), 0),
        first,
        power_of_two=True,
    )


def _bits(x: Any) -> Array:
    return np.asarray(x, np.float32).view(np.int32)


def _real(word: Array) -> Array:
    return word.astype(np.int32, copy=False).view(np.float32)


Rounding = Callable[[Array, np.random.Generator], Array]
"""From the numbers of an array, to what is left of them once they are kept in fewer bits."""


@dataclass(frozen=True)
class Code:
    """A way to keep the numbers of an array: a curve, how it is rounded, and how many share a scale.

    Attributes:
        rounding: up or down by "chance", with the probabilities that make the mean right; by chance, with those of
            the "place" between two codes, which makes it right where the curve is straight; or to the "nearest" place.
        below: what a number below the first code becomes: "zero", the "first" code, or "either", as it is rounded.
        group: how many neighbours in a row of the first axis share a scale, at most.
    """

    curve: Curve
    rounding: str = "chance"
    below: str = "zero"
    group: int = 128

    def __call__(self, values: Array, rng: np.random.Generator) -> Array:
        """Return what is left of the numbers."""
        groups = _grouped(values, self.group)
        size = np.abs(groups)
        largest = size.max(-1, keepdims=True)
        scale = np.ldexp(np.float32(1), np.frexp(largest)[1]) if self.curve.power_of_two else largest
        kept = self._kept(size / np.where(scale > 0, scale, 1), rng)
        return _ungrouped(np.copysign(kept * scale, groups), values)

    def levels(self) -> Array:
        """Return the magnitude that each code stands for; 0 for codes that are left out."""
        levels: Array = self.curve.level(np.arange(self.curve.top + 1)).astype(np.float32)
        levels[: self.curve.first] = 0
        return levels

    def _kept(self, x: Array, rng: np.random.Generator) -> Array:
        """Return the level below or above each x."""
        levels, first = self.levels(), self.curve.first
        gaps = np.diff(levels)
        gaps[:first] = levels[first]
        place = self.curve.place(x)
        low = np.minimum(place.astype(np.int32), self.curve.top - 1)
        under, gap = levels[low], gaps[low]
        kept = under + gap * self._goes_up(x - under, gap, place - low, rng)
        if self.below == "first":
            return np.where(x > 0, np.maximum(kept, levels[first]), 0)
        return np.where(place < first, 0, kept) if self.below == "zero" else kept

    def _goes_up(self, above: Array, gap: Array, share: Array, rng: np.random.Generator) -> Array:
        """Return which numbers, ``above`` a level by this share of a code, are rounded up."""
        if self.rounding == "nearest":
            return share >= 0.5
        chance = rng.random(above.shape, np.float32)
        return chance * gap < above if self.rounding == "chance" else chance < share


def _grouped(values: Array, group: int) -> Array:
    """Return (rows of the first axis, groups, elements of a group), filled up with zeros."""
    rows = values.reshape(len(values), -1)
    group = min(group, rows.shape[1])
    short = -rows.shape[1] % group
    return (np.pad(rows, ((0, 0), (0, short))) if short else rows).reshape(len(rows), -1, group)


def _ungrouped(groups: Array, like: Array) -> Array:
    return groups.reshape(len(groups), -1)[:, : like[0].size].reshape(like.shape)


def bfloat16(by_chance: bool) -> Rounding:
    """Return the upper half of each number, rounded to nearest (ties to even) or stochastically."""

    def rounded(values: Array, rng: np.random.Generator) -> Array:
        word = _bits(values)
        added = rng.integers(0, 1 << 16, values.shape, np.int32) if by_chance else ((word >> 16) & 1) + 0x7FFF
        return _real((word + added) & ~0xFFFF)

    return rounded


def exactly(values: Array, rng: np.random.Generator) -> Array:
    """Return the numbers as they are."""
    return values


def _pair(signed: Curve, positive: Curve, rounding: str, group: int = 128) -> tuple[Rounding, Rounding]:
    return Code(signed, rounding, "zero", group), Code(positive, rounding, "first", group)


OURS = pseudo_root(7, 2, 4), pseudo_root(8, 2, 4)
ALIGNED = pseudo_root(7, 2, 4, aligned=True), pseudo_root(8, 2, 4, aligned=True)
SQUARE_ROOT = pseudo_root(7, 1, 2)
"""For the signed slot, of less range and finer steps."""
SCHEMES: dict[str, tuple[Rounding, Rounding]] = {
    "float32": (exactly, exactly),
    "bfloat16, nearest": (bfloat16(False), bfloat16(False)),
    "bfloat16, stochastic": (bfloat16(True), bfloat16(True)),
    "linear, nearest": _pair(linear(7), linear(8), "nearest"),
    "linear, stochastic": _pair(linear(7), linear(8), "chance"),
    "softsign and square, nearest": _pair(softsign(7), power(8, 2), "nearest"),
    "softsign and square, stochastic": _pair(softsign(7), power(8, 2), "chance"),
    "powers 2 and 4, nearest": _pair(power(7, 2), power(8, 4), "nearest"),
    "powers 2 and 4, stochastic": _pair(power(7, 2), power(8, 4), "chance"),
    "minifloat 3 and 3 bits, nearest": _pair(minifloat(7, 3), minifloat(8, 3), "nearest"),
    "minifloat 3 and 3 bits, stochastic": _pair(minifloat(7, 3), minifloat(8, 3), "chance"),
    "minifloat 3 and 4 bits, stochastic": _pair(minifloat(7, 3), minifloat(8, 4), "chance"),
    "pseudo roots, nearest": _pair(*OURS, "nearest"),
    "pseudo roots, stochastic": _pair(*OURS, "chance"),
    "pseudo roots, square one for m, stochastic": _pair(SQUARE_ROOT, OURS[1], "chance"),
    "pseudo roots, stochastic in codes": _pair(*OURS, "place"),
    "aligned pseudo roots, stochastic in codes": _pair(*ALIGNED, "place"),
    "pseudo roots, stochastic, groups of 64": _pair(*OURS, "chance", 64),
    "pseudo roots, small m stochastic": (Code(OURS[0], "chance", "either"), Code(OURS[1], "chance", "first")),
    "only m by pseudo root": (Code(OURS[0], "chance", "zero"), exactly),
    "only v by pseudo root": (exactly, Code(OURS[1], "chance", "first")),
}
"""How a signed slot and one that is never negative are kept, by name."""
