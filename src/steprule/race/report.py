"""``report.html``: the race on one page that needs no other file and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from steprule.race.plan import versions
from steprule.race.runner import Race
from steprule.race.summary import FORGIVING, NEAR_ZERO, Row
from steprule.race.theme import LIGHT, Style, styles
from steprule.race.words import HEADINGS, cells, rate
from steprule.race.words import loss as written
from steprule.version import __version__

__all__ = ["Pictures", "report"]

Pictures = Mapping[str, Mapping[str, bytes]]
"""PNGs by figure (``curves``, ``sensitivity``, ``paths``) and theme (``light``, ``dark``)."""

_CAPTIONS = {
    "curves": "Training loss over the epochs. Lines are medians, bands reach from the lowest to the highest seed.",
    "sensitivity": "Training loss after the last epoch over the learning rate, each rule in front of the others. "
    "The shaded part is what the table counts as forgiving.",
    "paths": "The way of each rule from the start of the first seed. Paler ground is lower in the light theme, "
    "darker ground in the dark one.",
}


def report(race: Race, rows: list[Row], pictures: Pictures) -> str:
    """Return the page."""
    plan = race.plan
    name = plan.problem.name
    page = Template((files("steprule.race") / "report.html").read_text(encoding="utf-8"))
    scale = abs(plan.start)
    return page.substitute(
        title=escape(f"Optimizers on {name}"),
        description=escape(plan.problem.description) + ("." if plan.problem.description else ""),
        warning=_warning(race),
        finding=_finding(rows, len(plan.seeds)),
        table=_table(race, rows),
        edge=_edge(rows),
        curves=_figure("curves", pictures),
        sensitivity=_figure("sensitivity", pictures),
        paths=f"<h2>Paths</h2>{_figure('paths', pictures)}" if "paths" in pictures else "",
        grid=_grid(race, rows),
        start=_loss(plan.start),
        margin=_loss(FORGIVING * NEAR_ZERO * scale),
        settings=_settings(race),
        version=escape(__version__),
    )


def _loss(value: float) -> str:
    return escape(written(value))


def _warning(race: Race) -> str:
    if race.is_complete:
        return ""
    done, all_of_them = len(race.runs), len(race.plan.tasks)
    return (
        f'<p class="warn"><b>Not finished:</b> {done} of {all_of_them} runs. Medians are over the seeds that are '
        "finished. The same command goes on from here.</p>"
    )


def _finding(rows: list[Row], seeds: int) -> str:
    ranked = [row for row in rows if row.best is not None]
    if not ranked:
        return "No run is finished without diverging."
    first = ranked[0]
    assert first.best is not None
    over = f"the median of {seeds} seeds" if seeds > 1 else "one seed"
    at = "" if first.best.lr is None else f" at a learning rate of {rate(first.best.lr)}"
    text = (
        f"<b>{escape(first.entrant.label)}</b> has the lowest training loss: {_loss(first.best.median)}{at} ({over})."
    )
    alike = [escape(row.entrant.label) for row in ranked[1:] if row.low <= first.high]
    if alike:
        text += f" Over the seeds, its range overlaps with that of {_list(alike)}."
    return text


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _table(race: Race, rows: list[Row]) -> str:
    shown = [row for row in rows if row.finished]
    looks = styles([entrant.label for entrant in race.plan.entrants], LIGHT)
    texts = [cells(row) for row in shown]
    # The range stands below the loss here, which leaves six columns for a narrow screen.
    kept = [i for i in range(len(HEADINGS)) if i != 3 and (i < 3 or any(text[i] != "–" for text in texts))]
    head = "".join(f"<th>{escape(HEADINGS[i])}</th>" for i in kept)
    lines = []
    for row, text in zip(shown, texts, strict=True):
        made = [f"<td>{_swatch(looks[row.entrant.label])}{escape(text[0])}</td>"]
        for i in kept[1:]:
            small = f"<small>{escape(text[3])}</small>" if i == 2 and text[3] != "–" else ""
            best = ' class="best"' if i in (2, 4, 5) and _is_best(i, row, shown) else ""
            made.append(f"<td{best}>{escape(text[i])}{small}</td>")
        lines.append(f"<tr>{''.join(made)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _swatch(style: Style) -> str:
    """Return a dot in the colour of the rule's lines; a ring where the lines are dashed."""
    color = "var(--text)" if style.color == LIGHT.text else style.color
    fill = f"background:{color}" if style.dashes == "solid" else f"border:.2em solid {color}"
    return f'<span class="swatch" style="{fill}"></span>'


def _is_best(column: int, row: Row, rows: list[Row]) -> bool:
    if row.best is None:
        return False
    if column == 2:
        return row is rows[0]
    if column == 4:
        return row.accuracy == max((other.accuracy for other in rows if other.accuracy is not None), default=None)
    return row.entrant.has_lr and row.forgiving == max(other.forgiving for other in rows if other.entrant.has_lr)


def _edge(rows: list[Row]) -> str:
    if not any(row.at_edge for row in rows):
        return ""
    return (
        '<p class="note">* The best learning rate is at the edge of the grid; a better one may lie outside. '
        "Widen it by <code>--lrs</code>.</p>"
    )


def _grid(race: Race, rows: list[Row]) -> str:
    rated = [row for row in rows if row.entrant.has_lr]
    head = "".join(f"<th>{rate(lr)}</th>" for lr in race.plan.lrs)
    lines = []
    for row in rated:
        made = []
        for point in row.points:
            lost = not math.isfinite(point.median)
            text = "·" if not point.runs else "×" if lost else _loss(point.median)
            kind = "lost" if lost else "best" if point is row.best else ""
            made.append(f'<td class="{kind}">{text}</td>')
        lines.append(f"<tr><td>{escape(row.entrant.label)}</td>{''.join(made)}</tr>")
    return (
        f'<table class="grid"><thead><tr><th>learning rate</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _figure(name: str, pictures: Pictures) -> str:
    if name not in pictures:
        return ""
    light, dark = (_inline(pictures[name][theme]) for theme in ("light", "dark"))
    caption = _CAPTIONS[name]
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(caption)}" src="{light}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _settings(race: Race) -> str:
    plan = race.plan
    done = f"{race.seconds:.0f} s on {race.jobs} process{'es' if race.jobs > 1 else ''}"
    if race.resumed:
        done += f", and {race.resumed} runs of an earlier time"
    facts = {
        "rules": ", ".join(entrant.label for entrant in plan.entrants),
        "learning rates": ", ".join(map(rate, plan.lrs)),
        "seeds": ", ".join(map(str, plan.seeds)),
        "epochs": str(plan.epochs),
        "loss at the start": written(plan.start),
        "runs": f"{len(race.runs)} of {len(plan.tasks)}: {done}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
