"""What messages say to do: that it is done for every error of some files, and which are left out."""

from __future__ import annotations

import ast
import re
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from steprule import errors
from steprule.errors import StepruleError

__all__ = ["Remedy", "untried"]


class Remedy(NamedTuple):
    """What fails, what its message says to do, as a regular expression, and that, done."""

    fails: Callable[[], Any]
    says: str
    done: tuple[Callable[[], Any], ...]


def raises(file: Path) -> dict[range, str]:
    """Return the statements of a file that raise one of our errors, by their lines."""
    names = {name for name in errors.__all__ if name.endswith("Error")}
    found = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in names:
            found[range(node.lineno, (node.end_lineno or 0) + 1)] = ast.unparse(node)
    return found


def reached(fails: Callable[[], Any]) -> tuple[str, int]:
    """Return the file and the line of the error of a call."""
    with pytest.raises(StepruleError) as caught:
        fails()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    return frame.filename, frame.lineno or 0


def untried(modules: Iterable[ModuleType], remedies: Iterable[Remedy]) -> list[str]:
    """Return the statements that raise one of our errors, and that no remedy is of."""
    tried = [reached(remedy.fails) for remedy in remedies]
    left = []
    for module in modules:
        file = Path(str(module.__file__))
        for lines, text in raises(file).items():
            if not any(name == str(file) and line in lines for name, line in tried):
                left.append(re.sub(r"\s+", " ", f"{file.name}:{lines[0]} {text}"))
    return left
