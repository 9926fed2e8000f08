"""The functions of the language. On arrays and numbers they compute, on symbols they build nodes.

``maximum``, ``minimum`` and ``sign`` are defined by the primitive operations, here and nowhere
else: the same definition computes on arrays and expands symbols for a backend, so the sign of a
zero and the fate of a NaN cannot differ between targets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from steprule.errors import RuleError
from steprule.language.node import Node, apply
from steprule.language.ops import Kind

__all__ = ["DERIVED", "maximum", "minimum", "sign", "sqrt", "where"]


def _namespace(*operands: Any) -> Any:
    """Return the array module (NumPy, torch or jax.numpy) of the first array, importing nothing."""
    for operand in operands:
        # A subclass's own module is the caller's.
        roots = {kind.__module__.partition(".")[0] for kind in type(operand).__mro__}
        if "torch" in roots:
            return sys.modules["torch"]
        if roots & {"jax", "jaxlib"}:
            return sys.modules["jax.numpy"]
        if isinstance(operand, (np.ndarray, np.generic)):
            return np
    kinds = ", ".join(type(operand).__name__ for operand in operands)
    raise RuleError(f"expected numbers, arrays or symbols, got {kinds}")


def _is_number(x: object) -> bool:
    return isinstance(x, (bool, int, float)) and not isinstance(x, np.generic)


def sqrt(x: Any) -> Any:
    """Return the correctly rounded square root of ``x``; NaN below zero on arrays."""
    if isinstance(x, Node):
        return apply("sqrt", x)
    return math.sqrt(x) if _is_number(x) else _namespace(x).sqrt(x)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where ``condition`` holds and ``b`` elsewhere. Both are computed."""
    if isinstance(condition, Node) or isinstance(a, Node) or isinstance(b, Node):
        return apply("where", condition, a, b)
    if isinstance(condition, bool):
        return a if condition else b
    return _namespace(condition, a, b).where(condition, a, b)


def _maximum(a: Any, b: Any) -> Any:
    return where((a >= b) | (a != a), a, b)


def _minimum(a: Any, b: Any) -> Any:
    return where((a <= b) | (a != a), a, b)


def _sign(x: Any) -> Any:
    return where(x > 0, 1.0, where(x < 0, -1.0, x))


DERIVED: dict[str, Callable[..., Any]] = {"maximum": _maximum, "minimum": _minimum, "sign": _sign}


def _derived(op: str, *operands: Any) -> Any:
    if any(isinstance(operand, Node) for operand in operands):
        takes: tuple[Kind, ...] = tuple("float" for _ in operands)
        return apply(op, *operands, takes=takes, gives="float")
    return DERIVED[op](*operands)


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of ``a`` and ``b``; NaN if either is NaN; ``a`` where they are equal."""
    return _derived("maximum", a, b)


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of ``a`` and ``b``; NaN if either is NaN; ``a`` where they are equal."""
    return _derived("minimum", a, b)


def sign(x: Any) -> Any:
    """Return 1.0 above zero, -1.0 below, and ``x`` itself where it is zero (of either sign) or NaN."""
    return _derived("sign", x)
