"""What the launch computes for rows and columns of tensors that are seen as matrices: between passes, on this machine.

There are few of these numbers, so NumPy computes them, whatever backend takes the passes over elements; those of
tensors of one shape together, since a call takes longer than its numbers. A pass reads them from scratch memory and
leaves its partial sums there. What slots become is written with the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Kernel
from steprule.language.matrices import columns_added, finished, matrix_shape, rows_added, tiles_of
from steprule.launch.memory import Memory, array_memory
from steprule.launch.row import Row
from steprule.runtime import Team

__all__ = ["Known", "RowVectors", "VectorGroup", "Vectors", "vector_groups"]


Known = dict[Any, dict[str, NDArray[Any]]]
"""What NumPy has computed of rows and columns so far in a step, by the ``key`` of groups and by name."""


class RowVectors(NamedTuple):
    """What a kernel reads and sums of the rows and columns of one parameter.

    Attributes:
        shape: the matrices, the rows of each, and its columns.
        planes: what the kernel reads, as it orders them.
        row_sums: partial sums of rows: an array of rows, blocks of columns, and sums.
        column_sums: those of columns: an array of blocks of rows, sums, and columns.
    """

    shape: tuple[int, int, int]
    planes: Sequence[NDArray[Any]]
    row_sums: NDArray[np.float64]
    column_sums: NDArray[np.float64]

    @property
    def memories(self) -> list[Memory]:
        """Where the planes lie."""
        return [array_memory(plane) for plane in self.planes]


class Vectors(Protocol):
    """What computes the numbers of rows and columns in one pass, of some parameters.

    Attributes:
        places: those of the parameters in the pass.
    """

    places: Sequence[int]

    @property
    def totals(self) -> Sequence[Sequence[float]]:
        """Sums over each tensor that are none of elements: one line a parameter; none where there are no such sums."""
        ...

    def of_rows(self) -> list[RowVectors]:
        """Return what there is of each parameter."""
        ...

    def compute(self, found: Known, team: Team) -> None:
        """Compute what kernels read, given the scalars and what passes before have found. No slot is written.

        It may fail, and ``write`` may not. This team at most takes part in both.
        """
        ...

    def finish(self, found: Known) -> None:
        """Add the sums that kernels have taken to what is known."""
        ...

    def write(self) -> None:
        """Let the slots be what was computed, but of parameters that rest. It does not fail."""
        ...


class VectorGroup:
    """The numbers of rows and columns in one pass, of parameters of one shape and one kernel.

    Args:
        rows: the parameters.
        kernel: that runs over them in the pass.
        scalars: what that reads, of each.
        places: their places in the pass.

    Attributes:
        key: what tells them from others in every pass of a step.
        places: see above.
        totals: sums over each tensor that are none of elements: one line a parameter, or none.
    """

    def __init__(
        self, rows: Sequence[Row], kernel: Kernel, scalars: Sequence[NDArray[np.float64]], places: Sequence[int]
    ) -> None:
        plan, shape = kernel.plan, rows[0].memories[0].shape
        if plan.view is None or plan.vectors is None:
            raise ValueError(f"{plan.title} sees no rows and no columns")
        self.key, self.places = _key(rows[0]), places
        self._rows, self._kernel, self._scalars, self._own = rows, kernel, scalars, plan.vectors
        self._shares = all(line is scalars[0] for line in scalars)
        self._shape = batch, height, width = matrix_shape(shape, plan.view)
        self._batch = stack = batch * len(rows)
        self._at = {plane.name: place for place, plane in enumerate(plan.kept_planes)}
        of = {"row": (stack, height, 1), "column": (stack, 1, width)}
        self._of = {plane.name: of[plane.per] for plane in plan.planes if plane.per in of}
        self._planes = {plane.name: np.zeros(of[plane.per], plan.compute) for plane in plan.scratch_planes}
        _, down, across = tiles_of(shape, plan.view)
        self._row_sums = np.zeros((stack * height, across, len(plan.row_sums)))
        self._column_sums = np.zeros((down * len(rows), len(plan.column_sums), width))
        self._new: list[tuple[int, NDArray[Any]]] = []
        self.totals: list[list[float]] = []

    def of_rows(self) -> list[RowVectors]:
        """Return what there is of each parameter."""
        count = len(self._rows)
        planes = [np.split(plane, count) for plane in self._planes.values()]
        sums = np.split(self._row_sums, count), np.split(self._column_sums, count)
        return [
            RowVectors(self._shape, [plane[index] for plane in planes], sums[0][index], sums[1][index])
            for index in range(count)
        ]

    def compute(self, found: Known, team: Team) -> None:
        """Compute what the kernel reads, given the scalars and what passes before have found. No slot is written."""
        own, known = self._own, found.setdefault(self.key, {})
        if not (own.hoisted or own.slots or own.totals):
            return
        values = [known[name] if name in known else self._kept(name) for name in own.inputs]
        scalars = np.array(self._scalars[:1] if self._shares else self._scalars)
        if not self._shares and self._shape[0] > 1:
            scalars = np.repeat(scalars, self._shape[0], axis=0)
        with np.errstate(all="ignore"):
            hoisted, slots, totals = self._kernel.vectors(values, scalars, len(self._rows))
        for (name, plane), value in zip(self._planes.items(), hoisted, strict=True):
            plane[...] = value
            known[name] = plane
        self.totals = [
            [0.0] * len(totals) if row.group.rests else [own[index] for own in totals]
            for index, row in enumerate(self._rows if totals else ())
        ]
        self._new = []
        for (place, _), value in zip(own.slots, slots, strict=True):
            slot = self._kernel.plan.planes[place]
            self._new.append((place, np.array(np.broadcast_to(value, self._of[slot.name]), slot.dtype)))

    def finish(self, found: Known) -> None:
        """Add the sums that the kernel has taken to what is known, in the type of the arithmetic."""
        plan, (_, height, width), known = self._kernel.plan, self._shape, found[self.key]
        for number, own in enumerate(plan.row_sums):
            sums = rows_added(self._row_sums[:, :, number], self._batch, height)
            known[own.name] = self._rounded(finished(own.word, sums, width))
        for number, own in enumerate(plan.column_sums):
            sums = columns_added(self._column_sums[:, number], self._batch)
            known[own.name] = self._rounded(finished(own.word, sums, height))

    def write(self) -> None:
        """Let the slots be what was computed, but of parameters that rest. It does not fail."""
        for place, new in self._new:
            for row, part in zip(self._rows, new.reshape(len(self._rows), -1), strict=True):
                if not row.group.rests:
                    memory = row.memories[place]
                    memory.array()[...] = part.reshape(memory.shape)
        self._new = []

    def _kept(self, name: str) -> NDArray[Any]:
        """Return a slot of all parameters."""
        place = self._at[name]
        arrays = [row.memories[place].array() for row in self._rows]
        return (arrays[0] if len(arrays) == 1 else np.array(arrays)).reshape(self._of[name])

    def _rounded(self, numbers: NDArray[np.float64]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return numbers.astype(self._kernel.plan.compute)


def vector_groups(
    rows: Sequence[Row],
    kernels: Sequence[Kernel],
    scalars: Sequence[NDArray[np.float64]],
    places: Sequence[int],
) -> list[VectorGroup]:
    """Return the groups of the rows of a pass that are seen as matrices, which are at these places."""
    groups: dict[Any, list[int]] = {}
    for place in places:
        groups.setdefault(_key(rows[place]), []).append(place)
    return [
        VectorGroup([rows[place] for place in own], kernels[own[0]], [scalars[place] for place in own], own)
        for own in groups.values()
    ]


def _key(row: Row) -> Any:
    return id(row.kernel), row.memories[0].shape
