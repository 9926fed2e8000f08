"""Walks over expressions."""

from __future__ import annotations

from collections.abc import Iterable

from steprule.language.node import Node

__all__ = ["first_difference", "postorder", "symbols_in"]


def first_difference(one: Node, other: Node) -> tuple[Node, Node] | None:
    """Return the first values in which two expressions differ, outermost first; None where they say the same."""
    stack = [(one, other)]
    seen: set[tuple[int, int]] = set()
    while stack:
        a, b = stack.pop()
        if (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        # repr: a NaN is the same as another one, and zeros of two signs are two numbers.
        if (a.op, a.name, a.kind, repr(a.value), len(a.args)) != (b.op, b.name, b.kind, repr(b.value), len(b.args)):
            return a, b
        stack.extend(zip(reversed(a.args), reversed(b.args), strict=True))
    return None


def postorder(roots: Iterable[Node], apart: Iterable[Node] = ()) -> list[Node]:
    """Return every node below the roots once, arguments before what uses them.

    Those ``apart`` are left out, and what only they use.
    """
    order: list[Node] = []
    seen: set[Node] = set(apart)
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


def symbols_in(roots: Iterable[Node], apart: Iterable[Node] = ()) -> frozenset[str]:
    """Return the names of the symbols that the expressions depend on, otherwise than by the nodes ``apart``."""
    return frozenset(node.name for node in postorder(roots, apart) if node.op == "symbol")
