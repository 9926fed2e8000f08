"""Measuring gradients and states of tensors before a step: one task's sums for every row of a launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.doors.sums import Summed, Sums
from steprule.doors.torch.cohorts import Cohort
from steprule.doors.torch.rows import Row
from steprule.engine import Task
from steprule.runtime.addresses import address

__all__ = ["Bound", "Measure"]

Bound = tuple[Row, Cohort]
"""A row, and the cohort whose scalars it reads."""


class Measure:
    """Takes the sums of one task.

    Args:
        task: what is summed.
        direct: rows that are walked as they lie.
        apart: rows that are not: they are copied.
    """

    def __init__(self, task: Task, direct: Sequence[Bound], apart: Sequence[Bound]) -> None:
        self._task = task
        self._cohorts = {id(cohort): cohort for _, cohort in (*direct, *apart)}
        self._rows = {key: cohort.options.values.new_row(task) for key, cohort in self._cohorts.items()}
        self._apart = apart
        walked = [(pair, [memory.address for memory in pair[0].memories]) for pair in direct]
        self._sums = Sums([self._summed(pair, addresses) for pair, addresses in walked])

    def look(self, addresses: NDArray[np.int64]) -> None:
        """Let the gradients of the rows that are walked as they lie be at these addresses."""
        self._sums.table.addresses[:, 1] = addresses

    def run(self) -> NDArray[np.float64]:
        """Return the sums, a line a row: those walked as they lie, then the others."""
        for key, cohort in self._cohorts.items():
            row, _ = cohort.evaluate(task=self._task)
            memoryview(self._rows[key].data).cast("B")[: len(row)] = row
        self._sums.run(torch.get_num_threads())
        return np.concatenate([self._sums.each(), *(self._by_copies(pair) for pair in self._apart)])

    def _summed(self, pair: Bound, addresses: Sequence[int]) -> Summed:
        row, cohort = pair
        fixed = [*addresses, *row.words]
        return Summed(row.kernel_of(self._task), address(self._rows[id(cohort)]), fixed, row.memories[0].shape)

    def _by_copies(self, pair: Bound) -> NDArray[np.float64]:
        arrays = [np.require(memory.array(), requirements=["C", "A"]) for memory in pair[0].memories]
        sums = Sums([self._summed(pair, [address(array) for array in arrays])])
        sums.run(1)
        return sums.each()
