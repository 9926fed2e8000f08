"""``steprule check``: which rule somebody's optimizer is, and what is wrong with it."""

from __future__ import annotations

import _thread
import contextlib
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steprule.cli import terminal
from steprule.cli.arguments import complete_rule, whole
from steprule.errors import CheckError

if TYPE_CHECKING:
    from steprule.checking import Answer

__all__ = ["check"]

_SECONDS = 120
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
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the answer as JSON.")] = False,
) -> None:
    """Say which rule an optimizer is, with which hyperparameters, and which known mistakes it has.

    The optimizer's file is run, and its steps along probing gradients are compared with those of the rules. The exit
    code is 0 for a known rule without mistakes, 1 for any other, and 2 if it cannot be run.
    """
    from steprule.checking import check_subject, subject_at

    if seconds is not None and seconds < 1:
        raise CheckError(f"--seconds must be at least 1, got {seconds}")
    typer.echo(terminal.wrapped(f"This runs the code of {optimizer}."), err=True)
    with _no_longer_than(seconds or _SECONDS, optimizer):
        answer = check_subject(subject_at(optimizer), _progress)
    typer.echo(json.dumps(_plain(asdict(answer)), indent=1) if as_json else _text(answer))
    if not answer.is_right:
        raise typer.Exit(_WRONG)


def _progress(doing: str) -> None:
    typer.echo(f"  {doing}", err=True)


@contextlib.contextmanager
def _no_longer_than(seconds: int, optimizer: str) -> Iterator[None]:
    """End what takes too long, such as a loop without an end in the optimizer.

    Raises:
        CheckError: when the time is over.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        _thread.interrupt_main()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if not over.is_set():
            raise
        raise CheckError(
            f"{optimizer} was not done after {seconds} seconds. A step of it may never end; if it is only slow, give "
            f"it more by --seconds {10 * seconds}"
        ) from None
    finally:
        timer.cancel()


def _plain(value: Any) -> Any:
    """Return what JSON can hold: numbers that are not finite as None."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(answer: Answer) -> str:
    """Return the answer in lines that fit; code keeps its own."""
    lines = []
    for line in answer.paragraphs():
        stands = line[: len(line) - len(line.lstrip())]
        if line.lstrip().startswith(("line ", "write: ")):
            lines.append(line)
        else:
            lines.append(terminal.wrapped(line, "", stands or ("   " if line[:1].isdigit() else "")) if line else "")
    return "\n".join(lines)
