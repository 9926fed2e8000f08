"""What moves in an animation: paths in the plane, or curves over the epochs. For slides: wide, in large letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.film import Scene, Shot, Track, compose
from steprule.film.draw import HEIGHT, WIDTH, dashes, line_of, marker, new_figure, width_of, write
from steprule.film.shots import walked
from steprule.race.figures import curves_title, loss_axis, losses
from steprule.race.paths import ground_of
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import Row
from steprule.race.words import loss_name, rate
from steprule.report.theme import bare, short, spread, styles_of
from steprule.style import LIGHT, Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["curves_scene", "paths_scene"]

_EDGE = 0.3
"""Inches around."""
_LOW, _HIGH = 1.0, 5.75
"""Inches from the bottom between which the curves are drawn."""
_CALM = 0.05
"""Share of the time, to either side, over which a name takes the average of its curve, not to tremble with it."""
_LEADER = 0.52
"""Inches from the end of a curve to its name."""
_LETTERS = 24.0
"""Points of the names: a slide is about as wide as the figure."""


def paths_scene(plan: Plan, rows: Sequence[Row]) -> Scene:
    """Return all paths over one surface, each at its best setting from the first seed's start."""
    styles = styles_of([entrant.label for entrant in plan.entrants], LIGHT)
    ground = ground_of(plan)
    # The best, which is the first, is on top.
    tracks = [_track(row, styles[row.entrant.label], ground.loss, -place) for place, row in enumerate(rows)]
    end = max(float(track.steps[-1]) for track in tracks)
    return compose([Shot(plan.problem.name, "each rule at its best setting", ground, tracks, end)])


def _track(row: Row, style: Style, loss: Callable[[Array], Array], front: int) -> Track:
    assert row.best is not None
    run = row.best.runs[0]
    points, steps = np.array(run.path, float), np.array(run.path_steps)
    if steps[-1] < run.steps:  # it rests
        points, steps = np.concatenate((points, points[-1:])), np.append(steps, run.steps)
    lost = run.steps if run.diverged else None
    return Track(short(row.entrant.label), _rate(row), style, points, steps, loss(points.T), lost, front)


def curves_scene(plan: Plan, rows: Sequence[Row]) -> Scene:
    """Return the median losses over the epochs, with the names at the ends of their lines."""
    figure = new_figure(WIDTH, HEIGHT, LIGHT.paper)
    styles = styles_of([entrant.label for entrant in plan.entrants], LIGHT)
    _words(figure, 0.4, 6.65, curves_title(plan), 26, 12.0, fontweight="bold")
    seeds = max(len(row.best.runs) for row in rows if row.best)
    note = f"median of {seeds} seeds" if seeds > 1 else "one seed"
    _words(figure, 0.4, 6.15, f"{plan.problem.name} · {note}", 18, 12.0, color=LIGHT.muted)
    ends = _Ends(figure, rows, styles)
    axes = _loss_axes(figure, plan, WIDTH - 1.3 - ends.width)
    curves = [_Curve(axes, np.median(losses(plan, row), axis=0), styles[row.entrant.label]) for row in rows]
    loss_axis(axes, [min(loss for run in row.best.runs for loss in run.curve) for row in rows if row.best], plan)
    axes.set(xlim=(0, plan.epochs), ylim=axes.get_ylim())

    def move(moment: float) -> None:
        calm = min(_CALM, moment, 1 - moment)
        places = np.array([curve.move(moment * plan.epochs, calm * plan.epochs) for curve in curves])
        heads, wanted = (axes.transData.transform(places[:, of]) / figure.dpi for of in ([0, 1], [0, 2]))
        ends.move(heads, wanted[:, 1])

    return Scene(figure, (*ends.layers, *_layers(curves)), move)


def _loss_axes(figure: Figure, plan: Plan, width: float) -> Axes:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((1.3 / WIDTH, _LOW / HEIGHT, width / WIDTH, (_HIGH - _LOW) / HEIGHT))
    bare(axes, LIGHT)
    axes.tick_params(which="both", labelsize=18, pad=6)
    axes.set_xlabel("epoch", color=LIGHT.muted, fontsize=20)
    axes.set_ylabel(loss_name(plan.found.metric), color=LIGHT.muted, fontsize=20)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


