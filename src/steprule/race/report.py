"""``report.html``: the race on one page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from steprule.race.evidence import Evidence
from steprule.race.plan import versions
from steprule.race.runner import Race
from steprule.race.snippets import command, snippets
from steprule.race.summary import Row
from steprule.race.tables import breakable, pairs_table, results_table, trials_table
from steprule.race.trial import FORGIVING, NEAR_ZERO
from steprule.race.verdict import verdict
from steprule.race.words import listed, loss_format, loss_name, rate, setting_words
from steprule.report.page import Pictures, details, facts, figure, filled, number, prose, sentence

__all__ = ["report"]

_Written = Callable[[float], str]

_HEADINGS = {
    "curves": "The way down",
    "best_of_k": "What tuning buys",
    "sensitivity": "How forgiving each rule is",
    "paths": "Paths",
}
_CAPTIONS = {
    "curves": "The compared loss over the epochs. Lines are medians over the fresh seeds, bands their 95 % intervals.",
    "best_of_k": "The expected lowest loss of so many trials, drawn at random from those of the declared space; where "
    "lines cross, who wins depends on how much one tunes. A trial that diverged is worth as much as no training.",
    "sensitivity": "The loss of every trial over its learning rate, each rule in front of the others, on the tuning "
    "seeds. Trials differ in their other hyperparameters too. Dotted: the loss at the start. Filled: what the table "
    "counts as forgiving.",
    "paths": "The way of each rule from the start of the first seed. Paler ground is lower in the light theme, "
    "darker ground in the dark one. Where a line is cut at the frame, the rule left the part of the plane that is "
    "drawn; it went on outside, and came back where the line does. Without a dot, it ended outside.",
}


def report(race: Race, rows: list[Row], evidence: Evidence, pictures: Pictures) -> str:
    """Return the page."""
    plan = race.plan
    written = loss_format(rows)
    sections = {name: figure(_HEADINGS[name], _CAPTIONS[name], pictures.get(name)) for name in _CAPTIONS}
    sections["sensitivity"] += details("Every trial as a table", trials_table(rows, written), _TRIALS)
    return filled(
        "steprule.race",
        "report.html",
        f"Optimizers on {plan.problem.name}",
        description=sentence(plan.problem.description),
        warning=_warning(race),
        finding=" ".join(map(prose, verdict(plan, rows, evidence, written))),
        table=results_table(plan, rows, evidence, written),
        notes=_notes(rows, evidence, written),
        **sections,
        pairs=details("Every pair of rules", pairs_table(evidence), _PAIRS) if evidence.pairs else "",
        code=_code(race, rows),
        tuned=_tuned(race),
        loss=loss_name(evidence.metric),
        margin=_margin(race, rows, written),
        settings=_settings(race, written),
    )


_TRIALS = "Median loss over the tuning seeds; × where half of the runs or more diverged, · where none is finished."
_PAIRS = "Chance of differences as large as these between equal rules, corrected for all pairs; marked below 0.05."


def _warning(race: Race) -> str:
    if race.is_complete:
        return ""
    return (
        f'<p class="warn"><b>Not finished:</b> {len(race.runs)} of {race.expected} runs. Medians are over the seeds '
        "that are finished. Run the same command again to continue.</p>"
    )


def _notes(rows: list[Row], evidence: Evidence, written: _Written) -> str:
    notes = []
    if any(row.at_edge for row in rows):
        notes.append(
            "* The best learning rate is the lowest or the highest that was tried; a better one may lie outside."
        )
    if any(row.best and not row.is_fresh for row in rows):
        notes.append("† Of the runs that the setting was selected by, which flatters it; fresh seeds are not run yet.")
    if evidence.target is not None:
        notes.append(
            f"Target: {written(evidence.target)}, the median loss of {evidence.reference} at its end. Median steps to "
            "it; in parentheses the runs that reach it, where not all do."
        )
    return "".join(f'<p class="note">{prose(note)}</p>' for note in notes)


def _margin(race: Race, rows: list[Row], written: _Written) -> str:
    """Return what counts as near the best loss where 10 % of it would mean nothing."""
    scale = rows[0].scale
    least = number(written(FORGIVING * NEAR_ZERO * scale.start))
    if scale.floor < 0:
        return (
            "Losses of this race can be negative, so they are counted from the lowest one at the end of a run, "
            f"{number(written(scale.floor))}: the margin is 10&nbsp;% of how far the rule's own best loss is above "
            f"that one, and at least 0.1&nbsp;% of how far the loss at the start is, which is {least}."
        )
    return (
        "Near zero, 10&nbsp;% means nothing: where the best loss is below 1&nbsp;% of the loss at the start "
        f"({number(written(race.plan.start))}), the margin is 10&nbsp;% of that 1&nbsp;%, which is {least}."
    )


def _tuned(race: Race) -> str:
    """Return what was tuned of each rule, and how the rate falls."""
    plan = race.plan
    if plan.trials is None:
        text = f"The learning rate alone was tuned, over the {len(plan.lrs)} given; all else has its defaults."
    else:
        of: dict[str, list[str]] = {}
        for entrant in plan.entrants:
            words = ", ".join(
                f"{one.name.replace('warmup', 'warm-up')} {one.low:g} to {one.high:g}" for one in plan.space(entrant)
            )
            of.setdefault(words or "nothing", []).append(entrant.label)
        spaces = "; ".join(f"{listed(labels)}: {words}" for words, labels in of.items())
        text = f"The space of {spaces} (warm-up as a share of the steps)."
    free = [entrant.label for entrant in plan.entrants if entrant.is_schedule_free]
    if free and plan.schedule != "constant":
        text += f" The rate of {listed(free)} stays constant after the warm-up, as a schedule-free rule asks for."
    once = [entrant.label for entrant in plan.entrants if entrant.reads_rate_once]
    if once and plan.schedule != "constant":
        text += f" The rate of {listed(once)} is that of the first step, after which the rule has its own."
    return escape(text)


def _code(race: Race, rows: list[Row]) -> str:
    made = []
    for row in rows:
        if row.best is None:
            continue
        task = race.plan.task(row.entrant, row.best.setting, race.plan.seeds[0])
        is_file = bool(row.entrant.digest)
        of = snippets(task, row.entrant.name if is_file else f'"{row.entrant.spec}"')
        given = f"<p class='note'>{escape(row.entrant.name)} is the rule of {escape(row.entrant.given)}.</p>"
        blocks = "".join(f"<h3>{name}</h3><pre>{escape(text)}</pre>" for name, text in of.items())
        words = escape(setting_words(row.best.setting))
        label = breakable(row.entrant.label)
        made.append(f"<details><summary>{label}: {words}</summary>{given if is_file else ''}{blocks}</details>")
    return f"<h2>The settings, as code</h2>{''.join(made)}" if made else ""


def _settings(race: Race, written: _Written) -> str:
    plan = race.plan
    done = f"{race.seconds:.0f} s without drawing, on {race.jobs} process{'es' if race.jobs > 1 else ''}"
    if race.resumed:
        done += f", and {race.resumed} runs of an earlier time"
    rates = (plan.lrs[0], plan.lrs[-1])
    told = {
        "rules": ", ".join(entrant.label for entrant in plan.entrants),
        "trials": f"{plan.trials} of each rule" if plan.trials else f"{len(plan.lrs)} learning rates",
        "learning rates": f"{rate(rates[0])} to {rate(rates[1])}" if plan.trials else ", ".join(map(rate, plan.lrs)),
        "schedule": plan.schedule,
        "tuning seeds": ", ".join(map(str, plan.tuning_seeds)),
        "fresh seeds": f"{plan.seeds[0]} to {plan.seeds[-1]}",
        "epochs": f"{plan.epochs}, {plan.steps} steps",
        "loss at the start": written(plan.start),
        "runs": f"{len(race.runs)} of {race.expected}: {done}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        **({"budget": plan.note} if plan.note else {}),
        "command": command(plan),
    }
    return facts(told)
