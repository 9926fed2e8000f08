"""The tables of a race's page, as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from steprule.race.evidence import Evidence
from steprule.race.plan import Plan
from steprule.race.statistics import LEVEL
from steprule.race.summary import Row
from steprule.race.words import ACCURACY, FORGIVING, INTERVAL, LOSS, cells, columns, headings, setting_words
from steprule.style import LIGHT

__all__ = ["breakable", "named", "pairs_table", "results_table", "table", "trials_table"]

Written = Callable[[float], str]


def results_table(plan: Plan, rows: Sequence[Row], evidence: Evidence, written: Written) -> str:
    """Return a line for each rule, best first; the best cells are marked."""
    slots = {entrant.label: slot for slot, entrant in enumerate(plan.entrants)}
    texts, names = [cells(row, evidence, written) for row in rows], headings(evidence.metric)
    # The interval stands below the loss here, which leaves a narrow screen fewer columns.
    kept = [i for i in columns(rows, texts) if i != INTERVAL]
    marked = _marked(rows, texts)
    lines = []
    for row, text in zip(rows, texts, strict=True):
        made = [named(row.entrant.label, slots[row.entrant.label])]
        for i in kept[1:]:
            small = f"<small>{escape(text[INTERVAL])}</small>" if i == LOSS and text[INTERVAL] != "–" else ""
            best = ' class="best"' if (row.entrant.label, i) in marked else ""
            made.append(f"<td{best}>{escape(text[i])}{small}</td>")
        lines.append("".join(made))
    return table([breakable(names[i]) for i in kept], lines)


def trials_table(rows: Sequence[Row], written: Written) -> str:
    """Return every trial of every rule: its setting, and the median loss over the tuning seeds."""
    lines = []
    for row in rows:
        for number, point in enumerate(row.points, 1):
            lost = not math.isfinite(point.median)
            text = "·" if not point.runs else "×" if lost else escape(written(point.median))
            kind = "lost" if lost else "best" if row.chosen and point.setting == row.chosen.setting else ""
            words = escape(setting_words(point.setting))
            name = breakable(row.entrant.label)
            lines.append(
                f'<td>{name}</td><td>{number}</td><td class="words">{words}</td><td class="{kind}">{text}</td>'
            )
    return table(["rule", "trial", "setting", "loss"], lines, "grid")


def pairs_table(evidence: Evidence) -> str:
    """Return the corrected p value of each pair, those below the level marked."""
    lines = []
    for i, label in enumerate(evidence.labels):
        made = [f"<td>{breakable(label)}</td>"]
        for j in range(len(evidence.labels)):
            p = evidence.p[i, j]
            made.append("<td></td>" if i == j else f'<td class="{"best" if p < LEVEL else "lost"}">{p:.2g}</td>')
        lines.append("".join(made))
    return table(["corrected p", *map(breakable, evidence.labels)], lines, "grid")


def breakable(label: str) -> str:
    """Return a rule's name that a narrow column may break before its hyperparameters, and between their words."""
    return escape(label).replace("(", "(<wbr>").replace("_", "_<wbr>")


def named(label: str, slot: int) -> str:
    """Return the cell of a rule: a dot that looks as its lines do, and its name."""
    return f'<td><span class="rule">{_swatch(slot)}{breakable(label)}</span></td>'


def table(heads: Sequence[str], lines: Sequence[str], kind: str = "") -> str:
    """Return a table of headings and of lines of cells, all of them HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _swatch(slot: int) -> str:
    """Return a dot in the colour of the rule's lines; a ring where the lines are dashed."""
    color = f"var(--rule-{slot % len(LIGHT.palette)})"
    fill = f"border:.2em solid {color}" if LIGHT.style(slot).dash else f"background:{color}"
    return f'<span class="swatch" style="{fill}"></span>'


def _marked(rows: Sequence[Row], texts: Sequence[tuple[str, ...]]) -> set[tuple[str, int]]:
    """Return (rule, column) of the cells to mark: the best one, unless another reads the same."""
    keys: dict[int, Callable[[Row], float | None]] = {
        LOSS: lambda row: -row.best.median if row.best else None,
        ACCURACY: lambda row: row.accuracy,
        FORGIVING: lambda row: row.forgiving if row.best else None,
    }
    marked = set()
    for column, key in keys.items():
        values = [(value, text) for row, text in zip(rows, texts, strict=True) if (value := key(row)) is not None]
        if not values:
            continue
        _, best = max(values)
        if sum(text[column] == best[column] for text in texts) == 1:
            marked.add((best[0], column))
    return marked
