"""What moves in an animation: paths in the plane, or curves over the epochs. For slides: wide, in large letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.race.figures import loss_axis, losses
from steprule.race.paths import contours, surface
from steprule.race.plan import Plan
from steprule.race.problem import Array
from steprule.race.summary import Row
from steprule.race.theme import DASHES, LIGHT, Style, bare, drawable, new_figure, short, spread, styles
from steprule.race.words import rate

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

__all__ = ["Scene", "curves_scene", "paths_scene", "walked"]

_WIDTH, _HEIGHT = 12.8, 7.2
_EASE = 2.0
"""The step at a share of the time is that share to this power: the first steps go far, and are shown one by one."""
_TAIL = 0.13
"""Share of the time that a comet's tail lasts."""
_HEAD, _RING, _RINGS, _NEAR = 14.0, 6.0, 40.0, 0.25
"""Points of a head, more for each head that lies on it, more at most; inches within which one lies on it."""
_MARKERS = "osD^"
_EDGE, _COLUMN = 0.3, 4.4
"""Inches around the plane, and of the column beside it at least."""
_LOW, _HIGH = 1.0, 5.75
"""Inches from the bottom between which the curves are drawn."""
_CALM = 0.05
"""Share of the time, to either side, over which a name takes the average of its curve, not to tremble with it."""
_LEADER = 0.52
"""Inches from the end of a curve to its name."""
_RIM: dict[str, Any] = {"markeredgecolor": LIGHT.paper, "markeredgewidth": 1.6}
_LETTERS = 24.0
"""Points of the names: a slide is about as wide as the figure."""


@dataclass(frozen=True)
class Scene:
    """A figure, and what moves in it."""

    name: str
    figure: Figure
    moving: tuple[Artist, ...]
    move: Callable[[float], None]
    """Puts everything where it is at a moment from 0, the start, to 1, the end."""


def walked(path: Array, steps: Array, begin: float, end: float, pieces: int = 1) -> Array:
    """Return the line between two moments that are counted in steps, of ``pieces`` pieces or more: its ends lie on the
    path or between two of its points, and the points in between are all on it.
    """
    between = steps[(begin < steps) & (steps < end)]
    moments = np.unique(np.concatenate((np.linspace(begin, end, pieces + 1), between)))
    return np.stack([np.interp(moments, steps, axis) for axis in path.T], axis=1)


def paths_scene(plan: Plan, rows: Sequence[Row]) -> Scene:
    """Return all paths over one panel of contours, and the names beside it."""
    figure = new_figure(_WIDTH, _HEIGHT, LIGHT)
    axes, left = _plane(figure, plan)
    looks = styles([entrant.label for entrant in plan.entrants], LIGHT)
    counter = _column(figure, plan, rows, looks, left)
    comets = [_Comet(axes, row, looks[row.entrant.label]) for row in rows]
    last = max(comet.last for comet in comets)

    def move(moment: float) -> None:
        begin, end = (last * max(0.0, at) ** _EASE for at in (moment - _TAIL, moment))
        places = axes.transData.transform([comet.move(begin, end) for comet in comets]) / figure.dpi
        for index, comet in enumerate(comets):
            # What lies below a better rule's head is seen around it.
            near = np.clip(1 - np.hypot(*(places[:index] - places[index]).T) / _NEAR, 0, 1)
            comet.head.set_markersize(_HEAD + min(_RING, _RINGS / len(comets)) * float(near.sum()))
        counter.set_text(f"step {end:.0f}")

    return Scene("paths", figure, (*_layers(comets), counter), move)


def _plane(figure: Figure, plan: Plan) -> tuple[Axes, float]:
    """Return the panel with the contours, and where the column beside it begins, in inches."""
    assert plan.problem.box is not None
    (left, right), (low, high) = plan.problem.box
    height = _HEIGHT - 2 * _EDGE
    width = float(np.clip(height * (right - left) / (high - low), 0.6 * height, _WIDTH - 3 * _EDGE - _COLUMN))
    axes = figure.add_axes((_EDGE / _WIDTH, _EDGE / _HEIGHT, width / _WIDTH, height / _HEIGHT))
    contours(axes, surface(plan), LIGHT)
    axes.set(xlim=(left, right), ylim=(low, high))
    return axes, width + 2 * _EDGE + 0.1


