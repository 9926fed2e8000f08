"""Formulas: a traced rule as equations, by a table from operation to text and a table of names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steprule.language import Node
from steprule.rules import Rule
from steprule.rules.named import Named, in_order

__all__ = [
    "ATOM",
    "FUNCTIONS",
    "GREEK",
    "POWER",
    "PRODUCT",
    "Equation",
    "Style",
    "equations",
    "name_parts",
    "plain_number",
    "point_equation",
    "spellings",
]

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "psi": "ψ",
    "omega": "ω",
}  # fmt: skip
FUNCTIONS = {"log": "ln", "exp": "exp"}
"""Functions of ``math`` that are written otherwise, or that LaTeX knows."""
_SPELLINGS = {"eps": "epsilon", "lambd": "lambda", "lr": "eta", "weight_decay": "lambda"}

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
    "total": COMPARISON,
    "mean": ATOM,
    "norm": ATOM,
    "rms": ATOM,
    "size": ATOM,
    "ndim": ATOM,
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
    "total": (PRODUCT,),
    "mean": (0,),
    "norm": (0,),
    "rms": (0,),
    "size": (0,),
    "ndim": (0,),
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
        call: the text of a function of math with its arguments.
        comma: what is between these.
        read: what a reader sees of a text.
    """

    table: Mapping[str, str]
    bracket: str
    places: Mapping[str, tuple[int, ...]]
    binding: Mapping[str, int]
    name: Callable[[str, str], str]
    function: Callable[[str], str]
    number: Callable[[float], tuple[str, int]]
    call: str = "{0}({1})"
    comma: str = ", "
    read: Callable[[str], str] = str


@dataclass(frozen=True)
class Equation:
    """``left = right``: how the value of that name comes about."""

    name: str
    left: str
    right: str


def equations(style: Style, given: Named) -> list[Equation]:
    """Return the equations of a rule, in an order in which they can be computed."""
    printer = _Printer(style, given.inputs)
    results = {node: name for name, node in given.outputs.items() if node.op not in ("symbol", "const")}
    labels = {**{node: name for name, node in given.values.items()}, **results}
    lines: list[Equation] = []
    # In the order of the rule's source: an old value is used before its name gets the new one.
    for node in in_order(given.outputs.values()):
        if node not in labels:
            continue
        left = style.name(labels[node], "new" if node in results else "")
        lines.append(Equation(labels[node], left, printer(node)))
        printer.known[node] = left
    # A slot that takes over another value as it is (the last gradient) has no expression of its own.
    plain = {name: node for name, node in given.outputs.items() if node not in results or results[node] != name}
    return lines + [Equation(name, style.name(name, "new"), printer(node)) for name, node in plain.items()]


def point_equation(style: Style, rule: Rule, given: Named) -> Equation | None:
    """Return how the evaluated point comes about, of what a step leaves; None for a rule evaluated where it trains."""
    if given.trace.evaluated is None:
        return None
    name = _point_name(rule, given)
    left = dict.fromkeys((rule.parameter, *rule.slots), "new")
    return Equation(name, style.name(name, "new"), _Printer(style, left)(given.trace.evaluated))


def _point_name(rule: Rule, given: Named) -> str:
    return "x" if "x" not in {*given.inputs, *given.values, *rule.hyperparameters} else f"{rule.parameter}_evaluated"


def name_parts(name: str) -> tuple[str, list[str]]:
    """Split ``beta1`` into ``beta`` and ``[1]``, ``m_hat`` into ``m`` and ``[hat]``."""
    stem, *suffixes = name.split("_")
    match = re.fullmatch(r"([A-Za-z]+?)(\d+)", stem)
    if match:
        return match[1], [match[2], *suffixes]
    return stem, suffixes


def spellings(rule: Rule, given: Named) -> dict[str, str]:
    """Return which names are written by their usual symbol: not those whose symbol another name has."""
    names = {*given.inputs, *rule.hyperparameters, *given.values}
    wanted = {name: symbol for name, symbol in _SPELLINGS.items() if name in names and symbol not in names}
    return {name: symbol for name, symbol in wanted.items() if list(wanted.values()).count(symbol) == 1}


def plain_number(value: float) -> str:
    """Return a positive number as it is written."""
    if math.isinf(value):
        return "∞"
    return str(int(value)) if value == value // 1 and value < 1e15 else repr(value)


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
            return (style.table["neg"].format(text), min(binding, SIGN)) if node.value < 0 else (text, binding)
        if node.op.startswith("math."):
            arguments = style.comma.join(self(arg) for arg in node.args)
            return style.call.format(style.function(node.op.removeprefix("math.")), arguments), ATOM
        if node.op == "polar":  # how it is computed is said elsewhere
            return style.table["polar"].format(self(node.args[0])), ATOM
        if node.op == "where" and node.args[1] is node.args[2]:
            return self._write(node.args[1])  # a number of the host, for every element
        is_square = node.op == "mul" and node.args[0] is node.args[1]
        op, args = ("square", node.args[:1]) if is_square else (node.op, node.args)
        places = style.places.get(op) or _PLACES.get(op) or (0,) * len(args)
        operands = [self._operand(arg, place) for arg, place in zip(args, places, strict=True)]
        if op in ("add", "sub", "mul") and style.read(operands[1]).startswith(("-", "−")):
            operands[1] = style.bracket.format(operands[1])
        if op == "mul" and style.read(operands[1])[:1].isdigit():
            op = "times"  # 0.5 3 would read as one number
        over = "" if node.name in ("", "tensor") else f" over {node.name}"
        return style.table[f"{op}{over}"].format(*operands), style.binding.get(op, _BINDING.get(op, ATOM))

    def _operand(self, node: Node, place: int) -> str:
        text, binding = self._write(node)
        return self._style.bracket.format(text) if binding < place else text
