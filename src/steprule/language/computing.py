"""Expressions computed again, on other values: arrays, numbers or symbols."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steprule.language import functions, sums
from steprule.language.node import Node, host_call
from steprule.language.polar import polar
from steprule.language.walk import postorder

__all__ = ["computed"]

_MEANINGS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "mod": operator.mod,
    "floordiv": operator.floordiv,
    "pow": operator.pow,
    "neg": operator.neg,
    "abs": operator.abs,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.invert,
    "sqrt": functions.sqrt,
    "where": functions.where,
    "maximum": functions.maximum,
    "minimum": functions.minimum,
    "sign": functions.sign,
}
"""What the words of rules mean, by the names of their nodes."""


def computed(root: Node, values: Mapping[str, Any]) -> Any:
    """Return what an expression comes to, given what stands for its symbols by name.

    Args:
        root: of the words of rules; not of formats.
        values: arrays, numbers or symbols; of arrays, all of one shape.
    """
    found: dict[Node, Any] = {}
    for node in postorder([root]):
        found[node] = _computed(node, [found[arg] for arg in node.args], values)
    return found[root]


def _computed(node: Node, args: Sequence[Any], values: Mapping[str, Any]) -> Any:
    if node.op == "symbol":
        return values[node.name]
    if node.op == "const":
        return node.value
    if node.op.startswith("math."):
        name = node.op.removeprefix("math.")
        return host_call(name, *args) if any(isinstance(arg, Node) for arg in args) else getattr(math, name)(*args)
    if node.op == "ndim":
        return sums.ndim(*args)
    if node.op == "polar":
        x, steps, parts, eps, *coefficients = args
        return polar(x, steps, node.name or tuple(coefficients), parts=parts, eps=eps)
    if node.op in sums.SUMS:
        return sums.SUMS[node.op](*args, over=node.name)
    return _MEANINGS[node.op](*args)
