"""Rows of which slices are stepped where they lie: what machine code reads of them in a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steprule.launch.backend import Bound
from steprule.launch.row import Row
from steprule.runtime import Table, parts_of
from steprule.runtime.addresses import address
from steprule.runtime.driver import driver

__all__ = ["Slices", "parts_in"]


def parts_in(item: Bound) -> tuple[int, int]:
    """Return in how many parts a launch counts a row of which slices are stepped, and the elements of each at most."""
    size = item.row.memories[0].size
    parts = parts_of(size, size)
    return parts, -(-size // parts)


class Slices:
    """The tables that ``each_slice`` reads, one for each row of which slices are stepped.

    Args:
        items: all rows of a launch.
        counts: what the launch counts of each: the parts, of a row of which slices are stepped.
        launch: the launch, whose rows are bound already; those of slices are bound anew.
    """

    def __init__(self, items: Sequence[Bound], counts: Sequence[int], launch: Table) -> None:
        self._rows: list[tuple[Row, memoryview]] = []
        for place, (row, kernel, scalars, _) in enumerate(items):
            if row.touched is not None:
                words = np.zeros(8, np.int64)
                words[0], words[1] = kernel.code.address, address(scalars)
                words[2], words[7] = len(row.memories), counts[place]
                launch.set_row(place, kernel.code, address(words), driver().each_slice)
                self._rows.append((row, words.data))

    def __len__(self) -> int:
        return len(self._rows)

    def choose(self) -> int:
        """Take over the slices of this step, and return how many elements they are."""
        elements = 0
        for row, words in self._rows:
            touched = row.touched
            if touched is None or row.group.rests:
                words[6] = 0
                continue
            values = row.memories[1]
            size, count = values.size, touched.count
            words[3], words[6] = touched.address, count
            words[4] = length = size // count
            words[5] = length * values.itemsize
            elements += size
        return elements
