"""The ``steprule`` command: its verbs, and how errors are shown."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from steprule.cli import emit, lab, race, rules
from steprule.errors import StepruleError
from steprule.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    help="Optimizers written once, as their papers write them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("race")(race.race)
app.command("rules")(rules.rules)
app.command("emit")(emit.emit)
app.command("lab")(lab.lab)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steprule {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Show help, or run a verb."""


def main() -> None:
    """Run the command; an error that steprule foresees is one message, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # formulas are Unicode, terminals need not be
    try:
        app()
    except StepruleError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
