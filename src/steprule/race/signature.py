"""Signatures of the user's functions: what Python would say in the middle of a race, in the user's words before it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steprule.errors import ProblemError

__all__ = ["check_signature"]


def check_signature(function: Callable[..., Any], name: str, arguments: tuple[str, ...], problem: str) -> None:
    """Check that ``function``, called ``name`` there, takes these positional arguments.

    Raises:
        ProblemError: naming the function, what it must take, what it takes, and its line.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # A compiled function may have none.
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        wanted, got = ", ".join(arguments), inspect.Signature(plain)
        raise ProblemError(
            f"problem {problem}: {name} must take ({wanted}), got {name}{got}{_place(function)}"
        ) from None


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" at {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
