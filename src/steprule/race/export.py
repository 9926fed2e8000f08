"""The table of a race for other programs: CSV, and LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steprule.race.evidence import Evidence
from steprule.race.plan import Plan
from steprule.race.summary import Row
from steprule.race.words import INTERVAL, LOSS, cells, columns, headings, loss_format, loss_name, setting_words
from steprule.report.folder import to_csv

__all__ = ["FIELDS", "latex", "spreadsheet", "tabular"]

FIELDS = (
    *("rule", "rank_first", "rank_last", "setting", "fresh_seeds", "metric", "median", "low", "high"),
    *("tuning_median", "train_loss", "test_accuracy", "steps_to_target", "runs_at_target", "forgiving", "step_us"),
)
"""The columns of ``table.csv``: the numbers of a rule whole, not rounded; empty where there is none."""


def spreadsheet(rows: Sequence[Row], evidence: Evidence) -> str:
    """Return the table as CSV (RFC 4180), with all digits."""
    lines = []
    for row in rows:
        judged = evidence.judged.get(row.entrant.label)
        reach = judged.reach if judged else None
        best = row.best if row.is_fresh else None
        lines.append([
            row.entrant.label, *(judged.rank if judged else ("", "")),
            setting_words(row.best.setting) if row.best else "", len(best.runs) if best else 0, evidence.metric,
            best.median if best else None, *(judged.interval if judged and best else ("", "")),
            row.chosen.median if row.chosen else None, row.train_loss, row.accuracy,
            reach.steps if reach else None, reach.runs if reach else None, row.forgiving, row.step_us,
        ])  # fmt: skip
    return to_csv(FIELDS, lines)


def latex(plan: Plan, rows: Sequence[Row], evidence: Evidence) -> str:
    """Return the table for a paper, with the rules of the booktabs package, and a caption that says what it is."""
    written = loss_format(rows)
    texts = [cells(row, evidence, written) for row in rows]
    kept = [i for i in columns(rows, texts) if i != INTERVAL]
    names = [headings(evidence.metric)[i] for i in kept]
    caption = (
        f"{plan.problem.name}: {loss_name(evidence.metric)} after {plan.steps} steps, median of {len(plan.seeds)} "
        f"fresh seeds with its 95 % bootstrap interval, {_tried(plan)}; ranks by Wilcoxon's signed-rank test with "
        "Holm's correction at 5 %."
    )
    return tabular(caption, names, [[_cell(text, i) for i in kept] for text in texts])


def tabular(caption: str, names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts in LaTeX."""
    rows = [" & ".join(map(_escaped, cells)) + r" \\" for cells in (names, *lines)]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_escaped(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\toprule", rows[0], r"\midrule", *rows[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _tried(plan: Plan) -> str:
    return f"{plan.trials} trials of each rule" if plan.trials else f"{len(plan.lrs)} learning rates"


def _cell(text: Sequence[str], column: int) -> str:
    beside = column == LOSS and text[INTERVAL] != "–"
    return f"{text[column]} [{text[INTERVAL].replace(' to ', ', ')}]" if beside else text[column]


def _escaped(text: str) -> str:
    text = re.sub(r"([%&#_$])", r"\\\1", text.replace("–", "--").replace("µ", "\0"))
    return text.replace("\0", r"$\mu$").replace("†", r"$\dagger$").replace("<", r"$<$")
