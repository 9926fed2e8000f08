"""A cache on the rule itself: what is made of a rule is freed with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from steprule.rules.rule import Rule

__all__ = ["cached_with_rule"]

P = ParamSpec("P")
T = TypeVar("T")


def cached_with_rule(make: Callable[Concatenate[Rule, P], T]) -> Callable[Concatenate[Rule, P], T]:
    """Let a function of a rule, and of other arguments, compute each result once for as long as the rule lives.

    A cache of the module's would keep every rule of a search over thousands. What the function returns must not refer
    to the rule: such a cycle is freed late, or never where the cyclic collector is off.
    """

    @functools.wraps(make)
    def once(rule: Rule, /, *args: P.args, **named: P.kwargs) -> T:
        key: tuple[Any, ...] = (make, args, *named.items())
        try:
            result: T = rule.made[key]
        except KeyError:
            # Another thread may have made it meanwhile: all go on with the same.
            result = rule.made.setdefault(key, make(rule, *args, **named))
        return result

    return once
