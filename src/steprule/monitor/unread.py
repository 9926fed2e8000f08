"""What no reading tells: steps that were skipped, and parameters that had no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steprule.monitor.diagnosis import Diagnosis
from steprule.monitor.illnesses import LEAST

__all__ = ["Mark", "Skips", "absent", "skipping"]

SKIPPED = 0.1
"""The share of skipped steps that is more than a batch now and then."""


@dataclass(frozen=True)
class Mark:
    """Where a run stood after a step that was due to be read.

    Attributes:
        taken: the steps that the monitor was told of.
        skipped: those that guards had skipped.
        absent: parameters without a gradient.
    """

    taken: int
    skipped: int
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Skips:
    """The steps since a mark.

    Attributes:
        skipped: those that guards skipped.
        taken: those that were taken; None where a device decides, and takes and skips steps without being asked.
        in_a_row: how many of the skipped ones came last.
    """

    skipped: int
    taken: int | None
    in_a_row: int


def skipping(skips: Skips) -> list[Diagnosis]:
    """Return what is wrong where guards have skipped steps, if it is more than a few."""
    n, taken = skips.skipped, skips.taken
    if n < 1 or (taken != 0 and (n < LEAST or n < SKIPPED * (n + (taken or 0)))):
        return []
    of_all = "all" if taken == 0 else f"{n:,}"
    steps = f"{n:,} steps" if taken is None else f"{of_all} of the last {n + taken:,} steps"
    row = f", {skips.in_a_row:,} of them in a row until now" if 1 < skips.in_a_row < n else ""
    evidence = {"skipped": n, "in_a_row": skips.in_a_row} | ({} if taken is None else {"steps": n + taken})
    return [
        Diagnosis(
            "steps skipped",
            (),
            f"{steps} were skipped, since gradients were not finite{row}.",
            evidence,
            "Look for what overflows in the loss, the data or float16, or lower lr; where it does not end, go back to "
            "a checkpoint.",
        )
    ]


def absent(marks: Sequence[Mark]) -> list[Diagnosis]:
    """Return which parameters had no gradient in any of the last readings."""
    if len(marks) < LEAST:
        return []
    names = frozenset.intersection(*(mark.absent for mark in marks))
    if not names:
        return []
    return [
        Diagnosis(
            "dead parameters",
            tuple(sorted(names)),
            f"no gradient at all (grad is None) in the last {len(marks)} readings.",
            {"readings": len(marks)},
            "Look for why the loss does not depend on them (an unused layer, requires_grad=False), or leave them out "
            "of the optimizer.",
        )
    ]
