"""Numbers of rows and columns by machine code: those of all parameters of a pass in one launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import runtime
from steprule.backends.llvm_vectors import Arguments, arguments
from steprule.compile import Plan, Vectors
from steprule.engine import Kernel
from steprule.language.matrices import ROWS, matrix_shape, tiles_of
from steprule.language.sums import BLOCK, rounded_once
from steprule.launch.row import Row
from steprule.launch.vectors import Known, RowVectors
from steprule.runtime.addresses import address

__all__ = ["MachineVectors", "can_be_taken"]


@dataclass(frozen=True)
class _Function:
    """A function of a kernel's code, for a table.

    Attributes:
        address: where it is.
        owner: what keeps it there.
    """

    address: int
    owner: object


@dataclass
class _Own:
    """What there is of one parameter.

    Attributes:
        shape: the matrices, the rows of each, and its columns.
        of: what kernels read and sum.
        new: the new slots.
        totals: the partial sums over the tensor.
        found: where passes that follow find what this one has, by name.
    """

    shape: tuple[int, int, int]
    of: RowVectors
    new: list[NDArray[Any]] = field(default_factory=list)
    totals: list[NDArray[np.float64]] = field(default_factory=list)
    found: dict[str, int] = field(default_factory=dict)


class MachineVectors:
    """The numbers of rows and columns in one pass, of parameters that machine code steps.

    Args:
        rows, kernels, scalars: the parameters of a pass, what runs over them in it, and what that reads.
        places: those of the parameters that are seen as matrices.

    Attributes:
        places: see above.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        kernels: Sequence[Kernel],
        scalars: Sequence[NDArray[np.float64]],
        places: Sequence[int],
    ) -> None:
        self.places = places
        self._rows = [rows[place] for place in places]
        self._own = [_made(rows[place].memories[0].shape, kernels[place].plan) for place in places]
        self._index = {id(row): index for index, row in enumerate(self._rows)}
        self._bound: list[MachineVectors] | None = None
        self._computed = [index for index, place in enumerate(places) if kernels[place].code.more]
        self._kernels = [kernels[places[index]] for index in self._computed]
        self._scalars = [scalars[places[index]] for index in self._computed]
        self._waver = any(self._rows[index].group.wavers for index in self._computed)
        self._compute, self._write = (self._table(name) for name in ("vectors", "written"))
        self._has_totals = any(own.totals for own in self._own)
        self._has_slots = any(own.new for own in self._own)

    def of_rows(self) -> list[RowVectors]:
        """Return what there is of each parameter."""
        return [own.of for own in self._own]

    @property
    def totals(self) -> list[list[float]]:
        """Sums over each tensor that are none of elements: one line a parameter; none where there are no such sums."""
        if not self._has_totals:
            return []
        return [
            [0.0 if row.group.rests else rounded_once(partials.tolist()) for partials in own.totals]
            for row, own in zip(self._rows, self._own, strict=True)
        ]

    def compute(self, found: Known, team: runtime.Team) -> None:
        """Compute what the kernels read, given the scalars and what passes before have found. No slot is written."""
        if not self._computed:
            return
        if self._bound != found.passes:
            self._bind(found.passes)
        resting = (
            [line for line, index in enumerate(self._computed) if self._rows[index].group.rests] if self._waver else []
        )
        for table in (self._compute, self._write):
            table.let_rest(resting)
            table.prepare(team)
        self._compute.run()

    def finish(self, found: Known) -> None:
        """Let passes that follow add up the sums that the kernels have taken."""
        found.passes.append(self)

    def write(self) -> None:
        """Let the slots be what was computed, but of parameters that rest. It does not fail."""
        if self._has_slots:
            self._write.run()

    def _table(self, name: str) -> runtime.Table:
        """Lay out the addresses of a function for all parameters that it computes something of."""
        own = [self._own[index] for index in self._computed]
        at = [arguments(_vectors(kernel.plan)) for kernel in self._kernels]
        sizes, units = [one.shape[0] for one in own], [max(1, one.shape[1] + one.shape[2]) for one in own]
        table = runtime.Table(sizes, max([2, *(one.width for one in at)]), units)
        functions = {id(kernel.code): _Function(kernel.code.more[name], kernel.code) for kernel in self._kernels}
        codes = [functions[id(kernel.code)] for kernel in self._kernels]
        table.set_rows(codes, [address(line) for line in self._scalars])
        lines = zip(self._computed, self._kernels, at, strict=True)
        for line, (index, kernel, of) in enumerate(lines):
            after = self._after_inputs(index, kernel, of)
            table.addresses[line, of.hoisted : of.width] = after
        return table

    def _after_inputs(self, index: int, kernel: Kernel, at: Arguments) -> list[int]:
        """Return the addresses of one parameter after those of what is read."""
        own, row, vectors = self._own[index], self._rows[index], _vectors(kernel.plan)
        return [
            *map(address, own.of.planes),
            *map(address, own.new),
            *(row.memories[place].address for place, _ in vectors.slots),
            *map(address, own.totals),
            *own.shape[1:],
        ]

    def _bind(self, before: Sequence[MachineVectors]) -> None:
        """Lay out the addresses of what is read: slots, and what passes before have found."""
        for line, (index, kernel) in enumerate(zip(self._computed, self._kernels, strict=True)):
            row = self._rows[index]
            found: dict[str, int] = {}
            for other in before:
                found |= other._found_of(row)
            names = [plane.name for plane in kernel.plan.kept_planes]
            kept = dict(zip(names, row.memories, strict=True))
            inputs = _vectors(kernel.plan).inputs
            self._compute.addresses[line, : len(inputs)] = [
                kept[name].address if name in kept else found[name] for name in inputs
            ]
        self._bound = list(before)

    def _found_of(self, row: Row) -> Mapping[str, int]:
        index = self._index.get(id(row))
        return {} if index is None else self._own[index].found


