"""The point that a rule has its model evaluated at, where that is not the parameter that it steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from steprule.errors import suggest
from steprule.language.node import Node
from steprule.language.sums import SUMS
from steprule.language.walk import postorder

__all__ = ["arguments_of", "misnamed", "misplaced"]


def arguments_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of what an evaluated point depends on."""
    return tuple(inspect.signature(function).parameters)


def misnamed(
    function: object, known: Collection[str], others: Mapping[str, str], slots: Mapping[str, Collection[str]]
) -> str:
    """Return what is wrong with the arguments of an evaluated point; empty if nothing is.

    Args:
        function: from these to the point.
        known: what it may ask for.
        others: what it must not ask for, with what that is.
        slots: the rule's slots of each kind that it must not ask for.
    """
    if not callable(function):
        return f"evaluated must be a function of names of the rule, such as lambda average: average, got {function!r}"
    for one in inspect.signature(function).parameters.values():
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) or one.default is not one.empty:
            return f"evaluated takes plain names, without defaults, got {one}"
        if one.name in others:
            return f"evaluated depends on {one.name}, {others[one.name]}; the point is asked for between steps"
        kind = next((kind for kind, names in slots.items() if one.name in names), None)
        if kind is not None:
            return f"evaluated depends on {one.name}, a slot of {kind}; it is computed element by element"
        if one.name not in known:
            return f"evaluated depends on {one.name!r}, which the rule does not have.{suggest(one.name, known)}"
    return ""


def misplaced(outputs: Sequence[Any]) -> str:
    """Return what is wrong with what the function of an evaluated point returned; empty if nothing is."""
    if len(outputs) != 1:
        return f"evaluated returns {len(outputs)} values, expected one: the point"
    (point,) = outputs
    if not isinstance(point, Node) or point.kind != "float" or point.stage != "element":
        return f"evaluated must be a number of every element, got {point!r}"
    if any(node.op in SUMS or node.op == "ndim" for node in postorder([point])):
        return "evaluated takes a sum; it is computed element by element, from what the rule keeps"
    return ""
