"""The figure of a problem in the plane: the paths of the rules over its contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.film import Ground
from steprule.film.draw import new_figure
from steprule.film.views import shade
from steprule.race.check import metrics_of
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import Row
from steprule.race.words import rate
from steprule.report.theme import WIDTH, panel_title, panels, styles_of, title
from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ground_of", "paths"]

_SIDE = 121
_NOTE = "ring: start · dot: end · a line cut at the frame went on outside"


def paths(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return a panel a rule: its path at its best setting from the first seed's start, over the contours."""
    assert plan.problem.box is not None
    shown = [row for row in rows if row.best]
    lines, columns = panels(len(shown))
    (left, right), (low, high) = plan.problem.box
    side = WIDTH * 0.95 / columns * min(1.2, (high - low) / (right - left))
    height = 0.9 + (side + 0.35) * lines
    figure = new_figure(WIDTH, height, theme.paper)
    grid = figure.add_gridspec(
        lines, columns, left=0.02, right=0.98, top=1 - 0.95 / height, bottom=0.1 / height, hspace=0.16, wspace=0.05
    )
    styles = styles_of([entrant.label for entrant in plan.entrants], theme)
    ground = ground_of(plan)
    for index, row in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(index, columns)])
        _backdrop(axes, ground, theme)
        _path(axes, row, styles[row.entrant.label], theme)
        axes.set(xlim=(left, right), ylim=(low, high))
    title(figure, "Paths, each rule at its best setting", f"{plan.problem.name} · {_NOTE}", theme)
    return figure


def ground_of(plan: Plan) -> Ground:
    """Return the surface of a problem in the plane."""
    assert plan.problem.box is not None
    evaluate, name = plan.problem.problem.evaluate, plan.problem.name

    def loss(points: Array) -> Array:
        rows = points.reshape(len(points), -1).T
        with np.errstate(all="ignore"):
            found = [metrics_of(evaluate(point), name)["train_loss"] for point in rows.copy()]
        return np.array(found).reshape(points.shape[1:])

    return Ground(name, plan.problem.box, loss, plan.problem.minima, side=_SIDE)


def _backdrop(axes: Axes, ground: Ground, theme: Theme) -> None:
    """Shade the plane by height, with nothing around it."""
    shade(axes, ground, theme)
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
