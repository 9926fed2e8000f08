"""Numbers of rows and columns by machine code: those of all parameters of a pass in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import runtime
from steprule.backends.llvm_vector_numbers import Arguments
from steprule.compile import Plan, Vectors
from steprule.engine import Kernel
from steprule.language.matrices import ROWS, matrix_shape, tiles_of
from steprule.language.sums import BLOCK, rounded_once
from steprule.launch.row import Row
from steprule.launch.vectors import Known, RowVectors
from steprule.runtime.addresses import address

__all__ = ["MachineVectors", "can_be_taken"]

Array = NDArray[Any]


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
        self._own = [_Own(rows[place], kernels[place].plan) for place in places]
        own = [(row, kernels[place], scalars[place]) for row, place in zip(self._rows, places, strict=True)]
        self._compute, self._write = (_Calls(name, own, self._own) for name in ("vectors", "written"))
        self._have_totals = any(own.totals for own in self._own)

    def of_rows(self) -> list[RowVectors]:
        """Return what there is of each parameter."""
        return [own.of for own in self._own]

    @property
    def totals(self) -> list[list[float]]:
        """Sums over each tensor that are none of elements: one line a parameter; none where there are no such sums."""
        if not self._have_totals:
            return []
        return [
            [0.0 if row.group.rests else rounded_once(partials.tolist()) for partials in own.totals]
            for row, own in zip(self._rows, self._own, strict=True)
        ]

    def compute(self, found: Known, team: runtime.Team) -> None:
        """Compute what the kernels read, given the scalars and what passes before have found. No slot is written."""
        self._compute.prepare(team)
        self._write.prepare(team)
        self._compute.run()

    def finish(self, found: Known) -> None:
        """Leave it to passes that follow to add up the sums that the kernels have taken."""

    def write(self) -> None:
        """Give the slots their new values, but those of parameters that rest. It does not fail."""
        self._write.run()


class _Own:
    """Memory for what there is of one parameter in a pass.

    Passes have what they hoist, and their sums, in common by name: a pass finds what those before have left.

    Attributes:
        shape: the matrices, the rows of each, and its columns.
        of: what kernels read and sum.
        totals: the partial sums over the tensor.
    """

    def __init__(self, row: Row, plan: Plan) -> None:
        if plan.view is None:
            raise ValueError(f"{plan.title} sees no rows and no columns")
        shape = row.memories[0].shape
        self._row, self._tiles = row, tiles_of(shape, plan.view)
        self.shape = batch, height, width = matrix_shape(shape, plan.view)
        self._lengths = {"row": batch * height, "column": batch * width}
        self.of = RowVectors(self.shape, [*self.scratch(plan).values()], self.row_sums(plan), self.column_sums(plan))
        parts = {"row": batch * -(-height // ROWS), "column": batch * -(-width // BLOCK)}
        vectors = _vectors(plan)
        self.totals = [np.zeros(parts[vectors.stage_of(ref)]) for ref, _ in vectors.totals]

    def scratch(self, plan: Plan) -> dict[str, Array]:
        """Return the memory of what elements take of rows and columns in a pass, by name."""
        return {
            plane.name: self._made(plane.name, self._lengths[plane.per], plan.compute) for plane in plan.scratch_planes
        }

    def row_sums(self, plan: Plan) -> Array:
        """Return the memory of a pass for partial sums of rows."""
        shape = self._lengths["row"], self._tiles[2], len(plan.row_sums)
        return self._made(plan.row_sums, shape, "float64")

    def column_sums(self, plan: Plan) -> Array:
        """Return the memory of a pass for partial sums of columns."""
        shape = self._tiles[1], len(plan.column_sums), self.shape[2]
        return self._made(plan.column_sums, shape, "float64")

    def inputs(self, plan: Plan) -> list[int]:
        """Return where the pass finds what it reads."""
        kept = zip(plan.kept_planes, self._row.memories, strict=False)  # work planes follow
        found = {plane.name: memory.address for plane, memory in kept}
        for before in plan.before:
            found |= {own.name: address(self.row_sums(before)) for own in before.row_sums}
            found |= {own.name: address(self.column_sums(before)) for own in before.column_sums}
            found |= {name: address(memory) for name, memory in self.scratch(before).items()}
        return [found[name] for name in _vectors(plan).inputs]

    def _made(self, what: Any, shape: Any, dtype: str) -> Array:
        """Return memory for this purpose: what there is, or new."""
        key = what, shape, dtype
        if key not in self._row.scratch:
            self._row.scratch[key] = np.zeros(shape, dtype)
        return self._row.scratch[key]


@dataclass(frozen=True)
class _Code:
    """A function of a kernel's code, for a table.

    Attributes:
        address: where it is.
        owner: what keeps it there.
    """

    address: int
    owner: object


class _Calls:
    """A launch of one function of the kernels that have it.

    Args:
        name: of the function.
        bound: the parameters, their kernels, and the scalars that these read.
        own: what there is of each.
    """

    def __init__(
        self, name: str, bound: Sequence[tuple[Row, Kernel, NDArray[np.float64]]], own: Sequence[_Own]
    ) -> None:
        taken = [(item, of) for item, of in zip(bound, own, strict=True) if name in item[1].code.more]
        self._groups = [row.group for (row, _, _), _ in taken]
        self._waver = any(group.wavers for group in self._groups)
        self._table: runtime.Table | None = None
        if not taken:
            return
        at = [Arguments.of(_vectors(kernel.plan)) for (_, kernel, _), _ in taken]
        units = [max(1, of.shape[1] + of.shape[2]) for _, of in taken]
        # The launch of the elements comes right after, or before.
        backwards = any(kernel.plan.launches_before % 2 == 0 for (_, kernel, _), _ in taken)
        sizes = [of.shape[0] for _, of in taken]
        self._table = table = runtime.Table(sizes, max(one.width for one in at), units, backwards=backwards)
        codes = {id(kernel.code): _Code(kernel.code.more[name], kernel.code) for (_, kernel, _), _ in taken}
        table.set_rows(
            [codes[id(kernel.code)] for (_, kernel, _), _ in taken], [address(line) for (*_, line), _ in taken]
        )
        for line, (((row, kernel, _), of), one) in enumerate(zip(taken, at, strict=True)):
            table.addresses[line, : one.width] = _line(row, kernel.plan, of)

    def prepare(self, team: runtime.Team) -> None:
        """Do all that can fail of a run by this team at most."""
        if self._table is not None:
            if self._waver:
                self._table.let_rest([line for line, group in enumerate(self._groups) if group.rests])
            self._table.prepare(team)

    def run(self) -> None:
        """Run the function over all parameters."""
        if self._table is not None:
            self._table.run()


def _line(row: Row, plan: Plan, own: _Own) -> list[int]:
    """Return the addresses of one parameter, in the order of ``Arguments``, and the sizes."""
    slots = [row.memories[place].address for place, _ in _vectors(plan).slots]
    return [*own.inputs(plan), *map(address, own.of.planes), *slots, *map(address, own.totals), *own.shape[1:]]


def can_be_taken(row: Row, kernel: Kernel) -> bool:
    """Whether the slots of rows and columns lie as machine code takes them."""
    pairs = zip(row.memories, kernel.plan.kept_planes, strict=False)
    return row.touched is None and all(
        memory.is_contiguous and memory.is_aligned for memory, plane in pairs if plane.per in ("row", "column")
    )


def _vectors(plan: Plan) -> Vectors:
    if plan.vectors is None:
        raise ValueError(f"{plan.title} sees no rows and no columns")
    return plan.vectors
