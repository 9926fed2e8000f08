"""The one walk over expressions."""

from __future__ import annotations

from collections.abc import Iterable

from steprule.language.node import Node

__all__ = ["postorder"]


def postorder(roots: Iterable[Node]) -> list[Node]:
    """Return every node below the roots once, arguments before what uses them."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))
    return order
