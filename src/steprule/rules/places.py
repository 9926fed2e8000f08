"""Whether a rule returns its results in the order of its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from steprule.language.node import Node
from steprule.language.tracing import explain, returning
from steprule.language.walk import postorder

if TYPE_CHECKING:
    from steprule.rules.rule import Rule, Variant

__all__ = ["check_places"]


def check_places(rule: Rule, variants: Iterable[Variant]) -> None:
    """Refuse results in another order than the arguments: a new m in theta's place runs, and learns nothing.

    A variable that is computed, called as one argument and returned in the place of another, is no accident of names;
    old values may stand anywhere, as in slots that keep the last gradients. A slot may keep a new theta that the
    parameter goes on from: theta + mu (theta - last), theta (Nesterov 1983).

    Raises:
        RuleError: with the line.
    """
    if rule.made_by or (getattr(rule.function, "__module__", "") or "").startswith("steprule."):
        return  # rules of other rules, whose variables are called as those of the rule inside
    expected = (rule.parameter, *rule.slots)
    for variant in variants:
        local: dict[str, Any] = {}
        with returning(rule.function, local):
            places = dict(zip(expected, rule.outputs(variant), strict=True))
        for place, value in places.items():
            called = [name for name, bound in local.items() if bound is value]
            if not isinstance(value, Node) or value.op in ("symbol", "const") or place in called:
                continue
            if rule.parameter in called and _is_part(value, places[rule.parameter]):
                continue
            if called and set(called) <= set(expected) and not any(places[name] is value for name in called):
                raise explain(
                    rule.function,
                    rule.name,
                    f"returns {called[0]} in the place of {place}: results come in the order of the arguments, "
                    f"{', '.join(expected)}. If that is meant, call the variable otherwise",
                    at_return=True,
                )


def _is_part(value: Node, whole: Any) -> bool:
    return isinstance(whole, Node) and any(node is value for node in postorder([whole]))
