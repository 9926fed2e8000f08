"""Bounds on variables as SciPy gives them: projection, and the gradient that they leave over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import StructureError

__all__ = ["FEW", "Box", "Vector"]

Vector = NDArray[np.float64]
FEW = 16
"""Up to so many numbers Python's own functions cost less than NumPy's calls."""


class Box:
    """The points with low <= x <= high, element by element; infinite ends are not bounds.

    Attributes:
        low, high: float64 arrays of shape (n,), or the scalars -inf and inf where there are no bounds.
        fixed: the indices of variables whose two ends are equal.
    """

    def __init__(self, low: Vector | float, high: Vector | float) -> None:
        self.low = low
        self.high = high
        self.fixed = np.flatnonzero(np.equal(low, high))
        self._is_open = bool(np.all(np.isneginf(low)) and np.all(np.isposinf(high)))

    @classmethod
    def of(cls, bounds: Any, n: int) -> Box:
        """Return the box of n variables that ``bounds`` describes.

        Args:
            bounds: None, a ``scipy.optimize.Bounds``, or a sequence of (min, max) pairs in which None is
                no bound. One pair (or scalars in ``Bounds``) holds for all variables, as in SciPy.
            n: the number of variables.

        Raises:
            StructureError: when they are for another number of variables, or leave no point.
        """
        if bounds is None:
            return cls(-np.inf, np.inf)
        low, high = _ends(bounds)
        try:
            low, high = np.broadcast_to(low, (n,)).copy(), np.broadcast_to(high, (n,)).copy()
        except ValueError:
            raise StructureError(
                f"bounds are for {max(low.size, high.size)} variables, but x0 has {n}; give a pair for "
                "each, (None, None) for no bounds"
            ) from None
        # Written so that a nan fails.
        bad = np.flatnonzero(~((low <= high) & (low < np.inf) & (high > -np.inf)))
        if bad.size:
            i = bad[0]
            raise StructureError(
                f"bounds[{i}] is ({low[i]}, {high[i]}), which no x can meet; give (min, max) with min <= max"
            )
        return cls(low, high)

    def project(self, x: Vector) -> None:
        """Move x, in place, to the nearest point of the box."""
        if not self._is_open:
            np.clip(x, self.low, self.high, out=x)

    def slope(self, x: Vector, gradient: Vector) -> float:
        """Return max_i |x - clip(x - g, low, high)|_i at a point of the box: 0 where no descent is left.

        Without bounds this is the largest |g_i|. It is computed as clip(g, x - high, x - low), which
        is the same number but does not round a small g away beside a large x.
        """
        projected = gradient if self._is_open else np.clip(gradient, x - self.high, x - self.low)
        if projected.size <= FEW:
            return float(max(map(abs, projected.tolist())))
        return float(np.maximum.reduce(np.abs(projected)))


def _ends(bounds: Any) -> tuple[Vector, Vector]:
    """Return the lower and upper ends, each a vector of the length that was given."""
    from scipy.optimize import Bounds

    if isinstance(bounds, Bounds):
        return np.ravel(np.asarray(bounds.lb, np.float64)), np.ravel(np.asarray(bounds.ub, np.float64))
    if not isinstance(bounds, Iterable):
        raise StructureError(f"bounds must be (min, max) pairs or a scipy.optimize.Bounds, got {bounds!r}")
    low: list[float] = []
    high: list[float] = []
    for index, pair in enumerate(bounds):
        try:
            least, most = pair
            low.append(-np.inf if least is None else float(np.asarray(least).item()))
            high.append(np.inf if most is None else float(np.asarray(most).item()))
        except (TypeError, ValueError):
            raise StructureError(
                f"bounds[{index}] must be a (min, max) pair of numbers or None, got {pair!r}"
            ) from None
    return np.array(low, np.float64), np.array(high, np.float64)
