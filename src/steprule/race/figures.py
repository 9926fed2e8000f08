"""The curves of a race: losses over the epochs, with the intervals of their medians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.film.draw import dashes, new_figure
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.statistics import interval
from steprule.race.summary import Row
from steprule.race.trial import EQUAL, Scale
from steprule.race.words import loss_name, rate
from steprule.report.theme import WIDTH, bare, name_ends, short, styles_of, title
from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["clip", "curves", "curves_title", "limits", "loss_axis", "losses"]

_CEILING = 3.0
"""Losses further up than this multiple of the loss at the start are drawn there, as open marks."""
_NARROW = 100.0


def curves(plan: Plan, rows: Sequence[Row], theme: Theme) -> Figure:
    """Return the compared loss over the epochs, each rule at its best setting: the median, and its 95 % interval."""
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
    axes.set_ylabel(loss_name(plan.found.metric), color=theme.muted, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_ends(axes, [row.entrant.label for row in shown], ends, styles, theme, [_rate(row) for row in shown])
    title(figure, curves_title(plan), f"{plan.problem.name} · {_seeds(shown)}", theme)
    return figure


def curves_title(plan: Plan) -> str:
    """Return what is above the curves."""
    return f"{loss_name(plan.found.metric).capitalize()}, each rule at its best setting"


def _seeds(rows: Sequence[Row]) -> str:
    """Return what a line stands for; in a race that was interrupted, rules differ in how many seeds are finished."""
    counts = {len(row.best.runs) for row in rows if row.best}
    most = max(counts, default=1)
    if most == 1:
        return "one seed"
    kind = "fresh " if all(row.is_fresh for row in rows) else ""
    return f"median of {'up to ' if len(counts) > 1 else ''}{most} {kind}seeds, with its 95 % interval"


def losses(plan: Plan, row: Row) -> Array:
    """Return the compared losses at the best setting where they are drawn: a row a seed, a column an epoch."""
    assert row.best is not None
    histories = np.full((len(row.best.runs), plan.epochs + 1), math.inf)
    for history, run in zip(histories, row.best.runs, strict=True):
        history[: len(run.curve)] = run.curve
    low, top = limits(row.scale)
    # Seeds differ in where they start, and one that starts high is not cut there.
    return histories.clip(low, max(top, *(run.curve[0] for run in row.best.runs)))


def _curve(axes: Axes, plan: Plan, row: Row, style: Style) -> float:
    """Draw the median over the seeds and its interval; return where the line ends."""
    histories = losses(plan, row)
    x, middle = np.arange(plan.epochs + 1), np.median(histories, axis=0)
    if len(histories) > 1:
        axes.fill_between(x, *interval(histories, axis=0), color=style.color, alpha=0.16, linewidth=0)
    axes.plot(x, middle, color=style.color, linestyle=dashes(style), linewidth=1.9)
    return float(middle[-1])


def _rate(row: Row) -> str:
    return f"  lr {rate(row.best.lr)}" if row.best and row.best.lr is not None else ""


def limits(scale: Scale) -> tuple[float, float]:
    """Return between which losses are drawn: not so near the floor that only rounding is seen, nor above the ceiling.

    On the way a loss may be below the lowest last one, which is the floor where losses are negative.
    """
    low = EQUAL * scale.start if scale.floor == 0 else -math.inf
    return low, scale.floor + _CEILING * scale.start


def clip(loss: float, scale: Scale) -> float:
    """Return a loss where it is drawn."""
    low, top = limits(scale)
    return min(max(loss, low), top)


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
