"""What the figures are drawn with: panels of lines with their names at the right, and heat maps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.film.draw import dashes, new_figure, rgb
from steprule.race.problem import Array
from steprule.report.theme import WIDTH, bare, name_ends, short, title
from steprule.style import Style, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Heat", "Line", "Panel", "draw_bars", "draw_heats", "draw_panels", "ground", "to_svg"]

_HEAD, _FOOT, _PANEL = 0.95, 0.55, 2.75
"""Inches above and below the panels, and of a panel."""
_BETWEEN = 0.75
_LETTER = 0.0135
"""Of the figure's width, what a letter of a name takes."""


@dataclass(frozen=True)
class Line:
    """A line: its name, and where it goes; a band around it, if any; which colour, if not that of its place.

    Attributes:
        label: at its right end.
        x, y: points.
        low, high: of the band.
        slot: of the palette.
        note: behind the name.
    """

    label: str
    x: Sequence[float] | Array
    y: Sequence[float] | Array
    low: Sequence[float] | Array | None = None
    high: Sequence[float] | Array | None = None
    slot: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines in one pair of axes.

    Attributes:
        lines: in the order of the palette.
        x, y: what the axes show.
        name: above it.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        levels: heights of dotted lines.
        limits: of y.
        dots: whether points are marked.
    """

    lines: Sequence[Line]
    x: str
    y: str
    name: str = ""
    log: str = ""
    levels: Sequence[float] = ()
    limits: tuple[float, float] | None = None
    dots: bool = False


def draw_panels(name: str, note: str, panels: Sequence[Panel], theme: Theme) -> Figure:
    """Return a figure of panels, one below the other, so that they can be read on a telephone."""
    head = _HEAD + 0.2 * note.count("\n")
    height = head + _FOOT + len(panels) * _PANEL + (len(panels) - 1) * _BETWEEN
    figure = new_figure(WIDTH, height, theme.paper)
    ends = [len(short(line.label)) + 0.8 * len(line.note) for panel in panels for line in panel.lines]
    width = 0.8 - _LETTER * max(ends)
    for index, panel in enumerate(panels):
        bottom = height - head - (index + 1) * _PANEL - index * _BETWEEN
        axes = figure.add_axes((0.125, bottom / height, width, _PANEL / height))
        _draw(axes, panel, theme)
    title(figure, name, note, theme)
    return figure


def _draw(axes: Axes, panel: Panel, theme: Theme) -> None:
    bare(axes, theme)
    styles: dict[str, Style] = {}
    for place, line in enumerate(panel.lines):
        style = styles[line.label] = theme.style(place if line.slot is None else line.slot)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=style.color, alpha=0.16, linewidth=0)
        mark: dict[str, Any] = {"marker": "o", "markersize": 3.5} if panel.dots else {}
        axes.plot(line.x, line.y, color=style.color, linestyle=dashes(style), linewidth=1.9, **mark)
    for level in panel.levels:
        axes.axhline(level, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    _scale(axes, panel)
    axes.set_xlabel(panel.x, color=theme.muted, fontsize=10)
    axes.set_ylabel(panel.y, color=theme.muted, fontsize=10)
    if panel.name:
        axes.set_title(panel.name, color=theme.text, fontsize=10.5, loc="left", pad=5, parse_math=False)
    low, high = sorted(axes.get_ylim())
    ends = [float(np.clip(np.asarray(line.y, float)[-1], low, high)) for line in panel.lines]
    notes = [f"  {line.note}" if line.note else "" for line in panel.lines]
    name_ends(axes, [line.label for line in panel.lines], ends, styles, theme, notes)


def _scale(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.margins(x=0.0, y=0.06)
    if "x" in panel.log:
        axes.set_xscale("log")
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    if "y" not in panel.log:
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 100 * low:
        # Powers of ten alone would leave such an axis with a label or two.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_bars(name: str, note: str, values: Mapping[str, float], theme: Theme) -> Figure:
    """Return a figure of bars, each with its name and its value."""
    height = _HEAD + 0.3 * len(values) + 0.2
    figure = new_figure(WIDTH, height, theme.paper)
    left = 0.04 + _LETTER * max(len(short(label)) for label in values)
    axes = figure.add_axes((left, 0.15 / height, 0.9 - left, 0.3 * len(values) / height))
    axes.set_axis_off()
    places = np.arange(len(values))[::-1]
    axes.barh(places, list(values.values()), height=0.62, color=theme.palette[0])
    most = max(values.values())
    for place, (label, value) in zip(places, values.items(), strict=True):
        words: dict[str, Any] = {"va": "center", "fontsize": 10, "parse_math": False}
        axes.text(-0.02 * most, place, short(label), ha="right", color=theme.text, **words)
        axes.text(value + 0.02 * most, place, f"{value:.3g}", color=theme.muted, **words)
    title(figure, name, note, theme)
    return figure


@dataclass(frozen=True)
class Heat:
    """A map of losses.

    Attributes:
        name: above it.
        x, y: learning rates and decays, one a column and one a row from below.
        losses: (rows, columns).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    losses: Array


