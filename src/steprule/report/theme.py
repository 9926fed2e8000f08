"""Style of the figures: bare axes, short names, titles."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.film.draw import dashes, drawable
from steprule.style import DARK, LIGHT, Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "WIDTH",
    "bare",
    "name_ends",
    "panel_title",
    "panels",
    "short",
    "spread",
    "styles_of",
    "title",
    "to_png",
    "to_pngs",
]

_DPI = 200
_LONGEST = 22
"""Letters of a label in a figure."""
WIDTH = 6.4
"""Inches. Narrow, so that the letters can still be read on a telephone."""


def styles_of(labels: Sequence[str], theme: Theme) -> dict[str, Style]:
    """Return how each rule is drawn."""
    return {label: theme.style(index) for index, label in enumerate(labels)}


def bare(axes: Axes, theme: Theme) -> None:
    """Leave of the axes what is read: ticks, a pale grid, no box."""
    axes.set_facecolor(theme.paper)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.grid(axis="y", which="major", color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=theme.muted, labelcolor=theme.muted, labelsize=9.5, length=3)
    axes.tick_params(axis="y", which="both", length=0)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places in [low, high] near the ``wanted`` ones, in their order and at least ``gap`` apart."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(wanted, kind="stable")
    room = (high - low) / max(1, len(order) - 1)
    offsets = min(gap, room) * np.arange(len(order))
    # With the gaps taken out, the nearest places in order are a least-squares fit that never falls.
    fitted = isotonic_regression(np.asarray(wanted, float)[order] - offsets).x.clip(low, high - offsets[-1])
    placed = np.empty(len(order))
    placed[order] = fitted + offsets
    return [float(place) for place in placed]


def name_ends(
    axes: Axes,
    labels: Sequence[str],
    ends: Sequence[float],
    styles: Mapping[str, Style],
    theme: Theme,
    notes: Sequence[str] = (),
) -> None:
    """Name lines at their right ends, in the order they end, with a leader where a name had to move.

    Args:
        axes: that the lines are in, to its right edge; names and notes are right of it.
        labels: a name a line.
        ends: where each line ends, in data.
        styles: how each is drawn.
        theme: colours of words.
        notes: what stands behind each name, smaller.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]  # not 0, which an axis of logarithms does not have
    wanted = [float(to_axes.transform((right, end))[1]) for end in ends]
    places = spread(wanted, 0.062, 0.0, 1.0) if wanted else []
    size = 10 if len(labels) <= 12 else 8
    for label, note, end, place in zip(labels, notes or [""] * len(labels), wanted, places, strict=True):
        style = styles[label]
        axes.plot(
            [1.0, 1.025, 1.05], [end, place, place], transform=axes.transAxes, clip_on=False,
            color=style.color, linestyle=dashes(style), linewidth=1.6,
        )  # fmt: skip
        where: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "parse_math": False}
        axes.text(1.06, place, short(label), color=theme.text, fontsize=size, **where)
        axes.annotate(
            note, (1.0, 0.5), xycoords=axes.texts[-1], color=theme.muted, fontsize=size - 1.5, va="center",
        )  # fmt: skip


def panels(count: int) -> tuple[int, int]:
    """Return (lines, columns) for that many panels, at most three abreast."""
    columns = min(3, max(1, count))
    return max(1, -(-count // columns)), columns


def short(label: str, most: int = _LONGEST) -> str:
    """Return a label that leaves room for the figure."""
    return drawable(label if len(label) <= most else f"{label[: most - 1]}…")


def panel_title(axes: Axes, label: str, note: str, theme: Theme) -> None:
    """Write the rule's name above its panel, as much of it as fits, and a short note at the right."""
    beside = axes.set_title(note, parse_math=False, color=theme.muted, fontsize=9, loc="right", pad=4)
    room = axes.get_window_extent().width - 1.08 * beside.get_window_extent().width
    plain: dict[str, Any] = {"parse_math": False, "color": theme.text, "loc": "left", "pad": 4, "fontweight": "bold"}
    tried = [(10.5, min(len(label), _LONGEST)), *((8.5, most) for most in range(_LONGEST, 0, -1))]
    for size, most in tried:
        if axes.set_title(short(label, most), fontsize=size, **plain).get_window_extent().width <= room:
            break


def title(figure: Figure, text: str, subtitle: str, theme: Theme) -> None:
    """Write a title and a line or two below it at the upper left."""
    inch = 1 / figure.get_figheight()
    plain: dict[str, Any] = {"parse_math": False}  # a dollar sign in a name begins no formula
    figure.text(0.02, 1 - 0.34 * inch, text, color=theme.text, fontsize=13, fontweight="bold", **plain)
    figure.text(
        0.02, 1 - 0.45 * inch, drawable(subtitle), color=theme.muted, fontsize=9.5, va="top", linespacing=1.4, **plain
    )


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG, the same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def to_pngs(draw: Callable[[Theme], Figure]) -> dict[str, bytes]:
    """Return what is drawn in each theme as PNG, by the theme's name."""
    return {theme.name: to_png(draw(theme)) for theme in (LIGHT, DARK)}
