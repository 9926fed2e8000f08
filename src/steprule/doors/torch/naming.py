"""What a class of torch calls the slots and hyperparameters of its rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from steprule.doors.foreign.names import slot_names, with_few_axes
from steprule.formats import Formats
from steprule.rules import Rule

__all__ = ["Naming"]

_TUPLES = {"beta1": ("betas", 0), "beta2": ("betas", 1), "beta3": ("betas", 2)}


@dataclass(frozen=True)
class Naming:
    """What a class of torch calls the parts of its rule, where the names differ.

    Attributes:
        slots: names of slots.
        options: names of hyperparameters, or their places in a tuple.
        negated: hyperparameters whose option is less than 0 by as much.
        counts: whether there is a step count. Without, a parameter whose slots are there has been stepped.
        count_dtype: the type of step counts, if it is not torch's usual one.
        few_axes: names of slots of parameters with fewer than two axes, where they differ.
        idle: slots that say nothing for such parameters, and are not in their states.
    """

    slots: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | tuple[str, int]] = field(default_factory=dict)
    negated: tuple[str, ...] = ()
    counts: bool = True
    count_dtype: torch.dtype | None = None
    few_axes: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()

    @classmethod
    def of(cls, *rules: Rule, **others: Any) -> Naming:
        """Return the naming of a class that steps by one of these rules; ``others`` are its further attributes."""
        few_axes, idle = with_few_axes(rules[0])
        slots = {slot: key for rule in rules for slot, key in slot_names(rule, "torch").items()}
        return cls(slots, few_axes=few_axes, idle=idle, **others)

    def called(self, slot: str, axes: int) -> str:
        """Return the key of a slot of a parameter with so many axes."""
        return (self.few_axes.get(slot) if axes < 2 else None) or self.slots.get(slot, slot)

    def known(self, rule: Rule) -> set[str]:
        """Return every key of a state that this class may keep."""
        own = {self.slots.get(slot, slot) for slot in rule.slots}
        return {"step", *own, *(key for slot, key in self.few_axes.items() if slot in rule.slots)}

    def counted(self, formats: Formats) -> bool:
        """Return whether a state has a step count, which stochastic rounding takes, too."""
        return self.counts or formats.is_stochastic

    @property
    def tuples(self) -> set[str]:
        """The options that hold several hyperparameters."""
        return {option[0] for option in {**_TUPLES, **self.options}.values() if isinstance(option, tuple)}

    def place(self, hyperparameter: str) -> tuple[str, int | None]:
        """Return the option that holds a hyperparameter, and its place in it if that is a tuple."""
        option = {**_TUPLES, **self.options}.get(hyperparameter, hyperparameter)
        return option if isinstance(option, tuple) else (option, None)