def _column(figure: Figure, plan: Plan, rows: Sequence[Row], looks: dict[str, Style], left: float) -> Text:
    """Write whose paths they are beside the plane; return the text that counts the steps."""
    room = _WIDTH - left - _EDGE
    _write(figure, left, 6.5, plan.problem.name, 32, room, fontweight="bold")
    _write(figure, left, 5.98, "each rule at its best learning rate", 18, room, color=LIGHT.muted)
    gap = min(0.58, 3.7 / max(1, len(rows) - 1))
    names, size = _names(figure, rows, 60 * gap, room - 2.1)
    heights = 5.25 - gap * np.arange(len(rows))
    reach = left + 1.0 + max(map(_width, names))
    for row, name, y in zip(rows, names, heights, strict=True):
        look = looks[row.entrant.label]
        _line(figure, [left, left + 0.55], [y, y], look, linewidth=2.6, marker=_marker(look), markevery=[1],
              markersize=min(14, 0.9 * size))  # fmt: skip
        name.set_position((left + 0.8, y))
        _write(figure, reach, y, _rate(row), 0.8 * size, color=LIGHT.muted)
    _write(figure, left, 0.45, "ring: start · the paler, the lower", 16, room, color=LIGHT.muted)
    return _write(figure, left, 1.0, "", 30)


class _Comet:
    """The path of a rule: a thin line of where it was, a tail that grows towards the head, and the head."""

    def __init__(self, axes: Axes, row: Row, look: Style) -> None:
        from matplotlib.collections import LineCollection

        assert row.best is not None
        run = row.best.runs[0]
        self._path, self._steps, self.last = np.array(run.path, float), np.array(run.path_steps), run.steps
        axes.plot(*self._path[0], "o", color=LIGHT.muted, markerfacecolor="none", markersize=21, markeredgewidth=1.6)
        (trace,) = axes.plot([], [], color=look.color, linestyle=look.dashes, linewidth=2.2, alpha=0.6)
        tail = LineCollection([], colors=look.color, capstyle="round")
        axes.add_collection(tail, autolim=False)
        (head,) = axes.plot([], [], _marker(look), color=look.color, **_RIM)
        self.layers = self._trace, self._tail, self.head = trace, tail, head

    def move(self, begin: float, end: float) -> Array:
        """Draw the path up to a step; return where its head is."""
        line = walked(self._path, self._steps, 0, end)
        self._trace.set_data(*line.T)
        self.head.set_data(*line[-1:].T)
        tail = walked(self._path, self._steps, begin, end, pieces=24)
        self._tail.set_segments(list(np.stack((tail[:-1], tail[1:]), axis=1)))
        self._tail.set(linewidths=np.linspace(2.2, 7, max(1, len(tail) - 1)))
        return np.asarray(line[-1])


def curves_scene(plan: Plan, rows: Sequence[Row]) -> Scene:
    """Return the median training losses over the epochs, with the names at the ends of their lines."""
    figure = new_figure(_WIDTH, _HEIGHT, LIGHT)
    looks = styles([entrant.label for entrant in plan.entrants], LIGHT)
    _write(figure, 0.4, 6.65, "Training loss, each rule at its best learning rate", 26, 12.0, fontweight="bold")
    seeds = max(len(row.best.runs) for row in rows if row.best)
    note = f"median of {seeds} seeds" if seeds > 1 else "one seed"
    _write(figure, 0.4, 6.15, f"{plan.problem.name} · {note}", 18, 12.0, color=LIGHT.muted)
    ends = _Ends(figure, rows, looks)
    axes = _loss_axes(figure, plan, _WIDTH - 1.3 - ends.width)
    curves = [_Curve(axes, np.median(losses(plan, row), axis=0), looks[row.entrant.label]) for row in rows]
    loss_axis(axes, [min(loss for run in row.best.runs for loss in run.history) for row in rows if row.best], plan)
    axes.set(xlim=(0, plan.epochs), ylim=axes.get_ylim())

    def move(moment: float) -> None:
        calm = min(_CALM, moment, 1 - moment)
        places = np.array([curve.move(moment * plan.epochs, calm * plan.epochs) for curve in curves])
        heads, wanted = (axes.transData.transform(places[:, of]) / figure.dpi for of in ([0, 1], [0, 2]))
        ends.move(heads, wanted[:, 1])

    return Scene("curves", figure, (*ends.layers, *_layers(curves)), move)


def _loss_axes(figure: Figure, plan: Plan, width: float) -> Axes:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((1.3 / _WIDTH, _LOW / _HEIGHT, width / _WIDTH, (_HIGH - _LOW) / _HEIGHT))
    bare(axes, LIGHT)
    axes.tick_params(which="both", labelsize=18, pad=6)
    axes.set_xlabel("epoch", color=LIGHT.muted, fontsize=20)
    axes.set_ylabel("training loss", color=LIGHT.muted, fontsize=20)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


