"""The processors' machine code as a backend: direct rows in one launch, strided ones by way of buffers or copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import runtime
from steprule.backends import llvm
from steprule.compile import Plan
from steprule.errors import TargetError
from steprule.launch.backend import Bound, Table
from steprule.launch.strided import strided_step, write_back
from steprule.launch.sums import Blocks, block_of, blocks_of, units_of
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit

__all__ = ["MACHINE", "MachineCodeBackend"]


@dataclass(frozen=True)
class MachineCodeBackend:
    """Machine code of this machine's processors, by LLVM."""

    name = "llvm"

    def __reduce__(self) -> str:
        """Let copies and pickles be the one that there is."""
        return "MACHINE"

    def load(self, plan: Plan) -> Any:
        """Return machine code of the convention of ``backends/llvm.py``.

        Raises:
            TargetError: on processors that lack what the plan needs.
        """
        # Imported late: describing a rule or drawing its formula needs no compiler.
        from steprule.runtime.jit import MachineCode, has_half

        if any(plane.dtype == "float16" for plane in plan.planes) and not has_half():
            raise TargetError("this processor has no float16 conversions; use float32, or backend='numpy'")
        return MachineCode(llvm.emit(plan), "kernel")

    def table(self, items: Sequence[Bound], commit: Commit | None) -> Table:
        """Return the rows of one pass."""
        if all(item.row.is_direct for item in items):
            return DirectTable(items, commit)
        return MixedTable(items)


MACHINE = MachineCodeBackend()


class DirectTable:
    """Direct rows, in one launch, with the memory of what they sum.

    Attributes:
        is_one_call: whether a run is one call, which writes the commit as well.
        prepare, run: those of the launch.
    """

    def __init__(self, items: Sequence[Bound], commit: Commit | None) -> None:
        self._count, self.is_one_call = len(items), commit is not None
        lines = [[*(memory.address for memory in item.row.memories), *item.row.integers] for item in items]
        units = [units_of(item.kernel.plan, item.row.memories[0].shape) for item in items]
        multiple = [block_of(item.kernel.plan) if item.kernel.plan.sums else 1 for item in items]
        width = max([*map(len, lines), *(_at_sums(item.kernel.plan) + 1 for item in items), 2])
        self._launch = launch = runtime.Table(
            [n for n, _ in units], width, [unit for _, unit in units], multiple, commit
        )
        self.prepare: Callable[[runtime.Team], None] = launch.prepare
        self.run: Callable[[], None] = launch.run
        for index, (item, line) in enumerate(zip(items, lines, strict=True)):
            launch.set_row(index, item.kernel.code, address(item.scalars))
            launch.addresses[index, : len(line)] = line
        self._parts = [self._part(items, count) for count in {len(item.kernel.plan.sums) for item in items} - {0}]

    def _part(self, items: Sequence[Bound], count: int) -> tuple[list[int], Blocks, NDArray[np.float64]]:
        """Make memory for rows with so many sums, and return their places, which blocks are whose, and the memory."""
        places = [place for place, item in enumerate(items) if len(item.kernel.plan.sums) == count]
        own = [items[place] for place in places]
        blocks = Blocks([blocks_of(item.kernel.plan, item.row.memories[0].shape) for item in own])
        out = np.zeros((blocks.count, count))
        for place, item, start in zip(places, own, blocks.starts.tolist(), strict=True):
            at = address(out) + start * count * out.itemsize
            self._launch.addresses[place, _at_sums(item.kernel.plan)] = at
        return places, blocks, out

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        self._launch.addresses[:, 1] = gradients

    @property
    def is_done(self) -> bool:
        """Whether what was prepared has run."""
        return self._launch.is_done

    def sums(self) -> list[list[float]]:
        """Return the sums of each row."""
        lines: list[list[float]] = [[]] * self._count
        for places, blocks, out in self._parts:
            own: list[list[float]] = blocks.totals(out).tolist()
            if len(own) == self._count:
                return own
            for place, line in zip(places, own, strict=True):
                lines[place] = line
        return lines


class MixedTable:
    """Rows of which some are strided: those are stepped by way of buffers, or, to be summed, copied."""

    is_one_call = False
    is_done = False

    def __init__(self, items: Sequence[Bound]) -> None:
        self._items = items
        self._direct = [place for place, item in enumerate(items) if item.row.is_direct]
        self._others = [place for place, item in enumerate(items) if not item.row.is_direct]
        self._table = DirectTable([items[place] for place in self._direct], None)
        self._steps: list[Callable[[], None]] = []
        self._lines: dict[int, list[float]] = {}

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the direct rows lie at these addresses."""
        self._table.set_gradients(gradients[self._direct])

    def prepare(self, team: runtime.Team) -> None:
        """Make the buffers and the copies, and step these."""
        self._steps = [self._step_of(place) for place in self._others]
        self._table.prepare(team)

    def run(self) -> None:
        """Move all rows."""
        for step in self._steps:
            step()
        self._table.run()
        self._steps = []

    def sums(self) -> list[list[float]]:
        """Return the sums of each row."""
        found = dict(zip(self._direct, self._table.sums(), strict=True)) | self._lines
        return [found[place] for place in range(len(self._items))]

    def _step_of(self, place: int) -> Callable[[], None]:
        row, kernel, scalars = self._items[place]
        arrays = [memory.array() for memory in row.memories]
        if not kernel.plan.sums:
            return strided_step(kernel, address(scalars), arrays, row.integers)
        self._lines[place], moved = _summed_copies(self._items[place], arrays)
        return lambda: write_back(moved)


def _at_sums(plan: Plan) -> int:
    """Return where in a row, after the addresses and other integers, the address of its sums is."""
    return len(plan.planes) + llvm.WORDS.index("sums")


def _summed_copies(
    item: Bound, own: Sequence[NDArray[Any]]
) -> tuple[list[float], list[tuple[NDArray[Any], NDArray[Any]]]]:
    """Return the sums of a strided row, by copies in C order.

    What the kernel writes it writes into copies: with the sums comes each such array, and what is to be put there.
    """
    row, kernel, scalars = item
    stored = {store.plane for store in kernel.plan.stores}
    arrays = [
        np.array(array, order="C") if place in stored else np.require(array, requirements=["C", "A"])
        for place, array in enumerate(own)
    ]
    table = DirectTable([Bound(row.over(arrays), kernel, scalars)], None)
    table.prepare(runtime.Team(1))
    table.run()
    return table.sums()[0], [(own[place], arrays[place]) for place in sorted(stored)]
