"""Writing what a suite leaves above its races: ``suite.json``, the table, the figure, the page."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any

from steprule.race.export import tabular
from steprule.race.plan import versions
from steprule.race.profiles import profile
from steprule.race.results import line
from steprule.race.snippets import suite_command
from steprule.race.space import LR
from steprule.race.standing import Result, Standing
from steprule.race.suite_report import overall, suite_report
from steprule.race.suites import Suite
from steprule.race.verdict import suite_verdict
from steprule.race.words import counted, place_words
from steprule.report.folder import to_csv, to_json, write_files
from steprule.report.theme import to_pngs

__all__ = ["SUITE_FIELDS", "write_suite"]

SUITE_FIELDS = (
    *("problem", "rule", "mean_rank", "rank_first", "rank_last", "metric", "median", "low", "high"),
    *("steps_to_target", "ratio", "runs_at_target", "forgiving", "lr", "at_edge"),
)
"""The columns of a suite's ``table.csv``: a line for each rule on each problem; empty where there is no number."""


def write_suite(suite: Suite, folder: Path) -> list[Path]:
    """Write ``suite.json``, ``table.csv``, ``table.tex``, ``profile.png`` and ``report.html``; return where they are.

    The page is the last one. Where no race is finished there is nothing to say: nothing is written.

    Raises:
        StepruleError: when the folder or a file cannot be written.
    """
    if not suite.finished:
        return []
    standing = suite.standing
    pictures = {}
    if standing.profiled:
        pictures["profile"] = to_pngs(lambda theme: profile(standing, theme))
    contents: dict[str, str | bytes] = {
        "suite.json": to_json(suite_results(suite, standing)),
        "table.csv": suite_spreadsheet(standing),
        "table.tex": suite_latex(standing),
        **{f"{name}.png": picture["light"] for name, picture in pictures.items()},
        "report.html": suite_report(suite, standing, pictures),
    }
    return write_files(folder, contents)


def suite_results(suite: Suite, standing: Standing) -> dict[str, Any]:
    """Return the content of ``suite.json``; docs/race.md describes it."""
    plan = suite.plans[0]
    return {
        "format": 1,
        "complete": suite.is_complete,
        "problems": [_problem(standing, column, result) for column, result in enumerate(standing.results)],
        "settings": {
            "rules": [entrant.label for entrant in plan.entrants],
            "trials": plan.trials,
            "tuning_seeds": list(plan.tuning_seeds),
            "seeds": list(plan.seeds),
        },
        "seconds": suite.seconds,
        "runs": sum(len(race.runs) for race in suite.races),
        "reference": standing.results[0].evidence.reference,
        "difference": standing.difference,
        "table": [
            {
                "rule": label,
                "mean_rank": standing.mean_ranks[place],
                "alike": standing.alike(label),
                "targets": standing.share(label),
                "fastest": standing.share(label, 1.0),
                "forgiving": standing.forgiving[place],
                "diverged": standing.diverged[place],
            }
            for place, label in enumerate(standing.labels)
        ],
        "verdict": suite_verdict(standing),
        "versions": versions(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "processors": os.cpu_count()},
        "command": suite_command(suite.plans),
    }


def _problem(standing: Standing, column: int, result: Result) -> dict[str, Any]:
    plan = result.race.plan
    ratios = dict(zip(standing.labels, standing.ratios[:, column].tolist(), strict=True))
    return {
        "name": result.name,
        "description": plan.problem.description,
        "metric": result.evidence.metric,
        "steps": plan.steps,
        "schedule": plan.schedule,
        "start_loss": plan.start,
        "target": result.evidence.target,
        "table": [
            {**line(row, result.evidence), "ratio": ratios[row.entrant.label]} for row in result.rows
        ],
    }  # fmt: skip


def suite_spreadsheet(standing: Standing) -> str:
    """Return the results of all rules on all problems as CSV (RFC 4180), with all digits."""
    lines = []
    for column, result in enumerate(standing.results):
        for place, label in enumerate(standing.labels):
            found = line(result.row(label), result.evidence)
            ratio = float(standing.ratios[place, column])
            lines.append([
                result.name, label, standing.mean_ranks[place], *result.evidence.judged[label].rank,
                result.evidence.metric, found["loss"], *(found["interval"] or ("", "")), found["steps_to_target"],
                "" if math.isnan(ratio) else ratio, found["runs_at_target"], found["forgiving"],
                dict(found["setting"] or {}).get(LR), found["at_edge"],
            ])  # fmt: skip
    return to_csv(SUITE_FIELDS, lines)


def suite_latex(standing: Standing) -> str:
    """Return the table of ranks for a paper, with the rules of the booktabs package."""
    names = [result.name for result in standing.results]
    (first, *heads), *texts = overall(standing)
    lines = []
    for label, (rank, *others) in zip(standing.labels, texts, strict=True):
        places = [place_words(result.evidence.judged[label].rank) for result in standing.results]
        lines.append([label, rank, *places, *others])
    plan = standing.results[0].race.plan
    caption = (
        f"Ranks on {counted(len(names), 'problem')}, by Wilcoxon's signed-rank test over {len(plan.seeds)} fresh seeds "
        f"with Holm's correction at 5 %; mean ranks are told apart where they differ by {standing.difference:.2f} "
        "(Nemenyi's test at 5 %)."
    )
    return tabular(caption, ["rule", first, *names, *heads], lines)
