"""Lowering: derived operations become primitive ones, equal expressions become one node."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.language.functions import DERIVED, everywhere, sqrt
from steprule.language.node import Node, constant, is_number, symbol
from steprule.language.sums import ALL, ALL_SIZE, SIZE, SUMS, TOTAL
from steprule.language.walk import postorder

__all__ = ["Lowering"]


def _decided(op: str, args: tuple[Node, ...]) -> Node | None:
    """Return what is left of an operation on a condition that is known: ``where(True, a, b)`` is ``a``."""
    known = [arg for arg in args if arg.op == "const" and arg.kind == "bool"]
    if not known:
        return None
    truth = bool(known[0].value)
    if op == "where":
        return args[1] if truth else args[2]
    if op == "not":
        return constant(not truth)
    other = args[0] if known[0] is args[1] else args[1]
    if op == "and":
        return other if truth else known[0]
    return known[0] if truth else other


class Lowering:
    """Rewrites expressions, sharing what is equal. No arithmetic is changed: bits stay.

    What is summed over elements is cut off: a number of the host stands in its place.

    Attributes:
        totals: what is summed, by the name of that number; those that others depend on come first.
        squared: the names of those that are squared.
    """

    def __init__(self, stands_for: Mapping[str, Node] | None = None) -> None:
        """Take expressions that stand in the place of symbols, by the symbols' names."""
        self._shared: dict[tuple[object, ...], Node] = {}
        self._lowered: dict[Node, Node] = {}
        self._names: dict[tuple[Node, bool, str], str] = {}
        self.totals: dict[str, Node] = {}
        self.squared: set[str] = set()
        self._stands_for: dict[str, Node] = {}
        # These may have symbols of the same names, which stand for themselves.
        self._stands_for = {name: self(node) for name, node in (stands_for or {}).items()}

    def __call__(self, root: Node) -> Node:
        """Return the lowered, shared form of ``root``."""
        for node in postorder([root]):
            if node not in self._lowered:
                lowered = self._lowered[node] = self._lower(node)
                # What is lowered stays as it is: a symbol that stood for itself still does.
                self._lowered[lowered] = lowered
        return self._lowered[root]

    def _lower(self, node: Node) -> Node:
        args = tuple(self._lowered[arg] for arg in node.args)
        if node.op in DERIVED:
            return self(DERIVED[node.op](*args))
        if node.op in SUMS:
            return self(self._of_sums(node, args[0]))
        if node.op == "symbol" and node.name in self._stands_for:
            return self._stands_for[node.name]
        decided = _decided(node.op, args)
        if decided is not None:
            return self._of_its_stage(decided, node)
        # repr keeps 0.0 and -0.0, and 1 and 1.0, apart.
        key = (node.op, node.name, node.kind, repr(node.value), *map(id, args))
        if key not in self._shared:
            stage = "host" if is_number(node) else node.stage
            same = Node(node.op, args, stage=stage, kind=node.kind, name=node.name, value=node.value)
            self._shared[key] = same
        return self._shared[key]

    def _of_sums(self, node: Node, summed: Node) -> Node:
        """Return what a word for a sum comes to: an expression of a sum, and of the number of elements."""
        prefix, count = (ALL, ALL_SIZE) if node.name == "all" else ("", SIZE)
        if node.op == "size":
            return symbol(count, "host")
        is_squared = node.op in ("norm", "rms")
        key = (summed, is_squared, prefix)
        name = self._names.setdefault(key, f"{prefix}{TOTAL}{len(self._names)}")
        self.totals[name] = summed
        if is_squared:
            self.squared.add(name)
        found = symbol(name, "host")
        averaged = found / symbol(count, "host") if node.op in ("mean", "rms") else found
        return sqrt(averaged) if is_squared else averaged

    def _of_its_stage(self, decided: Node, node: Node) -> Node:
        """Return what a choice comes to as a number of every element, where it is one of elements."""
        if decided.kind != "float" or decided.stage != "host" or node.stage != "element":
            return decided
        element = next(below for below in postorder([node]) if below.op == "symbol" and below.stage == "element")
        return self(everywhere(decided, self._lowered[element]))
