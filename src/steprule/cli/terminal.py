"""What a terminal bears: escape codes or none, and how wide a line may be."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Command", "Group", "console", "listed", "say_error"]

_NARROW = 60
"""Below so many columns, what would stand beside a name stands under it."""
_LEAST, _WIDE = 18, 80
_PAGE = 120
"""The width of lines that no terminal shows, as in a file."""


def is_plain() -> bool:
    """Whether escape codes are not wanted (https://no-color.org) or would be shown as letters."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def console() -> Console:
    """Return the console that tables go to."""
    from rich.console import Console  # late: completion and help do without

    made = Console(color_system=None if is_plain() else "auto")
    if not made.is_terminal and "COLUMNS" not in os.environ:
        # Where nobody watches, a table is not to be squeezed into the width of a terminal that is none.
        made.width = _PAGE
    return made


def listed(table: Table, console: Console) -> Table | str:
    """Return a table where it fits without a word cut short, and elsewhere its cells one below the other."""
    for column in table.columns:
        texts = (str(column.header), *map(str, column.cells))
        column.min_width = max(len(word) for text in texts for word in text.split())
    unbound = console.options.update(max_width=10_000)  # the console's own options would measure no more than its width
    if console.measure(table, options=unbound).minimum <= console.width:
        return table
    headings = [str(column.header) for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    blocks = [
        "\n".join([str(first), *(f"  {name}: {cell}" for name, cell in zip(headings[1:], others, strict=True))])
        for first, *others in rows
    ]
    return "\n".join([f"{headings[0]}:", *blocks])


def say_error(error: Exception) -> None:
    """Write what is wrong where errors go."""
    text = f"error: {error}"
    typer.echo(text if is_plain() else typer.style(text, fg=typer.colors.RED), err=True)


class _Narrow:
    """Help that can be read on 20 columns, where Click wraps at 50: what an option does goes below its name."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        columns = shutil.get_terminal_size().columns
        formatter.width = max(min(columns, _WIDE) - 2, _LEAST)
        if columns < _NARROW:
            formatter.write_dl = functools.partial(formatter.write_dl, col_max=2, col_spacing=2)
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Narrow, TyperCommand):
    """A verb."""


class Group(_Narrow, TyperGroup):
    """The command with all verbs."""


def take_any_text() -> None:
    """Let no character end the command: formulas are Unicode, terminals need not be."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
