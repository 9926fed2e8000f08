"""The functions of the language. On arrays and numbers they compute, on symbols they build nodes.

``maximum``, ``minimum`` and ``sign`` are defined by the primitive operations, here and nowhere
else: the same definition computes on arrays and expands symbols for a backend, so the sign of a
zero and the fate of a NaN cannot differ between targets.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from steprule.errors import RuleError
from steprule.language.node import Node, apply
from steprule.language.ops import Kind

__all__ = ["DERIVED", "computing_on", "everywhere", "maximum", "minimum", "namespace", "sign", "sqrt", "where"]


def namespace(*operands: Any) -> Any:
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
    return math.sqrt(x) if _is_number(x) else namespace(x).sqrt(x)


def everywhere(number: Node, element: Node) -> Node:
    """Return a number of the host as the number of every element: storage formats take elements apart, not numbers.

    It is written with an element, so that targets know of which array. Compilers leave the choice out.
    """
    return apply("where", apply("eq", element, element), number, number)


_elements: ContextVar[Any] = ContextVar("elements", default=None)


@contextlib.contextmanager
def computing_on(elements: Any) -> Iterator[None]:
    """While active, numbers that are chosen element by element have the type of ``elements``, an array."""
    before = _elements.set(elements)
    try:
        yield
    finally:
        _elements.reset(before)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where ``condition`` holds and ``b`` elsewhere. Both are computed."""
    if isinstance(condition, Node) or isinstance(a, Node) or isinstance(b, Node):
        return apply("where", condition, a, b)
    # Python's ~ makes integers of booleans, -1 and -2, both of which it takes for true; the last bit is right.
    if isinstance(condition, int):
        chosen, other = (a, b) if condition & 1 else (b, a)
        # Chosen instead of elements, a number is one of elements, too: what follows is rounded and summed as they are.
        if _is_number(other):
            return chosen
        return namespace(other).full_like(other, chosen) if _is_number(chosen) else _shaped(chosen, other)
    if "bool" not in str(getattr(condition, "dtype", "bool")):
        condition = (condition & 1) != 0
    module, elements = namespace(condition, a, b), _elements.get()
    if elements is not None and _is_number(a) and _is_number(b):
        a = _like(elements, condition, a, module)  # of its own type NumPy would take float64, torch its default
    # torch makes a tensor of a number in `where`: one that a subclass may not know, and that is not fake among fakes.
    if hasattr(b, "masked_fill") and _is_number(a):
        return b.masked_fill(condition, a)
    if hasattr(a, "masked_fill") and _is_number(b):
        return a.masked_fill(~condition, b)
    return module.where(condition, a, b)


def _shaped(chosen: Any, other: Any) -> Any:
    """Return a number of a matrix, or of its rows, as one of what has the shape of both."""
    if chosen.shape == other.shape:
        return chosen
    module = namespace(chosen)
    return module.broadcast_to(chosen, module.broadcast_shapes(chosen.shape, other.shape))


def _like(elements: Any, condition: Any, number: float, module: Any) -> Any:
    """Return a number in the type of the elements, everywhere where there is a condition: at each, or each row."""
    if elements.shape == condition.shape:
        return module.full_like(elements, number)
    new_full = getattr(elements, "new_full", None)
    return new_full(condition.shape, number) if new_full else module.full(condition.shape, number, elements.dtype)


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
