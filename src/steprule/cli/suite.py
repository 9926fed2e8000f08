"""``steprule race --suite``: the same rules on several problems."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steprule.cli import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from steprule.race import Plan, Race, Settings
    from steprule.race.live import Watch
    from steprule.race.standing import Standing

__all__ = ["run_suite"]


def run_suite(settings: Settings, problems: list[str], begin: float) -> bool:
    """Run the suite, write and show its results; return whether it was interrupted.

    Raises:
        KeyboardInterrupt: before the first race.
    """
    from steprule.race import fit_suite, make_plans, run_plans
    from steprule.race.live import busy, watching

    console, folder = terminal.console(), settings.folder("suite")
    with busy(console, "Loading the problems and the rules"):
        plans = make_plans(settings, problems)
    if settings.minutes is not None:
        with busy(console, "Timing a run of each rule on each problem"):
            plans, settings = fit_suite(plans, settings, folder), replace(settings, fresh=False)
        typer.echo(terminal.wrapped(f"{plans[0].note[0].upper()}{plans[0].note[1:]} on each problem."))

    def shown(plan: Plan) -> AbstractContextManager[Watch]:
        return watching(plan, console)

    def said(race: Race, report: Path) -> None:
        counted = f"{len(race.runs)} runs" if race.is_complete else f"{len(race.runs)} of {race.expected} runs"
        kept = f", {race.resumed} of them from earlier" if race.resumed else ""
        typer.echo(f"{race.plan.problem.name}: {counted}{kept}, {race.seconds:.0f} s. {report}")

    done = run_plans(plans, folder, settings, begin=begin, watching=shown, done=said)
    try:
        if done.finished:
            from steprule.race.suite_output import write_suite
            from steprule.race.verdict import suite_verdict

            with busy(console, "Drawing the page"):
                *_, report = write_suite(done, folder)
            standing = done.standing
            console.print(terminal.listed(_table(standing), console))
            for sentence in suite_verdict(standing):
                typer.echo(terminal.wrapped(sentence))
            typer.echo(f"{len(done.finished)} of {len(plans)} problems, {time.perf_counter() - begin:.0f} s.")
            typer.echo(f"Report: {report}")
    except KeyboardInterrupt:
        done = replace(done, interrupted=True)
    if done.interrupted:
        typer.echo("Interrupted. Run the same command again to continue; finished runs are kept.")
    return done.interrupted


def _table(standing: Standing) -> Table:
    """Return the ranks on each problem, and what is said over all of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from steprule.race.suite_report import overall
    from steprule.race.words import place_words

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = [result.name for result in standing.results]
    (first, *heads), *texts = overall(standing)
    for heading in ("rule", first, *names, *heads):
        table.add_column(heading, justify="left" if heading == "rule" else "right", overflow="fold")
    for label, (rank, *others) in zip(standing.labels, texts, strict=True):
        places = [place_words(result.evidence.judged[label].rank) for result in standing.results]
        table.add_row(Text(label), rank, *places, *others)
    return table
