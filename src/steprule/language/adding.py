"""How numbers are added up in an order that does not depend on threads and targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "LANES", "in_lanes", "lanes_added", "rounded_once"]

LANES, BLOCK = 128, 16_384


def rounded_once(numbers: Sequence[float]) -> float:
    """Return the sum of numbers, rounded once; infinite or NaN where theirs is, or where it is too large."""
    try:
        return math.fsum(numbers)
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:  # too large, if only on the way
        beyond = sum(number for number in numbers if not math.isfinite(number))
    if beyond:  # infinite, or NaN
        return beyond
    exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def in_lanes(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return numbers along the last axis as tiles of ``LANES``, filled up with zeros.

    Of few numbers lanes are left out that would be zero, half by half, since to add them would change nothing.
    """
    count = x.shape[-1]
    tiles, lanes = -(-count // LANES), min(LANES, 1 << max(0, count - 1).bit_length())
    filled = np.zeros((*x.shape[:-1], tiles * lanes))
    filled[..., :count] = x
    return filled.reshape(*x.shape[:-1], tiles, lanes)


def lanes_added(lanes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the lanes, which are the last axis: the upper half is added to the lower, until one is left."""
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    found: NDArray[np.float64] = lanes[..., 0]
    return found
