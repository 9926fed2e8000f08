"""The picture of a check: how far each step is from the rule's, with and without the mistakes. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steprule.checking.righted import Deviations
from steprule.film.draw import new_figure
from steprule.report.theme import WIDTH, bare, spread, title
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_NO_DISTANCE = 1e-17
"""Where a distance of zero is drawn, which has no logarithm: below what float64 can tell."""
_NO_NUMBER = 3.0
"""Where a step is drawn that leaves no number: above the largest distance there can be, 2."""


def draw(found: Deviations, rule: str, theme: Theme) -> Figure:
    """Return the figure.

    Args:
        found: the distances.
        rule: what they are distances from.
        theme: its colours.
    """
    figure = new_figure(WIDTH, 3.9, theme.paper)
    axes = figure.add_axes((0.11, 0.13, 0.62, 0.66))
    bare(axes, theme)
    x = np.arange(1, len(found.rule) + 1)
    axes.set_yscale("log")
    axes.set_ylim(_NO_DISTANCE / 3, 3 * _NO_NUMBER)
    axes.set_xlim(1, len(x))
    axes.fill_between(x, _NO_DISTANCE / 3, found.rounding, color=theme.line, linewidth=0)
    named = ((found.explained, "the rule with\nthese mistakes"), (found.rule, rule))
    lines = [(one, name, slot) for slot, (one, name) in enumerate(one for one in named if one[0])]
    for distances, _, slot in lines:
        _line(axes, x, distances, theme.palette[slot], theme)
    _labels(axes, [(one[-1], name, theme.palette[slot]) for one, name, slot in lines], found.rounding[-1], theme)
    axes.set_xlabel("step", color=theme.muted, fontsize=10)
    subtitle = "relative distance of each step, with gradients to which nothing was fitted"
    if np.isinf([*found.rule, *found.explained]).any():
        subtitle += "\nopen marks: what it leaves is not a number"
    title(figure, f"How far its steps are from those of {rule}", subtitle, theme)
    return figure


def _line(axes: Axes, x: NDArray[np.int_], distances: Sequence[float], color: str, theme: Theme) -> None:
    y = np.clip(np.where(np.isfinite(distances), distances, _NO_NUMBER), _NO_DISTANCE, _NO_NUMBER)
    axes.plot(x, y, color=color, linewidth=1.9, marker="o", markersize=3, clip_on=False)
    lost = ~np.isfinite(distances)
    axes.plot(
        x[lost], y[lost], linestyle="", marker="o", markersize=7, color=color, markerfacecolor=theme.paper,
        clip_on=False, zorder=5,
    )  # fmt: skip


def _labels(axes: Axes, ends: list[tuple[float, str, str]], rounding: float, theme: Theme) -> None:
    """Name the lines, and the ground of rounding, at their right ends."""
    named = [*ends, (rounding, "what rounding\nmay do", theme.muted)]
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [min(max(one, _NO_DISTANCE), _NO_NUMBER) for one, _, _ in named]
    places = spread([float(to_axes.transform((1.0, one))[1]) for one in heights], 0.17, 0.0, 1.0)
    for place, (_, name, color) in zip(places, named, strict=True):
        axes.text(
            1.03, place, name, transform=axes.transAxes, color=color, fontsize=9.5, va="center", linespacing=1.3,
            parse_math=False,
        )  # fmt: skip
