"""In which kernels a device computes a plan's numbers of rows and columns: one for all sums that wait for the same.

First come the words for sums of such numbers and their sums over the tensor, those that others depend on before these;
then what elements take; and after the pass, when elements have moved, the slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steprule.compile import BLOCK, LANES, Plan, Plane, Ref, Value, Vectors
from steprule.language.matrices import ROWS, Along, View, matrix_shape

__all__ = ["Graph", "Job", "Stage", "added_chunks", "chunks", "partials", "stages"]

_FEW = 1024
"""The columns of a program where nothing is summed, so that there are many programs."""


@dataclass(frozen=True)
class Job:
    """One result of a stage: a sum, whose partial sums go to a place of their own, or what is written as it is.

    Attributes:
        ref: of what.
        over: the numbers of what a program has, rows or columns.
        place: of the address, in a row of the table.
        is_squared: whether the squares are summed.
        dtype: the type of what is written; "" for sums.
    """

    ref: Ref
    over: Along
    place: int
    is_squared: bool = False
    dtype: str = ""


@dataclass(frozen=True)
class Stage:
    """What one kernel does.

    Attributes:
        jobs: its results.
        moves: whether it writes slots, after the pass; where the step is taken.
    """

    jobs: tuple[Job, ...]
    moves: bool = False

    @property
    def sums(self) -> bool:
        """Whether it sums, and writes nothing else."""
        return not self.jobs[0].dtype

    @property
    def wide(self) -> int:
        """The columns that a program has."""
        return BLOCK if self.sums else _FEW

    def of(self, over: Along) -> list[Job]:
        """Return the results of numbers of rows, or of columns."""
        return [job for job in self.jobs if job.over == over]


class Graph:
    """The numbers of rows and columns of a plan, and where their addresses are in a row of the table.

    Attributes:
        plan, own: the plan, and its part.
        words: the values that are words for sums.
        new: the planes that elements take and that the plan fills, with what; others are those of passes before.
        over: of what is summed, by each word and for each sum over the tensor.
        width: how many addresses there are: of inputs, new planes, slots, and the partial sums of each of ``over``.
    """

    def __init__(self, plan: Plan) -> None:
        if plan.vectors is None:
            raise ValueError(f"{plan.title} sees no rows and no columns")
        self.plan, self.own = plan, plan.vectors
        own: Vectors = plan.vectors
        self.words = [k for k, one in enumerate(own.body, len(own.inputs)) if "." in one.op]
        self._levels = [0] * len(own.inputs)
        for index, instruction in enumerate(own.body, len(own.inputs)):
            before = max((self.level(arg) for arg in instruction.args), default=0)
            self._levels.append(before + (index in self.words))
        scratch = plan.scratch_planes
        self.new: list[tuple[Plane, Ref]] = [(scratch[number], own.hoisted[number]) for number in own.computed]
        self._first_slot = len(own.inputs) + len(self.new)
        self._first_sum = self._first_slot + len(own.slots)
        summed = [own.body[index - len(own.inputs)].args[0] for index in self.words]
        self.over = [self._over(ref) for ref in (*summed, *(ref for ref, _ in own.totals))]
        self.width = self._first_sum + len(self.over)

    def level(self, ref: Ref) -> int:
        """Return after how many kernels with sums a value is known."""
        return self._levels[ref.index] if isinstance(ref, Value) else 0

    def place_of_word(self, index: int) -> int:
        """Return where the address of the partial sums of a word is."""
        return self._first_sum + self.words.index(index)

    def sums(self) -> list[Job]:
        """Return what is summed."""
        own, jobs = self.own, list[tuple[Ref, bool]]()
        for index in self.words:
            word = own.body[index - len(own.inputs)]
            jobs.append((word.args[0], word.op.startswith(("norm", "rms"))))
        pairs = enumerate(zip([*jobs, *own.totals], self.over, strict=True), self._first_sum)
        return [Job(ref, over, place, is_squared) for place, ((ref, is_squared), over) in pairs]

    def hoisted(self) -> list[Job]:
        """Return what elements take."""
        pairs = enumerate(self.new, len(self.own.inputs))
        return [Job(ref, _along(plane), place, dtype=plane.dtype) for place, (plane, ref) in pairs]

    def slots(self) -> list[Job]:
        """Return what slots become."""
        pairs = enumerate(((self.plan.planes[k], ref) for k, ref in self.own.slots), self._first_slot)
        return [Job(ref, _along(plane), place, dtype=plane.dtype) for place, (plane, ref) in pairs]

    def _over(self, ref: Ref) -> Along:
        return "column" if self.own.stage_of(ref) == "column" else "row"


def _along(plane: Plane) -> Along:
    return "column" if plane.per == "column" else "row"


def stages(graph: Graph) -> list[Stage]:
    """Return what is computed, kernel after kernel."""
    sums = graph.sums()
    levels = [tuple(job for job in sums if graph.level(job.ref) == level) for level in range(1 + len(graph.words))]
    found = [Stage(jobs) for jobs in (*levels, tuple(graph.hoisted())) if jobs]
    slots = tuple(graph.slots())
    return [*found, Stage(slots, moves=True)] if slots else found


def chunks(stage: Stage, shape: Sequence[int], view: View) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor of this shape in a stage."""
    batch, rows, columns = matrix_shape(shape, view)
    counts = (batch * -(-rows // ROWS), batch * -(-columns // stage.wide))
    return _numbers([count if stage.of(over) else 0 for count, over in zip(counts, _AXES, strict=True)])


def added_chunks(plan: Plan, shape: Sequence[int], view: View) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor where the partial sums of its rows and columns are added up."""
    batch, rows, columns = matrix_shape(shape, view)
    counts = (-(-batch * rows // LANES), -(-batch * columns // LANES))
    return _numbers([count if own else 0 for count, own in zip(counts, (plan.row_sums, plan.column_sums), strict=True)])


def partials(shape: Sequence[int], view: View, over: Along) -> int:
    """Return how many partial sums there are of numbers of the rows, or of the columns, of a tensor of this shape."""
    batch, rows, columns = matrix_shape(shape, view)
    return batch * (-(-rows // ROWS) if over == "row" else -(-columns // BLOCK))


_AXES: tuple[Along, ...] = ("row", "column")


def _numbers(counts: Sequence[int]) -> NDArray[np.int64]:
    """Return the numbers of so many chunks of rows, which are even, and of columns, which are odd."""
    return np.concatenate([np.arange(count) * len(counts) + k for k, count in enumerate(counts)])
