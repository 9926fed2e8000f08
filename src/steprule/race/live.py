"""What the terminal shows: progress while a race runs, and the table at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from steprule.race.evidence import Evidence
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.stages import expected
from steprule.race.summary import Row, summarize
from steprule.race.words import INTERVAL, LOSS, cells, columns, headings, loss_format, loss_name, rate

__all__ = ["Watch", "busy", "final_table", "watching"]

Watch = Callable[[dict[Task, Run]], None]

_DROPPED = ("µs a step", "steps to target", "forgiving", "test accuracy", "runs")
"""Columns that a narrow terminal can do without, the first one first."""


@contextmanager
def busy(console: Console, doing: str) -> Iterator[None]:
    """Say what takes a moment, where there is a terminal."""
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


@contextmanager
def watching(plan: Plan, console: Console) -> Iterator[Watch]:
    """Yield what takes the finished runs, again and again. It shows nothing where there is no terminal."""
    if not console.is_terminal:
        yield lambda runs: None
        return
    progress = Progress(
        TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console,
    )  # fmt: skip
    name = escape(plan.problem.name)
    bar = progress.add_task(name, total=_expected(plan, {}))
    first: list[int] = []
    with Live(progress, console=console, refresh_per_second=8, transient=True) as live:

        def watch(runs: dict[Task, Run]) -> None:
            first.append(len(runs))
            # Nothing moves until the processes have imported what they need.
            waiting = len(runs) == first[0] < _expected(plan, runs)
            progress.update(
                bar,
                completed=len(runs),
                total=_expected(plan, runs),
                description=f"{name}: starting workers" if waiting else name,
            )
            live.update(Group(progress, _best_so_far(summarize(plan, runs), plan.found.metric)))

        yield watch


def _expected(plan: Plan, runs: dict[Task, Run]) -> int:
    return sum(expected(plan, runs, entrant) for entrant in plan.entrants)


def final_table(rows: Sequence[Row], evidence: Evidence, console: Console) -> Table:
    """Return the table of the race as wide as the console, and below it what its marks mean.

    Where it does not fit, the interval goes below the loss; then columns go.
    """
    # The console's own options would measure no more than its width.
    unbound = console.options.update(max_width=10_000)
    table = _table(rows, evidence, stacked=False, without=())
    for dropped in range(len(_DROPPED) + 1):
        if console.measure(table, options=unbound).maximum <= console.width:
            break
        table = _table(rows, evidence, stacked=True, without=_DROPPED[:dropped])
    return table


def _table(rows: Sequence[Row], evidence: Evidence, *, stacked: bool, without: Sequence[str]) -> Table:
    written = loss_format(rows)
    texts, names = [cells(row, evidence, written) for row in rows], headings(evidence.metric)
    kept = [i for i in columns(rows, texts) if names[i] not in without and not (stacked and i == INTERVAL)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=_caption(rows, without), caption_justify="left")
    for i in kept:
        heading = "\n".join(names[i].rsplit(" ", 1)) if stacked else names[i]
        # A long name may fold: numbers may not.
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold", min_width=4)
    for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
        shown = [Text(text[i]) for i in kept]
        if stacked and text[INTERVAL] != "–":
            shown[kept.index(LOSS)].append(f"\n{text[INTERVAL]}", style="not bold dim")
        table.add_row(*shown, style="bold" if place == 0 and row.best else "")
    return table


def _caption(rows: Sequence[Row], without: Sequence[str]) -> str | None:
    lines = ["* the lowest or the highest rate that was tried: a better one may lie outside"]
    lines = lines if any(row.at_edge for row in rows) else []
    if any(row.best and not row.is_fresh for row in rows):
        lines.append("† of the runs that the setting was selected by, which flatters it: fresh seeds are not run yet")
    if without:
        lines.append("The report has more columns than fit here.")
    return "\n".join(lines) or None


def _best_so_far(rows: Sequence[Row], metric: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", overflow="fold")
    for heading in ("runs", "best lr so far", loss_name(metric)):
        table.add_column(heading, justify="right", no_wrap=True)
    written = loss_format(rows)
    for row in rows:
        found = (rate(row.best.lr), written(row.best.median)) if row.best else ("–", "–")
        table.add_row(Text(row.entrant.label), f"{row.finished}/{row.expected}", *found)
    return table