class _Curve:
    """The line of a rule up to an epoch, and its head."""

    def __init__(self, axes: Axes, losses: Array, look: Style) -> None:
        self._axes, self._losses = axes, losses
        (self._line,) = axes.plot(losses, color=look.color, linestyle=look.dashes, linewidth=3.6)
        (self._head,) = axes.plot([], [], _marker(look), color=look.color, markersize=12, clip_on=False, **_RIM)
        self.layers = (self._line, self._head)

    def move(self, epoch: float, calm: float) -> tuple[float, float, float]:
        """Draw the line up to an epoch; return its end, and how high it is on average ``calm`` epochs around."""
        # Between two epochs the end is on the line that is seen, which is straight on the axis as it is.
        to_axis, to_loss = (np.log, np.exp) if self._axes.get_yscale() == "log" else (np.asarray, np.asarray)
        epochs, heights = np.arange(len(self._losses)), to_axis(self._losses)
        x, y = walked(np.stack((epochs, heights), axis=1), epochs, 0, epoch).T
        self._line.set_data(x, to_loss(y))
        self._head.set_data(x[-1:], to_loss(y[-1:]))
        around = np.interp(np.linspace(epoch - calm, epoch + calm, 25), epochs, heights).mean()
        return float(x[-1]), float(to_loss(y[-1])), float(to_loss(around))


class _Ends:
    """The names of the curves, which ride at their ends and keep their distance; all in inches."""

    def __init__(self, figure: Figure, rows: Sequence[Row], looks: dict[str, Style]) -> None:
        self._gap = min(0.4, (_HIGH - _LOW) / max(1, len(rows) - 1))
        self._names, size = _names(figure, rows, 55 * self._gap, 3.5)
        self._rates = [_write(figure, 0, 0, _rate(row), 0.7 * size, color=LIGHT.muted) for row in rows]
        self._leaders = [_line(figure, [], [], looks[row.entrant.label], linewidth=2) for row in rows]
        self._widths = [_width(name) + 0.15 for name in self._names]
        self.width = _LEADER + max(map(sum, zip(self._widths, map(_width, self._rates), strict=True))) + _EDGE
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


def _layers(movers: Sequence[_Comet] | Sequence[_Curve]) -> list[Artist]:
    """Return what is drawn, in order: all lines, then all heads, and the best rule, which is the first, on top."""
    return [layer for kind in zip(*(mover.layers for mover in movers[::-1]), strict=True) for layer in kind]


def _write(figure: Figure, x: float, y: float, words: str, size: float, room: float = np.inf, **more: Any) -> Text:
    """Write a line at (x, y) inches, smaller where it would be wider than ``room``."""
    more = {"color": LIGHT.text, "va": "center_baseline", "bbox": {"fc": LIGHT.paper, "ec": "none", "pad": 0}, **more}
    text = figure.text(x, y, drawable(words), fontsize=size, transform=figure.dpi_scale_trans, parse_math=False, **more)
    text.set_fontsize(size * min(1.0, room / max(_width(text), 1e-6)))
    return text


def _names(figure: Figure, rows: Sequence[Row], size: float, room: float) -> tuple[list[Text], float]:
    """Write the names of the rules, which are placed later, and return their size: small enough for the longest."""
    size = min(_LETTERS, size)
    names = [_write(figure, 0, 0, short(row.entrant.label), size) for row in rows]
    size *= min(1.0, room / max(map(_width, names)))
    for name in names:
        name.set_fontsize(size)
    return names, size


def _width(text: Text) -> float:
    """Return the width of a text in inches."""
    assert text.figure is not None
    return text.get_window_extent().width / text.figure.dpi


def _line(figure: Figure, x: Sequence[float], y: Sequence[float], look: Style, **more: Any) -> Line2D:
    """Draw a line between points in inches."""
    from matplotlib.lines import Line2D

    line = Line2D(x, y, color=look.color, linestyle=look.dashes, transform=figure.dpi_scale_trans, **more)
    figure.add_artist(line)
    return line


def _marker(look: Style) -> str:
    """Return the shape of a head: rules of one colour, which differ in their dashes, differ in it too."""
    return _MARKERS[DASHES.index(look.dashes)]


def _rate(row: Row) -> str:
    return "" if row.best is None or row.best.lr is None else f"lr {rate(row.best.lr)}"
