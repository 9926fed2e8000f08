"""What docs/adam-wrong.md shows of docs/adam_wrong.json: the table, and of each mistake its lines and its losses."""

from __future__ import annotations

import difflib
import json
import math
import re
import runpy
import statistics
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steprule.report.table import markdown_table

HERE = Path(__file__).parent
Row = Mapping[str, Any]


def parts() -> dict[str, str]:
    """Return what the page has between its marks: ``table``, and a part for each mistake under its name."""
    rows = {row["name"]: row for row in json.loads((HERE / "adam_wrong.json").read_text())}
    slips = {slip.name: slip for slip in runpy.run_path(str(HERE.parent / "examples" / "adam_wrong.py"))["SLIPS"]}
    wrong = [name for name, row in rows.items() if not _is_right(row, rows)]
    texts = {name: _lines(slips[rows[name]["beside"]].text(), slips[name].text()) for name in wrong}
    shown = {name: f"\n```diff\n{texts[name]}\n```\n\n{_sentence(rows[name], rows)}\n" for name in wrong}
    return {"table": f"\n{_table(rows)}\n", **shown}


def _is_right(row: Row, rows: Mapping[str, Row]) -> bool:
    return row["name"] in {other["beside"] for other in rows.values()}


def _lines(right: str, wrong: str) -> str:
    """Return the lines that differ, those of the right program after ``-``, without their common indentation."""
    pairs = [line for line in difflib.ndiff(right.splitlines(), wrong.splitlines()) if line[0] in "-+"]
    bodies = textwrap.dedent("\n".join(line[2:] for line in pairs)).splitlines()
    return "\n".join(f"{line[0]} {body}" for line, body in zip(pairs, bodies, strict=True))


def _table(rows: Mapping[str, Row]) -> str:
    headings = ["", "lr 0.001", "gradients / 10,000", "best lr", "at best lr", "`steprule check`"]
    lines = []
    for name, row in rows.items():
        right = _is_right(row, rows)
        words = (
            f"**{_right_name(name)}, right**"
            if right
            else f"[{name}](#{re.sub('[^a-z0-9-]', '', name.lower().replace(' ', '-'))})"
        )
        lines.append([words, _loss(row["usual"]), _loss(row["small"]), _rate(row), _loss(row["best"]), _said(row)])
    return markdown_table(headings, lines)


def _right_name(name: str) -> str:
    return name or "Adam"


def _rate(row: Row) -> str:
    return f"{row['rate']:g}" if math.isfinite(statistics.median(row["best"])) else "none"


def _said(row: Row) -> str:
    if row["found"]:
        return "finds it" if row["found"] == [row["name"]] else f"finds {', '.join(row['found'])}"
    rule: str = row["headline"].partition(" is ")[2].rstrip(".")
    return rule + (", with a note" if row["remarks"] else "")


def _sentence(row: Row, rows: Mapping[str, Row]) -> str:
    right = rows[row["beside"]]
    usual, best = (f"**{_loss(row[key])}** (right: {_loss(right[key])})" for key in ("usual", "best"))
    at = f", and {best} at its best rate, {_rate(row)} (right: {_rate(right)})" if _rate(row) != "none" else ""
    return f"Loss: {usual} at a rate of 0.001{at}."


def _loss(seeds: list[float]) -> str:
    """Return the median of some seeds."""
    loss = statistics.median(seeds)
    if not math.isfinite(loss):
        return "NaN"
    return f"{loss:.3f}" if loss < 10 else f"{float(f'{loss:.2g}'):,.0f}"
