"""What a step did to each parameter, read while it was taken, for whoever monitors it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steprule.engine import Kernel
from steprule.rules.averaging import Averaging

__all__ = ["Reading", "StepMonitor", "formats_in"]


@dataclass(frozen=True)
class Reading:
    """What one step did to one parameter: sums over its elements.

    Attributes:
        name: what messages call the parameter.
        shape, dtype: the parameter's.
        formats: of the parameter and its slots, by name.
        rule: the name of the rule.
        t: the number of the step.
        hyperparameters: as they were in this step, by the rule's names.
        averaging: how the rule's second moment averages; None if it has none.
        sums: see ``rules.readings``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    formats: Mapping[str, str]
    rule: str
    t: int
    hyperparameters: Mapping[str, Any]
    averaging: Averaging | None
    sums: Mapping[str, float]


class StepMonitor(Protocol):
    """What monitors the steps of an optimizer."""

    def is_due(self) -> bool:
        """Whether the next step is to be read. Changes nothing."""
        ...

    def take(self, readings: Sequence[Reading] | None) -> None:
        """Take the readings of a step that was taken; None: it was not due."""
        ...


def formats_in(kernel: Kernel) -> dict[str, str]:
    """Return the formats of the parameter and its slots, by name."""
    return {name: codec.name for name, codec in kernel.codecs.items()}
