"""A surface in three dimensions, seen by parallel rays: where points are on the picture, and what hides them.

Places are (right, ahead, height), each from 0 to 1 over the box, as on the lab's page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steprule.film.draw import tick
from steprule.film.ground import BANDS, Array, Ground

__all__ = ["Edge", "Relief"]

_CELLS, _PARTS, _REACH = 144, 2, 9
"""Cells along each side, samples along the side of each, and how many around a corner its height is the mean of: a
valley that is narrower than a cell would else be seen at some corners and missed at others, and its edges be combs."""
_TALL = 1.15
"""Of a half side of the box, how high the highest point is."""
_TOP = 1.1
_LIFT = 0.008
"""Above the surface, on which paths are drawn."""
_TICKS = 5


@dataclass(frozen=True)
class Edge:
    """An axis: a line, its numbers and its name, at places."""

    ends: list[tuple[float, float, float]]
    labels: list[tuple[tuple[float, float, float], str]]
    align: str = "center"


class Relief:
    """The heights of a ground, and a camera: ``turn`` is how far it goes around and up, in radians."""

    def __init__(self, ground: Ground, turn: tuple[float, float]) -> None:
        self._ground = ground
        self._sin, self._cos = np.sin(turn), np.cos(turn)

    @cached_property
    def heights(self) -> Array:
        """The heights of corners, a row for each place to the right; NaN where there is no loss."""
        from scipy.ndimage import convolve1d

        fine = np.minimum(self._ground.grid(_PARTS * _CELLS + 1), _TOP)
        tent = _REACH - np.abs(np.arange(1 - _REACH, _REACH)).astype(float)
        known = np.isfinite(fine)
        sums, weights = (
            convolve1d(convolve1d(values, tent, axis=0, mode="constant"), tent, axis=1, mode="constant")
            for values in (np.where(known, fine, 0.0), known.astype(float))
        )
        with np.errstate(all="ignore"):
            found = np.where(known, sums / weights, np.nan)
        return np.asarray(found[::_PARTS, ::_PARTS])

    def project(self, right: Array, ahead: Array, height: Array) -> Array:
        """Return where places are on the picture, as rows."""
        x, y = 2 * np.asarray(right) - 1, 2 * np.asarray(ahead) - 1
        across, depth = x * self._cos[0] - y * self._sin[0], x * self._sin[0] + y * self._cos[0]
        return np.stack((across, depth * self._sin[1] + _TALL * np.asarray(height) * self._cos[1]), axis=-1)

    def place(self, points: Array) -> tuple[Array, Array]:
        """Return where points of the plane are, NaN outside of the box, and which of them the surface hides."""
        low, high = np.array(self._ground.box, float).T
        shares = (points - low) / (high - low)
        outside = ~((shares >= 0) & (shares <= 1)).all(axis=1)
        shares[outside] = 0.5
        right, ahead = shares.T
        height = self._height(right, ahead) + _LIFT
        found = self.project(right, ahead, height)
        found[outside] = np.nan
        return found, self._hidden(right, ahead, height)

    def _height(self, right: Array, ahead: Array) -> Array:
        """Return the height of what is drawn, which in a narrow valley is above the true one; NaN outside."""
        from scipy.ndimage import map_coordinates

        where = np.stack((right, ahead)) * _CELLS
        return np.asarray(map_coordinates(self.heights, where, order=1, mode="constant", cval=np.nan, prefilter=False))

    def _hidden(self, right: Array, ahead: Array, height: Array) -> Array:
        """Whether the surface rises above the ray from a place to the eye."""
        way = np.linspace(0.012, 1.5, 140)
        rise = 2 * self._sin[1] / (_TALL * self._cos[1])
        along = (right + way[:, None] * -self._sin[0], ahead + way[:, None] * -self._cos[0])
        with np.errstate(invalid="ignore"):
            return np.asarray((self._height(*along) > height + way[:, None] * rise + 0.02).any(axis=0))

    def quads(self) -> tuple[Array, Array, Array]:
        """Return the corners of cells on the picture, from the far ones to the near, their heights and their light."""
        ends = np.linspace(0, 1, _CELLS + 1)
        places = self.project(*np.meshgrid(ends, ends, indexing="ij"), np.minimum(self.heights, _TOP))
        corners = np.stack((places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]), axis=2)
        z = self.heights
        a, b, c, d = z[:-1, :-1], z[1:, :-1], z[1:, 1:], z[:-1, 1:]
        middle, slope = (a + b + c + d) / 4, (b + c - a - d) * _CELLS * 0.06
        light = np.clip(1 - 0.5 * slope, 0.72, 1.12)
        right, ahead = np.meshgrid(ends[:-1], ends[:-1], indexing="ij")
        order = np.argsort(-(right * self._sin[0] + ahead * self._cos[0]), axis=None, kind="stable")
        order = order[np.isfinite(middle.ravel()[order])]
        return corners.reshape(-1, 4, 2)[order], middle.ravel()[order], light.ravel()[order]

    def contours(self) -> list[Array]:
        """Return the lines of equal height where they are seen."""
        from contourpy import contour_generator

        ends = np.linspace(0, 1, _CELLS + 1)
        lines = contour_generator(ends, ends, np.ma.masked_invalid(self.heights.T))
        found: list[Array] = []
        for level in range(1, BANDS + 1):
            for line in lines.lines(level / BANDS):
                right, ahead = np.asarray(line, float).T
                height = np.full(len(right), level / BANDS)
                places = self.project(right, ahead, height)
                places[self._hidden(right, ahead, height + _LIFT)] = np.nan
                found.append(places)
        return found

    def edges(self) -> list[Edge]:
        """Return axes along the two lower edges that are nearer, and upwards at the corner on the left."""
        (x0, x1), (y0, y1) = self._ground.box
        near = [0.0 if self._sin[0] > 0 else 1.0, 0.0 if self._cos[0] > 0 else 1.0]
        out, further = ([side + away * (2 * side - 1) for side in near] for away in (0.08, 0.2))
        along_x = [((share, out[1], 0.0), text) for share, text in _ticks(x0, x1)]
        along_y = [((out[0], share, 0.0), text) for share, text in _ticks(y0, y1)]
        corner = min(
            ((right, ahead) for right in (0.0, 1.0) for ahead in (0.0, 1.0)),
            key=lambda place: float(self.project(np.array(place[0]), np.array(place[1]), np.zeros(()))[0]),
        )
        top = [((*corner, 1.07), "log loss")]
        return [
            Edge([(0.0, near[1], 0.0), (1.0, near[1], 0.0)], [*along_x, ((0.5, further[1], 0.0), "x")]),
            Edge([(near[0], 0.0, 0.0), (near[0], 1.0, 0.0)], [*along_y, ((further[0], 0.5, 0.0), "y")]),
            Edge([(*corner, 0.0), (*corner, 1.0)], top, "left"),
        ]

    def limits(self) -> tuple[float, float, float, float]:
        """Return from where to where the picture reaches: left, right, low, high."""
        corners, *_ = self.quads()
        places = [place for edge in self.edges() for place in (*edge.ends, *(at for at, _ in edge.labels))]
        seen = np.concatenate((corners.reshape(-1, 2), self.project(*np.array(places).T)))
        left, low = np.nanmin(seen, axis=0)
        right, high = np.nanmax(seen, axis=0)
        room = 0.09
        return float(left - room), float(right + room), float(low - room), float(high + room)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round numbers as shares of the way from ``low`` to ``high``, and as text."""
    from matplotlib.ticker import MaxNLocator

    values = MaxNLocator(_TICKS, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [((value - low) / (high - low), tick(value)) for value in values if low <= value <= high]
