"""``steprule bench``: a step of AdamW beside the libraries that are installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steprule.cli import terminal
from steprule.cli.arguments import INTERRUPTED, complete_peers, path_to_write
from steprule.errors import HyperparameterError

if TYPE_CHECKING:
    from rich.console import Console

    from steprule.bench.compare import Comparison
    from steprule.bench.peers import Peer
    from steprule.bench.report import Shown

__all__ = ["bench"]

_QUICK: dict[str, Any] = {"turns": 5, "turn": 0.02}
"""Rounds of --quick, and the seconds of a turn."""
_SECONDS, _COMPILED_SECONDS = 120.0, 900.0
"""After which a contestant by itself is given up, without and with a compiler to wait for."""


def bench(
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Libraries or names of --list, comma-separated. Default: all that are installed.",
            autocompletion=complete_peers,
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compiled", metavar="", help="With those whose first step waits for a compiler: minutes.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", metavar="", help="Smaller arrays and fewer rounds, for a first look.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(parser=path_to_write, metavar="FOLDER", help="Write the figures there: JSON, CSV and Markdown."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", metavar="", help="List whom it knows, and which of them are installed.")
    ] = False,
) -> None:
    """Measure a step of AdamW by steprule and by the libraries that are installed, side by side, in about a minute.

    Everyone takes a turn in every round. Interrupted, it shows what is known.
    """
    from steprule.bench.peers import chosen

    taking_part = chosen(None if peers is None else [word.strip() for word in peers.split(",")])
    if list_:
        if compiled or quick or output:
            raise HyperparameterError("--list only lists, so --compiled, --quick and --output do nothing; drop them")
        _list(taking_part)
        return
    _measure(taking_part, compiled, quick, output)


def _list(peers: list[Peer]) -> None:
    from steprule.bench.peers import version_of

    for peer in peers:
        there = f"needs {', '.join(peer.missing)}" if peer.missing else version_of(peer)
        compiles = "; only with --compiled" if peer.compiles else ""
        typer.echo(terminal.wrapped(f"{peer.what} ({there}{compiles})", f"{peer.name:30} ", " " * 31))


def _measure(peers: list[Peer], compiled: bool, quick: bool, output: Path | None) -> None:
    from steprule.bench import report, work
    from steprule.bench.compare import Settings, compare

    if output is not None:
        report.check_folder(output)
    size, rest = ("quick", _QUICK) if quick else ("usual", {})
    settings = Settings(work.works(size), seconds=_COMPILED_SECONDS if compiled else _SECONDS, **rest)
    found = compare(peers, settings, compiled=compiled, say=lambda doing: typer.echo(f"  {doing}", err=True))
    _show(found)
    if output is not None:
        typer.echo(f"Written: {', '.join(str(path) for path in report.write(found, output))}")
    if not found.is_whole:
        raise typer.Exit(INTERRUPTED)


def _show(found: Comparison) -> None:
    from steprule.bench.report import notes, tables

    console = terminal.console()
    for shown in tables(found):
        console.print(f"\n{shown.title}", highlight=False)
        _print(shown, console)
    for note in notes(found):
        typer.echo(terminal.wrapped(note))


def _print(shown: Shown, console: Console) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(shown.headings):
        table.add_column(heading, justify="right" if index else "left", overflow="fold")
    for row in shown.rows:
        table.add_row(*row)
    console.print(terminal.listed(table, console))
