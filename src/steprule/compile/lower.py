"""Lowering: derived operations become primitive ones, equal expressions become one node."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.language.functions import DERIVED
from steprule.language.node import Node
from steprule.language.walk import postorder

__all__ = ["Lowering"]


class Lowering:
    """Rewrites expressions, sharing what is equal. No arithmetic is changed: bits stay."""

    def __init__(self, stands_for: Mapping[str, Node] | None = None) -> None:
        """Take expressions that stand in the place of symbols, by the symbols' names."""
        self._shared: dict[tuple[object, ...], Node] = {}
        self._lowered: dict[Node, Node] = {}
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
        if node.op == "symbol" and node.name in self._stands_for:
            return self._stands_for[node.name]
        # repr keeps 0.0 and -0.0, and 1 and 1.0, apart.
        key = (node.op, node.name, node.kind, repr(node.value), *map(id, args))
        if key not in self._shared:
            same = Node(node.op, args, stage=node.stage, kind=node.kind, name=node.name, value=node.value)
            self._shared[key] = same
        return self._shared[key]
