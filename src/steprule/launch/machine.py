"""The processors' machine code as a backend: direct rows in one launch, strided ones by way of buffers or copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import runtime
from steprule.backends import llvm, llvm_vectors
from steprule.compile import Plan
from steprule.engine import Kernel
from steprule.errors import TargetError
from steprule.launch.backend import Bound, Lines, Table
from steprule.launch.machine_vectors import MachineVectors, can_be_taken
from steprule.launch.row import Row
from steprule.launch.slices import Slices, parts_in
from steprule.launch.strided import strided_step
from steprule.launch.sums import Blocks, block_of, blocks_of, units_of
from steprule.launch.vectors import Vectors, vector_groups
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit
from steprule.runtime.driver import SLICED_ADDRESSES

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
        from steprule.runtime.jit import MachineCode, has_half, wide_vectors

        if any(plane.dtype == "float16" for plane in plan.planes) and not has_half():
            raise TargetError("this processor has no float16 conversions; use float32, or backend='numpy'")
        return MachineCode(llvm.emit(plan, wide_vectors()), "kernel", llvm_vectors.functions(plan))

    def table(self, items: Sequence[Bound], commit: Commit | None) -> Table:
        """Return the rows of one pass."""
        if all(_is_in_place(item) and not item.row.is_apart for item in items):
            return DirectTable(items, commit)
        return MixedTable(items)

    def vectors(
        self,
        rows: Sequence[Row],
        kernels: Sequence[Kernel],
        scalars: Sequence[NDArray[np.float64]],
        places: Sequence[int],
    ) -> list[Vectors]:
        """Return what computes numbers of rows and columns: machine code but of slots with gaps."""
        own = [place for place in places if can_be_taken(rows[place], kernels[place])]
        others = sorted({*places} - {*own})
        found: list[Vectors] = [*vector_groups(rows, kernels, scalars, others)]
        return [MachineVectors(rows, kernels, scalars, own), *found] if own else found


MACHINE = MachineCodeBackend()


def _is_in_place(item: Bound) -> bool:
    """Whether a launch takes the row where it lies. Sums over slices are those over copies, one after the other."""
    row, plan = item.row, item.kernel.plan
    return row.is_direct or (row.is_sliced and not plan.sums and len(plan.planes) <= SLICED_ADDRESSES)


class DirectTable:
    """Direct rows, and rows of which slices are stepped, in one launch, with the memory of what direct rows sum.

    Attributes:
        is_one_call: whether a run is one call, which writes the commit as well.
        run: that of the launch.
    """

    def __init__(self, items: Sequence[Bound], commit: Commit | None) -> None:
        self._count, self.is_one_call = len(items), commit is not None
        lines = list(map(_line, items))
        units = [
            units_of(item.kernel.plan, item.row.memories[0].shape) if item.row.touched is None else parts_in(item)
            for item in items
        ]
        # What is stepped of the others, its slices tell in every step.
        self._whole = sum(n * unit for item, (n, unit) in zip(items, units, strict=True) if item.row.touched is None)
        multiple = [block_of(item.kernel.plan) if item.kernel.plan.sums else 1 for item in items]
        most = max(map(len, lines), default=0)
        width = max([most, *(_at(item.kernel.plan, "sums") + 1 for item in items), 2])
        counts = [n for n, _ in units]
        backwards = any(item.kernel.plan.launches_before % 2 for item in items)
        sizes = counts, width, [unit for _, unit in units], multiple
        self._launch = launch = runtime.Table(*sizes, commit, backwards=backwards)
        self._waverers = [place for place, item in enumerate(items) if item.row.group.wavers]
        self._groups = [items[place].row.group for place in self._waverers]
        self.run: Callable[[], None] = launch.run
        launch.set_rows([item.kernel.code for item in items], _addresses_of([item.scalars for item in items]))
        launch.addresses[:, :most] = [line + [0] * (most - len(line)) for line in lines]
        self._slices = Slices(items, counts, launch)
        self._parts = [self._part(items, count) for count in {len(item.kernel.plan.sums) for item in items} - {0}]

    def _part(self, items: Sequence[Bound], count: int) -> tuple[list[int], Blocks, NDArray[np.float64]]:
        """Make memory for rows with so many sums, and return their places, which blocks are whose, and the memory."""
        places = [place for place, item in enumerate(items) if len(item.kernel.plan.sums) == count]
        own = [items[place] for place in places]
        blocks = Blocks([blocks_of(item.kernel.plan, item.row.memories[0].shape) for item in own])
        out = np.zeros((blocks.count, count))
        for place, item, start in zip(places, own, blocks.starts.tolist(), strict=True):
            at = address(out) + start * count * out.itemsize
            self._launch.addresses[place, _at(item.kernel.plan, "sums")] = at
        return places, blocks, out

    def prepare(self, team: runtime.Team) -> None:
        """Make a launch ready, by this team at most; from now on it is not done."""
        if self._waverers:
            groups = zip(self._waverers, self._groups, strict=True)
            self._launch.let_rest([place for place, group in groups if group.rests])
        if self._slices:
            self._launch.expect(self._whole + self._slices.choose())
        self._launch.prepare(team)

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        self._launch.addresses[:, 1] = gradients

    @property
    def is_done(self) -> bool:
        """Whether what was prepared has run."""
        return self._launch.is_done

    def sums(self) -> Lines:
        """Return the sums of each row."""
        lines: list[Sequence[float]] = [[]] * self._count
        for places, blocks, out in self._parts:
            own = blocks.totals(out)
            if self._waverers:
                resting = {place for place, group in zip(self._waverers, self._groups, strict=True) if group.rests}
                own[[line for line, place in enumerate(places) if place in resting]] = 0.0
            if len(own) == self._count:
                return own
            for place, line in zip(places, own.tolist(), strict=True):
                lines[place] = line
        return lines


class MixedTable:
    """Rows of which some are not direct.

    Those are stepped by way of buffers, or, to be summed, copied; if it may be in place this time, then so.
    """

    is_one_call = False
    is_done = False

    def __init__(self, items: Sequence[Bound]) -> None:
        self._items = items
        direct = [_is_in_place(item) and not item.row.is_apart for item in items]
        self._direct = [place for place, is_direct in enumerate(direct) if is_direct]
        self._others = [place for place, is_direct in enumerate(direct) if not is_direct]
        self._tables: dict[int, DirectTable] = {}
        self._table = DirectTable([items[place] for place in self._direct], None)
        self._in_place: dict[int, DirectTable] = {}
        self._steps: list[Callable[[], None]] = []
        self._lines: dict[int, Sequence[float]] = {}

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the direct rows lie at these addresses."""
        self._table.set_gradients(gradients[self._direct])

    def prepare(self, team: runtime.Team) -> None:
        """Make the buffers and the copies, and step these."""
        self._in_place = {}
        self._lines = {place: [0.0] * len(self._items[place].kernel.plan.sums) for place in self._others}
        self._steps = [self._step_of(place, team) for place in self._others if not self._items[place].row.group.rests]
        self._table.prepare(team)

    def run(self) -> None:
        """Move all rows."""
        for step in self._steps:
            step()
        self._table.run()
        self._steps = []

    def sums(self) -> Lines:
        """Return the sums of each row."""
        found = dict(zip(self._direct, self._table.sums(), strict=True)) | self._lines
        found |= {place: table.sums()[0] for place, table in self._in_place.items()}
        return [found[place] for place in range(len(self._items))]

    def _step_of(self, place: int, team: runtime.Team) -> Callable[[], None]:
        item = row, kernel, scalars, vectors = self._items[place]
        if _is_in_place(item):
            return self._step_in_place(place, team)
        arrays = [memory.array() for memory in self._items[place].memories]
        if kernel.plan.sums or vectors is not None or row.touched is not None:
            summed = _summed_copies(item, arrays)

            def step() -> None:
                self._lines[place] = summed()

            return step
        return strided_step(kernel, address(scalars), arrays, row.integers)

    def _step_in_place(self, place: int, team: runtime.Team) -> Callable[[], None]:
        """Return what steps a row that was not direct when the rows were laid out, and is now."""
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = DirectTable([self._items[place]], None)
        table.set_gradients(np.array([self._items[place].row.memories[1].address]))
        table.prepare(team)
        self._in_place[place] = table
        return table.run