def can_be_taken(row: Row, kernel: Kernel) -> bool:
    """Whether the slots of rows and columns lie as machine code takes them."""
    pairs = zip(row.memories, kernel.plan.kept_planes, strict=True)
    return row.touched is None and all(
        memory.is_contiguous and memory.is_aligned for memory, plane in pairs if plane.per in ("row", "column")
    )


def _vectors(plan: Plan) -> Vectors:
    if plan.vectors is None:
        raise ValueError(f"{plan.title} sees no rows and no columns")
    return plan.vectors


def _made(shape: Sequence[int], plan: Plan) -> _Own:
    """Make memory for what there is of one parameter in a pass."""
    if plan.view is None:
        raise ValueError(f"{plan.title} sees no rows and no columns")
    batch, height, width = matrix_shape(shape, plan.view)
    of = {"row": (batch, height, 1), "column": (batch, 1, width)}
    _, down, across = tiles_of(shape, plan.view)
    vectors, scratch = _vectors(plan), plan.planes[len(plan.kept_planes) :]
    planes = [np.zeros(of[plane.per], plan.compute) for plane in scratch]
    row_sums = np.zeros((batch * height, across, len(plan.row_sums)))
    column_sums = np.zeros((down, len(plan.column_sums), width))
    new = [np.zeros(of[plan.planes[place].per], plan.planes[place].dtype) for place, _ in vectors.slots]
    parts = {"row": batch * -(-height // ROWS), "column": batch * -(-width // BLOCK)}
    totals = [np.zeros(parts[vectors.stage_of(ref)]) for ref, _ in vectors.totals]
    found = {plane.name: address(own) for plane, own in zip(scratch, planes, strict=True)}
    found |= {own.name: address(row_sums) for own in plan.row_sums}
    found |= {own.name: address(column_sums) for own in plan.column_sums}
    return _Own(
        (batch, height, width), RowVectors((batch, height, width), planes, row_sums, column_sums), new, totals, found
    )
