"""Random numbers of the lab: a function of the seed, the step and what they are for, the same in NumPy and on the page.

Whole numbers are mixed (lowbias32: Wellons 2018, "Prospecting for Hash Functions") and scaled by a power of two, and a
normal number is the sum of twelve of them less six: no logarithm, whose last place would depend on the library.
"""

from __future__ import annotations

__all__ = ["normal", "uniform"]

_MASK = 2**32 - 1
_SCALE = 2.0**-32
_DRAWS = 12


def uniform(seed: int, t: int, lane: int) -> float:
    """Return a number from 0 to 1, below 1."""
    h = (seed * 0xC2B2AE3D + t * 0x9E3779B1 + lane * 0x85EBCA77) & _MASK
    h ^= h >> 16
    h = (h * 0x7FEB352D) & _MASK
    h ^= h >> 15
    h = (h * 0x846CA68B) & _MASK
    h ^= h >> 16
    return h * _SCALE


def normal(seed: int, t: int, coordinate: int) -> float:
    """Return a number of mean 0 and variance 1, between -6 and 6, close to normal."""
    return sum(uniform(seed, t, 1 + _DRAWS * coordinate + draw) for draw in range(_DRAWS)) - _DRAWS / 2
