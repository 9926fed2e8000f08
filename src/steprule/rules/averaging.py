"""How fast the second moment of a rule forgets, computed from its update, whatever hyperparameters are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from steprule.language.computing import computed
from steprule.language.node import Node
from steprule.language.walk import symbols_in
from steprule.rules.cache import cached_with_rule
from steprule.rules.guard import gradient_of
from steprule.rules.hyperparameters import Role
from steprule.rules.moments import is_corrected, second_moment
from steprule.rules.rule import Rule, Variant

__all__ = ["Averaging", "averaging"]


@dataclass(frozen=True)
class Averaging:
    """The update of a second moment v.

    Attributes:
        new: the new v, an expression of hyperparameters, t, and what an element has.
        gradient: the gradient as the rule's own formula sees it.
        slot, given: the names of v, and of the gradient that is given.
        zeros: zero for each name of what an element has.
        is_corrected: whether the rule makes up for the start of v at zero before it divides.
    """

    new: Node
    gradient: Node
    slot: str
    given: str
    zeros: Mapping[str, float]
    is_corrected: bool

    def decay(self, t: int, hyperparameters: Mapping[str, Any]) -> float | None:
        """Return what is left of v after step ``t`` with a gradient of zero, of 1; None if v does not decay.

        Where all is left, as of Yogi's, v is moved by a share of the squared gradient: the decay is one minus that.

        Args:
            t: the number of the step.
            hyperparameters: as they are in that step.
        """
        numbers = {**hyperparameters, **self.zeros, "t": t}
        moved = {**numbers, self.given: 1.0}
        try:
            nothing = computed(self.new, numbers)
            left = computed(self.new, {**numbers, self.slot: 1.0}) - nothing
            if left == 1:
                left = 1 - (computed(self.new, moved) - nothing) / computed(self.gradient, moved) ** 2
                return float(left) if 0 < left < 1 else None
        except (ArithmeticError, ValueError):  # no value at these numbers
            return None
        return float(left) if 0 <= left < 1 else None

    def starts_whole(self, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether what the rule divides by needs no time to grow: v is corrected, or begins as the first square."""
        return self.is_corrected or self.decay(1, hyperparameters) == 0

    def name(self, decay: float, hyperparameters: Mapping[str, Any]) -> str | None:
        """Return which of the hyperparameters a decay is, if it is one."""
        numbers = sorted(symbols_in([self.new]).intersection(hyperparameters))
        return next((name for name in numbers if isclose(hyperparameters[name], decay)), None)


@cached_with_rule
def averaging(rule: Rule, variant: Variant) -> Averaging | None:
    """Return how the second moment of a rule averages; None where it has none, or one that depends on Scalars."""
    slot = rule.slot_of(Role.SECOND_MOMENT)
    if slot is None or second_moment(rule, variant) is None:
        return None
    new, gradient = rule.trace(variant).slots[slot], gradient_of(rule, variant)
    if not symbols_in([new, gradient]).isdisjoint(rule.numbers):
        return None
    zeros = dict.fromkeys((rule.parameter, rule.gradient, *rule.element_slots), 0.0)
    return Averaging(new, gradient, slot, rule.gradient, zeros, is_corrected(rule, variant))
