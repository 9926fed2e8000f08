"""``steprule check``: which rule somebody's optimizer is, and what is wrong with it."""

from __future__ import annotations

import _thread
import contextlib
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule.cli import terminal
from steprule.cli.arguments import INTERRUPTED, complete_rule, path_to_write, whole
from steprule.errors import CheckError

if TYPE_CHECKING:
    from steprule.checking import Answer

__all__ = ["check"]

_SECONDS = 120
_SILENT = 5.0
"""Seconds without a word, after which what is known is said."""
_GRACE = 5.0
"""Seconds within which code that is interrupted has to end."""
_WRONG = 1


def check(
    optimizer: Annotated[
        str,
        typer.Argument(
            help="path/to/file.py:NAME, module:NAME, or with settings 'module:NAME(lr=0.01)'.",
            metavar="OPTIMIZER",
            autocompletion=complete_rule,
        ),
    ],
    seconds: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help=f"Give up after so many seconds. Default {_SECONDS}."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=path_to_write, metavar="FOLDER", help="Write a page with a picture there, to be sent."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the answer as JSON.")] = False,
) -> None:
    """Say which rule an optimizer is, with which hyperparameters, and which known mistakes it has.

    The optimizer's file is run, and its steps along probing gradients are compared with those of the rules. The exit
    code is 0 for a known rule without mistakes, 1 for any other, and 2 if it cannot be run.
    """
    from steprule.checking import check_subject, page, subject_at
    from steprule.report.folder import to_json

    if seconds is not None and seconds < 1:
        raise CheckError(f"--seconds must be at least 1, got {seconds}")
    if output is not None:
        page.check_folder(output)
    typer.echo(terminal.wrapped(f"This runs the code of {optimizer}."), err=True)
    told = _Told()
    try:
        with _no_longer_than(seconds or _SECONDS, optimizer, told):
            answer = check_subject(subject_at(optimizer), told.say, told.watch)
        typer.echo(to_json(page.as_json(answer), indent=1).rstrip() if as_json else _text(answer))
        if output is not None:
            told.say("drawing the page")
            command = shlex.join(["steprule", "check", optimizer, "--output", str(output)])
            typer.echo(f"Page: {page.write(answer, output, command)}", err=as_json)
    except KeyboardInterrupt:
        typer.echo(terminal.wrapped(f"Interrupted {told.end()}"), err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not answer.is_right:
        raise typer.Exit(_WRONG)


class _Told:
    """What is being done, and what is known: said now and then, and when it ends early."""

    def __init__(self) -> None:
        self.doing, self.known, self._last = "", "", time.monotonic()

    def say(self, doing: str) -> None:
        """Say what is being done now."""
        self.doing, self.known, self._last = doing, "", time.monotonic()
        typer.echo(f"  {doing}", err=True)

    def watch(self, known: str) -> None:
        """Keep what is known; say it, if nothing has been said for some time."""
        self.known = known
        if time.monotonic() - self._last > _SILENT:
            self._last = time.monotonic()
            typer.echo(terminal.wrapped(f"{known}.", "  ", "  "), err=True)

    def end(self) -> str:
        """Return at what it ended, in words."""
        return f"while {self.doing or 'reading the code'}.{f' {self.known}.' if self.known else ''}"


@contextlib.contextmanager
def _no_longer_than(seconds: int, optimizer: str, told: _Told) -> Iterator[None]:
    """End what takes too long, such as a loop without an end in the optimizer.

    Raises:
        CheckError: when the time is over.
    """
    over, done = threading.Event(), threading.Event()
    words = f"{optimizer} was not done after {seconds} seconds. "

    def end() -> None:
        if done.wait(seconds):
            return
        over.set()
        _thread.interrupt_main()
        if not done.wait(_GRACE):
            # Its own code caught the interrupt, as a bare except does, or does not come back from a library.
            terminal.say_error(CheckError(f"{words}It does not let itself be interrupted, so it was ended"))
            os._exit(2)

    threading.Thread(target=end, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if not over.is_set():
            raise
        raise CheckError(
            f"{words}It was stopped {told.end()} A step of it may never end; if it is only slow, give it more by "
            f"--seconds {10 * seconds}"
        ) from None
    finally:
        done.set()


def _text(answer: Answer) -> str:
    """Return the answer in lines that fit; code keeps its own."""
    lines = []
    for line in answer.paragraphs():
        stands = line[: len(line) - len(line.lstrip())]
        if not line or line.lstrip().startswith(("line ", "write: ")):
            lines.append(line)
        else:
            lines.append(terminal.wrapped(line, "", stands or ("   " if re.match(r"\d+\. ", line) else "")))
    return "\n".join(lines)
