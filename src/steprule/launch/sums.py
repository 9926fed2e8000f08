"""Sums over the elements of arrays: in float64, in an order of their own, whatever the threads and the backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.compile import BLOCK, LANES, Plan
from steprule.formats import GROUP, rows_of
from steprule.language.matrices import ROWS, View, matrix_shape, tiles_of
from steprule.language.sums import rounded_once

__all__ = ["Blocks", "block_of", "blocks_of", "crosses_rows", "units_of"]


class Blocks:
    """Which partial sums belong to which row.

    Args:
        counts: the blocks of each row.

    Attributes:
        starts: the first block of each row.
        count: how many there are.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        ends = np.cumsum(counts, dtype=np.int64)
        self.starts: NDArray[np.int64] = ends - np.array(counts, np.int64)
        self.count = int(sum(counts))
        self._filled = np.array(counts, np.int64) > 0
        self._first = self.starts[self._filled]
        places = zip(self.starts.tolist(), ends.tolist(), strict=True)
        self._long = [(index, start, end) for index, (start, end) in enumerate(places) if end - start > 1]

    def totals(self, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of each row, one line per row: its blocks' sums, added up and rounded once."""
        if len(out) == len(self.starts) == len(self._first):
            return out  # of each row one block
        lines: NDArray[np.float64] = out[self._first]
        if len(lines) < len(self.starts):
            lines = np.zeros((len(self.starts), out.shape[1]))
            lines[self._filled] = out[self._first]
        for index, start, end in self._long:
            lines[index] = [rounded_once(part.tolist()) for part in out[start:end].T]
        return lines


def units_of(plan: Plan, shape: Sequence[int]) -> tuple[int, int]:
    """Return what a kernel counts of an array of this shape, and how many elements it counts as one."""
    if plan.view is not None:
        _, height, width = matrix_shape(shape, plan.view)
        return tiles_of(shape, plan.view)[0], max(1, min(ROWS, height) * min(BLOCK, width))
    rows, length, groups = rows_of(shape)
    return (rows * groups, min(GROUP, max(1, length))) if plan.has_groups else (rows * length, 1)


def crosses_rows(view: View | None, shape: Sequence[int]) -> bool:
    """Whether a format's groups have elements of several rows of matrices, in an array of this shape that is seen so.

    Groups are of neighbours along the first axis, of matrices as well that are along the last two.
    """
    if view is None:
        return False
    columns = matrix_shape(shape, view)[2]
    return columns % GROUP != 0 and columns != rows_of(shape)[1]


def blocks_of(plan: Plan, shape: Sequence[int]) -> int:
    """Return how many partial sums a kernel writes for an array of this shape; 0 for one that sums nothing."""
    return -(-units_of(plan, shape)[0] // block_of(plan)) if plan.sums else 0


def block_of(plan: Plan) -> int:
    """Return how much of what a kernel counts has one partial sum."""
    if plan.view is not None:
        return 1
    return BLOCK // LANES if plan.has_groups else BLOCK
