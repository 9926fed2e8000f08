"""Expressions computed again, on other values: arrays, numbers or symbols."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from steprule.language import functions, sums
from steprule.language.node import Node, constant, host_call
from steprule.language.polar import polar
from steprule.language.walk import postorder

__all__ = ["computed", "computed_together", "of_others", "without"]

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
    (found,) = computed_together([root], values)
    return found


def computed_together(roots: Sequence[Node], values: Mapping[str, Any]) -> list[Any]:
    """Return what expressions come to; what they have in common is one value, or one node, of all."""
    found: dict[Node, Any] = {}
    for node in postorder(roots):
        found[node] = _computed(node, [found[arg] for arg in node.args], values)
    return [found[root] for root in roots]


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


def without(root: Node, zeros: Collection[str]) -> Node:
    """Return an expression in which these symbols are 0, without the operations that do nothing then.

    The symbols and t, which is 1 at least, are numbers of the same expression, so that of ``b * m + (1 - b) * g`` the
    ``g`` is left where ``b`` and ``m`` are 0, and of ``1 - b**t`` a 1. But for the sign of zero it is the same number.
    """
    found: dict[Node, Node] = {}
    for node in postorder([root]):
        args = [found[arg] for arg in node.args]
        if node.op == "symbol" and node.name in zeros:
            found[node] = constant(0.0)
        else:
            shortened = None if _are(args, node) else _shortened(node.op, args)
            found[node] = of_others(node, args) if shortened is None else shortened
    return found[root]


def of_others(node: Node, args: Sequence[Node]) -> Node:
    """Return the operation of a node on other arguments; the node itself where they are its own."""
    return node if _are(args, node) else _computed(node, args, {})


def _are(args: Sequence[Node], node: Node) -> bool:
    """Whether these are the node's own arguments."""
    return all(map(operator.is_, args, node.args))


def _shortened(op: str, args: Sequence[Node]) -> Node | None:
    """Return what is left of an operation that does nothing; None of one that does something."""
    if len(args) != 2:
        return None
    (left, right), (is_left, is_right) = args, [{arg.value} if arg.op == "const" else set() for arg in args]
    if op == "add" and 0 in is_left:
        return right
    if (op in ("add", "sub") and 0 in is_right) or (op in ("mul", "div") and 1 in is_right):
        return left
    if op == "mul" and 1 in is_left:
        return right
    if op == "mul" and (0 in is_left or 0 in is_right) and is_left and is_right:
        return constant(0.0)
    if op == "sub" and is_left and is_right:
        return constant(left.value - right.value)
    if op == "pow" and 0 in is_left and right.op == "symbol" and right.name == "t":
        return constant(0.0)
    return None
