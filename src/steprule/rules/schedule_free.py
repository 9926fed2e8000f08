"""Training without a schedule: steps at one point, an average of them at another, and gradients in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from steprule.errors import RuleError
from steprule.language import maximum, minimum, where
from steprule.language.computing import without
from steprule.language.node import Node
from steprule.language.walk import postorder
from steprule.rules.combine import combinator, computed_together, wrap
from steprule.rules.difference import descent
from steprule.rules.hyperparameters import Hyperparameter, Range, Role
from steprule.rules.points import check_single, with_names, with_slots
from steprule.rules.rule import Rule

__all__ = ["schedule_free"]

_SHARE = Range(0.0, 1.0, open_low=True)
_POWER = Range(0.0, 16.0, closed_high=True)
"""Weights of any step count are numbers of float64 then."""
_TITLES = {"sgd": "SGDScheduleFree", "adamw": "AdamWScheduleFree"}
"""What the authors call them."""


@combinator
def schedule_free(rule: Rule, name: str) -> Rule:
    """Return ``rule`` without a schedule: it steps z, x averages z, and gradients are taken at y, between both.

    With ``down``, the step that ``rule`` takes at y with the rate ``lr_t = lr min(1, t / warmup_steps)``::

        weight = t**weight_t_power max(lr_1, ..., lr_t)**weight_lr_power,  c = weight / (sum of the weights so far)
        y <- y + c (z - y) - (1 - beta (1 - c)) down
        z <- z - down
        x  = y + (1 - 1/beta) (z - y)

    The parameter is y while training, and x is what is evaluated (docs/evaluated.md). Adds ``beta`` (default 0.9,
    between 0 and 1), the share of x in y, ``warmup_steps`` (0), ``weight_t_power`` (0; the package calls it r) and
    ``weight_lr_power`` (2). Where ``rule`` keeps a FirstMoment that decays by ``beta1`` or ``beta``, as Adam does, x
    takes the place of that average: it is not kept, and that hyperparameter, with its own default, is the share of x in
    y. Weight decay is taken at y. Keep ``lr`` constant: averaging does what a schedule would do at the end.

    Source: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682, in the form of the authors' package.

    Raises:
        RuleError: for a rule without ``lr``, or with an evaluated point of its own.
    """
    if "lr" not in rule.hyperparameters:
        raise RuleError(f"{name}: rule {rule.name!r} has no lr, by which iterates are weighted")
    check_single(rule, name)
    average, share = _replaced(rule)
    slots = [slot for slot in rule.slots if slot != average]
    zeros = (average, share) if average else ()

    def step(y: Any, g: Any, z: Any, /, *own: Any, t: Any, warmup_steps: Any, **hyper: Any) -> tuple[Any, ...]:
        *kept, lr_max, weight_sum = own
        beta, values = hyper[share], {key: value for key, value in hyper.items() if key in rule.hyperparameters}
        warm = minimum(1.0, t / maximum(warmup_steps, 1.0))
        rate = warm if values["lr"] is None else values["lr"] * warm
        values |= {share: 0.0} if average else {}
        values["lr"] = None if values["lr"] is None else rate
        lr_max = maximum(rate, lr_max)
        weight = t ** hyper["weight_t_power"] * lr_max ** hyper["weight_lr_power"]
        weight_sum = weight_sum + weight
        c = where(weight_sum > 0, weight / where(weight_sum > 0, weight_sum, 1.0), 0.0)
        of = dict(zip(slots, kept, strict=True))
        elements = [y, g, *(of.get(slot, 0.0) for slot in rule.slots)]
        new = dict(zip(rule.slots, rule.compute(elements, t, values)[1:], strict=True))
        # Together: a monitor finds the second moment in the step by its being the very one that is kept.
        variant = rule.variant(values)
        traced = rule.trace(variant).slots if isinstance(g, Node) else {}
        kept_now = {slot: node for slot, node in traced.items() if slot in slots}
        roots = [without(descent(rule, variant), zeros), *kept_now.values()]
        down, *found = computed_together(rule, roots, elements, t, values)
        new |= zip(kept_now, found, strict=True)
        y = y + c * (z - y) - (1 - beta * (1 - c)) * down
        return y, z - down, *(new[slot] for slot in slots), lr_max, weight_sum

    doc = "Schedule-free: the rule steps z, x averages z, gradients are taken at y between both, and x is evaluated."
    paper = "schedule-free: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682"
    extra = [
        *([] if average else [Hyperparameter("beta", 0.9, _SHARE)]),
        Hyperparameter("warmup_steps", 0.0, Range(0.0)),
        Hyperparameter("weight_t_power", 0.0, _POWER),
        Hyperparameter("weight_lr_power", 2.0, _POWER),
    ]
    changes = with_slots(rule, name, ("z",), {"lr_max": 0.0, "weight_sum": 0.0}, average)
    changes |= {"evaluated": _point(rule.parameter, share), "title": _TITLES.get(rule.name, "")}
    if average:  # which may have a decay of 0; but with a share of 0, x would not be found
        own = {hyper.name: hyper for hyper in extra}
        own[share] = replace(rule.hyperparameters[share], range=_SHARE)
        changes["hyperparameters"] = {**rule.hyperparameters, **own}
    return wrap(schedule_free, rule, name, step, doc, paper, *extra, **changes)


def _replaced(rule: Rule) -> tuple[str | None, str]:
    """Return the average of gradients that the average of iterates replaces, if there is one, and the share's name.

    It is a FirstMoment that the rule uses for nothing but its own decay, so that with a decay of 0 it is the gradient.
    """
    slot = rule.slot_of(Role.FIRST_MOMENT)
    decay = next((name for name in ("beta1", "beta") if name in rule.hyperparameters), None)
    if slot is None or decay is None:
        return None, "beta"
    # Of ours one variant tells of all, as tests say: tracing all of adamw's would slow every import.
    traces = [rule.trace()] if rule.is_ours else rule.traces.values()
    used = [
        {arg.name for arg in node.args if arg.op == "symbol"} if node.op == "mul" else set()
        for trace in traces
        for node in postorder([trace.parameter, *trace.kept.values()])
        if any(arg.op == "symbol" and arg.name == slot for arg in node.args)
    ]
    return (slot, decay) if used and all(names == {slot, decay} for names in used) else (None, "beta")


def _point(parameter: str, share: str) -> Callable[..., Any]:
    """Return what is evaluated, as a function of the names of a rule."""

    def point(*, z: Any, **named: Any) -> Any:
        y = named[parameter]
        return y + (1 - 1 / named[share]) * (z - y)

    return with_names(point, parameter, "z", share)
