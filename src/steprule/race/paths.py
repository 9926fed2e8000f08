"""The figure of a problem in the plane: the paths of the rules over its contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.race.check import metrics_of
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import Row
from steprule.race.theme import WIDTH, Style, Theme, new_figure, panel_title, panels, styles, title
from steprule.race.words import rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contours", "paths", "surface"]

_SIDE = 121
_LEVELS = 14
_NOTE = "ring: start · dot: end · a line cut at the frame went on outside"


def paths(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return a panel a rule: its path at its best learning rate from the first seed's start, over the contours."""
    assert plan.problem.box is not None
    shown = [row for row in rows if row.best]
    lines, columns = panels(len(shown))
    (left, right), (low, high) = plan.problem.box
    side = WIDTH * 0.95 / columns * min(1.2, (high - low) / (right - left))
    height = 0.9 + (side + 0.35) * lines
    figure = new_figure(WIDTH, height, theme)
    grid = figure.add_gridspec(
        lines, columns, left=0.02, right=0.98, top=1 - 0.95 / height, bottom=0.1 / height, hspace=0.16, wspace=0.05
    )
    looks = styles([entrant.label for entrant in plan.entrants], theme)
    ground = surface(plan)
    for index, row in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        contours(axes, ground, theme)
        _path(axes, row, looks[row.entrant.label], theme)
        axes.set(xlim=(left, right), ylim=(low, high))
    title(figure, "Paths, each rule at its best learning rate", f"{plan.problem.name} · {_NOTE}", theme)
    return figure


def surface(plan: Plan) -> tuple[Array, Array, Array]:
    """Return x, y and how low the loss is, as the logarithm of its height above the lowest point drawn."""
    assert plan.problem.box is not None
    x, y = (np.linspace(*side, _SIDE) for side in plan.problem.box)
    evaluate = plan.problem.problem.evaluate
    with np.errstate(all="ignore"):
        z = np.array([[metrics_of(evaluate(np.array([a, b])), plan.problem.name)["train_loss"] for a in x] for b in y])
    above = z - np.nanmin(z)
    return x, y, np.log(above + 1e-3 * np.nanmedian(above) + 1e-300)


def contours(axes: Axes, surface: tuple[Array, Array, Array], theme: Theme) -> None:
    """Shade the plane by height, with nothing around it."""
    low, high = float(np.nanmin(surface[2])), float(np.nanmax(surface[2]))
    # The pale end of the map only: the paths are to stand out.
    shades, reach = ("Greys", 1.9) if theme.name == "light" else ("Greys_r", 1.6)
    span = high - low
    axes.contourf(*surface, levels=_LEVELS, cmap=shades, vmin=low - 0.1 * span, vmax=high + reach * span)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _path(axes: Axes, row: Row, style: Style, theme: Theme) -> None:
    assert row.best is not None
    points = np.array(row.best.runs[0].path)
    axes.plot(*points.T, color=style.color, linewidth=1.3, zorder=3)
    axes.plot(*points.T, ".", color=style.color, markersize=3, zorder=3)
    axes.plot(
        *points[0], "o", color=style.color, markerfacecolor=theme.paper, markersize=6, markeredgewidth=1.6, zorder=4
    )
    axes.plot(*points[-1], "o", color=style.color, markeredgecolor=theme.paper, markersize=8, zorder=5)
    panel_title(axes, row.entrant.label, "" if row.best.lr is None else f"lr {rate(row.best.lr)}", theme)
