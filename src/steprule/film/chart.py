"""The losses of all rules over the steps, drawn as far as the film has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.film.draw import LABEL, clean, dashes, in_order, marker, tick, whole
from steprule.film.ground import Array
from steprule.film.shots import Shot, Track, walked
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["Chart"]

_FLOOR = 1e-12
"""Below it a logarithm tells rounding alone."""
_WILD = 1000.0
"""Times the loss at the start: what rises above it leaves the chart, and does not press the others flat."""
_HEAD = 8.0


class Chart:
    """Losses on a logarithmic axis, unless some are negative or the surface is a line."""

    def __init__(self, axes: Axes, shot: Shot, theme: Theme) -> None:
        clean(axes, theme)
        self._is_log = not shot.ground.flat and all(np.nanmin(track.losses) >= 0 for track in shot.tracks)
        axes.set_title(
            f"Loss{' (logarithmic)' if self._is_log else ''}", color=theme.muted, fontsize=LABEL, loc="left", pad=8
        )
        axes.grid(color=theme.line, linewidth=1.0)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        begin = shot.begin if shot.begin > shot.end / 2 else 0.0
        axes.set(xlim=(begin, shot.end + 0.02 * (shot.end - begin)))  # room for the heads
        self._scale(axes, shot.tracks)
        self._curves = [self._curve(axes, track, theme) for track in shot.tracks]
        self._tracks = shot.tracks
        self.moving: list[Artist] = in_order(self._curves)

    def _curve(self, axes: Axes, track: Track, theme: Theme) -> tuple[Line2D, Line2D]:
        (line,) = axes.plot([], [], color=track.style.color, linestyle=dashes(track.style), linewidth=2.4)
        rim: dict[str, Any] = {
            "markeredgecolor": theme.paper,
            "markeredgewidth": 1.2,
            "linestyle": "none",
            "clip_on": True,
        }
        (head,) = axes.plot([], [], **marker(track.style, _HEAD), **rim)
        return line, head

    def _scale(self, axes: Axes, tracks: Sequence[Track]) -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

        low, high = _span(list(tracks))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: whole(value))
        if self._is_log:
            low, high = max(low, _FLOOR), max(high, 10 * _FLOOR)
            axes.set_yscale("log")
            room = max((high / low) ** 0.07, 1.3)
            axes.set_ylim(low / room, high * room)
            subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
            axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            room = 0.06 * (high - low or abs(high) or 1.0)
            axes.set_ylim(low - room, high + room)
            axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: tick(value))

    def move(self, step: float) -> None:
        """Draw the losses up to a step."""
        for (line, head), track in zip(self._curves, self._tracks, strict=True):
            drawn = self._drawn(track)
            x, y = walked(drawn, track.steps, step).T
            y = np.exp(y) if self._is_log else y
            line.set_data(x, y)
            head.set_data(x[-1:], y[-1:])

    def _drawn(self, track: Track) -> Array:
        """Return the curve where it is straight between two steps."""
        with np.errstate(all="ignore"):
            heights = np.log(np.maximum(track.losses, _FLOOR)) if self._is_log else track.losses
        return np.stack((track.steps.astype(float), heights), axis=1)


def _span(tracks: list[Track]) -> tuple[float, float]:
    """Return from where to where losses are shown."""
    start = max(max(abs(float(track.losses[0])) for track in tracks), _FLOOR)

    def shown() -> Iterator[Array]:
        for track in tracks:
            is_calm = bool((np.abs(track.losses) <= _WILD * start).all())
            yield track.losses if is_calm else track.losses[:1]

    values = np.concatenate(list(shown()))
    is_wild = len(values) < sum(len(track.losses) for track in tracks)
    return float(values.min()), float(values.max() * (10.0 if is_wild and values.max() > 0 else 1.0))
