"""One pass: a kernel over all rows of a launch, which may also sum."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Kernel, Loader, PassKey
from steprule.launch.backend import Backend, Bound, Lines, Table
from steprule.launch.machine import MACHINE
from steprule.launch.referee import REFEREE
from steprule.launch.row import Row, ScalarGroup
from steprule.launch.shards import WholeSums
from steprule.launch.sums import crosses_rows
from steprule.launch.vectors import Vectors, vector_groups
from steprule.runtime import Team
from steprule.runtime.commit import Commit

__all__ = ["Part", "Pass", "Tables"]


class Pass:
    """The kernels of one pass over rows, of whatever backends.

    Args:
        which: what they do.
        rows: in the order of the sums.
        groups: those of the rows, in the order of the lines of scalars.
        commit: what is counted of a step, for a pass that takes one.
        is_per_row: whether every row has scalars of its own, not its group's.

    Attributes:
        table: what runs them.
        members: the places of each group's rows.
        scalars, lines: those of each group's rows, one line per row, and the same as bytes; no lines where rows read
            their group's.
        whole_sums: adds up what has been summed over parts of larger arrays; None where all are whole.
        vectors: what is computed of the rows that are seen as matrices.
    """

    table: Table

    def __init__(
        self,
        which: PassKey,
        rows: Sequence[Row],
        groups: Sequence[ScalarGroup],
        commit: Commit | None = None,
        *,
        is_per_row: bool = False,
    ) -> None:
        self.which, self.is_per_row = which, is_per_row
        has_parts = any(row.shard.share is not None for row in rows)
        self.whole_sums = WholeSums(rows) if has_parts else None
        self.members = _members(rows, groups)
        if is_per_row:
            ends = list(itertools.accumulate(map(len, self.members), initial=0))
            widths = [len(row.group.values.new_row(which)) for row in rows]
            scalars = np.zeros((len(rows), max(widths, default=0)))
            self.scalars = [scalars[start:end] for start, end in itertools.pairwise(ends)]
            lines = list(scalars)
            self.lines = [list(map(_bytes, own)) for own in self.scalars]
            line_of = {place: line for line, place in enumerate(itertools.chain(*self.members))}
        else:
            lines = [group.values.new_row(which) if _takes(group, which) else np.zeros(1) for group in groups]
            self.scalars, self.lines = [line[np.newaxis][:0] for line in lines], [[] for _ in lines]
            line_of = {place: line for line, places in enumerate(self.members) for place in places}
        self._lines = [] if is_per_row else list(map(_bytes, lines))
        backends = list(map(_backend_of, rows))
        kernels = [row.kernel_of(which, backend) for row, backend in zip(rows, backends, strict=True)]
        own = [lines[line_of[place]] for place in range(len(rows))]
        self.vectors = _vectors(rows, backends, kernels, own)
        of_rows = {
            place: own for group in self.vectors for place, own in zip(group.places, group.of_rows(), strict=True)
        }
        bound = [Bound(row, kernels[place], own[place], of_rows.get(place)) for place, row in enumerate(rows)]
        self._bound, self._backends = bound, backends
        self.table = _table(bound, backends, commit)

    def part(self, places: Sequence[int]) -> Part:
        """Return some rows, which read the same scalars, and a table of these."""
        table = _table([self._bound[place] for place in places], [self._backends[place] for place in places], None)
        return np.array(places, np.int64), table

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        self.table.set_gradients(gradients)

    def fill(self, lines: Iterable[bytes]) -> None:
        """Let the kernels read these scalars, one line per group."""
        for own, line in zip(self._lines, lines, strict=True):
            own[: len(line)] = line


def _vectors(
    rows: Sequence[Row], backends: Sequence[Loader], kernels: Sequence[Kernel], scalars: Sequence[NDArray[np.float64]]
) -> list[Vectors]:
    """Return what computes the numbers of rows and columns, where a backend has nothing of its own for it in NumPy."""
    by_backend: dict[Loader, list[int]] = {}
    for place, (backend, kernel) in enumerate(zip(backends, kernels, strict=True)):
        if kernel.plan.view is not None:
            by_backend.setdefault(backend, []).append(place)
    return [
        group
        for backend, places in by_backend.items()
        for group in getattr(backend, "vectors", vector_groups)(rows, kernels, scalars, places)
    ]


def _takes(group: ScalarGroup, which: PassKey) -> bool:
    """Whether a pass is one of a group's: others may have more before their step."""
    return isinstance(which, str) or which[1] < len(group.values.plan(which[0]).before)


def _bytes(line: NDArray[np.float64]) -> memoryview:
    return memoryview(line.data).cast("B")


def _members(rows: Sequence[Row], groups: Sequence[ScalarGroup]) -> list[list[int]]:
    """Return the places of each group's rows."""
    found: dict[int, list[int]] = {id(group): [] for group in groups}
    for place, row in enumerate(rows):
        found[id(row.group)].append(place)
    return list(found.values())


def _backend_of(row: Row) -> Loader:
    """Return what steps a row: machine code steps no groups that cross the rows of matrices."""
    plan = row.kernel.plan
    crosses = row.backend is MACHINE and plan.has_groups and crosses_rows(plan.view, row.shape)
    return REFEREE if crosses else row.backend


def _table(bound: Sequence[Bound], backends: Sequence[Loader], commit: Commit | None) -> Table:
    """Return the table of the rows' backend; of several, one that has theirs."""
    by_backend: dict[Loader, list[int]] = {}
    for place, backend in enumerate(backends):
        by_backend.setdefault(backend, []).append(place)
    if len(by_backend) == 1:
        return cast(Backend, backends[0]).table(bound, commit)
    return Tables(
        len(bound),
        [
            (np.array(places, np.int64), cast(Backend, backend).table([bound[place] for place in places], None))
            for backend, places in by_backend.items()
        ],
    )


Part = tuple[NDArray[np.int64], Table]
"""Some rows of a pass, by place, and their table."""


class Tables:
    """Tables of some rows each, as one of all: of several backends, or of none.

    Args:
        count: how many rows there are.
        parts: the tables, each with the places of its rows.
    """

    is_one_call = False
    is_done = False

    def __init__(self, count: int, parts: Sequence[Part]) -> None:
        self._count, self._tables = count, parts

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        for places, table in self._tables:
            table.set_gradients(gradients[places])

    def prepare(self, team: Team) -> None:
        """Do all that can fail, of every part."""
        for _, table in self._tables:
            table.prepare(team)

    def run(self) -> None:
        """Run all parts, one after the other."""
        for _, table in self._tables:
            table.run()

    def sums(self) -> Lines:
        """Return the sums of each row, in the order of all."""
        lines: list[Sequence[float]] = [[]] * self._count
        for places, table in self._tables:
            for place, line in zip(places.tolist(), table.sums(), strict=True):
                lines[place] = line
        return lines
