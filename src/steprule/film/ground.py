"""What paths run over: a loss over a part of the plane, and how high it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BANDS", "Array", "Ground"]

Array: TypeAlias = NDArray[Any]
BANDS = 18
"""Lines of equal height from the lowest point to the highest."""
_SAMPLES = 61


@dataclass(frozen=True)
class Ground:
    """A loss over a box. Heights are its logarithm above the lowest loss; on a line, the loss itself.

    Attributes:
        title: the name of the surface.
        box: the part of the plane that is drawn: ((x from, to), (y from, to)).
        loss: of points, an array whose first axis has the coordinates.
        minima: the points that are marked.
        soft: of the median height, what is added before the logarithm: the larger, the more even is the ground near a
            minimum.
        flat: whether the loss is a function of x alone; y is time then, and runs down.
        side: how many points along each side the loss is computed at, for the map.
    """

    title: str
    box: tuple[tuple[float, float], tuple[float, float]]
    loss: Callable[[Array], Array]
    minima: tuple[tuple[float, ...], ...] = ()
    soft: float = 1e-3
    flat: bool = False
    side: int = 361

    def at(self, right: Array, up: Array) -> Array:
        """Return the points at shares of the box, from 0 to 1."""
        (x0, x1), (y0, y1) = self.box
        return np.stack((x0 + right * (x1 - x0), y0 + up * (y1 - y0)))

    def grid(self, side: int) -> Array:
        """Return heights at so many points along each side: a row for each x."""
        ends = np.linspace(0, 1, side)
        return self.height(self.at(*np.meshgrid(ends, ends, indexing="ij")))

    @cached_property
    def map(self) -> Array:
        """The heights of a map: a row for each y."""
        return self.grid(self.side).T

    def height(self, points: Array) -> Array:
        """Return from 0, the lowest point that is drawn, to 1, the highest."""
        low, soft, top = self._scale
        above = self._losses(points) - low
        if self.flat:
            return np.asarray(above / ((np.exp(top) - soft) or 1.0))
        bottom = np.log(soft)
        with np.errstate(all="ignore"):
            return np.asarray((np.log(np.maximum(above, 0) + soft) - bottom) / ((top - bottom) or 1.0))

    def _losses(self, points: Array) -> Array:
        return np.array(np.broadcast_to(self.loss(points[:1] if self.flat else points), points.shape[1:]), float)

    @cached_property
    def _scale(self) -> tuple[float, float, float]:
        """The lowest loss, what is added to heights above it, and the logarithm of the highest."""
        ends = np.linspace(0, 1, _SAMPLES)
        found = [self._losses(self.at(*np.meshgrid(ends, ends[:1] if self.flat else ends, indexing="ij"))).ravel()]
        found += [self._losses(np.array([*point, 0.0])[:2]).ravel() for point in self.minima]
        values = np.concatenate(found)
        finite = np.sort(values[np.isfinite(values)])
        if not finite.size:
            return 0.0, 1.0, 0.0
        low = float(finite[0])
        soft = self.soft * float(finite[finite.size // 2] - low) or 1e-12
        return low, soft, float(np.log(finite[-1] - low + soft))
