"""Lowering: derived operations become primitive ones, equal expressions become one node."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.language.functions import DERIVED, everywhere, sqrt, where
from steprule.language.matrices import Along
from steprule.language.node import VECTOR, Node, constant, is_number, symbol
from steprule.language.polar import Polar
from steprule.language.sums import (
    ALL,
    ALL_COLUMNS,
    ALL_ROWS,
    COLUMN,
    IN_COLUMN,
    IN_ROW,
    NDIM,
    PRODUCT,
    ROW,
    SIZE,
    SUMS,
    TOTAL,
)
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


_COUNTS = {"row": ALL_ROWS, "column": ALL_COLUMNS}
"""What counts that of which a sum over the tensor is, where it is not elements."""


class Lowering:
    """Rewrites expressions, sharing what is equal. No arithmetic is changed: bits stay.

    What is summed over elements is cut off: a number of the host stands in its place, or one of each row or column. So
    are polar factors, in whose place a plane stands.

    Attributes:
        totals: what is summed, by the name of that number; those that others depend on come first.
        along: the words of those over each row or column, by name, as the name says.
        squared: the names of those that are squared.
        products: what the host makes of some of them, by name, instead of a sum: these are kept element by element.
    """

    def __init__(self, stands_for: Mapping[str, Node] | None = None) -> None:
        """Take expressions that stand in the place of symbols, by the symbols' names."""
        self._shared: dict[tuple[object, ...], Node] = {}
        self._lowered: dict[Node, Node] = {}
        self._names: dict[tuple[Node, str, str], str] = {}
        self.totals: dict[str, Node] = {}
        self.along: dict[str, str] = {}
        self.squared: set[str] = set()
        self.products: dict[str, Polar] = {}
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
        if node.op == "ndim":
            return self(symbol(NDIM, "host"))
        if node.op in SUMS:
            return self(self._of_sums(node, args[0]))
        if node.op == "polar":
            return self(self._product(node, args[0]))
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
        if node.name in ("row", "column"):
            return self._along(node, summed, "row" if node.name == "row" else "column")
        prefix = ALL if node.name == "all" else ""
        count = f"{prefix}{_COUNTS.get(node.args[0].stage, SIZE)}"
        if node.op == "size":
            return symbol(count, "host")
        is_squared = node.op in ("norm", "rms")
        key = (summed, str(is_squared), prefix)
        name = self._names.setdefault(key, f"{prefix}{TOTAL}{len(self._names)}")
        self.totals[name] = summed
        if is_squared:
            self.squared.add(name)
        found = symbol(name, "host")
        averaged = found / symbol(count, "host") if node.op in ("mean", "rms") else found
        return sqrt(averaged) if is_squared else averaged

    def _product(self, node: Node, x: Node) -> Node:
        """Return what a polar factor comes to: a symbol of the plane that the host leaves it in."""
        own = Polar.of(node)
        name = self._names.setdefault((x, repr(own), ""), f"{PRODUCT}{len(self.products)}")
        self.totals[name], self.products[name] = x, own
        return symbol(name, "element")

    def _along(self, node: Node, summed: Node, over: Along) -> Node:
        """Return what a word for a sum over each row or column comes to: a symbol, or of vectors the word itself."""
        if node.op == "size":
            return symbol(IN_ROW if over == "row" else IN_COLUMN, "host")
        if summed.stage in VECTOR:
            same = self._shared.setdefault(
                (node.op, over, id(summed)), Node(node.op, (summed,), stage="matrix", name=over)
            )
            self._lowered[same] = same  # which is no word to be cut off
            return same
        name = self._names.setdefault((summed, node.op, over), f"{ROW if over == 'row' else COLUMN}{len(self._names)}")
        self.totals[name], self.along[name] = summed, node.op
        if node.op in ("norm", "rms"):
            self.squared.add(name)
        return symbol(name, over)

    def _of_its_stage(self, decided: Node, node: Node) -> Node:
        """Return what a choice comes to as what the choice is: a number of every element, row or column."""
        if decided.kind != "float" or decided.stage == node.stage or is_number(node):
            return decided
        like = next((below for below in postorder([node]) if below is not node and below.stage == node.stage), None)
        if like is not None:
            return self(everywhere(decided, self._lowered[like]))
        _, row, column = (self._lowered[arg] for arg in node.args)  # which are numbers of elements only together
        return self(where(row == column, decided, decided))
