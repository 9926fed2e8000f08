"""The host prelude: what depends on hyperparameters and the step number alone.

It is computed once a step in Python's float64, from generated Python text, and handed to kernels
as one row of float64 scalars. A backend that computes it elsewhere spells the expressions itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from steprule.language.node import Node
from steprule.language.once import once
from steprule.language.walk import postorder

__all__ = ["PYTHON", "Prelude", "assignments", "distinct", "make_prelude"]

_RESERVED = ("math", "abs", "inf", "nan", "prelude")

PYTHON = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "mod": "({0} % {1})",
    "floordiv": "({0} // {1})",
    "pow": "({0} ** {1})",
    "neg": "(-{0})",
    "abs": "abs({0})",
    "sqrt": "math.sqrt({0})",
    "lt": "({0} < {1})",
    "le": "({0} <= {1})",
    "gt": "({0} > {1})",
    "ge": "({0} >= {1})",
    "eq": "({0} == {1})",
    "ne": "({0} != {1})",
    "and": "({0} and {1})",
    "or": "({0} or {1})",
    "not": "(not {0})",
    "where": "({1} if {0} else {2})",
}
"""How Python spells the operations on numbers."""


@dataclass(frozen=True)
class Prelude:
    """Python text of a function from hyperparameters, ``t`` and scalar slots to a row of scalars.

    Attributes:
        arguments: the names it takes, in order.
        text: its source.
        conditions: for each scalar of the row, whether it is a condition (1.0 or 0.0).
        scalar_slots: the scalar slots whose new values follow the row.
        results: the expressions of the row, then of the scalar slots; the text says the same.
    """

    arguments: tuple[str, ...]
    text: str
    conditions: tuple[bool, ...]
    scalar_slots: tuple[str, ...]
    # Nodes are equal only to themselves, and those of plans that are traced again would not be.
    results: tuple[Node, ...] = field(compare=False, repr=False)

    @once
    def function(self) -> Callable[..., tuple[float, ...]]:
        """The compiled function: ``function(*arguments)`` returns the row, then the scalar slots."""
        namespace: dict[str, Any] = {"math": math, "inf": math.inf, "nan": math.nan}
        exec(compile(self.text, "<prelude>", "exec"), namespace)
        function: Callable[..., tuple[float, ...]] = namespace.pop("prelude")  # no cycle: it holds the namespace
        return function


def make_prelude(arguments: Iterable[str], row: list[Node], scalar_slots: dict[str, Node]) -> Prelude:
    """Return the prelude that computes the nodes of ``row`` and the new scalar slots."""
    arguments = tuple(arguments)
    results = [*row, *scalar_slots.values()]
    names = distinct(arguments, _RESERVED)
    lines, texts = assignments(results, names.values(), lambda node, args: _text(node, args, names))
    values = "".join(f"{texts[node]}, " for node in results)
    body = "\n".join(f"    {line}" for line in [*lines, f"return ({values})"])
    text = f"def prelude({', '.join(names.values())}):\n{body}\n"
    conditions = tuple(node.kind == "bool" for node in row)
    return Prelude(arguments, text, conditions, tuple(scalar_slots), tuple(results))


def distinct(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return a Python name for each name: itself, or with underscores where it is taken."""
    used = set(taken)
    chosen: dict[str, str] = {}
    for name in names:
        spelled = name
        while spelled in used:
            spelled += "_"
        used.add(spelled)
        chosen[name] = spelled
    return chosen


def assignments(
    results: Iterable[Node], taken: Iterable[str], spell: Callable[[Node, list[str]], str]
) -> tuple[list[str], dict[Node, str]]:
    """Return the lines that name intermediate values, and the text of every node.

    Named are what is used twice, and the branches of ``where``: both are computed, as they are when
    the rule is called on numbers.

    Args:
        results: what is computed.
        taken: names that are in use.
        spell: returns the text of a node, given those of its arguments.
    """
    results, taken = list(results), set(taken)
    order = postorder(results)
    args = [arg for node in order for arg in node.args]
    named = {node for node in order if node.args and sum(arg is node for arg in args) > 1}
    named |= {arg for node in order if node.op == "where" for arg in node.args[1:] if arg.args}
    lines: list[str] = []
    texts: dict[Node, str] = {}
    for node in order:
        texts[node] = spell(node, [texts[arg] for arg in node.args])
        if node in named:
            name = distinct([f"h{len(lines)}"], taken)[f"h{len(lines)}"]
            lines.append(f"{name} = {_unwrapped(texts[node])}")
            texts[node] = name
    return lines, texts


def _unwrapped(text: str) -> str:
    """Return ``text`` without the parentheses around all of it."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if text.startswith("(") and position == len(text) - 1 else text
    return text


def _text(node: Node, args: list[str], names: dict[str, str]) -> str:
    if node.op == "symbol":
        return names[node.name]
    if node.op == "const":
        return f"({node.value!r})" if node.value < 0 else repr(node.value)
    if node.op.startswith("math."):
        return f"{node.op}({', '.join(args)})"
    return PYTHON[node.op].format(*args)
