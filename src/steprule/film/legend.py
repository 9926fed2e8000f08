"""Whose paths are drawn: a line and a head, the name of the rule, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steprule.film.draw import MINIMUM, START, line_of, marker, measured, sign, width_of, write
from steprule.film.shots import Shot, Track
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["Legend", "signs"]

_SWATCH, _GAP, _APART = 0.62, 0.16, 0.2
"""Inches of a line with its head, between it and the words, and between columns."""
_ROW, _LINE = 0.44, 0.23
"""Inches of a name, and of a line of settings below it."""
_NAME, _SMALL = 14.0, 13.0
"""Points of names and of settings at least: where they would be smaller, settings stand below the name."""


class Legend:
    """The names, in columns, with settings beside them, or below where there is no room; they say which runs are lost.

    Args:
        figure: where they are written.
        shot: whose tracks are named.
        theme: its colours.
        width: inches.
        size: points of the names.
        columns: how many.

    Attributes:
        line: inches that a row wants.
        moving: what ``move`` changes.
    """

    def __init__(self, figure: Figure, shot: Shot, theme: Theme, width: float, size: float, columns: int) -> None:
        self._figure, self._tracks, self._theme = figure, shot.tracks, theme
        self.rows = -(-len(shot.tracks) // columns)
        self._room = (width - _APART * (columns - 1)) / columns
        self._words = self._room - _SWATCH - _GAP
        name = max(measured(figure, track.name, size) for track in shot.tracks)
        note = max(measured(figure, note, _SMALL) for track in shot.tracks for note in _notes(track))
        # One size for all: the longest name has to fit.
        size = min(size, 72 * 0.72 * _ROW)
        shrink = (self._words - note - _GAP) / max(name, 1e-6)
        self._is_below = size * shrink < _NAME
        self._size = size * min(1.0, self._words / max(name, 1e-6) if self._is_below else shrink)
        self._reach = name * min(1.0, shrink) + _GAP
        self._wrapped = {note: self._wrap(note) for track in shot.tracks for note in _notes(track)}
        most = max(text.count("\n") + 1 for text in self._wrapped.values())
        self.line = _ROW + _LINE * most * self._is_below
        self._changing: list[tuple[Any, Any, int]] = []
        self.moving: list[Artist] = []

    def _wrap(self, note: str) -> str:
        """Return settings in lines that have room below a name; beside it in one."""
        if not self._is_below:
            return note
        lines: list[str] = []
        for part in note.split(", "):
            longer = f"{lines[-1]}, {part}" if lines else part
            if lines and measured(self._figure, f"{longer},", _SMALL) > self._words:
                lines[-1] += ","
                lines.append(part)
            else:
                lines[-1:] = [longer]
        return "\n".join(lines)

    def draw(self, left: float, top: float, line: float) -> None:
        """Write it from (left, top) inches on, in rows of ``line`` inches; where it wants more, words are smaller."""
        squeeze = min(1.0, line / self.line)
        size = self._size * squeeze
        for k, track in enumerate(self._tracks):
            x = left + k // self.rows * (self._room + _APART)
            y = top - k % self.rows * line - _ROW * squeeze / 2
            self._draw(track, x, y, size, squeeze)
        self.moving = [text for plain, late, _ in self._changing for text in (plain, late)]

    def _draw(self, track: Track, x: float, y: float, size: float, squeeze: float) -> None:
        line_of(self._figure, [x, x + _SWATCH - 0.1], [y, y], track.style, linewidth=2.8)
        head: dict[str, Any] = {"markeredgecolor": self._theme.paper, "markeredgewidth": 1.4, "linestyle": "none"}
        line_of(self._figure, [x + _SWATCH - 0.1], [y], track.style, **{**marker(track.style, 0.62 * size), **head})
        x += _SWATCH + _GAP
        write(self._figure, x, y, track.name, size, self._words, color=self._theme.text)
        if self._is_below:
            where: dict[str, Any] = {
                "x": x,
                "y": y - 0.4 * _ROW * squeeze,
                "size": _SMALL * squeeze,
                "room": self._words,
            }
            where |= {"va": "top", "linespacing": 1.15}
        else:
            reach = self._reach * squeeze
            where = {"x": x + reach, "y": y, "size": max(0.82 * size, _SMALL * squeeze), "room": self._words - reach}
        texts = [write(self._figure, words=self._wrapped[note], color=self._theme.muted, **where)
                 for note in _notes(track)]  # fmt: skip
        if track.lost is not None:
            plain, late = texts
            self._changing.append((plain, late, track.lost))

    def move(self, step: float) -> None:
        """Say which runs are lost by this step."""
        for plain, late, lost in self._changing:
            plain.set_visible(step < lost)
            late.set_visible(step >= lost)


def _notes(track: Track) -> list[str]:
    """Return the settings, and what takes their place where the run is lost."""
    return [track.note, *([] if track.lost is None else [f"{track.fate} at step {track.lost}"])]


def signs(figure: Figure, theme: Theme, x: float, y: float, minima: int) -> None:
    """Say what the marks of places mean, from (x, y) inches on."""
    from matplotlib.lines import Line2D

    for name, word in ((START, "start"), (MINIMUM, "minima" if minima > 1 else "minimum"))[: 2 if minima else 1]:
        place: dict[str, Any] = {"transform": figure.dpi_scale_trans, "linestyle": "none"}
        figure.add_artist(Line2D([x + 0.1], [y], **place, **sign(name, theme, 0.8)))
        x += 0.28
        x += width_of(write(figure, x, y, word, 14, color=theme.muted)) + 0.3
