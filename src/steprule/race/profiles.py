"""The figure of a suite: performance profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from steprule.film.draw import dashes, new_figure
from steprule.race.standing import Standing
from steprule.race.words import counted
from steprule.report.theme import WIDTH, bare, name_ends, short, styles_of, title
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["profile"]

_APART = 0.007
"""How far coinciding lines are drawn apart, where few are: all of them together by half a problem at most."""
_NARROWEST = 4.0
"""The axis goes to this multiple of the fewest steps at least."""


def profile(standing: Standing, theme: Theme) -> Figure:
    """Return each rule's share of problems over tau: those on which it needs at most tau times the fewest steps."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, PercentFormatter

    labels = [entrant.label for entrant in standing.results[0].race.plan.entrants]
    figure = new_figure(WIDTH, 4.6, theme.paper)
    axes = figure.add_axes((0.125, 0.12, 0.8 - 0.0135 * max(len(short(label)) for label in labels), 0.71))
    bare(axes, theme)
    styles = styles_of(labels, theme)
    finite = standing.ratios[np.isfinite(standing.ratios)]
    last = max(_NARROWEST, 1.15 * float(finite.max()))
    tau = np.unique(np.append(finite, [1.0, last]))
    # Many lines coincide, since shares of few problems do: each is drawn a little below the one before it.
    apart = min(_APART, 0.5 / max(1, len(standing.profiled)) / len(labels))
    for place, label in enumerate(standing.labels):
        shares = [(standing.share(label, float(value)) or 0.0) - apart * place for value in tau]
        style = styles[label]
        axes.step(tau, shares, where="post", color=style.color, linestyle=dashes(style), linewidth=1.9)
    axes.set_xscale("log")
    axes.set_xlim(1, last)
    axes.xaxis.set_major_locator(FixedLocator([n for n in (1, 1.5, 2, 3, 5, 10, 20, 50, 100) if n <= last]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.02 - apart * len(labels), 1.02)
    axes.yaxis.set_major_locator(FixedLocator([share / 5 for share in range(6)]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("tau: steps to the target, by the fewest of all rules", color=theme.muted, fontsize=10)
    axes.set_ylabel("problems", color=theme.muted, fontsize=10)
    ends = [(standing.share(label) or 0.0) - apart * place for place, label in enumerate(standing.labels)]
    name_ends(axes, standing.labels, ends, styles, theme)
    count = counted(len(standing.profiled), "problem")
    subtitle = f"share of {count} on which a rule needs at most tau times the fewest steps"
    title(figure, "Performance profiles", subtitle, theme)
    return figure
