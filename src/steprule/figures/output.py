"""Writing what the figures of a paper leave: pictures, numbers, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steprule.figures.drawing import to_svg
from steprule.figures.figure import Figure, Results
from steprule.figures.page import Shown, page
from steprule.figures.work import Work
from steprule.report.folder import to_csv, write_files
from steprule.report.theme import to_png
from steprule.style import DARK, LIGHT

__all__ = ["write"]

_VERDICTS = ("figure", "claim", "holds", "statistic", "why_not")


def write(paper: str, work: Work, folder: Path, missing: Sequence[Figure] = ()) -> Path:
    """Write PNG, SVG and CSV of each figure that is done, ``verdicts.csv`` and ``index.html``; return where that is.

    Args:
        paper: whose figures they are.
        work: how far they are; those that are not done are named on the page.
        folder: where to.
        missing: figures that lack a package.

    Raises:
        StepruleError: when the folder or a file cannot be written.
    """
    shown = []
    contents: dict[str, str | bytes] = {}
    for figure in work.figures:
        if not work.is_done(figure):
            continue
        pictures = _pictures(figure, work.results)
        table = figure.table(work.results)
        numbers = to_csv(table.columns, table.rows)
        contents |= {f"{figure.name}.{ending}": data for ending, data in pictures.items() if ending != "dark"}
        contents[f"{figure.name}.csv"] = numbers
        themes = {"light": pictures["png"], "dark": pictures["dark"]}
        shown.append(Shown(figure, figure.judge(work.results), themes, numbers))
    left = [figure for figure in work.figures if not work.is_done(figure)]
    contents["verdicts.csv"] = to_csv(_VERDICTS, _verdicts(shown))
    contents["index.html"] = page(paper, shown, left, missing)
    return write_files(folder, contents)[-1]


def _pictures(figure: Figure, results: Results) -> dict[str, bytes]:
    light = figure.draw(results, LIGHT)
    return {"png": to_png(light), "svg": to_svg(light), "dark": to_png(figure.draw(results, DARK))}


def _verdicts(shown: Sequence[Shown]) -> list[list[Any]]:
    return [
        [
            one.figure.name,
            judgement.claim,
            judgement.holds,
            judgement.statistic,
            judgement.why if not judgement.holds else "",
        ]
        for one in shown
        for judgement in one.judgements
    ]
