"""The page of a suite: what its races say together, above their reports."""

from __future__ import annotations

import math
from html import escape
from urllib.parse import quote

from steprule.race.plan import versions
from steprule.race.snippets import suite_command
from steprule.race.standing import Result, Standing
from steprule.race.suites import Suite
from steprule.race.tables import breakable, named, table
from steprule.race.verdict import suite_verdict, verdict
from steprule.race.words import counted, listed, loss_format, loss_name, place_words
from steprule.report.page import Pictures, figure, filled, prose, sentence

__all__ = ["overall", "suite_report"]

_CAPTION = (
    "For each rule, the share of the problems on which it reaches the loss of the reference within tau times the steps "
    "of the fastest rule there. Higher is better: at the left end the fastest rules count, at the right end all that "
    "reach it. Lines that coincide are drawn a little apart."
)


def suite_report(suite: Suite, standing: Standing, pictures: Pictures) -> str:
    """Return the page."""
    first = standing.results[0]
    rules, count = len(standing.labels), len(standing.results)
    edge = any(row.at_edge for result in standing.results for row in result.rows)
    return filled(
        "steprule.race",
        "suite.html",
        f"Optimizers on {counted(count, 'problem')}",
        warning=_warning(suite),
        finding=" ".join(map(prose, suite_verdict(standing))),
        table=_table(standing),
        edge=" * The best learning rate is the lowest or the highest that was tried." if edge else "",
        profile=figure("How soon, over all problems", _CAPTION, pictures.get("profile")),
        problems="".join(map(_problem, standing.results)),
        losses=listed(sorted({loss_name(result.evidence.metric) for result in standing.results}, reverse=True)),
        total=f"{rules * (rules + 1) / 2:g}",
        difference=f"{standing.difference:.2f}",
        rules=counted(rules, "rule"),
        count=counted(count, "problem"),
        reference=f"<b>{escape(first.evidence.reference)}</b>",
        left_out=_left_out(standing),
        settings=_settings(suite, standing),
    )


def overall(standing: Standing) -> list[list[str]]:
    """Return headings, and what is said of each rule over all problems, in columns that have something to tell."""
    lines = [_overall(standing, label) for label in standing.labels]
    columns = zip(("mean rank", "targets", "forgiving", "diverged"), *lines, strict=True)
    kept = [column for column in columns if any(text != "–" for text in column[1:])]
    return [list(line) for line in zip(*kept, strict=True)]


def _overall(standing: Standing, label: str) -> tuple[str, ...]:
    place = standing.labels.index(label)
    share, forgiving = standing.share(label), standing.forgiving[place]
    problems = len(standing.profiled)
    return (
        f"{standing.mean_ranks[place]:.2f}",
        "–" if share is None else f"{round(share * problems)}/{problems}",
        "–" if forgiving is None else f"{forgiving:.0%}",
        f"{standing.diverged[place]:.0%}",
    )


def _table(standing: Standing) -> str:
    slots = {entrant.label: slot for slot, entrant in enumerate(standing.results[0].race.plan.entrants)}
    links = [f'<a href="{quote(result.name)}/report.html">{breakable(result.name)}</a>' for result in standing.results]
    (first, *heads), *texts = overall(standing)
    lines = []
    for label, (rank, *others) in zip(standing.labels, texts, strict=True):
        made = [named(label, slots[label]), f"<td>{rank}</td>", *(_cell(result, label) for result in standing.results)]
        lines.append("".join([*made, *(f"<td>{text}</td>" for text in others)]))
    return table(["rule", first, *links, *heads], lines)


def _cell(result: Result, label: str) -> str:
    row, rank = result.row(label), result.evidence.judged[label].rank
    text = loss_format(result.rows)(row.best.median if row.best else math.inf)
    best = ' class="best"' if rank[0] == 1 and row.best else ""
    return f"<td{best}>{place_words(rank)}{'*' if row.at_edge else ''}<small>{escape(text)}</small></td>"


def _problem(result: Result) -> str:
    """Return a problem's paragraph: what it is, and the first sentence of its verdict."""
    plan = result.race.plan
    said = verdict(plan, result.rows, result.evidence, loss_format(result.rows))[0]
    name = f'<a href="{quote(result.name)}/report.html">{escape(result.name)}</a>'
    falls = "constant rate" if plan.schedule == "constant" else f"{plan.schedule} decay"
    return f"<p><b>{name}</b>: {sentence(plan.problem.description)} {plan.steps} steps, {falls}. {prose(said)}</p>"


def _warning(suite: Suite) -> str:
    if suite.is_complete:
        return ""
    finished = {race.plan.problem.name for race in suite.finished}
    left = [plan.problem.name for plan in suite.plans if plan.problem.name not in finished]
    return (
        f'<p class="warn"><b>Not finished:</b> {escape(listed(left))}. Only finished problems count here. Run the same '
        "command again to continue.</p>"
    )


def _left_out(standing: Standing) -> str:
    out = [result.name for result in standing.results if result.name not in standing.profiled]
    if not out:
        return ""
    return escape(f"Left out of it: {listed(out)}, where the reference has reached no loss below the one at the start.")


def _settings(suite: Suite, standing: Standing) -> str:
    plan = suite.plans[0]
    rates = f"{len(plan.lrs)} learning rates"
    runs = sum(len(race.runs) for race in suite.races)
    resumed = sum(race.resumed for race in suite.races)
    facts = {
        "rules": ", ".join(entrant.label for entrant in plan.entrants),
        "problems": ", ".join(plan.problem.name for plan in suite.plans),
        "trials": f"{plan.trials} of each rule" if plan.trials else rates,
        "tuning seeds": ", ".join(map(str, plan.tuning_seeds)),
        "fresh seeds": f"{plan.seeds[0]} to {plan.seeds[-1]}",
        "runs": f"{runs}, {resumed} of them of an earlier time; {suite.seconds:.0f} s with drawing",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        **({"budget": plan.note} if plan.note else {}),
        "command": suite_command(suite.plans),
    }
    return "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