def draw_heats(name: str, note: str, heats: Sequence[Heat], theme: Theme) -> Figure:
    """Return a figure of heat maps on one scale, one below the other, each cell with its loss."""
    height = _HEAD + 0.2 + _FOOT + len(heats) * _PANEL + (len(heats) - 1) * _BETWEEN
    figure = new_figure(WIDTH, height, theme.paper)
    best = min(float(heat.losses.min()) for heat in heats)
    for index, heat in enumerate(heats):
        bottom = height - _HEAD - 0.2 - (index + 1) * _PANEL - index * _BETWEEN
        axes = figure.add_axes((0.16, bottom / height, 0.8, _PANEL / height))
        _draw_heat(axes, heat, best, theme)
    title(figure, name, note, theme)
    return figure


def _draw_heat(axes: Axes, heat: Heat, best: float, theme: Theme) -> None:
    from matplotlib.colors import LogNorm

    axes.pcolormesh(heat.losses, cmap=ground(theme), norm=LogNorm(best, 4 * best), edgecolors=theme.paper, linewidth=1)
    for row, column in np.ndindex(heat.losses.shape):
        loss = float(heat.losses[row, column])
        is_dark = loss < 1.5 * best
        color = theme.paper if is_dark else theme.text
        axes.text(column + 0.5, row + 0.5, f"{loss:.2f}", color=color, fontsize=8.5, ha="center", va="center")
    row, column = (int(place) for place in np.unravel_index(heat.losses.argmin(), heat.losses.shape))
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": theme.palette[1], "markeredgewidth": 2.2}
    axes.plot([column + 0.5], [row + 0.5], "o", markersize=24, **ring)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks(np.arange(len(heat.x)) + 0.5, [f"{value:.2g}" for value in heat.x])
    axes.set_yticks(np.arange(len(heat.y)) + 0.5, [f"{value:.2g}" for value in heat.y])
    axes.tick_params(length=0, colors=theme.muted, labelsize=9)
    axes.set_xlabel("learning rate", color=theme.muted, fontsize=10)
    axes.set_ylabel("decay", color=theme.muted, fontsize=10)
    axes.set_title(heat.name, color=theme.text, fontsize=10.5, loc="left", pad=5, parse_math=False)


def ground(theme: Theme) -> Any:
    """Return the colours of a heat map, from good to bad."""
    from matplotlib.colors import LinearSegmentedColormap

    colors: Any = [theme.palette[0], rgb(theme.high), theme.soft]
    return LinearSegmentedColormap.from_list("ground", colors)


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG, the same bytes for the same figure."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "steprule"}):
        figure.savefig(stream, format="svg", facecolor=figure.get_facecolor(), metadata={"Date": None})
    return stream.getvalue()
