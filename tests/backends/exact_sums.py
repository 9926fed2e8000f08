"""Numbers whose sum is hard to round once, for targets that add up sums themselves."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["HARD"]

_TINY, _HUGE, _INF = 5e-324, 1.7976931348623157e308, math.inf


def _random(seed: int) -> list[float]:
    """Return numbers of every size, of both signs, some of which cancel and some of which are halfway between two."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    low, high = sorted(rng.integers(-1074, 1024, 2).tolist())
    found = (rng.standard_normal(count) * np.exp2(rng.integers(low, high + 1, count) - 1.0)).tolist()
    found += [-x for x in found if rng.random() < 0.3]
    half = float(np.spacing(abs(found[0])) / 2)
    found += [half, float(rng.choice([0.0, half, -_TINY, _TINY]))]
    return [float(x) for x in rng.permutation(found)]


HARD: list[list[float]] = [
    [],
    [0.0],
    [-0.0, -0.0],
    [1.0, -1.0],
    [_TINY] * 3,
    [-_TINY, -_TINY],
    [2.0**-1022, -_TINY],
    [2.0**53, 1.0],
    [2.0**53, 1.0, _TINY],
    [2.0**53, 1.0, -_TINY],
    [2.0**53 + 2, 1.0],
    [-(2.0**53), -1.0, -_TINY],
    [1.0, 1e-300, -1.0],
    [_HUGE, _HUGE, -_HUGE],
    [_HUGE] * 5,
    [-_HUGE] * 5,
    [_HUGE, 2.0**969],
    [_HUGE, 2.0**970],
    [_HUGE, 2.0**970, -_TINY],
    [2.0**1023, 2.0**1023, -_TINY],
    [_INF, 1.0],
    [-_INF, _HUGE, _HUGE],
    [_HUGE, _HUGE, _INF],
    [_INF, -_INF],
    [_HUGE, _HUGE, math.nan],
    [math.nan, 1.0],
    [0.1] * 10,
    *map(_random, range(400)),
]
