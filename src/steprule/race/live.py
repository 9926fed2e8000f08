"""What the terminal shows: progress while a race runs, and the table at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.summary import Row, summarize
from steprule.race.words import HEADINGS, cells, loss, rate

__all__ = ["final_table", "watching"]

Watch = Callable[[dict[Task, Run]], None]


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
    bar = progress.add_task(plan.problem.name, total=len(plan.tasks))
    with Live(progress, console=console, refresh_per_second=8, transient=True) as live:

        def watch(runs: dict[Task, Run]) -> None:
            progress.update(bar, completed=len(runs))
            live.update(Group(progress, _best_so_far(summarize(plan, runs))))

        yield watch


def final_table(rows: list[Row]) -> Table:
    """Return the table of the race, and below it what its marks mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [row for row in rows if row.finished]
    columns = list(zip(*(cells(row) for row in shown), strict=True))
    kept = [i for i, column in enumerate(columns) if i < 3 or any(cell != "–" for cell in column)]
    for i in kept:
        table.add_column(HEADINGS[i], justify="left" if i == 0 else "right", no_wrap=True)
    for place, row in enumerate(shown):
        texts = cells(row)
        table.add_row(*(Text(texts[i]) for i in kept), style="bold" if place == 0 and row.best else "")
    if any(row.at_edge for row in shown):
        table.caption = "* at the edge of the grid: a better rate may lie outside; widen it by --lrs"
        table.caption_justify = "left"
    return table


def _best_so_far(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for heading in ("runs", "best lr so far", "training loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found = (rate(row.best.lr), loss(row.best.median)) if row.best else ("–", "–")
        table.add_row(Text(row.entrant.label), f"{row.finished}/{row.expected}", *found)
    return table
