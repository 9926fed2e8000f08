"""The host prelude: what depends on hyperparameters and the step number alone.

It is computed once a step in Python's float64, from generated Python text, and handed to kernels
as one row of float64 scalars. A backend that computes it elsewhere spells the expressions itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from steprule.language.cached import cached_attribute
from steprule.language.node import Node, constant, symbol
from steprule.language.walk import postorder, symbols_in

__all__ = ["NEVER_RAISES", "PYTHON", "Parts", "Prelude", "assignments", "distinct", "make_prelude", "split"]

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
_IEEE = {**_ON_ARRAYS, "div": "np.divide({0}, {1})"}
"""How NumPy spells them so that nothing raises: a division by zero is infinite or NaN."""
NEVER_RAISES = frozenset(_IEEE)
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
    """Python text of a function from hyperparameters, ``t`` and slots that are numbers to a row of scalars.

    Attributes:
        arguments: the names it takes, in order.
        text: its source.
        conditions: for each scalar of the row, whether it is a condition (1.0 or 0.0).
        scalar_slots: the slots that are numbers, of a group or of a tensor, whose new values follow the row.
        results: the expressions of the row, then of these slots; the text says the same.
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
        return self._spelled(_ON_ARRAYS) if all(not node.args or node.op in _ON_ARRAYS for node in nodes) else None

    @cached_attribute
    def without_errors(self) -> Callable[..., tuple[Any, ...]]:
        """The same where it is there, but infinite or NaN where Python's floats raise."""
        return self._spelled(_IEEE)

    def _spelled(self, spelling: Mapping[str, str]) -> Callable[..., tuple[Any, ...]]:
        namespace: dict[str, Any] = {**_HELPERS, "inf": math.inf, "nan": math.nan}
        exec(compile(_text_of(self.arguments, self.results, spelling), "<prelude>", "exec"), namespace)
        function: Callable[..., tuple[Any, ...]] = namespace.pop("prelude")
        return function


class Parts(NamedTuple):
    """A prelude in parts: what is known before a step once a group, then of each row, then what the step has summed.

    Places are those of the prelude's results. Arguments of a part are its own, or what a part before it carries on.

    Attributes:
        first: with 0 for the results that come later; what it carries on follows its slots.
        late: gives the results at ``late_places``, then what it carries on. None where nothing is late.
        after: gives the results at ``after_places``, which are slots. None where nothing waits for the step.
    """

    first: Prelude
    late: Prelude | None = None
    late_places: tuple[int, ...] = ()
    after: Prelude | None = None
    after_places: tuple[int, ...] = ()


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


def split(prelude: Prelude, late: Collection[str], after: Collection[str]) -> Parts:
    """Return a prelude in parts.

    Args:
        prelude: of a plan.
        late: the arguments that have a value for each tensor, such as sums over it.
        after: those that are known when the step has been taken.
    """
    ranks: dict[Node, int] = {}
    for node in postorder(prelude.results):
        rank = 0 if node.op != "symbol" else 1 if node.name in late else 2 if node.name in after else 0
        ranks[node] = max([rank, *(ranks[arg] for arg in node.args)])
    width = len(prelude.conditions)
    arguments = [name for name in prelude.arguments if name not in {*late, *after}]
    if not any(ranks.values()):  # numbers kept of a tensor are arguments all the same
        slots = dict(zip(prelude.scalar_slots, prelude.results[width:], strict=True))
        return Parts(make_prelude(arguments, list(prelude.results[:width]), slots))
    stands, carried = _carried(ranks, {*late, *after})
    own = [constant(0.0) if ranks[node] else node for node in prelude.results]
    given = {stands[node].name: node for node in carried if not ranks[node]}
    slots = {**dict(zip(prelude.scalar_slots, own[width:], strict=True)), **given}
    first = make_prelude(arguments, own[:width], slots)
    found: list[tuple[Prelude | None, tuple[int, ...]]] = []
    for rank, names in ((1, late), (2, (*late, *after))):
        places = tuple(place for place, node in enumerate(prelude.results) if ranks[node] == rank)
        goes_on = {stands[node].name: stands[node, rank] for node in carried if ranks[node] == rank}
        results = [stands[prelude.results[place], rank] for place in places]
        taken = symbols_in([*results, *goes_on.values()])
        before = [stands[node].name for node in carried if ranks[node] < rank]
        arguments = [name for name in (*before, *names) if name in taken]
        found.append((make_prelude(arguments, results, goes_on) if results or goes_on else None, places))
    return Parts(first, *found[0], *found[1])


def _carried(ranks: Mapping[Node, int], own: Collection[str]) -> tuple[dict[Any, Node], list[Node]]:
    """Return what stands for nodes, and those that one part carries on to another.

    For a node that is carried on a symbol stands, and for a node and its part's rank the expression there.
    """
    stands: dict[Any, Node] = {}
    carried: list[Node] = []

    def in_part(node: Node, rank: int) -> Node:
        if ranks[node] == rank or node.op == "const" or (node.op == "symbol" and node.name in own):
            return stands.get((node, rank), node)
        if node not in stands:
            stands[node] = symbol(f"_between{len(carried)}", "host", node.kind)
            carried.append(node)
        return stands[node]

    for node, rank in ranks.items():  # arguments come before what uses them
        if rank:
            args = tuple(in_part(arg, rank) for arg in node.args)
            stands[node, rank] = Node(node.op, args, stage=node.stage, kind=node.kind) if args else node
    return stands, carried


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
