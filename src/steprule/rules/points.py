"""What combinators that keep a point beside the parameter have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from steprule.errors import RuleError
from steprule.rules.rule import Rule

__all__ = ["check_single", "with_names", "with_slots"]


def check_single(rule: Rule, name: str) -> None:
    """Refuse a rule that has an evaluated point already, of which the outer one would say nothing.

    Raises:
        RuleError: with both names.
    """
    if rule.evaluated is not None:
        raise RuleError(
            f"{name}: rule {rule.name!r} has an evaluated point of its own, and a model is evaluated at one point"
        )


def with_slots(
    rule: Rule, name: str, points: tuple[str, ...], numbers: Mapping[str, float], without: str | None = None
) -> dict[str, Any]:
    """Return the fields of a rule with points before its slots and Scalars behind them, and perhaps without a slot.

    Raises:
        RuleError: when the rule has a slot or a hyperparameter of such a name.
    """
    for own in (*points, *numbers):
        if own in {*rule.slots, *rule.hyperparameters, rule.parameter, rule.gradient}:
            raise RuleError(f"{name}: rule {rule.name!r} has a {own!r} of its own; give that another name")
    kept = tuple(slot for slot in rule.slots if slot != without)
    return {
        "slots": (*points, *kept, *numbers),
        "scalars": rule.scalars | {*numbers},
        "non_negative": rule.non_negative - {without},
        "roles": {slot: role for slot, role in rule.roles.items() if slot != without},
        "init": {
            **dict.fromkeys(points, rule.parameter),
            **{slot: start for slot, start in rule.init.items() if slot != without},
            **{number: start for number, start in numbers.items() if start},
        },
    }


def with_names(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Return a function as one of arguments with these names, which a rule asks it for."""
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return function
