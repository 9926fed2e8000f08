"""The ``steprule`` command: its verbs, and how errors are shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from steprule.cli import bench, check, emit, figures, lab, race, rules
from steprule.cli.terminal import Command, Group, say_error, take_any_text
from steprule.errors import StepruleError
from steprule.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    help="Optimizers written once, as their papers write them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: no boxes, in which a narrow terminal leaves no room, and no escape codes
    cls=Group,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _verb, _short in (
    (race.race, "Race optimizers on a problem."),
    (rules.rules, "Show the catalogue, or one rule in full."),
    (emit.emit, "Print the code of a rule for a target."),
    (lab.lab, "Show rules at work, on a page in a browser."),
    (check.check, "Say which rule an optimizer is, and what is wrong with it."),
    (figures.figures, "Make a paper's figures, and judge its claims."),
    (bench.bench, "Measure a step beside the libraries installed here."),
):
    app.command(cls=Command, short_help=_short)(_verb)


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
    take_any_text()
    try:
        app()
    except StepruleError as error:
        say_error(error)
        sys.exit(2)
