"""One pass: a kernel over all rows of a launch, which may also sum."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Loader, PassName
from steprule.launch.backend import Backend, Bound, Table
from steprule.launch.row import Row, ScalarGroup
from steprule.runtime.commit import Commit

__all__ = ["Pass"]


class Pass:
    """The kernels of one pass over rows, of whatever backends.

    Args:
        which: what they do.
        rows: in the order of the sums.
        groups: those of the rows, in the order of the lines of scalars.
        commit: what is counted of a step, for a pass that takes one.
        owns: whether every row has scalars of its own, not its group's.

    Attributes:
        table: what runs them.
        members: the places of each group's rows.
        scalars, lines: where each row has its own: those of each group's rows, a line a row, and the same as bytes.
    """

    table: Table

    def __init__(
        self,
        which: PassName,
        rows: Sequence[Row],
        groups: Sequence[ScalarGroup],
        commit: Commit | None = None,
        *,
        owns: bool = False,
    ) -> None:
        self.which, self.owns = which, owns
        place_of = {id(group): place for place, group in enumerate(groups)}
        line_of = [place_of[id(row.group)] for row in rows]
        self.members = [np.flatnonzero(np.equal(line_of, place)).tolist() for place in range(len(groups))]
        if owns:
            widths = [len(row.group.values.new_row(which)) for row in rows]
            ends = list(itertools.accumulate(map(len, self.members), initial=0))
            scalars = np.zeros((len(rows), max(widths, default=0)))
            self.scalars = [scalars[start:end] for start, end in itertools.pairwise(ends)]
            line_of = np.argsort(np.concatenate([[], *self.members]), kind="stable").tolist()
            lines = list(scalars)
        else:
            lines = [group.values.new_row(which) for group in groups]
        self._lines = [memoryview(line.data).cast("B") for line in lines]
        self.lines = [self._lines[start:end] for start, end in itertools.pairwise(ends)] if owns else []
        bound = [Bound(row, row.kernel_of(which), lines[line]) for row, line in zip(rows, line_of, strict=True)]
        by_backend: dict[Loader, list[int]] = {}
        for place, row in enumerate(rows):
            by_backend.setdefault(row.backend, []).append(place)
        if len(by_backend) == 1:
            self.table = cast(Backend, bound[0].row.backend).table(bound, commit)
        else:
            self.table = _Tables(bound, by_backend)

    def look(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        self.table.look(gradients)

    def fill(self, lines: Iterable[bytes]) -> None:
        """Let the kernels read these scalars, a line a group."""
        for own, line in zip(self._lines, lines, strict=True):
            own[: len(line)] = line


class _Tables:
    """The tables of several backends, or of none."""

    is_one_call = False
    is_done = False

    def __init__(self, bound: Sequence[Bound], by_backend: dict[Loader, list[int]]) -> None:
        self._count = len(bound)
        self._tables: list[tuple[NDArray[np.int64], Table]] = []
        for backend, places in by_backend.items():
            table = cast(Backend, backend).table([bound[place] for place in places], None)
            self._tables.append((np.array(places, np.int64), table))

    def look(self, gradients: NDArray[np.int64]) -> None:
        for places, table in self._tables:
            table.look(gradients[places])

    def prepare(self, threads: int) -> None:
        for _, table in self._tables:
            table.prepare(threads)

    def run(self) -> None:
        for _, table in self._tables:
            table.run()

    def sums(self) -> list[list[float]]:
        lines: list[list[float]] = [[]] * self._count
        for places, table in self._tables:
            for place, line in zip(places.tolist(), table.sums(), strict=True):
                lines[place] = line
        return lines
