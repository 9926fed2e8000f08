"""The two ways of looking at a surface: as a map, and in three dimensions. Both say where points are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from steprule.film.draw import LABEL, MINIMUM, START, clean, halo, rgb, sign, tick, whole
from steprule.film.ground import BANDS, Array, Ground
from steprule.film.relief import Relief
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["MINIMUM", "START", "Map", "Solid", "View", "mark", "shade"]

_SHADES = 3 * BANDS
_FAR = 30.0
"""Boxes from the middle: what goes farther is drawn there, in its direction."""


def sides(ground: Ground, steps: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return from where to where a map reaches: on a line the second axis is time, downwards."""
    return (ground.box[0], (steps, 0.0)) if ground.flat else ground.box


def shade(axes: Axes, ground: Ground, theme: Theme, steps: float = 0.0) -> None:
    """Fill axes with shades and lines of equal height."""
    from matplotlib.colors import LinearSegmentedColormap

    reach = sides(ground, steps)
    x, y = (np.linspace(*side, ground.side) for side in reach)
    heights = np.ma.masked_invalid(ground.map)
    axes.set_facecolor((*rgb(theme.contour), 0.28))  # where there is no loss
    colors = LinearSegmentedColormap.from_list("ground", [rgb(theme.low), rgb(theme.high)])
    clipped = np.ma.clip(heights, 0.0, 1.0)
    axes.contourf(x, y, clipped, levels=np.linspace(0, 1, _SHADES + 1), cmap=colors, vmin=0, vmax=1)
    lines = axes.contour(x, y, heights, levels=np.arange(1, BANDS) / BANDS, colors=[rgb(theme.contour)])
    lines.set(linewidths=0.7, alpha=0.45)
    axes.set(xlim=reach[0], ylim=reach[1])


class View(Protocol):
    """Where points of the plane are drawn."""

    axes: Axes

    def place(self, points: Array, steps: Array) -> tuple[Array, Array]:
        """Return the places of points that are reached after some steps, as rows, and which of them are hidden."""

    def holds(self, place: Array) -> bool:
        """Whether a place is in the picture."""


class Map:
    """A map: shades and lines of equal height, numbers along the axes."""

    def __init__(self, axes: Axes, ground: Ground, theme: Theme, steps: float) -> None:
        self.axes, self._ground = axes, ground
        (x0, x1), (y0, y1) = sides(ground, steps)
        self._middle = np.array([x0 + x1, y0 + y1]) / 2
        self._size = np.abs([x1 - x0, y1 - y0])
        clean(axes, theme)
        shade(axes, ground, theme, steps)
        axes.set_xlabel("x", color=theme.muted, fontsize=LABEL, labelpad=2)
        label = axes.set_ylabel("step" if ground.flat else "y", color=theme.muted, fontsize=LABEL, labelpad=4)
        label.set_rotation(90 if ground.flat else 0)
        axes.xaxis.set_major_formatter(lambda value, _: tick(value))
        axes.yaxis.set_major_formatter(lambda value, _: whole(value) if ground.flat else tick(value))

    def place(self, points: Array, steps: Array) -> tuple[Array, Array]:
        """Return the points themselves; those far outside are drawn in their direction, and on a line y is the step."""
        found = np.array(points, float)
        if self._ground.flat:
            found = np.stack((found[:, 0], np.asarray(steps, float)), axis=1)
        away = np.abs((found - self._middle) / self._size).max(axis=1, initial=0.0)
        far = away > _FAR
        found[far] = self._middle + (found[far] - self._middle) * (_FAR / away[far, None])
        return found, np.zeros(len(found), bool)

    def holds(self, place: Array) -> bool:
        """Whether a place is in the picture."""
        return bool((2 * np.abs(place - self._middle) <= self._size * (1 + 1e-9)).all())


class Solid:
    """The surface from aside, drawn without a third axis of matplotlib's: what it hides is known point by point."""

    def __init__(self, axes: Axes, ground: Ground, theme: Theme, turn: tuple[float, float]) -> None:
        self.axes, self._relief = axes, Relief(ground, turn)
        axes.set_axis_off()
        axes.set_aspect("equal", anchor="C")
        self._edges(theme)
        self._quads(theme)
        self._lines(theme)
        left, right, low, high = self._relief.limits()
        axes.set(xlim=(left, right), ylim=(low, high))

    def _edges(self, theme: Theme) -> None:
        for edge in self._relief.edges():
            ends = self._relief.project(*np.array(edge.ends).T)
            self.axes.plot(*ends.T, color=theme.muted, linewidth=1.0, zorder=1)
            for place, text in edge.labels:
                ((x, y),) = self._relief.project(*np.array([place]).T)
                self.axes.text(
                    x, y, text, color=theme.muted, fontsize=LABEL, ha=edge.align, va="center", zorder=4,
                    path_effects=halo(theme.paper, 3.0),
                )  # fmt: skip

    def _quads(self, theme: Theme) -> None:
        from matplotlib.collections import PolyCollection

        corners, heights, light = self._relief.quads()
        low, high = np.array(theme.low), np.array(theme.high)
        share = np.clip(heights, 0, 1)[:, None]
        colors = np.clip((low + (high - low) * share) * light[:, None] / 255, 0, 1)
        quads = PolyCollection(list(corners), facecolors=colors, edgecolors=colors, linewidths=0.5, zorder=2)
        self.axes.add_collection(quads, autolim=False)

    def _lines(self, theme: Theme) -> None:
        from matplotlib.collections import LineCollection

        lines = LineCollection(self._relief.contours(), colors=[(*rgb(theme.contour), 0.5)], linewidths=0.7, zorder=3)
        self.axes.add_collection(lines, autolim=False)

    def place(self, points: Array, steps: Array) -> tuple[Array, Array]:
        """Return where points are on the surface, NaN outside of the box, and which of them it hides."""
        return self._relief.place(np.asarray(points, float))

    def holds(self, place: Array) -> bool:
        """Whether a place is in the picture."""
        return bool(np.isfinite(place).all())


def mark(view: View, point: Sequence[float], step: float, name: str, theme: Theme) -> Line2D:
    """Draw the ring of a start or the cross of a minimum, paler where the surface hides it."""
    places, hidden = view.place(np.array([[*point, 0.0][:2]]), np.array([step]))
    looks = sign(name, theme, 1.0)
    if hidden[0]:
        looks = {**looks, "alpha": 0.45, "path_effects": None}
    (found,) = view.axes.plot(
        *places.T, linestyle="none", gid=name, zorder=8 if name == START else 5, clip_on=False, **looks
    )
    return found
