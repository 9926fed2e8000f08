"""Combinators that scale the step of a tensor, by what they find over all of its elements."""

from __future__ import annotations

import functools
import math
from collections import deque
from typing import Any

from steprule.errors import RuleError
from steprule.language import maximum, mean, norm, sqrt, where
from steprule.rules.combine import combinator, computed, wrap
from steprule.rules.difference import descent
from steprule.rules.guard import update_ratio
from steprule.rules.hyperparameters import Role
from steprule.rules.rule import Rule
from steprule.rules.schedule_free import schedule_free
from steprule.rules.trust import quotient_or_one

__all__ = ["clips", "is_clipped", "trust_ratio", "update_clip"]


# Engines keep what they make of it: a rule that is not used any more is not kept for that.
@functools.partial(combinator, last=deque(maxlen=0))
def update_clip(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with ``lr / max(1, RMS)`` for ``lr``: steps that the second moment has not foreseen are clipped.

    RMS is the root of the mean of ``g**2 / max(v_hat, eps**2)`` over the tensor. Where it is not finite, a gradient is
    not; nothing is clipped then, so that the other elements do not suffer. A variant without ``lr`` steps as ever.

    Of a ``schedule_free`` rule the step of the rule inside is clipped, and not the weight of the iterate:
    ``update_clip(schedule_free(rule))`` is ``schedule_free(update_clip(rule))``.

    Source: StableAdamW, Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013.
    """

    if rule.made_by and rule.made_by[0] is schedule_free:
        return schedule_free(update_clip(rule.made_by[1][0]), name)  # type: ignore[no-any-return]

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, lr: Any, **hyper: Any) -> tuple[Any, ...]:
        elements, values = [theta, g, *slots], {"lr": lr, **hyper}
        ratio = update_ratio(rule, rule.variant(values))
        if ratio is not None and lr is not None:
            rms = sqrt(mean(computed(rule, ratio, elements, t, values)))
            values["lr"] = lr * where(rms < math.inf, 1 / maximum(rms, 1.0), 1.0)
        return rule.compute(elements, t, values)

    if not clips(rule):
        what = "has no lr that could be lowered" if "lr" not in rule.hyperparameters else "keeps no SecondMoment"
        raise RuleError(f"{name}: rule {rule.name!r} {what}; use clip_norm")
    paper = "clipped update: Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013"
    return wrap(update_clip, rule, name, step, "With clipped updates: lr / max(1, RMS) for lr.", paper)


def clips(rule: Rule) -> bool:
    """Whether ``update_clip`` has something to do for a rule."""
    return "lr" in rule.hyperparameters and rule.slot_of(Role.SECOND_MOMENT) is not None


def is_clipped(rule: Rule) -> bool:
    """Whether ``update_clip`` is among the combinators that a rule is made by."""
    return bool(rule.made_by) and (rule.made_by[0] is update_clip or is_clipped(rule.made_by[1][0]))


@combinator
def trust_ratio(rule: Rule, name: str) -> Rule:
    """Return ``rule`` whose step has, in each tensor, ``lr`` times the norm of the tensor.

    The step that the rule would take with an ``lr`` of 1, weight decay included, is multiplied by ``lr`` and by the
    norm of ``theta`` over its own norm; by ``lr`` alone where one of both norms is 0 or not a number. So
    ``trust_ratio(adamw)`` is ``lamb``, but for the default of ``eps``, to the last bit.

    Source: You et al. 2020, Algorithm 2 and Section 3, arXiv:1904.00962.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, lr: Any, **hyper: Any) -> tuple[Any, ...]:
        elements, values = [theta, g, *slots], {**hyper, "lr": None if lr is None else 1.0}
        down = computed(rule, descent(rule, rule.variant(values)), elements, t, values)
        _, *rest = rule.compute(elements, t, values)
        ratio = quotient_or_one(norm(theta), norm(down))
        return theta - (ratio if lr is None else lr * ratio) * down, *rest

    if "lr" not in rule.hyperparameters:
        raise RuleError(f"{name}: rule {rule.name!r} has no lr, which would be the size of its steps")
    doc = "With trust ratios: the step of each tensor has lr times the norm of the tensor."
    paper = "trust ratio: You et al. 2020, Section 3, arXiv:1904.00962"
    return wrap(trust_ratio, rule, name, step, doc, paper)
