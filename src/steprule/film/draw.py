"""What films are drawn with: a canvas, words, and the marks of the lab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import AbstractPathEffect
    from matplotlib.text import Text

__all__ = [
    "HEIGHT",
    "LABEL",
    "LEAST",
    "MINIMUM",
    "START",
    "WIDTH",
    "clean",
    "dashes",
    "drawable",
    "halo",
    "in_order",
    "line_of",
    "marker",
    "measured",
    "new_figure",
    "panel",
    "rgb",
    "sign",
    "tick",
    "whole",
    "width_of",
    "write",
]

WIDTH, HEIGHT = 12.8, 7.2
"""Inches of a film: a slide is about as wide."""
START, MINIMUM = "start", "minimum"
"""What marks of places are called (matplotlib's ``gid``)."""
LABEL = 15.0
"""Points of the numbers at axes."""
LEAST = 12.0
"""Points of words that do not fit: smaller ones cannot be read on a slide."""
_SLACK = 0.96
"""Of the room for words, what they may fill: at other resolutions letters are a little wider."""
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P"}
_SIZES = {"circle": 1.0, "square": 0.92, "triangle": 1.12, "diamond": 0.9, "cross": 1.35}
"""Of marks that look equally large."""


def new_figure(width: float, height: float, paper: str) -> Figure:
    """Return a figure of ``width`` x ``height`` inches. No pyplot: nothing global is changed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=paper)
    FigureCanvasAgg(figure)
    return figure


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def clean(axes: Axes, theme: Theme) -> None:
    """Leave of axes a thin frame, and numbers that come second."""
    axes.set_facecolor(theme.paper)
    for spine in axes.spines.values():
        spine.set(color=theme.line, linewidth=1.0)
    axes.tick_params(which="both", color=theme.muted, labelcolor=theme.muted, labelsize=LABEL, length=4, pad=4)


def dashes(style: Style) -> Any:
    """Return matplotlib's dashes, in widths of the line."""
    return (0, tuple(part / 2 for part in style.dash)) if style.dash else "solid"


def marker(style: Style, size: float) -> dict[str, Any]:
    """Return the properties of a mark that is so large, in points."""
    return {"marker": _MARKERS[style.shape], "markersize": size * _SIZES[style.shape], "color": style.color}


def sign(name: str, theme: Theme, scale: float) -> dict[str, Any]:
    """Return the properties of the ring of a start, or of the cross of a minimum."""
    if name == START:
        styles = {"marker": "o", "markersize": 11, "markeredgewidth": 2.2, "markerfacecolor": theme.paper}
        return {**styles, "markersize": 11 * scale, "markeredgecolor": theme.text}
    styles = {"marker": "+", "markersize": 17 * scale, "markeredgewidth": 2.4, "color": theme.text}
    return {**styles, "path_effects": halo(theme.paper, 5.0)}


def rgb(color: Sequence[float]) -> tuple[float, float, float]:
    """Return matplotlib's colour of numbers up to 255."""
    red, green, blue = (min(max(part / 255, 0.0), 1.0) for part in color)
    return red, green, blue


def halo(color: str, width: float, alpha: float = 1.0) -> list[AbstractPathEffect]:
    """Return what sets lines and words off from what is under them."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground=color, alpha=alpha), Normal()]


def drawable(words: str) -> str:
    """Return words that can be drawn: the name of a file need not be Unicode."""
    return words.encode(errors="replace").decode()


def write(figure: Figure, x: float, y: float, words: str, size: float, room: float = np.inf, **more: Any) -> Text:
    """Write a line at (x, y) inches, smaller where it would be wider than ``room``, and cut where that is too small."""
    more = {"va": "center_baseline", **more}
    text = figure.text(x, y, drawable(words), fontsize=size, transform=figure.dpi_scale_trans, parse_math=False, **more)
    kept, least, room = text.get_text(), min(size, LEAST), room * _SLACK
    while width_of(text) > room and size > least:  # the width of letters does not go with their size alone
        size = max(min(size * room / width_of(text), size - 0.1), least)
        text.set_fontsize(size)
    while width_of(text) > room and kept:
        kept = kept[:-1].rstrip()
        text.set_text(f"{kept}…")
    return text


def measured(figure: Figure, words: str, size: float, **more: Any) -> float:
    """Return how many inches of room a line needs."""
    text = write(figure, 0, 0, words, size, **more)
    width = width_of(text)
    text.remove()
    return width / _SLACK


def width_of(text: Text) -> float:
    """Return the width of a text in inches."""
    assert text.figure is not None
    return text.get_window_extent().width / text.figure.dpi


def line_of(figure: Figure, x: Sequence[float], y: Sequence[float], style: Style, **more: Any) -> Line2D:
    """Draw a line between points in inches."""
    from matplotlib.lines import Line2D

    more = {"linestyle": dashes(style), "color": style.color, **more}
    line = Line2D(x, y, transform=figure.dpi_scale_trans, **more)
    figure.add_artist(line)
    return line


def tick(value: float) -> str:
    """Return a number at an axis as the lab writes it: a true minus sign, and no more zeros than needed."""
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def whole(step: float) -> str:
    """Return the number of a step, in groups of three digits."""
    return f"{step:,.0f}".replace(",", "\u2009")


def in_order(layers: Sequence[Sequence[Artist]]) -> list[Artist]:
    """Return what is drawn, in order: all that is first in a layer, then all that is second, and so on."""
    return [artist for kind in zip(*layers, strict=True) for artist in kind]
