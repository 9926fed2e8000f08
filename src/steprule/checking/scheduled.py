"""A rule with a learning rate that changes from step to step, as optimizers that schedule it themselves have it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steprule.rules import Rule
from steprule.rules.combine import wrap
from steprule.rules.hyperparameters import Hyperparameter, Range

__all__ = ["SCHEDULES", "schedule_words", "scheduled"]

SCHEDULES: Mapping[str, float] = {"power": 0.5, "inverse": 0.01, "exponential": 0.01, "linear": 0.01, "rise": 0.01}
"""The forms of schedules, and where the search for their number, ``fall``, begins; a rise has none."""
_WORDS = {
    "power": "falls as 1 / t**{fall}",
    "inverse": "falls as 1 / (1 + {fall} (t - 1))",
    "exponential": "falls as (1 - {fall})**(t - 1)",
    "linear": "falls as 1 - {fall} (t - 1)",
    "rise": "rises as t",
}


@functools.cache
def scheduled(rule: Rule, schedule: str) -> Rule:
    """Return a rule whose learning rate in step t is ``lr`` times a factor that is 1 at first.

    The factor is ``1 / t**fall`` (power), ``1 / (1 + fall * (t - 1))`` (inverse), ``(1 - fall)**(t - 1)``
    (exponential), ``1 - fall * (t - 1)`` (linear) or ``t`` (rise, which a warm-up is while it lasts).
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, fall: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, g, *slots], t, {**hyper, "lr": hyper["lr"] * _factor(schedule, t, fall)})

    doc = "With a rate that changes from step to step."
    made = wrap(scheduled, rule, f"{rule.name}_{schedule}", step, doc, "", Hyperparameter("fall", 0.01, Range(0.0)))
    return replace(made, made_by=(scheduled, (rule, schedule)))


def _factor(schedule: str, t: Any, fall: Any) -> Any:
    if schedule == "power":
        return 1 / t**fall
    if schedule == "inverse":
        return 1 / (1 + fall * (t - 1))
    if schedule == "exponential":
        return (1 - fall) ** (t - 1)
    return 1 - fall * (t - 1) if schedule == "linear" else t


def schedule_words(schedule: str, fall: float) -> str:
    """Return what a rate does, in words."""
    text = _WORDS[schedule].format(fall=f"{fall:.6g}")
    return text.replace("t**0.5", "sqrt(t)").removesuffix("**1")
