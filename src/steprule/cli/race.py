"""``steprule race``: a fair comparison of optimizers on a real problem."""

from __future__ import annotations

import shutil
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from steprule.cli import terminal
from steprule.cli.arguments import INTERRUPTED, check_race_extra, complete_problem, complete_rules, path_to_write, whole
from steprule.cli.suite import run_suite
from steprule.errors import HyperparameterError

if TYPE_CHECKING:
    from rich.console import Console

    from steprule.race import Race, Settings
    from steprule.race.plan import Schedule

__all__ = ["race"]

_NOTHING = "Interrupted before the first run was finished; nothing to report."


def race(
    problem: Annotated[
        str | None,
        typer.Argument(
            help="A problem's name (see --list), or a path to a .py file. Default: digits-mlp.",
            autocompletion=complete_problem,
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME, file.py:NAME or 'NAME(hyper=value, ...)', comma-separated. Default: six classics.",
            metavar="RULES",
            autocompletion=complete_rules,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Settings tried of each rule. Default 16.")
    ] = None,
    lrs: Annotated[
        str | None,
        typer.Option(
            metavar="RATES", help="Tune the learning rate alone, over 0.001,0.01 or LOW:HIGH:POINTS (a log grid)."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How rates fall to zero: linear or cosine; or constant. Default: linear."),
    ] = None,
    tuning_seeds: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Seeds of each trial. Default 1.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Fresh seeds that are reported. Default 16.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Epochs of a run. Default: the problem's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(parser=whole, metavar="N", help="The first seed. Default 0.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help="Processes; the numbers do not depend on it. Default: all."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where runs are executed: local (the default), or dask, a cluster."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The scheduler of the Dask cluster, for --backend dask.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=path_to_write, metavar="FOLDER", help="Folder of the results. Default race-results/PROBLEM."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", metavar="", help="Discard the finished runs in the folder.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="What the race may take; it plans trials and seeds to fit.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="A small race: fewer trials, seeds and epochs.")
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", metavar="", help="Write a GIF and an MP4 of the race too, for slides.")
    ] = False,
    suite: Annotated[
        bool,
        typer.Option("--suite", metavar="", help="Race on several problems: those that are named, or all that ship."),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", metavar="", help="List the problems.")] = False,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            help="With --suite: more problems. After the word compare: the folders of two races.", show_default=False
        ),
    ] = None,
) -> None:
    """Race optimizers on a problem: same start, batches and tuning, each rule at its best setting on fresh seeds.

    Interrupted, it keeps the finished runs; the same command continues.
    """
    begin = time.perf_counter()
    if list_:
        switches = (switch or None for switch in (fresh, quick, animate, suite))
        numbers = (trials, lrs, schedule, tuning_seeds, seeds, epochs, seed, jobs)
        _check_alone(problem, others or None, rules, *numbers, backend, address, output, minutes, *switches)
        _list_problems()
        return
    check_race_extra("the race needs")
    if problem == "compare" and not suite:
        _compare([Path(folder) for folder in others or []])
        return
    if suite and animate:
        raise HyperparameterError(
            "--animate makes a film of one race, and a suite has several; race that problem without --suite"
        )
    if others and not suite:
        raise HyperparameterError(
            f"{others[0]!r} is a word too many: a race has one problem, but for --suite. In --rules, separate rules by "
            "commas, without spaces; two finished races are compared by: steprule race compare FOLDER FOLDER"
        )
    from steprule.race import DEFAULT_RULES, Settings
    from steprule.race.runner import interruptible

    problems = [problem, *(others or [])] if problem else []
    settings = Settings(
        problem="digits-mlp" if suite or not problem else problem, rules=tuple(rules or DEFAULT_RULES),
        trials=trials, lrs=_rates(lrs), schedule=cast("Schedule | None", schedule), tuning_seeds=tuning_seeds,
        seeds=seeds, epochs=epochs, seed=seed or 0, jobs=jobs, output=output, fresh=fresh, minutes=minutes, quick=quick,
        backend=backend or "local", address=address,
    )  # fmt: skip
    try:
        with interruptible():
            interrupted = run_suite(settings, problems, begin) if suite else _race(settings, begin, animate)
    except KeyboardInterrupt:
        typer.echo(_NOTHING)
        interrupted = True
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _race(settings: Settings, begin: float, animated: bool) -> bool:
    """Run the race, write and show its results; return whether it was interrupted.

    Raises:
        KeyboardInterrupt: before there is a race.
    """
    from steprule.race import fit, make_plan, run_plan
    from steprule.race.live import busy, watching

    console = terminal.console()
    with busy(console, "Loading the problem and the rules"):
        plan = make_plan(settings)
    folder = settings.folder(plan.problem.name)
    fresh = settings.fresh
    if settings.minutes is not None:
        with busy(console, "Timing a run of each rule"):
            plan, fresh = fit(plan, settings, folder), False
        typer.echo(f"{plan.note[0].upper()}{plan.note[1:]}.")
    with watching(plan, console) as watch:
        done = run_plan(
            plan, folder, jobs=settings.jobs, address=settings.address, fresh=fresh, watch=watch, begin=begin
        )
    if not done.runs:
        typer.echo(_NOTHING)
        return True
    try:
        _report(done, folder, console, begin)
    except KeyboardInterrupt:
        typer.echo("Interrupted while the report was drawn. The same command draws it; finished runs are kept.")
        return True
    return (animated and _animate(done, folder, console)) or done.interrupted


