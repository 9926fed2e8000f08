"""Writing what a race leaves: results, figures, report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from steprule.race.evidence import Evidence, judge
from steprule.race.export import latex, spreadsheet
from steprule.race.figures import curves
from steprule.race.paths import paths
from steprule.race.plan import Plan
from steprule.race.report import report
from steprule.race.results import results
from steprule.race.runner import Race
from steprule.race.summary import Row, summarize
from steprule.race.tuning import best_of_k, sensitivity
from steprule.report.folder import to_json, write_files
from steprule.report.theme import to_pngs
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_all"]

_Draw = Callable[[Plan, list[Row], Theme], "Figure"]


def write_all(race: Race, folder: Path) -> list[Path]:
    """Write ``results.json``, the table, a PNG a figure (light) and ``report.html``; return where, the report last.

    Without a finished run nothing is written: the page would be headings.

    Raises:
        StepruleError: when the folder or a file cannot be written.
    """
    if not race.runs:
        return []
    rows = summarize(race.plan, race.runs)
    evidence = judge(race.plan, race.runs, rows)
    contents: dict[str, str | bytes] = {
        "results.json": to_json(results(race, rows, evidence)),
        "table.csv": spreadsheet(rows, evidence),
        "table.tex": latex(race.plan, rows, evidence),
    }
    pictures: dict[str, dict[str, bytes]] = {}
    for name, draw in _figures(race, rows, evidence).items():
        pictures[name] = to_pngs(partial(draw, race.plan, rows))
        contents[f"{name}.png"] = pictures[name]["light"]
    contents["report.html"] = report(race, rows, evidence, pictures)
    return write_files(folder, contents)


def _figures(race: Race, rows: list[Row], evidence: Evidence) -> dict[str, _Draw]:
    """Return the figures that have something to show."""
    drawn: dict[str, _Draw] = {}
    if any(row.best for row in rows):
        drawn["curves"] = curves
    if evidence.budget:
        drawn["best_of_k"] = partial(best_of_k, evidence)
    if any(row.finished and row.entrant.has_lr for row in rows):
        drawn["sensitivity"] = sensitivity
    if race.plan.problem.box and any(row.best and row.best.runs[0].path for row in rows):
        drawn["paths"] = paths
    return drawn
