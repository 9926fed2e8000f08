"""The step itself: the new parameter less the old one, with the old one taken out before anything is rounded.

Subtracted as a number, a new parameter has already lost what lies below its own last place, and adding the difference
to the old one rounds again. Taken out of the expression, ``theta - lr * m`` leaves ``-(lr * m)``, and
``(1 - c) * theta - lr * m`` leaves ``-c * theta - lr * m``: exact to the step's own last places, not theta's.
"""

from __future__ import annotations

from steprule.language import where
from steprule.language.node import Node, constant, is_number, symbol
from steprule.rules.cache import cached_with_rule
from steprule.rules.rule import Rule
from steprule.rules.trace import Variant

__all__ = ["descent", "difference"]

_ZERO = constant(0.0)


def difference(new: Node, parameter: Node) -> Node:
    """Return ``new - parameter`` as an expression, and a subtraction only where ``new`` has no such form.

    Forms are sums, ``where``, and products with (or quotients by) a number that is the same for all elements.
    """
    found = _Difference(parameter)(new)
    return new - parameter if found is None else found


@cached_with_rule
def descent(rule: Rule, variant: Variant) -> Node:
    """Return how far down a rule's step goes, the old parameter less the new one, as an expression."""
    return _negated(difference(rule.trace(variant).parameter, symbol(rule.parameter, "element")))


class _Difference:
    """Finds the difference of an expression to ``parameter``; None where it is not a sum of it and something."""

    def __init__(self, parameter: Node) -> None:
        self._parameter = parameter
        self._found: dict[Node, Node | None] = {}

    def __call__(self, node: Node) -> Node | None:
        if node not in self._found:
            self._found[node] = self._find(node)
        return self._found[node]

    def _find(self, node: Node) -> Node | None:
        if node.op == "symbol":
            return _ZERO if node.name == self._parameter.name else None
        if node.op in ("add", "sub"):
            return self._of_sum(*node.args, is_sum=node.op == "add")
        if node.op == "where":
            then, other = self(node.args[1]), self(node.args[2])
            return None if then is None or other is None else where(node.args[0], then, other)
        if node.op in ("mul", "div"):
            return self._of_scaled(node)
        return None

    def _of_sum(self, left: Node, right: Node, *, is_sum: bool) -> Node | None:
        first = self(left)
        if first is not None:
            return _added(first, right) if is_sum else _taken(first, right)
        second = self(right) if is_sum else None
        return None if second is None else _added(second, left)

    def _of_scaled(self, node: Node) -> Node | None:
        left, right = node.args
        if node.op == "mul" and is_number(left):
            left, right = right, left
        found = self(left) if is_number(right) else None
        if found is None:
            return None
        if node.op == "mul":  # s (theta + d) - theta = (s - 1) theta + s d
            grown = _less_one(right) * self._parameter
            return grown if found is _ZERO else grown + right * found
        grown = -_less_one(right) * self._parameter  # (theta + d) / s - theta = ((1 - s) theta + d) / s
        return (grown if found is _ZERO else grown + found) / right


def _added(difference: Node, other: Node) -> Node:
    return other if difference is _ZERO else difference + other


def _taken(difference: Node, other: Node) -> Node:
    return -other if difference is _ZERO else difference - other


def _less_one(factor: Node) -> Node:
    """Return ``factor - 1``, without a rounding where the factor was made of a one."""
    if factor.op in ("add", "sub"):
        left, right = factor.args
        if _is_one(left):
            return right if factor.op == "add" else -right
        if _is_one(right) and factor.op == "add":
            return left
    if factor.op == "where":
        return where(factor.args[0], _less_one(factor.args[1]), _less_one(factor.args[2]))  # type: ignore[no-any-return]
    return factor - 1.0


def _is_one(node: Node) -> bool:
    return node.op == "const" and node.kind == "float" and node.value == 1


def _negated(node: Node) -> Node:
    """Return the negative; of sums and products term by term, so that no sign is turned twice."""
    if node.op == "neg":
        return node.args[0]
    if node.op in ("add", "sub") and _is_negative(node.args[0]):
        left, right = node.args
        return _negated(left) - right if node.op == "add" else _negated(left) + right
    if node.op in ("mul", "div") and _is_negative(node.args[0]):
        left, right = node.args
        return _negated(left) * right if node.op == "mul" else _negated(left) / right
    if node.op == "where":
        condition, then, other = node.args
        return where(condition, _negated(then), _negated(other))  # type: ignore[no-any-return]
    return -node


def _is_negative(node: Node) -> bool:
    """Whether a sign is turned first of all."""
    return node.op == "neg" or (node.op in ("add", "sub", "mul", "div") and _is_negative(node.args[0]))
