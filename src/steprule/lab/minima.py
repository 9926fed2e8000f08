"""The minima of a surface of one's own, found by looking: from the lowest places of a grid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.lab.surface import Surface

__all__ = ["minima"]

_Place = NDArray[np.float64]
"""A point in sides of the box, from 0 to 1."""

_CELLS = 80
"""Along each side of the box. A basin that is narrower than a cell may be missed."""
_CANDIDATES = 40
_MOST = 8
"""Minima that are told apart; of more than these, those that are as deep as the deepest."""
_SAME = 1e-3
_RINGS = (3e-4, 1e-2)
_FLAT = 3e-5
"""A rise by less than this share of the steepest one around is none: a floor along a line, straight or curved."""


def minima(surface: Surface) -> tuple[tuple[float, ...], ...]:
    """Return the points of the box at which f is lower than all around them, the deepest first.

    Each local minimum of a grid is followed down by Nelder and Mead's method, which asks for no gradient. None is
    returned where f has no minimum that stands alone: one along a line, or outside of the box.
    """
    look = _Look(surface)
    found: list[tuple[float, _Place]] = []
    for candidate in look.candidates():
        # Twice, since a simplex may collapse at a kink.
        place = look.followed(candidate, 1.0)
        if not any(np.abs(place - other).max() < _SAME for _, other in found):
            place = look.followed(place, 0.1)
            if look.is_minimum(place):
                found.append((look.value(place), place))
    found.sort(key=lambda one: one[0])
    if len(found) > _MOST:
        limit = found[0][0] + 1e-6 * abs(look.median - found[0][0])
        found = [one for one in found if one[0] <= limit]
    return tuple(look.written(place) for _, place in found)


class _Look:
    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._low, high = np.array(surface.box).T
        self._side = high - self._low
        # A ring of cells around the box, so that places at its edge have neighbours.
        self._steps = np.arange(-1, _CELLS + 2) / _CELLS
        heights = self._at(np.array(np.meshgrid(self._steps, self._steps, indexing="ij")))
        self._grid = np.where(np.isnan(heights), np.inf, heights)
        finite = np.sort(self._grid[np.isfinite(self._grid)])
        self.median, low = (float(finite[int(part * finite.size)]) if finite.size else 0.0 for part in (0.5, 0.02))
        self._usual = self.median - low

    def _at(self, places: _Place) -> _Place:
        """Return f at places: an array whose first axis has the coordinates."""
        across = (2, *[1] * (places.ndim - 1))
        points = self._low.reshape(across) + places * self._side.reshape(across)
        return np.broadcast_to(np.asarray(self._surface.loss(points), np.float64), places.shape[1:])

    def value(self, place: _Place) -> float:
        """Return f; infinity where it has no value."""
        found = float(self._at(place))
        return np.inf if np.isnan(found) else found

    def candidates(self) -> list[_Place]:
        """Return places of the grid that are no higher than their eight neighbours, the lowest first."""
        middle, n = self._grid[1:-1, 1:-1], _CELLS + 1
        around = [self._grid[i : i + n, j : j + n] for i, j in itertools.product(range(3), repeat=2)]
        is_low = np.isfinite(middle) & (middle <= np.min(around, axis=0))
        order = np.argsort(middle[is_low], kind="stable")[:_CANDIDATES]
        return list(self._steps[np.argwhere(is_low)[order] + 1])

    def followed(self, place: _Place, size: float) -> _Place:
        """Return where the way down from a place ends, from a simplex of so many cells."""
        import scipy.optimize

        simplex = place + np.array([[0, 0], [size, 0], [0, size]]) / _CELLS
        options: Any = {"initial_simplex": simplex, "xatol": 1e-8, "fatol": np.inf, "maxiter": 400}
        with np.errstate(invalid="ignore"):  # differences of infinities
            result = scipy.optimize.minimize(self.value, place, method="Nelder-Mead", options=options)
        return np.asarray(result.x, np.float64)

    def is_minimum(self, place: _Place) -> bool:
        """Whether a place is in the box, and lower than all around it."""
        height = self.value(place)
        if not (np.isfinite(height) and np.all((place >= 0) & (place <= 1))):
            return False
        turn = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
        circle = np.array([np.cos(turn), np.sin(turn)])
        for radius in _RINGS:
            rises = self._at(place[:, None] + radius * circle) - height
            # Where f has no value around, there is no way down.
            rises = rises[~np.isnan(rises)]
            if not (rises.size and rises.min() > _FLAT * np.max(rises[np.isfinite(rises)], initial=0.0)):
                return False
            if rises.min() > self._usual:
                return False  # a pole
        return True

    def written(self, place: _Place) -> tuple[float, ...]:
        """Return the coordinates without digits that no picture shows."""
        digits = [int(np.ceil(-np.log10(side))) + 5 for side in self._side]
        point = self._low + place * self._side
        return tuple(round(float(x), count) + 0.0 for x, count in zip(point, digits, strict=True))
