"""``index.html``: the figures of a paper on one page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from steprule.figures.catalogue import TITLES
from steprule.figures.figure import Figure, Judgement
from steprule.race.plan import versions
from steprule.report import page as pages

__all__ = ["Shown", "page"]


@dataclass(frozen=True)
class Shown:
    """A figure that is done.

    Attributes:
        figure: which.
        judgements: its claims, with verdicts.
        pictures: PNGs by theme.
        numbers: as CSV.
    """

    figure: Figure
    judgements: Sequence[Judgement]
    pictures: Mapping[str, bytes]
    numbers: str


def page(paper: str, shown: Sequence[Shown], left: Sequence[Figure], missing: Sequence[Figure]) -> str:
    """Return the page.

    Args:
        paper: whose figures they are.
        shown: what is done.
        left: what is not finished.
        missing: what lacks a package.
    """
    every = [judgement for one in shown for judgement in one.judgements]
    return pages.filled(
        "steprule.figures",
        "page.html",
        TITLES[paper],
        finding=_finding(every),
        warning=_warning(left, missing),
        overview="".join(_lines(one) for one in shown),
        sections="".join(map(_section, shown)),
        versions=escape(", ".join(f"{name} {number}" for name, number in versions().items())),
        paper=escape(paper),
    )


def _finding(judgements: Sequence[Judgement]) -> str:
    right = sum(judgement.holds for judgement in judgements)
    return f"Of {len(judgements)} claims, {right} hold here and {len(judgements) - right} do not."


def _warning(left: Sequence[Figure], missing: Sequence[Figure]) -> str:
    lines = []
    if left:
        names = escape(", ".join(figure.name for figure in left))
        lines.append(f"<b>Not finished:</b> {names}. Run the same command again to continue.")
    if missing:
        packages = escape(", ".join(dict.fromkeys(one for figure in missing for one in figure.missing)))
        names = escape(", ".join(figure.name for figure in missing))
        lines.append(f"<b>Left out:</b> {names}, for lack of {packages}.")
    return "".join(f'<p class="warn">{line}</p>' for line in lines)


def _lines(one: Shown) -> str:
    name = f'<li class="of"><a href="#{one.figure.name}">{escape(one.figure.title)}</a></li>'
    return name + "".join(
        f'<li><span class="verdict {_kind(judgement)}">{judgement.verdict}</span>{escape(judgement.claim)}</li>'
        for judgement in one.judgements
    )


def _kind(judgement: Judgement) -> str:
    return "holds" if judgement.holds else "fails"


def _section(one: Shown) -> str:
    figure = one.figure
    data = base64.b64encode(one.numbers.encode()).decode("ascii")
    return (
        f'<h2 id="{figure.name}">{escape(figure.title)}</h2>'
        + pages.picture(one.pictures, figure.source)
        + "".join(map(_claim, one.judgements))
        + f'<p class="note">{escape(figure.setting)}</p>'
        f'<p class="note"><a download="{figure.name}.csv" href="data:text/csv;base64,{data}">The numbers as CSV</a>. '
        f"In the folder: {figure.name}.png, .svg and .csv.</p>"
    )


def _claim(judgement: Judgement) -> str:
    why = f" {escape(judgement.why)}" if judgement.why and not judgement.holds else ""
    return (
        f'<div class="claim {_kind(judgement)}"><p>{escape(judgement.claim)}</p>'
        f"<p><b>{judgement.verdict}</b> {escape(judgement.statistic)}{why}</p></div>"
    )
