"""``report.html``: the race on one page that needs no other file and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from steprule.race.plan import versions
from steprule.race.runner import Race
from steprule.race.summary import EQUAL, FORGIVING, NEAR_ZERO, Row
from steprule.race.words import ACCURACY, HEADINGS, LOSS, RANGE, cells, columns, loss_format, rate
from steprule.race.words import FORGIVING as SHARE
from steprule.style import DARK, LIGHT
from steprule.version import __version__

__all__ = ["Pictures", "report"]

Pictures = Mapping[str, Mapping[str, bytes]]
"""PNGs by figure (``curves``, ``sensitivity``, ``paths``) and theme (``light``, ``dark``)."""

_Written = Callable[[float], str]

_HEADINGS = {"curves": "The way down", "sensitivity": "How forgiving each rule is", "paths": "Paths"}
_CAPTIONS = {
    "curves": "Training loss over the epochs. Lines are medians, bands reach from the lowest to the highest seed.",
    "sensitivity": "Training loss after the last epoch over the learning rate, each rule in front of the others. "
    "Dotted: the loss at the start. Shaded, where at least five rates were tried: what the table counts as forgiving.",
    "paths": "The way of each rule from the start of the first seed. Paler ground is lower in the light theme, "
    "darker ground in the dark one. Where a line is cut at the frame, the rule left the part of the plane that is "
    "drawn; it went on outside, and came back where the line does. Without a dot, it ended outside.",
}


def report(race: Race, rows: list[Row], pictures: Pictures) -> str:
    """Return the page."""
    plan = race.plan
    name = plan.problem.name
    page = Template((files("steprule.race") / "report.html").read_text(encoding="utf-8"))
    written = loss_format(rows)
    sections = {name: _section(name, pictures) for name in _CAPTIONS}
    sections["sensitivity"] += _grid(race, rows, written)
    return page.substitute(
        light=LIGHT.css(),
        dark=DARK.css(),
        title=escape(f"Optimizers on {name}"),
        description=_sentence(plan.problem.description),
        warning=_warning(race),
        finding=_finding(rows, written),
        table=_table(race, rows, written),
        edge=_edge(rows),
        **sections,
        decay=_decay(race),
        margin=_margin(race, rows, written),
        settings=_settings(race, written),
        version=escape(__version__),
    )


def _sentence(text: str) -> str:
    return escape(text if text.endswith((".", "!", "?")) or not text else f"{text}.")


def _number(text: str) -> str:
    """Return a number that no line breaks in two, as browsers do after the hyphen of 3.7e-05."""
    return f'<span class="number">{escape(text)}</span>'


def _warning(race: Race) -> str:
    if race.is_complete:
        return ""
    done, all_of_them = len(race.runs), len(race.plan.tasks)
    return (
        f'<p class="warn"><b>Not finished:</b> {done} of {all_of_them} runs. Medians are over the seeds that are '
        "finished. Run the same command again to continue.</p>"
    )


def _finding(rows: list[Row], written: _Written) -> str:
    ranked = [row for row in rows if row.best is not None]
    if not ranked:
        return "Every run that is finished has diverged."
    first = ranked[0]
    assert first.best is not None
    seeds = len(first.best.runs)
    over = f"the median of {seeds} seeds" if seeds > 1 else "one seed"
    at = "" if first.best.lr is None else f" at a learning rate of {rate(first.best.lr)}"
    lowest = _number(written(first.best.median))
    text = f"<b>{escape(first.entrant.label)}</b> has the lowest training loss: {lowest}{at} ({over})."
    # What is left below 1e-12 is rounding, and reads the same; a negative loss is no such rest.
    highest = EQUAL if 0 <= first.high < EQUAL else first.high
    alike = [escape(row.entrant.label) for row in ranked[1:] if row.low <= highest]
    if alike:
        text += f" Over the seeds, its range overlaps with that of {_list(alike)}."
    return text


def _margin(race: Race, rows: list[Row], written: _Written) -> str:
    """Return what counts as near the best loss where 10 % of it would mean nothing."""
    scale = rows[0].scale
    least = _number(written(FORGIVING * NEAR_ZERO * scale.start))
    if scale.floor < 0:
        return (
            "Losses of this race can be negative, so they are counted from the lowest one at the end of a run, "
            f"{_number(written(scale.floor))}: the margin is 10&nbsp;% of how far the rule's own best loss is above "
            f"that one, and at least 0.1&nbsp;% of how far the loss at the start is, which is {least}."
        )
    return (
        "Near zero, 10&nbsp;% means nothing: where the best loss is below 1&nbsp;% of the loss at the start "
        f"({_number(written(race.plan.start))}), the margin is 10&nbsp;% of that 1&nbsp;%, which is {least}."
    )


def _decay(race: Race) -> str:
    """Return which rules decay the weights: it is not tuned, and at its default it may slow a rule down."""
    decays = [(entrant.label, entrant.weight_decay) for entrant in race.plan.entrants]
    having = [f"{escape(label)} by {decay:g}" for label, decay in decays if decay]
    if not having:
        return "None of these rules decays the weights."
    others = "" if len(having) == len(decays) else "; the others decay none"
    return f"Weights are decayed in {_list(having)}{others}."


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _table(race: Race, rows: list[Row], written: _Written) -> str:
    slots = {entrant.label: slot for slot, entrant in enumerate(race.plan.entrants)}
    texts = [cells(row, written) for row in rows]
    # The range stands below the loss here, which leaves a narrow screen fewer columns.
    kept = [i for i in columns(rows, texts) if i != RANGE]
    head = "".join(f"<th>{escape(HEADINGS[i])}</th>" for i in kept)
    marked = _marked(rows, texts)
    lines = []
    for row, text in zip(rows, texts, strict=True):
        made = [f'<td><span class="rule">{_swatch(slots[row.entrant.label])}{_breakable(text[0])}</span></td>']
        for i in kept[1:]:
            small = f"<small>{escape(text[RANGE])}</small>" if i == LOSS and text[RANGE] != "–" else ""
            best = ' class="best"' if (row.entrant.label, i) in marked else ""
            made.append(f"<td{best}>{escape(text[i])}{small}</td>")
        lines.append(f"<tr>{''.join(made)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _breakable(label: str) -> str:
    """Return a rule's name that a narrow column may break before its hyperparameters, and between their words."""
    return escape(label).replace("(", "(<wbr>").replace("_", "_<wbr>")


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
        SHARE: lambda row: row.forgiving if row.best else None,
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


