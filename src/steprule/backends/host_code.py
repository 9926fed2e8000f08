"""A prelude as statements of a target that computes it itself, in float64: C and JavaScript."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steprule.compile import assignments
from steprule.compile.prelude import PYTHON
from steprule.errors import TargetError
from steprule.language.node import Node

__all__ = ["COMMON", "Spelling", "statements"]

COMMON = {
    **PYTHON,
    "mod": "floor_mod({0}, {1})",
    "floordiv": "floor_divide({0}, {1})",
    "and": "({0} && {1})",
    "or": "({0} || {1})",
    "not": "(!{0})",
    "where": "({0} ? {1} : {2})",
    "math.degrees": f"({{0}} * {180 / math.pi!r})",
    "math.radians": f"({{0}} * {math.pi / 180!r})",
}
"""What both languages say alike; they have roots and powers of their own."""


@dataclass(frozen=True)
class Spelling:
    """How a target writes the numbers of a step.

    Attributes:
        target: its name, for messages.
        table: the text of each operation and function.
        name: how a value is named, with ``{name}`` and ``{text}``.
        infinity, nan: how these are written.
        conditions: how false and true are written.
    """

    target: str
    table: Mapping[str, str]
    name: str
    infinity: str
    nan: str
    conditions: tuple[str, str]


def statements(
    results: Sequence[Node], spelling: Spelling, names: Mapping[str, str], title: str
) -> tuple[list[str], list[str]]:
    """Return the lines that compute expressions of the host, and the texts of what they give.

    Args:
        results: the expressions, as a plan's prelude has them: the row, then the scalar slots.
        spelling: how the target writes.
        names: how the symbols are called.
        title: for messages.

    Raises:
        TargetError: when they call a function that the target has not.
    """
    lines, texts = assignments(results, names.values(), lambda node, args: _text(node, args, names, spelling, title))
    named = [spelling.name.format(name=name, text=text) for name, text in (line.split(" = ", 1) for line in lines)]
    return named, [texts[node] for node in results]


def _text(node: Node, args: list[str], names: Mapping[str, str], spelling: Spelling, title: str) -> str:
    if node.op == "symbol":
        return names[node.name]
    if node.op == "const":
        return _constant(node, spelling)
    if node.op == "math.log" and len(args) == 2:
        return "(" + " / ".join(spelling.table["math.log"].format(arg) for arg in args) + ")"
    text = spelling.table.get(node.op)
    if text is None or len(args) != sum(f"{{{place}}}" in text for place in range(3)):
        raise TargetError(
            f"{title}: the rule calls {node.op} with {len(args)} argument{'s' * (len(args) != 1)}, which "
            f"{spelling.target} has no function for. Write it with others, or take a target whose numbers of a step "
            "are computed by Python: llvm, triton or numpy"
        )
    return text.format(*args)


def _constant(node: Node, spelling: Spelling) -> str:
    if node.kind == "bool":
        return spelling.conditions[bool(node.value)]
    value = float(node.value)
    if math.isnan(value):
        return spelling.nan
    text = repr(abs(value)) if math.isfinite(value) else spelling.infinity
    return f"(-{text})" if math.copysign(1, value) < 0 else text
