"""What a backend is: it makes code of plans, and runs it over rows.

A new one is a class with a name and two methods, and no edit elsewhere: ``Optimizer(params, backend=Mine())``. For
example, one that steps every row by a Python function of its arrays::

    class Mine:
        name = "mine"

        def load(self, plan):
            return compiled(plan)  # anything; it comes back as item.kernel.code

        def table(self, items, commit):
            return MyTable(items)


    class MyTable:
        is_one_call = False  # the executor writes the commit

        def __init__(self, items):
            self._items = items

        def set_gradients(self, gradients):
            for item, at in zip(self._items, gradients):
                item.row.memories[1] = item.row.memories[1].at(at)

        def prepare(self, team):
            ...  # take memory, make copies: all that can fail; nothing may move

        def run(self):
            for item in self._items:
                item.kernel.code(*(memory.array() for memory in item.memories), item.scalars)

        def sums(self):
            return []  # a line of numbers an item, where the plan has sums

What ``load`` returns is kept with the rule, by plan and backend. Copies of an optimizer have copies of the backend:
where these are equal (those of a frozen dataclass are), nothing is compiled again.

``tests/launch/c_backend.py`` is a whole one, by a C compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Kernel, Loader
from steprule.launch.memory import Memory
from steprule.launch.row import Row
from steprule.launch.vectors import RowVectors
from steprule.runtime import Team
from steprule.runtime.commit import Commit

__all__ = ["Backend", "Bound", "Lines", "Table"]


class Bound(NamedTuple):
    """A row, the kernel that runs over it in one pass, and the scalars that the kernel reads.

    Where the plan sees the row as matrices, ``vectors`` has what the kernel reads and sums of rows and columns.
    """

    row: Row
    kernel: Kernel
    scalars: NDArray[np.float64]
    vectors: RowVectors | None = None

    @property
    def memories(self) -> Sequence[Memory]:
        """Where the numbers lie that the kernel takes, but for those of rows and columns."""
        count = len(self.kernel.plan.own_planes)
        if len(self.row.memories) < count:
            raise ValueError(
                f"{self.kernel.plan.title}: a row has memory for {len(self.row.memories)} of {count} planes"
            )
        return self.row.memories[:count]


Lines = Sequence[Sequence[float]] | NDArray[np.float64]
"""The sums of each row: an array, or a list where some have more of them than others."""


class Table(Protocol):
    """The rows of one backend in one pass: prepared, and run, again and again."""

    is_one_call: bool
    """Whether ``run`` writes the commit itself, in the very call of machine code that moves the rows."""

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses; of rows that are not direct they are in the row."""
        ...

    def prepare(self, team: Team) -> None:
        """Do all that can fail, of a run by this team at most. Nothing moves, and the run is not done yet."""
        ...

    def run(self) -> None:
        """Run the kernels over all rows. It does not fail."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether what was prepared has run; asked for where ``is_one_call``."""
        ...

    def sums(self) -> Lines:
        """Return the sums of each row, one line per row, of what has run."""
        ...


class Backend(Loader, Protocol):
    """What steps rows.

    One that computes numbers of rows and columns itself also has ``vectors(rows, kernels, scalars, places)``, as
    ``launch.vectors.vector_groups`` computes them by NumPy for all others.
    """

    def table(self, items: Sequence[Bound], commit: Commit | None) -> Table:
        """Return the rows of one pass, laid out. Changes nothing.

        Args:
            items: the rows, all of this backend.
            commit: what is counted of a step; a table may write it, if it does so in one call with all rows.
        """
        ...
