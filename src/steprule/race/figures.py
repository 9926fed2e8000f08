"""The figures of a race: curves over epochs, sensitivity to the learning rate, paths in the plane."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.film.draw import dashes, new_figure
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import EQUAL, Row, Scale
from steprule.race.theme import WIDTH, bare, panel_title, panels, short, spread, styles_of, title
from steprule.race.words import rate
from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "loss_axis", "losses", "sensitivity"]

_CEILING = 3.0
"""Losses further up than this multiple of the loss at the start are drawn there, as open marks."""
_NARROW = 100.0
_WIDEST = 2.0
"""What is shaded around a learning rate, as a factor to either side, at most."""


def curves(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return the training loss over the epochs, each rule at its best learning rate: median and range of the seeds."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(WIDTH, 4.6, theme.paper)
    shown = [row for row in rows if row.best]
    longest = max((len(short(row.entrant.label)) for row in shown), default=0)
    axes = figure.add_axes((0.125, 0.12, 0.685 - 0.0135 * longest, 0.71))
    bare(axes, theme)
    styles = styles_of([entrant.label for entrant in plan.entrants], theme)
    ends = [_curve(axes, plan, row, styles[row.entrant.label]) for row in shown]
    loss_axis(axes, [float(losses(plan, row).min()) for row in shown], plan)
    axes.set_xlim(0, plan.epochs)
    axes.set_xlabel("epoch", color=theme.muted, fontsize=10)
    axes.set_ylabel("training loss", color=theme.muted, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _end_labels(axes, shown, ends, styles, theme)
    note = f"{plan.problem.name} · {_seeds(shown)}"
    title(figure, "Training loss, each rule at its best learning rate", note, theme)
    return figure


def sensitivity(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return the final training loss over the learning rate: a panel a rule, the others behind it in grey."""
    from matplotlib.ticker import NullLocator

    shown = [row for row in rows if row.finished and row.entrant.has_lr]
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
            axes.plot(*_over_lr(other), color=theme.muted, alpha=0.3, linewidth=1.0, zorder=1)
        _panel(axes, row, plan, styles[row.entrant.label], theme)
        axes.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(shown))
    if first is not None:
        first.set_xscale("log")
        first.xaxis.set_minor_locator(NullLocator())
        loss_axis(first, [row.low for row in shown], plan)
    _names_of_axes(figure, (top + bottom) / 2, theme)
    note = "large dot: best · ring: diverged, or far above the loss at the start (dotted)"
    if any(row.forgiving is not None for row in shown):
        lowest = ", above the lowest loss" if any(row.scale.floor < 0 for row in shown) else ""
        note += f"\nshaded: within 10 % of the best or 0.1 % of the start{lowest} (share of the grid tried, %)"
    title(figure, "Training loss at the end, over the learning rate", note, theme)
    return figure


def _seeds(rows: Sequence[Row]) -> str:
    """Return what a line stands for; in a race that was interrupted, rules differ in how many seeds are finished."""
    counts = {len(row.best.runs) for row in rows if row.best}
    most = max(counts, default=1)
    return f"median and range of {'up to ' if len(counts) > 1 else ''}{most} seeds" if most > 1 else "one seed"


def _names_of_axes(figure: Figure, middle: float, theme: Theme) -> None:
    """Name the axes that all panels share, once."""
    figure.text(0.55, 0.12 / figure.get_figheight(), "learning rate", color=theme.muted, fontsize=10, ha="center")
    figure.text(0.02, middle, "training loss", color=theme.muted, fontsize=10, va="center", rotation="vertical")


def losses(plan: Plan, row: Row) -> Array:
    """Return the training losses at the best rate where they are drawn: a row a seed, a column an epoch."""
    assert row.best is not None
    histories = np.full((len(row.best.runs), plan.epochs + 1), math.inf)
    for history, run in zip(histories, row.best.runs, strict=True):
        history[: len(run.history)] = run.history
    return histories.clip(*_limits(row.scale))


def _curve(axes: Axes, plan: Plan, row: Row, style: Style) -> float:
    """Draw the median and the range over the seeds; return where the line ends."""
    histories = losses(plan, row)
    x, middle = np.arange(plan.epochs + 1), np.median(histories, axis=0)
    axes.fill_between(x, histories.min(axis=0), histories.max(axis=0), color=style.color, alpha=0.16, linewidth=0)
    axes.plot(x, middle, color=style.color, linestyle=dashes(style), linewidth=1.9)
    return float(middle[-1])


