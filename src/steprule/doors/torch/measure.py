"""Sums over gradients and states of tensors, before a step or while it is taken: one task's, by row of a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.doors.evaluate import fill
from steprule.doors.strided import put
from steprule.doors.sums import Summed, Sums, sum_copies
from steprule.doors.torch.cohorts import Cohort
from steprule.doors.torch.device_table import DeviceTables
from steprule.doors.torch.rows import Row
from steprule.engine import Task
from steprule.runtime.addresses import address

__all__ = ["Apart", "Bound", "Measure"]

Bound = tuple[Row, Cohort]
"""A row, and the cohort whose scalars it reads."""
Apart = tuple[Row, Cohort, list[NDArray[Any]]]
"""A row that is not walked as it lies, its cohort, and its arrays; the gradient's may be a copy."""


class Measure:
    """Takes the sums of one task.

    Args:
        task: what is summed.
        direct: rows that are walked as they lie.
        apart: rows that are not: their arrays are copied where they are not in C order.
        placed: rows on devices.
        owns: whether every row of the launch has scalars of its own, not its cohort's.
    """

    def __init__(
        self,
        task: Task,
        direct: Sequence[Bound],
        apart: Sequence[Apart],
        placed: Sequence[Bound],
        *,
        owns: bool = False,
    ) -> None:
        self._task, self._apart = task, apart
        cohorts = [*(own for _, own in direct), *(own for _, own, _ in apart), *(own for _, own in placed)]
        keys = [index if owns else id(cohort) for index, cohort in enumerate(cohorts)]
        by_key = dict(zip(keys, cohorts, strict=True))
        made = {key: (cohort, cohort.options.values.new_row(task)) for key, cohort in by_key.items()}
        self._made = list(made.values())
        self._rows = [made[key][1] for key in keys]
        walked = zip(direct, self._rows, strict=False)
        self._sums = Sums([self._summed(row, [m.address for m in row.memories], own) for (row, _), own in walked])
        self._split = len(direct), len(direct) + len(apart)
        self._placed = DeviceTables(task, [row for row, _ in placed], self._rows[self._split[1] :])

    def look(self, addresses: NDArray[np.int64]) -> None:
        """Let the gradients of the rows that are walked as they lie be at these addresses, then those on devices."""
        self._sums.table.addresses[:, 1] = addresses[: self._split[0]]
        self._placed.look(addresses[self._split[0] :])

    def evaluate(self) -> None:
        """Let the kernels read the scalars of the next step of their cohorts."""
        for cohort, own in self._made:
            fill(own, cohort.evaluate(task=self._task)[0])

    def set_shared(self, rows: Mapping[int, bytes]) -> None:
        """Let the kernels read these scalars, by the id of the cohort."""
        for cohort, own in self._made:
            fill(own, rows[id(cohort)])

    def set_own(self, rows: Sequence[bytes]) -> None:
        """Let the kernels read these scalars, a row each."""
        for own, row in zip(self._rows, rows, strict=True):
            fill(own, row)

    def run(self) -> NDArray[np.float64]:
        """Return the sums, a line a row: those walked as they lie, those that are not, and those on devices."""
        return self.launch()()

    def launch(self) -> Callable[[], NDArray[np.float64]]:
        """Return what ``run`` does. What can fail has been done, on copies: until it is called nothing has moved."""
        others = self._rows[self._split[0] : self._split[1]]
        copied = [self._by_copies(item, row) for item, row in zip(self._apart, others, strict=True)]

        def launch() -> NDArray[np.float64]:
            self._placed.run()
            self._sums.run(torch.get_num_threads())
            for _, moved in copied:
                put(moved)
            lines = [self._sums.each(), *(line for line, _ in copied), self._placed.totals()]
            filled = [line for line in lines if len(line)]
            return np.concatenate(filled) if filled else lines[0]

        return launch

    def _summed(self, row: Row, addresses: Sequence[int], scalars: NDArray[np.float64]) -> Summed:
        fixed = [*addresses, *row.words]
        return Summed(row.kernel_of(self._task), address(scalars), fixed, row.memories[0].shape)

    def _by_copies(
        self, item: Apart, scalars: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], list[tuple[NDArray[Any], NDArray[Any]]]]:
        row, _, own = item
        return sum_copies(row.kernel_of(self._task), address(scalars), own, row.words, row.memories[0].shape)
