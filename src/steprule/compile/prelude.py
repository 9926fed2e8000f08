"""The host prelude: what depends on hyperparameters and the step number alone.

It is computed once a step in Python's float64, from generated Python text, and handed to kernels
as one row of float64 scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steprule.compile.lower import postorder
from steprule.language.node import Node

__all__ = ["Prelude", "make_prelude"]

_PYTHON = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "mod": "({0} % {1})",
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


@dataclass(frozen=True)
class Prelude:
    """Python text of a function from hyperparameters, ``t`` and scalar slots to a row of scalars.

    Attributes:
        arguments: the names it takes, in order.
        text: its source.
        conditions: for each scalar of the row, whether it is a condition (1.0 or 0.0).
        scalar_slots: the scalar slots whose new values follow the row.
    """

    arguments: tuple[str, ...]
    text: str
    conditions: tuple[bool, ...]
    scalar_slots: tuple[str, ...]

    @cached_property
    def function(self) -> Callable[..., tuple[float, ...]]:
        """The compiled function: ``function(*arguments)`` returns the row, then the scalar slots."""
        namespace: dict[str, Any] = {"math": math, "inf": math.inf, "nan": math.nan}
        exec(compile(self.text, "<prelude>", "exec"), namespace)
        function: Callable[..., tuple[float, ...]] = namespace["prelude"]
        return function


def make_prelude(arguments: Iterable[str], row: list[Node], scalar_slots: dict[str, Node]) -> Prelude:
    """Return the prelude that computes the nodes of ``row`` and the new scalar slots."""
    arguments = tuple(arguments)
    results = [*row, *scalar_slots.values()]
    lines, texts = _assignments(results)
    values = "".join(f"{texts[node]}, " for node in results)
    body = "\n".join(f"    {line}" for line in [*lines, f"return ({values})"])
    text = f"def prelude({', '.join(arguments)}):\n{body}\n"
    return Prelude(arguments, text, tuple(node.kind == "bool" for node in row), tuple(scalar_slots))


def _assignments(results: list[Node]) -> tuple[list[str], dict[Node, str]]:
    """Return the lines that name what is used twice, and the text of every node."""
    order = postorder(results)
    uses: dict[Node, int] = dict.fromkeys(order, 0)
    for arg in [arg for node in order for arg in node.args]:
        uses[arg] += 1
    lines: list[str] = []
    texts: dict[Node, str] = {}
    for node in order:
        text = _text(node, texts)
        if node.args and uses[node] > 1:
            lines.append(f"h{len(lines)} = {text.removeprefix('(').removesuffix(')') if _wrapped(text) else text}")
            text = f"h{len(lines) - 1}"
        texts[node] = text
    return lines, texts


def _wrapped(text: str) -> bool:
    """Whether the outermost parentheses of ``text`` enclose all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position == len(text) - 1
    return False


def _text(node: Node, texts: dict[Node, str]) -> str:
    if node.op == "symbol":
        return node.name
    if node.op == "const":
        return f"({node.value!r})" if node.value < 0 else repr(node.value)
    if node.op.startswith("math."):
        return f"{node.op}({', '.join(texts[arg] for arg in node.args)})"
    return _PYTHON[node.op].format(*(texts[arg] for arg in node.args))