def _end_labels(axes: Axes, rows: Sequence[Row], ends: Sequence[float], styles: dict[str, Style], theme: Theme) -> None:
    """Name the lines at their right ends, in the order they end, with a leader where one had to move."""
    if not rows:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((0.0, end))[1]) for end in ends]
    places = spread(wanted, 0.062, 0.0, 1.0)
    size = 10 if len(rows) <= 12 else 8
    for row, end, place in zip(rows, wanted, places, strict=True):
        assert row.best is not None
        style = styles[row.entrant.label]
        axes.plot(
            [1.0, 1.025, 1.05], [end, place, place], transform=axes.transAxes, clip_on=False,
            color=style.color, linestyle=dashes(style), linewidth=1.6,
        )  # fmt: skip
        axes.text(
            1.06,
            place,
            short(row.entrant.label),
            transform=axes.transAxes,
            color=theme.text,
            fontsize=size,
            va="center",
            parse_math=False,
        )
        axes.annotate(
            f"  lr {rate(row.best.lr)}" if row.best.lr is not None else "", (1.0, 0.5), xycoords=axes.texts[-1],
            color=theme.muted, fontsize=size - 1.5, va="center",
        )  # fmt: skip


def _panel(axes: Axes, row: Row, plan: Plan, style: Style, theme: Theme) -> None:
    x, y = _over_lr(row)
    _, top = _limits(row.scale)
    lows = [_clip(point.losses[0], row.scale) for point in row.points if point.runs]
    highs = [_clip(point.losses[-1], row.scale) for point in row.points if point.runs]
    axes.fill_between(x, lows, highs, color=style.color, alpha=0.16, linewidth=0)
    axes.plot(x, y, color=style.color, linewidth=1.9, zorder=3)
    lost = y >= top
    axes.plot(x[~lost], y[~lost], "o", color=style.color, markersize=3.2, zorder=4)
    axes.plot(
        x[lost], y[lost], "o", color=style.color, markerfacecolor=theme.paper, markersize=4.6, zorder=4, clip_on=False
    )
    axes.axhline(plan.start, color=theme.muted, linewidth=0.8, linestyle=(0, (2, 2)), zorder=2)
    if row.best is not None and row.best.lr is not None:
        _shade(axes, row, plan, style)
        axes.plot([row.best.lr], [_clip(row.best.median, row.scale)], "o", color=style.color, markersize=8, zorder=5)
    share = "" if row.forgiving is None else f"{row.forgiving:.0%}"
    panel_title(axes, row.entrant.label, share if row.best else "diverged", theme)


def _shade(axes: Axes, row: Row, plan: Plan, style: Style) -> None:
    """Shade the learning rates that count as forgiving, where that share is shown."""
    if row.best is None or row.forgiving is None:
        return
    limit = row.best.median + row.tolerance
    for point, (low, high) in zip(row.points, _cells(plan.lrs), strict=True):
        if point.median <= limit:
            axes.axvspan(low, high, color=style.color, alpha=0.15, linewidth=0, zorder=0)


def _over_lr(row: Row) -> tuple[Array, Array]:
    points = [point for point in row.points if point.runs]
    return np.array([point.lr for point in points]), np.array([_clip(point.median, row.scale) for point in points])


def _limits(scale: Scale) -> tuple[float, float]:
    """Return between which losses are drawn: not so near the floor that only rounding is seen, nor above the ceiling.

    On the way a loss may be below the lowest last one, which is the floor where losses are negative.
    """
    low = EQUAL * scale.start if scale.floor == 0 else -math.inf
    return low, scale.floor + _CEILING * scale.start


def _clip(loss: float, scale: Scale) -> float:
    low, top = _limits(scale)
    return min(max(loss, low), top)


def _cells(lrs: Sequence[float]) -> list[tuple[float, float]]:
    """Return for each learning rate half a step of the grid to either side, on a log axis.

    At most a factor of two, about the half step of the usual grid: a coarse grid does not tell what is between.
    """
    steps = [math.sqrt(b / a) for a, b in itertools.pairwise(lrs)]
    left, right = [steps[0], *steps], [*steps, steps[-1]]
    return [(lr / min(a, _WIDEST), lr * min(b, _WIDEST)) for lr, a, b in zip(lrs, left, right, strict=True)]


def loss_axis(axes: Axes, lows: Sequence[float], plan: Plan) -> None:
    """Make the axis of losses logarithmic, unless a loss can be zero or less."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.margins(y=0.06)
    if not (all(low >= 0 for low in lows) and plan.start > 0):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < _NARROW * low:
        # Powers of ten alone would leave such an axis with a label or two.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
