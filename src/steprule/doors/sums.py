"""Sums over the elements of many arrays, in one launch: in float64, in an order of their own, whatever the threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.compile import BLOCK, LANES
from steprule.engine import Kernel
from steprule.formats import GROUP, rows_of
from steprule.runtime import Table
from steprule.runtime.addresses import address

__all__ = ["Blocks", "Summed", "Sums", "alike", "blocks_of", "sum_copies", "total", "units_of"]


@dataclass(frozen=True)
class Summed:
    """One row of the launch: a kernel with sums over arrays that it can walk as they lie.

    Attributes:
        scalars: the address of the kernel's row of scalars.
        fixed: the addresses of the planes, and what follows them.
        shape: of the parameter.
    """

    kernel: Kernel
    scalars: int
    fixed: Sequence[int]
    shape: Sequence[int]


class Blocks:
    """Which partial sums belong to which row.

    Args:
        counts: the blocks of each row.

    Attributes:
        starts: the first block of each row.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        ends = np.cumsum(counts, dtype=np.int64)
        self.starts: NDArray[np.int64] = ends - np.array(counts, np.int64)
        self._filled = np.array(counts, np.int64) > 0
        places = zip(self.starts.tolist(), ends.tolist(), strict=True)
        self._long = [(index, start, end) for index, (start, end) in enumerate(places) if end - start > 1]

    def totals(self, out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of each row, a line a row: of its blocks' sums, added up without rounding but at the end."""
        lines = np.zeros((len(self.starts), out.shape[1]))
        lines[self._filled] = out[self.starts[self._filled]]
        for index, start, end in self._long:
            lines[index] = [total(part.tolist()) for part in out[start:end].T]
        return lines


class Sums:
    """A launch that takes sums.

    Attributes:
        table: where addresses can be changed between launches.
    """

    def __init__(self, rows: Sequence[Summed]) -> None:
        units = [units_of(row.kernel, row.shape) for row in rows]
        blocks = [blocks_of(row.kernel, row.shape) for row in rows]
        self._blocks = Blocks(blocks)
        width = max((row.kernel.place_of_sums + 1 for row in rows), default=2)
        multiple = [_block(row.kernel) for row in rows]
        self.table = Table([n for n, _ in units], width, [unit for _, unit in units], multiple)
        count = len(rows[0].kernel.plan.sums) if rows else 1
        self._out = np.zeros((sum(blocks), count))
        for index, (row, start) in enumerate(zip(rows, self._blocks.starts.tolist(), strict=True)):
            self.table.set_row(index, row.kernel, row.scalars)
            self.table.addresses[index, : len(row.fixed)] = row.fixed
            at = address(self._out) + start * count * self._out.itemsize
            self.table.addresses[index, row.kernel.place_of_sums] = at

    def run(self, threads: int) -> None:
        """Take the sums."""
        self.table.prepare(threads)
        self.table.run()

    def each(self) -> NDArray[np.float64]:
        """Return the sums of each row, a line a row."""
        return self._blocks.totals(self._out)


def sum_copies(
    kernel: Kernel, scalars: int, own: Sequence[NDArray[Any]], words: Sequence[int], shape: Sequence[int]
) -> tuple[NDArray[np.float64], list[tuple[NDArray[Any], NDArray[Any]]]]:
    """Return the sums of a row whose arrays are not walked as they lie, by copies in C order.

    What the kernel writes it writes into copies: with the sums comes each such array, and what is to be put there.

    Args:
        kernel: machine code with sums.
        scalars: the address of its row of scalars.
        own: the arrays of its planes.
        words: what follows their addresses.
        shape: of the parameter.
    """
    stored = {store.plane for store in kernel.plan.stores}
    arrays = [
        np.array(array, order="C") if place in stored else np.require(array, requirements=["C", "A"])
        for place, array in enumerate(own)
    ]
    sums = Sums([Summed(kernel, scalars, [*map(address, arrays), *words], shape)])
    sums.run(1)
    return sums.each(), [(own[place], arrays[place]) for place in sorted(stored)]


def alike(names: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the places of parameters with equally many sums: one launch sums as many numbers for each of its rows."""
    found: dict[int, list[int]] = {}
    for place, own in enumerate(names):
        found.setdefault(len(own), []).append(place)
    return list(found.values())


def total(numbers: Sequence[float]) -> float:
    """Return the sum of numbers that are not negative, rounded once."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return math.inf


def units_of(kernel: Kernel, shape: Sequence[int]) -> tuple[int, int]:
    """Return what the kernel counts of an array of this shape, and how many elements it counts as one."""
    rows, length, groups = rows_of(shape)
    return (rows * groups, min(GROUP, max(1, length))) if kernel.plan.has_groups else (rows * length, 1)


def blocks_of(kernel: Kernel, shape: Sequence[int]) -> int:
    """Return how many partial sums the kernel writes for an array of this shape."""
    return -(-units_of(kernel, shape)[0] // _block(kernel))


def _block(kernel: Kernel) -> int:
    """Return how much of what the kernel counts has one partial sum."""
    return BLOCK // LANES if kernel.plan.has_groups else BLOCK
