"""What moves in a film: the paths of rules over surfaces, their losses, and the number of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.errors import HyperparameterError
from steprule.film.chart import Chart
from steprule.film.draw import (
    HEIGHT,
    MINIMUM,
    START,
    WIDTH,
    dashes,
    halo,
    marker,
    measured,
    new_figure,
    panel,
    whole,
    width_of,
    write,
)
from steprule.film.ground import Array
from steprule.film.legend import Legend, signs
from steprule.film.shots import Shot, Track, walked
from steprule.film.views import Map, Solid, View, mark
from steprule.style import LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["MOST", "Scene", "compose"]

MOST = 2
"""Surfaces side by side: with more, words are too small for a slide."""
_EDGE = 0.35
_HEAD, _GROW, _NEAR = 13.0, 16.0, 0.22
"""Points of a head, more at most of one that lies below others; inches within which it does."""
_LONG = 12
"""Names in a column."""
_APART, _LINE, _TALLEST = 0.25, 0.42, 3.3
"""Inches between words on a line, of a line below a title, and of the names at most."""


@dataclass(frozen=True)
class Scene:
    """A figure, and what moves in it."""

    figure: Figure
    moving: Sequence[Artist]
    move: Callable[[float], None]
    """Puts everything where it is at a moment from 0, the start, to 1, the end."""


def compose(shots: Sequence[Shot], theme: Theme = LIGHT) -> Scene:
    """Return a scene of one surface with its losses beside it, or of two surfaces side by side.

    Raises:
        HyperparameterError: when there are too many, or none.
    """
    if not 1 <= len(shots) <= MOST:
        raise HyperparameterError(f"a film shows one surface, or {MOST} side by side, got {len(shots)}; make two films")
    figure = new_figure(WIDTH, HEIGHT, theme.paper)
    panels = [_alone(figure, shots[0], theme)] if len(shots) == 1 else _side_by_side(figure, shots, theme)

    def move(moment: float) -> None:
        for each in panels:
            each.move(moment)

    return Scene(figure, [artist for each in panels for artist in each.moving], move)


def _alone(figure: Figure, shot: Shot, theme: Theme) -> _Panel:
    """Lay one surface out: words on top, the surface on the left, names and losses on the right."""
    left, top, right = 7.85, HEIGHT - 1.3, WIDTH - _EDGE
    write(figure, _EDGE, HEIGHT - 0.45, shot.title, 25, right - _EDGE, color=theme.text, fontweight="bold")
    counter = _Counter(write(figure, right, HEIGHT - 0.94, "", 20, color=theme.text, ha="right"), shot)
    write(figure, _EDGE, HEIGHT - 0.94, shot.note, 16, right - _EDGE - counter.width - _APART, color=theme.muted)
    box = (0.2, 0.5, 7.4, 5.55)
    if shot.turn is None:
        inner = 1.2 if shot.ground.flat else 0.95  # numbers of steps are longer
        box = (inner, 0.75, 7.4 - inner, 5.15)
    axes = panel(figure, *box)
    columns = 1 if len(shot.tracks) <= _LONG else 2
    legend = Legend(figure, shot, theme, right - left, 20, columns)
    height = min(legend.line * legend.rows, _TALLEST)
    legend.draw(left, top, height / legend.rows)
    low, high = 0.75, top - height - 0.65
    chart = Chart(panel(figure, left + 0.85, low, right - left - 1.0, high - low), shot, theme)
    signs(figure, theme, _EDGE, 0.28, len(shot.ground.minima))
    return _Panel(shot, axes, theme, [counter, legend, chart])


def _side_by_side(figure: Figure, shots: Sequence[Shot], theme: Theme) -> list[_Panel]:
    """Lay surfaces of one size out: titles on top, names below."""
    width = (WIDTH - _EDGE) / MOST
    room, top = width - _EDGE, HEIGHT - 0.42
    lefts = [_EDGE + place * width for place in range(len(shots))]
    size, bold = 24.0, {"color": theme.text, "fontweight": "bold"}
    counters = [_Counter(write(figure, left + room, top, "", 18, color=theme.text, ha="right"), shot)
                for left, shot in zip(lefts, shots, strict=True)]  # fmt: skip
    # Steps have a line of their own where a title and they would not fit into one; so for both.
    wanted = [
        measured(figure, shot.title, size, **bold) + one.width + _APART
        for shot, one in zip(shots, counters, strict=True)
    ]
    is_split = max(wanted) > room
    for left, shot, counter in zip(lefts, shots, counters, strict=True):
        write(figure, left, top, shot.title, size, room - (0 if is_split else counter.width + _APART), **bold)
        if is_split:
            counter.lower(top - _LINE)
            write(figure, left, top - _LINE, shot.note, 16, room - counter.width - _APART, color=theme.muted)
    legends = [Legend(figure, shot, theme, room, 18, 2) for shot in shots]
    height = min(max(one.line * one.rows for one in legends), _TALLEST)
    for left, legend in zip(lefts, legends, strict=True):
        legend.draw(left, 0.2 + height, min(legend.line, height / legend.rows))
    low, high = 0.3 + height, top - 0.36 - is_split * _LINE
    panels = []
    for left, shot, counter, legend in zip(lefts, shots, counters, legends, strict=True):
        box = (left, low, room, high - low)
        if shot.turn is None:
            box = (left + 0.6, low + 0.65, room - 0.65, high - low - 0.65)
        panels.append(_Panel(shot, panel(figure, *box), theme, [counter, legend]))
    return panels


class _Panel:
    """One surface, and what moves over it and beside it."""

    def __init__(self, shot: Shot, axes: Axes, theme: Theme, beside: Sequence[_Counter | Legend | Chart]) -> None:
        self._shot, self._beside, self._dpi_of = shot, beside, axes.figure
        self._view: View = (
            Map(axes, shot.ground, theme, shot.end) if shot.turn is None else Solid(axes, shot.ground, theme, shot.turn)
        )
        for minimum in shot.ground.minima:
            mark(self._view, minimum, shot.end, MINIMUM, theme)
        self._comets = [_Comet(self._view, track, theme) for track in sorted(shot.tracks, key=_to_the_front)]
        starts = sorted({tuple(track.points[0].tolist()) for track in shot.tracks})
        rings = [mark(self._view, start, 0.0, START, theme) for start in starts]
        *lines, heads = zip(*(comet.layers for comet in self._comets), strict=True)
        drawn = [artist for kind in lines for artist in kind]
        self.moving: list[Artist] = [*drawn, *rings, *heads, *(artist for each in beside for artist in each.moving)]

    def move(self, moment: float) -> None:
        """Put everything where it is at a share of the time."""
        step = self._shot.step(moment)
        places = np.array([comet.move(step) for comet in self._comets])
        inches = self._view.axes.transData.transform(places) / self._view.axes.figure.dpi
        for k, comet in enumerate(self._comets):
            # What lies below other heads is seen around them.
            with np.errstate(invalid="ignore"):
                near = np.clip(1 - np.hypot(*(inches[k + 1 :] - inches[k]).T) / _NEAR, 0, 1)
            comet.grow(float(np.nansum(near)) / max(len(self._comets) - 1, 1))
        for each in self._beside:
            each.move(step)


def _to_the_front(track: Track) -> int:
    return track.front


class _Counter:
    """The number of the step; ``width`` inches at most."""

    def __init__(self, text: Text, shot: Shot) -> None:
        self._text, self._end = text, whole(shot.end)
        self.moving: list[Artist] = [text]
        self.move(shot.end)
        self.width = width_of(text)

    def lower(self, y: float) -> None:
        """Put it on another line."""
        self._text.set_y(y)

    def move(self, step: float) -> None:
        self._text.set_text(f"step {whole(step)} of {self._end}")


class _Comet:
    """The path of a rule, paler where the surface hides it, and its head."""

    def __init__(self, view: View, track: Track, theme: Theme) -> None:
        self._view, self._track = view, track
        self._places, self._hidden = view.place(track.points, track.steps)
        style: dict[str, Any] = {
            "color": track.style.color,
            "linestyle": dashes(track.style),
            "solid_joinstyle": "round",
            "gid": track.name,
        }
        (self._behind,) = view.axes.plot([], [], linewidth=2.2, alpha=0.3, zorder=6, **style)
        (self._line,) = view.axes.plot(
            [], [], linewidth=2.8, zorder=7, path_effects=halo(theme.paper, 5.4, 0.6), **style
        )
        rim: dict[str, Any] = {"markeredgecolor": theme.paper, "markeredgewidth": 1.8, "linestyle": "none"}
        (self._head,) = view.axes.plot(
            [], [], gid=track.name, zorder=9, clip_on=False, **marker(track.style, _HEAD), **rim
        )
        self._size = self._head.get_markersize()
        self.layers: tuple[Artist, ...] = (self._behind, self._line, self._head)

    def move(self, step: float) -> Array:
        """Draw the path up to a step; return where its head is."""
        points = walked(self._track.points, self._track.steps, step)
        places, hidden = self._places[: len(points)], self._hidden[: len(points)]
        if len(points) > np.searchsorted(self._track.steps, step, side="right"):
            place, is_hidden = self._view.place(points[-1:], np.array([step]))
            places, hidden = (
                np.concatenate((places[: len(points) - 1], place)),
                np.append(hidden[: len(points) - 1], is_hidden),
            )
        # A piece with a hidden end is paler.
        beside = hidden | np.append(hidden[1:], False) | np.insert(hidden[:-1], 0, False)
        self._line.set_data(*np.where(hidden[:, None], np.nan, places).T)
        self._behind.set_data(*np.where(beside[:, None], places, np.nan).T)
        is_lost = self._track.lost is not None and step >= self._track.lost
        is_seen = not is_lost and self._view.holds(places[-1])
        self._head.set_data(*(places[-1:] if is_seen else places[:0]).T)
        self._head.set_alpha(0.4 if hidden[-1] else 1.0)
        return np.asarray(places[-1])

    def grow(self, share: float) -> None:
        """Make the head larger, so that it is seen around others."""
        self._head.set_markersize(self._size + _GROW * share)
