"""The host prelude: what depends on hyperparameters and the step number alone.

It is computed once a step in Python's float64, from generated Python text, and handed to kernels
as one row of float64 scalars. A backend that computes it elsewhere spells the expressions itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steprule.language.cached import cached_attribute
from steprule.language.node import Node, constant, symbol
from steprule.language.walk import postorder

__all__ = ["PYTHON", "Prelude", "assignments", "distinct", "make_prelude", "split"]

_RESERVED = ("math", "np", "divided", "abs", "inf", "nan", "prelude")

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
_ON_ARRAYS = {
    **{op: PYTHON[op] for op in ("add", "sub", "mul", "neg", "lt", "le", "gt", "ge", "eq", "ne")},
    "div": "divided({0}, {1})",
    "abs": "np.abs({0})",
    "sqrt": "np.sqrt({0})",
    "and": "np.logical_and({0}, {1})",
    "or": "np.logical_or({0}, {1})",
    "not": "np.logical_not({0})",
    "where": "np.where({0}, {1}, {2})",
}
"""How NumPy spells those that give the same bits on arrays of float64."""
_DIVIDED = """\
def divided(a, b):
    if not np.all(b):  # infinity and NaN over zero raise no flag, but Python does
        raise FloatingPointError("division by zero")
    return a / b
"""
_HELPERS: dict[str, Any] = {"np": np}
exec(compile(_DIVIDED, "<prelude>", "exec"), _HELPERS)  # as the text that calls it: errors tell where they are from


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

    @cached_attribute
    def function(self) -> Callable[..., tuple[float, ...]]:
        """The compiled function: ``function(*arguments)`` returns the row, then the scalar slots."""
        namespace: dict[str, Any] = {"math": math, "inf": math.inf, "nan": math.nan}
        exec(compile(self.text, "<prelude>", "exec"), namespace)
        function: Callable[..., tuple[float, ...]] = namespace.pop("prelude")  # no cycle: it holds the namespace
        return function

    @cached_attribute
    def on_arrays(self) -> Callable[..., tuple[Any, ...]] | None:
        """The function on arrays of float64, with the same bits; None where NumPy does not give them.

        Where Python's floats raise, it raises ``FloatingPointError``, or NumPy does as ``np.errstate`` says.
        """
        nodes = postorder(self.results)
        if any(node.args and node.op not in _ON_ARRAYS for node in nodes):
            return None
        namespace: dict[str, Any] = {**_HELPERS, "inf": math.inf, "nan": math.nan}
        exec(compile(_text_of(self.arguments, self.results, _ON_ARRAYS), "<prelude>", "exec"), namespace)
        function: Callable[..., tuple[Any, ...]] = namespace.pop("prelude")
        return function


def make_prelude(arguments: Iterable[str], row: list[Node], scalar_slots: dict[str, Node]) -> Prelude:
    """Return the prelude that computes the nodes of ``row`` and the new scalar slots."""
    arguments, results = tuple(arguments), (*row, *scalar_slots.values())
    conditions = tuple(node.kind == "bool" for node in row)
    return Prelude(arguments, _text_of(arguments, results, PYTHON), conditions, tuple(scalar_slots), results)


def _text_of(arguments: Iterable[str], results: Sequence[Node], spelling: Mapping[str, str]) -> str:
    names = distinct(arguments, _RESERVED)
    lines, texts = assignments(results, names.values(), lambda node, args: _text(node, args, names, spelling))
    values = "".join(f"{texts[node]}, " for node in results)
    body = "\n".join(f"    {line}" for line in [*lines, f"return ({values})"])
    return f"def prelude({', '.join(names.values())}):\n{body}\n"


def split(prelude: Prelude, late: Sequence[str]) -> tuple[Prelude, Prelude, tuple[int, ...]]:
    """Return a prelude in two parts, for arguments that have many values a step, such as sums over each tensor.

    Args:
        prelude: whose scalar slots do not depend on them.
        late: the arguments that have many values.

    Returns:
        The first part, with 0 for the scalars that come late, whose further results the second part takes, before the
        late arguments; the second part, which gives these scalars; and their places in the row.
    """
    depends: dict[Node, bool] = {}
    for node in postorder(prelude.results):
        is_late = node.op == "symbol" and node.name in late
        depends[node] = is_late or any(depends[arg] for arg in node.args)
    places = tuple(place for place, node in enumerate(prelude.results) if depends[node])
    stands = {node: node for node in depends if depends[node] and node.op == "symbol"}
    between: list[Node] = []
    for node in depends:  # arguments come before what uses them
        for arg in node.args if depends[node] else ():
            if arg not in stands and not depends[arg]:
                is_constant = arg.op == "const"
                stands[arg] = arg if is_constant else symbol(f"_between{len(between)}", "host", arg.kind)
                between += [] if is_constant else [arg]
        if depends[node] and node.args:
            args = tuple(stands[arg] for arg in node.args)
            stands[node] = Node(node.op, args, stage=node.stage, kind=node.kind)
    count = len(prelude.conditions)
    row = [constant(0.0) if place in places else node for place, node in enumerate(prelude.results[:count])]
    slots = dict(zip(prelude.scalar_slots, prelude.results[count:], strict=True))
    given = {stands[node].name: node for node in between}
    first = make_prelude([name for name in prelude.arguments if name not in late], row, {**slots, **given})
    return first, make_prelude([*given, *late], [stands[prelude.results[place]] for place in places], {}), places


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


def _text(node: Node, args: list[str], names: dict[str, str], spelling: Mapping[str, str]) -> str:
    if node.op == "symbol":
        return names[node.name]
    if node.op == "const":
        return f"({node.value!r})" if node.value < 0 else repr(node.value)
    if node.op.startswith("math."):
        return f"{node.op}({', '.join(args)})"
    return spelling[node.op].format(*args)
