"""Whose paths are drawn: a line and a head, the name of the rule, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steprule.film.draw import MINIMUM, START, line_of, marker, sign, width_of, write
from steprule.film.shots import Shot
from steprule.looks import Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["Legend", "signs"]

_SWATCH, _GAP = 0.62, 0.16
"""Inches of a line with its head, and between it and the words."""


class Legend:
    """The names, in columns; where a run diverges its settings give way to that.

    Args:
        figure: where they are written.
        shot: whose tracks are named.
        theme: its colours.
        box: left, top, width and height in inches.
        size: points of the names.
        columns: how many.
    """

    def __init__(
        self,
        figure: Figure,
        shot: Shot,
        theme: Theme,
        box: tuple[float, float, float, float],
        size: float,
        columns: int,
    ) -> None:
        left, top, width, height = box
        rows = -(-len(shot.tracks) // columns)
        room = (width - 0.2 * (columns - 1)) / columns
        places = [
            (left + (k // rows) * (room + 0.2), top - (k % rows + 0.5) * height / rows) for k in range(len(shot.tracks))
        ]
        size = min(size, 72 * 0.72 * height / rows)
        words = room - _SWATCH - _GAP
        names = [
            write(figure, x + _SWATCH + _GAP, y, track.name, size, 0.6 * words, color=theme.text)
            for (x, y), track in zip(places, shot.tracks, strict=True)
        ]
        # One size for all: the longest name has to fit.
        least = min(float(name.get_fontsize()) for name in names)
        for name in names:
            name.set_fontsize(least)
        reach = max(map(width_of, names)) + _GAP
        self._notes = []
        for (x, y), track in zip(places, shot.tracks, strict=True):
            line_of(figure, [x, x + _SWATCH - 0.1], [y, y], track.look, linewidth=2.8)
            head: dict[str, Any] = {"markeredgecolor": theme.paper, "markeredgewidth": 1.4, "linestyle": "none"}
            line_of(figure, [x + _SWATCH - 0.1], [y], track.look, **{**marker(track.look, 0.62 * size), **head})
            note: dict[str, Any] = {"size": 0.82 * least, "room": words - reach, "color": theme.muted}
            plain = write(figure, x + _SWATCH + _GAP + reach, y, track.note, **note)
            if track.lost is not None:
                late = write(figure, x + _SWATCH + _GAP + reach, y, f"diverged at step {track.lost}", **note)
                self._notes.append((plain, late, track.lost))
        self.moving: list[Artist] = [text for plain, late, _ in self._notes for text in (plain, late)]

    def move(self, step: float) -> None:
        """Say which runs have diverged by this step."""
        for plain, late, lost in self._notes:
            plain.set_visible(step < lost)
            late.set_visible(step >= lost)


def signs(figure: Figure, theme: Theme, x: float, y: float, minima: int) -> None:
    """Say what the marks of places mean, from (x, y) inches on."""
    from matplotlib.lines import Line2D

    for name, word in ((START, "start"), (MINIMUM, "minima" if minima > 1 else "minimum"))[: 2 if minima else 1]:
        place: dict[str, Any] = {"transform": figure.dpi_scale_trans, "linestyle": "none"}
        figure.add_artist(Line2D([x + 0.1], [y], **place, **sign(name, theme, 0.8)))
        x += 0.28
        x += width_of(write(figure, x, y, word, 14, color=theme.muted)) + 0.3