def _addresses_of(lines: Sequence[NDArray[np.float64]]) -> list[int]:
    """Return where lines of scalars lie, of which many rows have the same."""
    found: dict[int, int] = {}
    for line in lines:
        if id(line) not in found:
            found[id(line)] = address(line)
    return [found[id(line)] for line in lines]


def _line(item: Bound) -> list[int]:
    """Return the addresses and the integers of a row, but for the address of its sums."""
    row, vectors = item.row, item.vectors
    line = [memory.address for memory in item.memories]
    if vectors is None:
        return [*line, *row.integers]
    line += [memory.address for memory in vectors.memories]
    _, rows, columns = vectors.shape
    return [*line, *row.integers, 0, rows, columns, address(vectors.row_sums), address(vectors.column_sums)]


def _at(plan: Plan, word: str) -> int:
    """Return where in a row, after the addresses, an integer is, such as the address of its sums."""
    return len(plan.planes) + llvm.WORDS.index(word)


def _summed_copies(item: Bound, own: Sequence[NDArray[Any]]) -> Callable[[], Sequence[float]]:
    """Return what steps a row, by copies in C order of all of it, or of the slices that are stepped, for its sums."""
    row, kernel = item.row, item.kernel
    stored = {store.plane for store in kernel.plan.stores}
    at: Any = ...
    order: Any = ...
    if row.touched is not None:
        places = row.touched.places
        order = np.argsort(places)  # sums have one order, whatever the gradient's is
        at = np.unravel_index(places[order], own[0].shape[: row.touched.axes]) if row.touched.axes else np.newaxis
    taken = [array[order] if place == 1 else array[at] for place, array in enumerate(own)]
    arrays = [
        np.array(array, order="C") if place in stored else np.require(array, requirements=["C", "A"])
        for place, array in enumerate(taken)
    ]
    table = DirectTable([item._replace(row=row.over(arrays))], None)
    table.prepare(runtime.Team(1))

    def step() -> Sequence[float]:
        if row.is_apart:  # a row before it may have moved the same memory
            for place in stored:
                arrays[place][...] = own[place][at]
        table.run()
        for place in sorted(stored):
            own[place][at] = arrays[place]
        return table.sums()[0]

    return step
