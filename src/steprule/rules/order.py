"""Whether a rule returns its results in the order of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from steprule.language.node import Node
from steprule.language.tracing import explain, returning
from steprule.language.walk import postorder

__all__ = ["check_order"]


def check_order(
    function: Callable[..., Any],
    name: str,
    expected: Sequence[str],
    variants: Iterable[Any],
    outputs: Callable[[Any], Sequence[Any]],
) -> None:
    """Refuse results in another order than the arguments: a new m in theta's place runs, and learns nothing.

    A variable that is computed, called as one argument and returned in the place of another, is not an accident of
    names; old values may stand anywhere, as in slots that keep the last gradients. A slot may keep a new theta that the
    parameter goes on from: theta + mu (theta - last), theta (Nesterov 1983).

    Args:
        function: the rule's own.
        name: the rule's.
        expected: the parameter and the slots.
        variants: the choices to look at.
        outputs: what the function returns for one of them.

    Raises:
        RuleError: with the line.
    """
    for variant in variants:
        local: dict[str, Any] = {}
        with returning(function, local):
            places = dict(zip(expected, outputs(variant), strict=True))
        for place, value in places.items():
            called = [own for own, bound in local.items() if bound is value]
            if not isinstance(value, Node) or value.op in ("symbol", "const") or place in called:
                continue
            if expected[0] in called and _is_part(value, places[expected[0]]):
                continue
            if called and set(called) <= set(expected) and not any(places[own] is value for own in called):
                raise explain(
                    function,
                    name,
                    f"returns {called[0]} in the place of {place}: results come in the order of the arguments, "
                    f"{', '.join(expected)}. If that is meant, give the variable another name",
                    at_return=True,
                )


def _is_part(value: Node, whole: Any) -> bool:
    return isinstance(whole, Node) and any(node is value for node in postorder([whole]))
