"""Formulas: a traced rule as equations, by a table from operation to text and a table of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steprule.compile.lower import postorder
from steprule.language import Node

__all__ = ["ATOM", "POWER", "PRODUCT", "Style", "equations"]

# How tightly an operation holds its operands together. An operand that holds less tightly than its
# place asks for gets parentheses.
OR, AND, NOT, COMPARISON, SUM, QUOTIENT, PRODUCT, SIGN, POWER, ATOM = range(1, 11)

_BINDING = {
    "or": OR,
    "and": AND,
    "not": NOT,
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), COMPARISON),
    "add": SUM,
    "sub": SUM,
    "div": QUOTIENT,
    "mod": QUOTIENT,
    "mul": PRODUCT,
    "times": PRODUCT,
    "neg": SIGN,
    "pow": POWER,
    "square": POWER,
    "sqrt": POWER,
}
# What each operand's place asks for; a - (b + c) and a / (b c) keep their parentheses.
_PLACES = {
    "or": (OR, OR),
    "and": (AND, AND),
    "not": (ATOM,),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), (SUM, SUM)),
    "add": (SUM, SUM),
    "sub": (SUM, QUOTIENT),
    "div": (QUOTIENT, SIGN),
    "mod": (QUOTIENT, SIGN),
    "floordiv": (QUOTIENT, SIGN),
    "mul": (PRODUCT, PRODUCT),
    "neg": (POWER,),
    "pow": (ATOM, ATOM),
    "square": (ATOM,),
    "sqrt": (ATOM,),
}


@dataclass(frozen=True)
class Style:
    """How a target writes formulas.

    Attributes:
        table: text of each operation, with ``{0}``, ``{1}``, ... for operands.
        bracket: text of a parenthesised operand.
        places: what operands' places ask for, where that is not the usual (a fraction asks nothing).
        binding: how tightly operations hold, where that is not the usual.
        name: from a name and whether it is the ``"old"`` value, the ``"new"`` one, or neither.
        function: the text of a function of math, from its name.
        number: the text of a positive number, and how tightly it holds.
    """

    table: Mapping[str, str]
    bracket: str
    places: Mapping[str, tuple[int, ...]]
    binding: Mapping[str, int]
    name: Callable[[str, str], str]
    function: Callable[[str], str]
    number: Callable[[float], tuple[str, int]]


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
    taken: set[str] = set()
    # In the order of the rule's source: an old value is used before its name gets the new one.
    for node in sorted(postorder(outputs.values()), key=lambda node: node.serial):
        label = results.get(node) or labels.get(node, "")
        if not label or (node not in results and (label in taken or label in inputs or label in outputs)):
            continue  # a second value of the same name is written out where it is used
        taken.add(label)
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
        return self._write(node)[0]

    def _write(self, node: Node) -> tuple[str, int]:
        """Return the text of a node, and how tightly it holds together."""
        style = self._style
        if node in self.known:
            return self.known[node], ATOM
        if node.op == "symbol":
            return style.name(node.name, self._inputs.get(node.name, "")), ATOM
        if node.op == "const":
            text, binding = style.number(abs(node.value))
            return (f"-{text}", min(binding, SIGN)) if node.value < 0 else (text, binding)
        if node.op.startswith("math."):
            arguments = ", ".join(self(arg) for arg in node.args)
            return f"{style.function(node.op.removeprefix('math.'))}({arguments})", ATOM
        is_square = node.op == "mul" and node.args[0] is node.args[1]
        op, args = ("square", node.args[:1]) if is_square else (node.op, node.args)
        places = style.places.get(op) or _PLACES.get(op) or (0,) * len(args)
        operands = [self._operand(arg, place) for arg, place in zip(args, places, strict=True)]
        if op in ("add", "sub", "mul") and operands[1].startswith("-"):
            operands[1] = style.bracket.format(operands[1])
        if op == "mul" and operands[1][0].isdigit():
            op = "times"  # 0.5 3 would read as one number
        return style.table[op].format(*operands), style.binding.get(op, _BINDING.get(op, ATOM))

    def _operand(self, node: Node, place: int) -> str:
        text, binding = self._write(node)
        return self._style.bracket.format(text) if binding < place else text
