"""An objective for the tests of the SciPy door: a quadratic bowl, its gradient, and a counter of calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CENTRE = np.array([1.0, -2.0, 3.0])
CURVATURE = np.array([1.0, 10.0, 0.5])


def bowl(x: Any) -> Any:
    return 0.5 * (CURVATURE * (x - CENTRE) ** 2).sum()


def bowl_slope(x: Array) -> Array:
    slope: Array = CURVATURE * (x - CENTRE)
    return slope


def bowl_both(x: Array) -> tuple[float, Array]:
    return bowl(x), bowl_slope(x)


class Counter:
    """Counts the calls of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)
