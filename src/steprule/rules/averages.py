"""Averages of the iterates beside a rule: of all of them, of the last ones, or of every k-th."""

from __future__ import annotations

from typing import Any

from steprule.language import maximum, where
from steprule.rules.combine import combinator, wrap
from steprule.rules.hyperparameters import Hyperparameter, Range
from steprule.rules.points import check_single, with_slots
from steprule.rules.rule import Rule

__all__ = ["averaged", "lookahead"]

_SHARE = Range(0.0, 1.0, closed_high=True)


@combinator
def averaged(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with an average of its iterates, which is evaluated; training goes on from the last iterate.

    Adds ``decay`` (default 0.999, in [0, 1), or None) and ``start`` (default 0). With a decay the average is
    exponential, without bias: it weighs the iterate of n steps before by ``decay**n``, over the sum of these. With
    ``decay=None`` it is the mean of the iterates of all steps after step ``start``, and the last iterate until then;
    ``start`` has a meaning for this alone.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046, for the mean; the exponential average without bias as in
    Kingma & Ba 2015, Section 7.2, arXiv:1412.6980.

    Raises:
        RuleError: for a rule with an evaluated point of its own.
    """
    check_single(rule, name)

    def step(theta: Any, g: Any, average: Any, /, *slots: Any, t: Any, decay: Any, start: Any, **hyper: Any) -> Any:
        theta, *rest = rule.compute([theta, g, *slots], t, hyper)
        share = 1 / maximum(1.0, t - start) if decay is None else (1 - decay) / (1 - decay**t)
        return theta, where(share == 1, theta, average + share * (theta - average)), *rest

    doc = "With an average of the iterates, which is evaluated: exponential with ``decay``, their mean without."
    paper = "average: Polyak & Juditsky 1992, doi:10.1137/0330046; exponential: Kingma & Ba 2015, Section 7.2"
    extra = (
        Hyperparameter("decay", 0.999, Range(0.0, 1.0), optional=True),
        Hyperparameter("start", 0.0, Range(0.0)),
    )
    changes = {**with_slots(rule, name, ("average",), {}), "evaluated": lambda average: average}
    return wrap(averaged, rule, name, step, doc, paper, *extra, **changes)


@combinator
def lookahead(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with slow weights, to which its iterates are drawn back after every ``k`` steps.

    After every k-th step, ``slow <- slow + alpha (theta - slow)``, and ``theta`` goes on from there. The slow weights
    are evaluated; ``rule`` keeps its slots as they are. Adds ``sync_period`` (k, default 5, at least 1; a fraction is
    rounded down) and ``slow_step_size`` (alpha, default 0.5, in [0, 1]).

    Source: Zhang et al. 2019, Algorithm 1, arXiv:1907.08610.

    Raises:
        RuleError: for a rule with an evaluated point of its own.
    """
    check_single(rule, name)

    def step(theta: Any, g: Any, slow: Any, /, *slots: Any, t: Any, sync_period: Any, **hyper: Any) -> tuple[Any, ...]:
        alpha = hyper.pop("slow_step_size")
        theta, *rest = rule.compute([theta, g, *slots], t, hyper)
        is_due = t % (sync_period // 1) == 0
        slow = where(is_due, slow + alpha * (theta - slow), slow)
        return where(is_due, slow, theta), slow, *rest

    doc = "Lookahead: after every k-th step the iterates are drawn back to slow weights, which are evaluated."
    paper = "slow weights: Zhang et al. 2019, Algorithm 1, arXiv:1907.08610"
    extra = (Hyperparameter("sync_period", 5.0, Range(1.0)), Hyperparameter("slow_step_size", 0.5, _SHARE))
    changes = {**with_slots(rule, name, ("slow",), {}), "evaluated": lambda slow: slow}
    return wrap(lookahead, rule, name, step, doc, paper, *extra, **changes)
