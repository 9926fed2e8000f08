"""Parameters that share a row of scalars, and where their step counts are kept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from steprule.doors.evaluate import Evaluated
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Row
from steprule.doors.torch.watch import Numbers
from steprule.engine import Task

__all__ = ["Cohort", "Counts", "cohorts_of"]


@dataclass(eq=False)
class Cohort:
    """Parameters of one group with one step count and the same scalar slots: they share a row of scalars.

    Attributes:
        rows: their places among the rows of the launch.
        t: the steps taken.
        scalars: the scalar slots.
    """

    options: GroupOptions
    t: int
    scalars: dict[str, float]
    rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row = self.options.values.new_row()
        self._bytes = memoryview(self.row.data).cast("B")

    def evaluate(self, numbers: Mapping[str, float] | None = None, task: Task = "step") -> Evaluated:
        """Return what the next step needs. Changes nothing.

        Args:
            numbers: those of the guard; default: the group's.
            task: whose row of scalars it is.

        Raises:
            HyperparameterError: when the expressions of the rule have no value.
        """
        return self.options.values.evaluate(self.t + 1, {}, self.scalars, numbers or self.options.numbers, task)

    def take(self, evaluated: Evaluated) -> None:
        """Take over what ``evaluate`` returned."""
        row, scalars = evaluated
        self._bytes[: len(row)] = row
        self.t += 1
        if scalars:
            self.scalars = dict(zip(self.scalars, scalars, strict=True))


def cohorts_of(rows: Sequence[Row]) -> list[Cohort]:
    """Return the cohorts of the rows."""
    cohorts: dict[tuple[int, int, tuple[float, ...]], Cohort] = {}
    for index, row in enumerate(rows):
        scalars = {name: tensor.item() for name, tensor in row.scalars.items()}
        key = (id(row.options), row.t, tuple(scalars.values()))
        if key not in cohorts:
            cohorts[key] = Cohort(row.options, row.t, scalars)
        cohorts[key].rows.append(index)
    return list(cohorts.values())


class Counts:
    """The step counts and scalar slots of all rows: tensors of the optimizer's state, written together."""

    def __init__(self, rows: Sequence[Row], cohorts: Sequence[Cohort]) -> None:
        tensors: list[Tensor] = []
        parts: list[tuple[int, str, int]] = []
        for index, cohort in enumerate(cohorts):
            own = [rows[place] for place in cohort.rows]
            steps = [row.step for row in own if row.step is not None]
            for name, group in [("", steps), *((name, [row.scalars[name] for row in own]) for name in cohort.scalars)]:
                tensors += group
                parts.append((index, name, len(group)))
        self.numbers = Numbers(tensors)
        ends = itertools.accumulate(n for _, _, n in parts)
        self._parts = [
            (index, name, self.numbers.part(end - n, end))
            for (index, name, n), end in zip(parts, ends, strict=True)
            if n
        ]

    def set(self, cohorts: Sequence[Cohort]) -> None:
        """Let a launch write what the cohorts say into the tensors."""
        for index, name, columns in self._parts:
            cohort = cohorts[index]
            for column in columns:
                column.fill(cohort.scalars[name] if name else cohort.t)
