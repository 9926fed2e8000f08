"""The figures of a race's tuning: losses over the learning rate, and what more trials would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.film.draw import dashes, new_figure
from steprule.race.evidence import Evidence
from steprule.race.figures import clip, limits, loss_axis
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import Row
from steprule.race.words import loss_name
from steprule.report.theme import WIDTH, bare, name_ends, panel_title, panels, short, styles_of, title
from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["best_of_k", "sensitivity"]


def sensitivity(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return the final loss of every trial over its learning rate: a panel a rule, the others behind it in grey."""
    from matplotlib.ticker import NullLocator

    shown = [row for row in rows if row.entrant.has_lr and any(point.runs for point in row.points)]
    lines, columns = panels(len(shown))
    height = 1.7 + 1.75 * lines
    figure = new_figure(WIDTH, height, theme.paper)
    top, bottom = 1 - 1.15 / height, 0.6 / height
    grid = figure.add_gridspec(lines, columns, left=0.125, right=0.98, top=top, bottom=bottom, hspace=0.42, wspace=0.1)
    styles = styles_of([entrant.label for entrant in plan.entrants], theme)
    first: Axes | None = None
    for index, row in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(index, columns)], sharex=first, sharey=first)
        first = first or axes
        bare(axes, theme)
        for other in shown:
            axes.plot(*_over_lr(other), ".", color=theme.muted, alpha=0.25, markersize=3, zorder=1)
        _panel(axes, row, plan, styles[row.entrant.label], theme)
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(shown))
    if first is not None:
        first.set_xscale("log")
        first.xaxis.set_minor_locator(NullLocator())
        loss_axis(first, [point.losses[0] for row in shown for point in row.points if point.runs], plan)
    _names_of_axes(figure, (top + bottom) / 2, loss_name(plan.found.metric), theme)
    lowest = ", above the lowest loss" if any(row.scale.floor < 0 for row in shown) else ""
    note = "large dot: best · ring: diverged, or far above the loss at the start (dotted)"
    note += f"\nfilled: within 10 % of the best or 0.1 % of the start{lowest} (share of the trials, %)"
    title(figure, "Every trial, over its learning rate", note, theme)
    return figure


def best_of_k(evidence: Evidence, plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return the expected lowest loss of k random trials over k (Dodge et al. 2019)."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(WIDTH, 4.6, theme.paper)
    shown = [row for row in rows if row.entrant.label in evidence.budget]
    longest = max(len(short(row.entrant.label)) for row in shown)
    axes = figure.add_axes((0.125, 0.12, 0.8 - 0.0135 * longest, 0.71))
    bare(axes, theme)
    styles = styles_of([entrant.label for entrant in plan.entrants], theme)
    ends = []
    for row in shown:
        style, values = styles[row.entrant.label], evidence.budget[row.entrant.label]
        drawn = [clip(value, row.scale) for value in values]
        axes.plot(range(1, len(drawn) + 1), drawn, color=style.color, linestyle=dashes(style), linewidth=1.9)
        ends.append(drawn[-1])
    loss_axis(axes, ends, plan)
    axes.set_xlim(1, max(len(values) for values in evidence.budget.values()))
    axes.set_xlabel("trials", color=theme.muted, fontsize=10)
    axes.set_ylabel(loss_name(plan.found.metric), color=theme.muted, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_ends(axes, [row.entrant.label for row in shown], ends, styles, theme)
    name = loss_name(plan.found.metric)
    title(figure, "What tuning buys", f"expected lowest {name} of that many trials, drawn from the space", theme)
    return figure


def _names_of_axes(figure: Figure, middle: float, loss: str, theme: Theme) -> None:
    figure.text(0.55, 0.12 / figure.get_figheight(), "learning rate", color=theme.muted, fontsize=10, ha="center")
    figure.text(0.02, middle, loss, color=theme.muted, fontsize=10, va="center", rotation="vertical")


def _panel(axes: Axes, row: Row, plan: Plan, style: Style, theme: Theme) -> None:
    x, y = _over_lr(row)
    _, top = limits(row.scale)
    near = np.array([bool(row.chosen) and point.median <= _near(row) for point in row.points if point.runs])
    lost = y >= top
    own: dict[str, Any] = {"color": style.color, "linestyle": "none", "zorder": 3}
    axes.plot(x[near], y[near], "o", markersize=4.6, **own)
    pale = ~near & ~lost
    axes.plot(x[pale], y[pale], "o", markersize=4.6, alpha=0.4, **own)
    axes.plot(x[lost], y[lost], "o", markerfacecolor=theme.paper, markersize=4.6, clip_on=False, **own)
    axes.axhline(plan.start, color=theme.muted, linewidth=0.8, linestyle=(0, (2, 2)), zorder=2)
    if row.chosen is not None and row.chosen.lr is not None:
        axes.plot([row.chosen.lr], [clip(row.chosen.median, row.scale)], "o", color=style.color, markersize=8, zorder=5)
    share = "" if row.forgiving is None else f"{row.forgiving:.0%}"
    panel_title(axes, row.entrant.label, share if row.chosen else "diverged", theme)


def _near(row: Row) -> float:
    assert row.chosen is not None
    return row.chosen.median + row.tolerance


def _over_lr(row: Row) -> tuple[Array, Array]:
    points = [point for point in row.points if point.runs]
    return np.array([point.lr for point in points]), np.array([clip(point.median, row.scale) for point in points])
