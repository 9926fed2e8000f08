"""Formulas: a traced rule as equations, by a table from operation to text and a table of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steprule.compile.lower import postorder
from steprule.language import Node

__all__ = ["Style", "equations"]

_SUM, _QUOTIENT, _PRODUCT, _SIGN, _POWER, _ATOM = 1, 2, 3, 4, 5, 6
_PRECEDENCE = {
    "add": _SUM,
    "sub": _SUM,
    "mul": _PRODUCT,
    "div": _QUOTIENT,
    "mod": _QUOTIENT,
    "neg": _SIGN,
    "pow": _POWER,
    "sqrt": _POWER,
}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")


@dataclass(frozen=True)
class Style:
    """How a target writes formulas.

    Attributes:
        table: text of each operation, with ``{0}``, ``{1}``, ... for operands.
        bracket: text of a parenthesised operand.
        closed: operations whose text needs no parentheses, around or inside (a fraction).
        name: from a name and whether it is the ``"old"`` value, the ``"new"`` one, or neither.
    """

    table: Mapping[str, str]
    bracket: str
    closed: frozenset[str]
    name: Callable[[str, str], str]


def equations(
    style: Style, inputs: Mapping[str, str], outputs: Mapping[str, Node], labels: Mapping[Node, str]
) -> list[tuple[str, str]]:
    """Return ``(left, right)`` of each equation of a rule, in an order in which they can be computed.

    Args:
        style: how to write.
        inputs: by name of a symbol, ``"old"``, ``"new"`` (the gradient of this step) or ``""``.
        outputs: the new values by name; equal expressions in others are written by that name.
        labels: names of intermediate expressions. One that is a name of an input is not used.
    """
    printer = _Printer(style, inputs)
    results = {node: name for name, node in outputs.items() if node.op not in ("symbol", "const")}
    lines: list[tuple[str, str]] = []
    # In the order of the rule's source: an old value is used before its name gets the new one.
    for node in sorted(postorder(outputs.values()), key=lambda node: node.serial):
        label = results.get(node) or labels.get(node, "")
        if not label or (node not in results and (label in inputs or label in outputs)):
            continue
        left = style.name(label, "new" if node in results else "")
        lines.append((left, printer(node)))
        printer.known[node] = left
    # A slot that takes over another value as it is (the last gradient) has no expression of its own.
    plain = {name: node for name, node in outputs.items() if node not in results or results[node] != name}
    return lines + [(style.name(name, "new"), printer(node)) for name, node in plain.items()]


class _Printer:
    def __init__(self, style: Style, inputs: Mapping[str, str]) -> None:
        self.known: dict[Node, str] = {}
        self._style = style
        self._inputs = inputs

    def __call__(self, node: Node) -> str:
        if node in self.known:
            return self.known[node]
        if node.op == "symbol":
            return self._style.name(node.name, self._inputs.get(node.name, ""))
        if node.op == "const":
            return f"{node.value:g}"
        if node.op == "mul" and node.args[0] is node.args[1]:
            return self._style.table["square"].format(self._operand(node.args[0], _POWER, strict=True))
        return self._style.table[node.op].format(*self._operands(node))

    def _operands(self, node: Node) -> list[str]:
        own = _PRECEDENCE.get(node.op)
        if own is None or node.op in self._style.closed:
            return [self(arg) for arg in node.args]
        first, *rest = node.args
        # a - (b + c), a / (b c) and (-a)^b keep their parentheses; a + b c needs none.
        right = node.op in ("sub", "div", "mod", "neg", "pow")
        return [
            self._operand(first, own, strict=node.op in ("neg", "pow", "sqrt")),
            *(self._operand(arg, own, strict=right) for arg in rest),
        ]

    def _operand(self, node: Node, outer: int, strict: bool) -> str:
        text = self(node)
        inner = self._binding(node)
        return self._style.bracket.format(text) if inner < outer or (strict and inner == outer) else text

    def _binding(self, node: Node) -> int:
        if node in self.known or node.op in self._style.closed or node.op == "symbol":
            return _ATOM
        if node.op == "const":
            return _SIGN if node.value < 0 else _ATOM
        if node.op == "mul" and node.args[0] is node.args[1]:
            return _POWER
        return 0 if node.op in _COMPARISONS else _PRECEDENCE.get(node.op, _ATOM)
