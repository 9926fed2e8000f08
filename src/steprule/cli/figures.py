"""``steprule figures``: the figures of the papers, made again, and whether what they claim holds here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule.cli import terminal
from steprule.cli.arguments import INTERRUPTED, check_race_extra, complete_paper, path_to_write, whole
from steprule.install import how_to_install

if TYPE_CHECKING:
    from rich.console import Console

    from steprule.figures import Work

__all__ = ["figures"]


def figures(
    paper: Annotated[str, typer.Argument(help="adam, amsgrad or adamw.", autocompletion=complete_paper)],
    only: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE", help="Make this figure alone; may be given several times.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SET", help="Make those that are of mnist, cifar10 or imdb, of the real set.")
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the files of --data are; nothing is downloaded.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help="Processes; the numbers do not depend on it. Default: all."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=path_to_write, metavar="FOLDER", help="Folder of the results. Default figures/PAPER."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", metavar="", help="Discard what the folder holds.")] = False,
) -> None:
    """Make the figures of a paper again, and say whether what it claims holds here.

    Writes pictures (PNG, SVG), numbers (CSV) and a page. Interrupted, it keeps what is done; the same command goes on.
    """
    check_race_extra("figures need")
    from steprule.figures import do_parts, figures_of, write
    from steprule.race.live import busy
    from steprule.race.runner import interruptible

    console = terminal.console()
    with busy(console, "Reading the data"):
        wanted = figures_of(paper, only or (), data, data_folder)
    ready = [figure for figure in wanted if not figure.missing]
    left_out = [figure for figure in wanted if figure.missing]
    for figure in left_out:
        lacks = ", ".join(figure.missing)
        typer.echo(
            terminal.wrapped(f"{figure.name} needs {lacks}. Install: {how_to_install(*figure.missing)}"), err=True
        )
    if not ready:
        raise typer.Exit(2)
    folder = output or Path("figures") / paper
    interrupted = True
    try:
        with interruptible():
            with _watching(console) as watch:
                work = do_parts(ready, folder, paper=paper, jobs=jobs, fresh=fresh, watch=watch)
            with busy(console, "Drawing"):
                written = write(paper, work, folder, left_out)
            _report(work)
            typer.echo(f"Page: {written}")
            interrupted = work.interrupted
    except KeyboardInterrupt:
        pass
    if interrupted:
        typer.echo("Interrupted. Run the same command again to continue.")
        raise typer.Exit(INTERRUPTED)


def _report(work: Work) -> None:
    """Say of each figure what is claimed, and whether it holds."""
    for figure in work.figures:
        if not work.is_done(figure):
            continue
        typer.echo(f"{figure.name}: {figure.title}")
        for judgement in figure.judge(work.results):
            why = f" {judgement.why}" if judgement.why and not judgement.holds else ""
            typer.echo(terminal.wrapped(judgement.claim, "  ", "  "))
            typer.echo(terminal.wrapped(f"{judgement.verdict} {judgement.statistic}{why}", "    ", "    "))
        typer.echo("")


@contextmanager
def _watching(console: Console) -> Iterator[Callable[[Work], None]]:
    """Yield what shows how far it is: a bar in a terminal, elsewhere a line for each figure that is done."""
    if not console.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Starting", total=None)

        def watch(work: Work) -> None:
            doing = next((figure.name for figure in work.figures if not work.is_done(figure)), "Done")
            progress.update(bar, description=doing, completed=len(work.results), total=work.expected)

        yield watch


class _Lines:
    """Says which figures are done, each once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, work: Work) -> None:
        for figure in work.figures:
            if figure.name not in self._said and work.is_done(figure):
                self._said.add(figure.name)
                typer.echo(f"{figure.name} is done, {len(self._said)} of {len(work.figures)}.", err=True)