class _Curve:
    """The line of a rule up to an epoch, and its head."""

    def __init__(self, axes: Axes, losses: Array, style: Style) -> None:
        self._axes, self._losses = axes, losses
        (self._line,) = axes.plot(losses, color=style.color, linestyle=dashes(style), linewidth=3.6)
        rim: dict[str, Any] = {"linestyle": "none", "markeredgecolor": LIGHT.paper, "markeredgewidth": 1.6}
        (self._head,) = axes.plot([], [], clip_on=False, **marker(style, 12), **rim)
        self.layers = (self._line, self._head)

    def move(self, epoch: float, calm: float) -> tuple[float, float, float]:
        """Draw the line up to an epoch; return its end, and how high it is on average ``calm`` epochs around."""
        # Between two epochs the end is on the line that is seen, which is straight on the axis as it is.
        to_axis, to_loss = (np.log, np.exp) if self._axes.get_yscale() == "log" else (np.asarray, np.asarray)
        epochs, heights = np.arange(len(self._losses)), to_axis(self._losses)
        x, y = walked(np.stack((epochs, heights), axis=1), epochs, epoch).T
        self._line.set_data(x, to_loss(y))
        self._head.set_data(x[-1:], to_loss(y[-1:]))
        around = np.interp(np.linspace(epoch - calm, epoch + calm, 25), epochs, heights).mean()
        return float(x[-1]), float(to_loss(y[-1])), float(to_loss(around))


class _Ends:
    """The names of the curves, which ride at their ends and keep their distance; all in inches."""

    def __init__(self, figure: Figure, rows: Sequence[Row], styles: dict[str, Style]) -> None:
        self._gap = min(0.4, (_HIGH - _LOW) / max(1, len(rows) - 1))
        self._names, size = _names(figure, rows, 55 * self._gap, 3.5)
        self._rates = [_words(figure, 0, 0, _rate(row), 0.7 * size, color=LIGHT.muted) for row in rows]
        self._leaders = [line_of(figure, [], [], styles[row.entrant.label], linewidth=2) for row in rows]
        self._widths = [width_of(name) + 0.15 for name in self._names]
        self.width = _LEADER + max(map(sum, zip(self._widths, map(width_of, self._rates), strict=True))) + _EDGE
        self.layers: tuple[Artist, ...] = (*self._leaders, *self._names, *self._rates)

    def move(self, heads: Array, wanted: Array) -> None:
        """Put the names beside the heads, as near as may be to the heights that are wanted."""
        places = spread(wanted.tolist(), self._gap, _LOW, _HIGH)
        for (x, y), place, leader, name, rates, width in zip(
            heads, places, self._leaders, self._names, self._rates, self._widths, strict=True
        ):
            leader.set_data([x, x + 0.28, x + 0.42], [y, place, place])
            name.set_position((x + _LEADER, place))
            rates.set_position((x + _LEADER + width, place))


def _layers(curves: Sequence[_Curve]) -> list[Artist]:
    """Return what is drawn, in order: all lines, then all heads, and the best rule, which is the first, on top."""
    return [layer for kind in zip(*(curve.layers for curve in curves[::-1]), strict=True) for layer in kind]


def _words(figure: Figure, x: float, y: float, words: str, size: float, room: float = np.inf, **more: Any) -> Text:
    """Write a line at (x, y) inches that hides what is below it."""
    box = {"fc": LIGHT.paper, "ec": "none", "pad": 0}
    return write(figure, x, y, words, size, room, **{"color": LIGHT.text, "bbox": box, **more})


def _names(figure: Figure, rows: Sequence[Row], size: float, room: float) -> tuple[list[Text], float]:
    """Write the names of the rules, which are placed later, and return their size: small enough for the longest."""
    size = min(_LETTERS, size)
    names = [_words(figure, 0, 0, short(row.entrant.label), size) for row in rows]
    size *= min(1.0, room / max(map(width_of, names)))
    for name in names:
        name.set_fontsize(size)
    return names, size


def _rate(row: Row) -> str:
    return "" if row.best is None or row.best.lr is None else f"lr {rate(row.best.lr)}"
