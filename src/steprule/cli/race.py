"""``steprule race``: a fair comparison of optimizers on a real problem."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule.errors import HyperparameterError, StepruleError

if TYPE_CHECKING:
    from steprule.race import Settings

__all__ = ["race"]

_NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "joblib": "joblib"}
_INTERRUPTED = 130


def race(
    problem: Annotated[
        str, typer.Argument(help="A problem's name (see --list), or a path to a .py file.")
    ] = "digits-mlp",
    rules: Annotated[
        list[str] | None,
        typer.Option(help="NAME, file.py:NAME or NAME(hyper=value, ...), comma-separated. Default: six classics."),
    ] = None,
    lrs: Annotated[str | None, typer.Option(help="Learning rates: 0.001,0.01 or LOW:HIGH:POINTS (a log grid).")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds. Default 3.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a run. Default: the problem's.")] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes; the numbers do not depend on it. Default: all.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results. Default race-results/PROBLEM.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the finished runs in the folder.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A small race: fewer rates, seeds and epochs.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the problems.")] = False,
) -> None:
    """Race optimizers on a problem: same start, same batches, each rule at its best learning rate.

    Interrupted, it keeps the finished runs; the same command goes on.
    """
    if list_:
        _list_problems()
        return
    _check_installed()
    from steprule.race import DEFAULT_RULES, Settings
    from steprule.race.runner import interruptible

    settings = Settings(
        problem=problem, rules=tuple(rules or DEFAULT_RULES), lrs=_rates(lrs), seeds=seeds, epochs=epochs, seed=seed,
        jobs=jobs, output=output, fresh=fresh, quick=quick,
    )  # fmt: skip
    try:
        with interruptible():
            interrupted = _race(settings)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _race(settings: Settings) -> bool:
    """Run the race, write and show its results; return whether it was interrupted."""
    from rich.console import Console

    from steprule.race import make_plan, run_plan, summarize, write
    from steprule.race.live import final_table, watching

    console = Console()
    if not console.is_terminal:
        # Where nobody watches, a table is not to be squeezed into the width of a terminal that is none.
        console = Console(width=120)
    plan = make_plan(settings)
    folder = settings.folder(plan.problem.name)
    with watching(plan, console) as watch:
        done = run_plan(plan, folder, jobs=settings.jobs, fresh=settings.fresh, watch=watch)
    rows = summarize(plan, done.runs)
    *_, report = write(done, folder)
    if done.runs:
        console.print(final_table(rows))
    counted = f"{len(done.runs)} of {len(plan.tasks)} runs" if not done.is_complete else f"{len(done.runs)} runs"
    kept = f", {done.resumed} of them from earlier" if done.resumed else ""
    console.print(f"{plan.problem.name}: {counted}{kept}, {done.seconds:.0f} s.", highlight=False)
    if done.interrupted:
        console.print("Interrupted. The same command goes on from here.", highlight=False)
    typer.echo(f"Report: {report}")
    return done.interrupted


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


def _list_problems() -> None:
    from steprule.race.load import describe
    from steprule.race.problems import NAMES

    for name in NAMES:
        typer.echo(f"{name:16} {describe(name)}")
    typer.echo("\nOr a path to a .py file of your own: see docs/race.md.")


def _check_installed() -> None:
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise StepruleError(f"the race needs {', '.join(missing)}. Install: pip install 'steprule[race]'")