def _compare(folders: list[Path]) -> None:
    from steprule.race.compare import compare

    if len(folders) != 2:
        raise HyperparameterError(
            f"compare takes two folders of finished races, got {len(folders)}: steprule race compare FOLDER FOLDER"
        )
    for line in compare(*folders):
        typer.echo(line)


def _report(done: Race, folder: Path, console: Console, begin: float) -> None:
    """Write the results and show the table."""
    from steprule.race import summarize, write
    from steprule.race.evidence import judge
    from steprule.race.live import busy, final_table
    from steprule.race.verdict import verdict
    from steprule.race.words import loss_format

    with busy(console, "Drawing the report"):
        *_, report = write(done, folder)
    rows = summarize(done.plan, done.runs)
    evidence = judge(done.plan, done.runs, rows)
    console.print(final_table(rows, evidence, console))
    for sentence in verdict(done.plan, rows, evidence, loss_format(rows)):
        typer.echo(textwrap.fill(sentence, console.width))
    counted = f"{len(done.runs)} runs" if done.is_complete else f"{len(done.runs)} of {done.expected} runs"
    kept = f", {done.resumed} of them from earlier" if done.resumed else ""
    typer.echo(f"{done.plan.problem.name}: {counted}{kept}, {time.perf_counter() - begin:.0f} s.")
    if done.interrupted:
        typer.echo("Interrupted. Run the same command again to continue.")
    typer.echo(f"Report: {report}")


def _animate(done: Race, folder: Path, console: Console) -> bool:
    """Write the animation and say where it is; return whether that was interrupted."""
    from steprule.film import NO_FFMPEG
    from steprule.race import animate
    from steprule.race.live import busy

    try:
        with busy(console, "Drawing the animation"):
            written = animate(done, folder)
    except KeyboardInterrupt:
        typer.echo("Interrupted while the animation was drawn. The same command draws it; the report is written.")
        return True
    if not written:
        typer.echo("Nothing to animate: every run that is finished has diverged.")
    for path in written:
        typer.echo(f"Animation: {path}")
    if len(written) == 1:
        typer.echo(f"No MP4 was written: {NO_FFMPEG}")
    return False


def _rates(text: str | None) -> tuple[float, ...] | None:
    """Return the learning rates that ``--lrs`` names: numbers, or LOW:HIGH:POINTS evenly on a log scale."""
    if text is None:
        return None
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        low, high, points = text.split(":")
        return _log_grid(float(low), float(high), int(points))
    except ValueError:
        raise HyperparameterError(
            f"--lrs takes numbers (0.001,0.01) or LOW:HIGH:POINTS (1e-4:1:9), got {text!r}"
        ) from None


def _log_grid(low: float, high: float, points: int) -> tuple[float, ...]:
    if not (0 < low < high and points >= 2):
        raise ValueError
    ratio = high / low
    # Three digits are enough for a rate, and can be typed again.
    return tuple(float(f"{low * ratio ** (i / (points - 1)):.3g}") for i in range(points))


def _check_alone(*others: object) -> None:
    if any(other is not None for other in others):
        raise HyperparameterError(
            "--list only lists the problems, so whatever is given beside it does nothing; drop it"
        )


def _list_problems() -> None:
    from steprule.race.load import describe
    from steprule.race.problems import NAMES

    width = shutil.get_terminal_size().columns
    for name in NAMES:
        typer.echo(textwrap.fill(f"{name:16} {describe(name)}", width, subsequent_indent=" " * 17))
    typer.echo("\nOr a path to a .py file of your own: see docs/race.md.")
