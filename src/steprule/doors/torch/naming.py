"""What a class of torch calls the slots and hyperparameters of its rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from steprule.doors.foreign.names import slot_names
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
        counts: whether there is a step count. Without, a parameter whose slots are there has been stepped.
        count_dtype: the type of step counts, if it is not torch's usual one.
    """

    slots: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | tuple[str, int]] = field(default_factory=dict)
    counts: bool = True
    count_dtype: torch.dtype | None = None

    @classmethod
    def of(cls, *rules: Rule, **others: Any) -> Naming:
        """Return the naming of a class that steps by one of these rules; ``others`` are its further attributes."""
        return cls({slot: key for rule in rules for slot, key in slot_names(rule, "torch").items()}, **others)

    def known(self, rule: Rule) -> set[str]:
        """Return every key of a state that this class may keep."""
        return {"step", *(self.slots.get(slot, slot) for slot in rule.slots)}

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