def _edge(rows: list[Row]) -> str:
    if not any(row.at_edge for row in rows):
        return ""
    return (
        '<p class="note">* The best learning rate is at the edge of the grid; a better one may lie outside. '
        "Widen it by <code>--lrs</code>.</p>"
    )


def _grid(race: Race, rows: list[Row], written: _Written) -> str:
    rated = [row for row in rows if row.entrant.has_lr]
    if not rated:
        return ""
    head = "".join(f"<th>{rate(lr)}</th>" for lr in race.plan.lrs)
    lines = []
    for row in rated:
        made = []
        for point in row.points:
            lost = not math.isfinite(point.median)
            text = "·" if not point.runs else "×" if lost else escape(written(point.median))
            kind = "lost" if lost else "best" if point is row.best else ""
            made.append(f'<td class="{kind}">{text}</td>')
        lines.append(f"<tr><td>{_breakable(row.entrant.label)}</td>{''.join(made)}</tr>")
    return (
        '<details><summary>Every learning rate as a table</summary><div class="scroll"><table class="grid">'
        f"<thead><tr><th>learning rate</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        '<p class="note">Median training loss after the last epoch over the finished seeds; × where half of the '
        "runs or more diverged, · where none is finished.</p></details>"
    )


def _section(name: str, pictures: Pictures) -> str:
    """Return heading and figure; nothing where there is no such picture."""
    return f"<h2>{_HEADINGS[name]}</h2>{_figure(name, pictures)}" if name in pictures else ""


def _figure(name: str, pictures: Pictures) -> str:
    light, dark = (_inline(pictures[name][theme]) for theme in ("light", "dark"))
    caption = _CAPTIONS[name]
    return (
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(caption)}" src="{light}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _settings(race: Race, written: _Written) -> str:
    plan = race.plan
    done = f"{race.seconds:.0f} s without drawing, on {race.jobs} process{'es' if race.jobs > 1 else ''}"
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
