"""Guarded steps of one launch: what is measured, what gradients are multiplied by, rows of scalars that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from steprule.doors.evaluate import Evaluated, fill
from steprule.doors.guards import Gradients, Guards, update_factor
from steprule.doors.sums import total
from steprule.doors.torch.cohorts import Cohort
from steprule.doors.torch.guards import squares
from steprule.doors.torch.measure import Apart, Bound, Measure
from steprule.doors.torch.options import GroupOptions
from steprule.engine import Task

__all__ = ["Judge"]


class Judge:
    """Measures the gradients of a launch, and says how it steps.

    Args:
        guards: the options.
        direct: rows that are walked as they lie.
        apart: rows that are not.
        placed: rows on devices, whose sums the host waits for.
        eager: gradients that no kernel walks.
    """

    def __init__(
        self,
        guards: Guards,
        direct: Sequence[Bound],
        apart: Sequence[Apart],
        placed: Sequence[Bound],
        eager: Sequence[tuple[Tensor, GroupOptions]],
    ) -> None:
        self._guards, self._eager = guards, eager
        self._norm = Measure("norm", direct, apart, placed) if guards.measures else None
        self._ratio = Measure("ratio", direct, apart, placed) if guards.update_clip else None
        pairs = [*direct, *((row, cohort) for row, cohort, _ in apart), *placed] if guards.update_clip else []
        self._own = [(cohort, row.memories[0].size, cohort.options.values.new_row()) for row, cohort in pairs]
        self.pending: list[bytes] = []
        """What ``evaluate`` found for rows that have scalars of their own."""
        self.scalars = {id(row): own for (row, _), (_, _, own) in zip(pairs, self._own, strict=True)}
        """The scalars of rows that have their own."""

    def look(self, addresses: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Let the gradients lie at these addresses."""
        for measure in (self._norm, self._ratio):
            if measure is not None:
                measure.look(addresses)

    def factor(self, gradients: Gradients) -> float | None:
        """Return what the gradients are multiplied by; None if the step is to be skipped.

        Raises:
            NonFiniteError: as the options say.
        """
        if self._norm is None:
            return 1.0
        self._norm.evaluate()
        lines = [*self._norm.run().tolist(), *(squares(grad, options) for grad, options in self._eager)]
        columns = 2 if self._guards.clip_value is not None else 1
        return self._guards.decide([total([line[k] for line in lines]) for k in range(columns)], gradients)

    def evaluate(self, cohorts: Sequence[Cohort], factor: float, task: Task) -> list[Evaluated]:
        """Return what each cohort's ``evaluate`` does for gradients that are multiplied by ``factor``."""
        for options in (*(cohort.options for cohort in cohorts), *(options for _, options in self._eager)):
            options.set_factor(factor)
        evaluated = [cohort.evaluate(task=task) for cohort in cohorts]
        self.pending = []
        if self._ratio is None:
            return evaluated
        self._ratio.evaluate()
        shared = {id(cohort): row for cohort, (row, _) in zip(cohorts, evaluated, strict=True)}
        for (cohort, size, _), (sums,) in zip(self._own, self._ratio.run().tolist(), strict=True):
            own, row = update_factor(sums, size), shared[id(cohort)]
            if own != 1:
                numbers = self._guards.numbers(cohort.options.scale, factor, own)
                row, _ = cohort.evaluate(numbers, task)
            self.pending.append(row)
        return evaluated

    def commit(self) -> None:
        """Put the rows of scalars where kernels read them."""
        for (_, _, own), row in zip(self._own, self.pending, strict=False):
            fill(own, row)
