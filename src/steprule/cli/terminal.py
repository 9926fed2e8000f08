"""What a terminal bears: escape codes or none, and how wide a line may be."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Command", "Group", "console", "listed", "say_error", "under", "wrapped"]

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
    unbound = console.options.update(max_width=10_000)  # the console's own options would measure no more than its width
    cells = [
        [console.measure(cell, options=unbound) for cell in (column.header, *column.cells)] for column in table.columns
    ]
    least = [max(cell.minimum for cell in own) for own in cells]
    widths = [max(cell.maximum for cell in own) for own in cells]
    room = console.width - (console.measure(table, options=unbound).maximum - sum(widths))
    if sum(least) <= room:
        while sum(widths) > room:
            # By itself a table narrows its widest columns alike, below their longest words, too.
            widest = max(
                (index for index in range(len(widths)) if widths[index] > least[index]), key=widths.__getitem__
            )
            widths[widest] -= 1
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
        return table
    headings = [str(column.header) for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    blocks = [
        "\n".join([str(first), *(f"  {name}: {cell}" for name, cell in zip(headings[1:], others, strict=True))])
        for first, *others in rows
    ]
    return "\n".join([f"{headings[0]}:", *blocks])


def under(name: str, text: str) -> str:
    """Return a name with what is said of it beside it, or below it in a narrow terminal, in lines that fit."""
    if console().width < _NARROW:
        return f"{name}\n{wrapped(text, '  ', '  ')}"
    return wrapped(text, f"{name:13} ", " " * 14)


def wrapped(text: str, first: str = "", others: str = "") -> str:
    """Return a text in lines that fit and can be read, the first and the others behind what they begin with."""
    return textwrap.fill(
        text,
        min(console().width, _WIDE),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
