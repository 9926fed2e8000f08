"""Products of matrices between the passes of a step, and the memory in which they are taken.

A pass leaves what is multiplied in work planes. Those of rows of one group and one shape lie in memory one after the
other: a stack, which is what a library multiplies, some matrices at a time. Both the planes and what a library needs
beside them are bounded: each is ``LIMIT`` bytes at most, or what one row needs (``Work`` says for which rows).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Plan, Product
from steprule.errors import HyperparameterError
from steprule.language.matrices import matrix_shape
from steprule.language.newton_schulz import Iteration, gram_room, iterate
from steprule.launch.memory import array_memory
from steprule.launch.row import Row, ScalarGroup
from steprule.launch.sums import crosses_rows

__all__ = ["LIMIT", "NUMPY", "Library", "Work", "iteration_of", "named"]

LIMIT = 64 * 2**20
"""How many bytes the work planes of a batch have, and how many a library is given beside, if one row needs no more."""
MACHINE = "llvm"
"""The backend whose rows may step batch by batch; others step copies before anything moves."""
Array = NDArray[Any]


class Library(Protocol):
    """What multiplies matrices: NumPy, or what a door has (``Row.library``)."""

    def room(self, count: int, rows: int, columns: int) -> int:
        """Return how many numbers it needs room for, beside a stack of so many matrices."""
        ...

    def iterate(self, stack: Array, iteration: Iteration, room: Array) -> None:
        """Let each matrix of a stack be what the steps make of it. It may fail before it writes.

        Args:
            stack: an array of matrices, in C order, of float32 or float64.
            iteration: what is done; its parts are matrices of the stack already.
            room: memory for as many numbers of the same type as ``room`` says, or more.
        """
        ...


class NumpyProducts:
    """NumPy's matrix products: those of its BLAS, in the type of the arithmetic."""

    def room(self, count: int, rows: int, columns: int) -> int:
        """Return how many numbers it needs room for."""
        return gram_room(count, rows, columns)

    def iterate(self, stack: Array, iteration: Iteration, room: Array) -> None:
        """Let each matrix of a stack be what the steps make of it."""
        iterate(stack, iteration, room)


NUMPY: Library = NumpyProducts()


def named(group: ScalarGroup) -> str:
    """Return how messages name the parameters of a group."""
    return f"rule {group.values.rule.name!r}{group.values.place}"


def iteration_of(product: Product, values: Mapping[str, Any], rows: int, what: str) -> Iteration:
    """Return what is done to matrices of so many rows, as the hyperparameters say in this step.

    Args:
        product: what is made of them.
        values: the hyperparameters by name.
        rows: of each matrix, before it is cut.
        what: how messages name the parameters.

    Raises:
        HyperparameterError: where parts would not be equally high.
    """
    found = product.polar.resolved(values)
    if rows % found.parts:
        raise HyperparameterError(
            f"{what}: matrices of {rows} rows cannot be cut into {found.parts} parts of equal height; nothing was "
            f"stepped. Set parts to a number that divides {rows}"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Stack:
    """The work planes of rows of one group and one shape, for one product.

    Attributes:
        number: of the pass after which it is taken.
        product: what is made of them.
        group: whose hyperparameters say how.
        library: what multiplies.
        matrices: a row's: how many, the rows of each, and its columns.
        array: the planes, one after the other.
        what: how messages name the rows.
    """

    number: int
    product: Product
    group: ScalarGroup
    library: Library
    matrices: tuple[int, int, int]
    array: Array
    what: str

    def iteration(self) -> Iteration:
        """Return what is done, as the hyperparameters say in this step.

        Raises:
            HyperparameterError: where parts would not be equally high.
        """
        return iteration_of(self.product, self.group.hyperparameters, self.matrices[1], self.what)

    def cut(self, parts: int) -> Array:
        """Return the planes as a stack of matrices."""
        batch, rows, columns = self.matrices
        return self.array.reshape(len(self.array) * batch * parts, rows // parts, columns)


class Work:
    """The work planes of rows on this machine, and the products in them.

    If the planes of all rows would be more than ``LIMIT`` bytes, rows that machine code steps where they lie are put in
    batches of at most so many (or of one row), which share memory and step one after the other.

    Args:
        rows: the parameters; memory for their work planes is added to theirs. A backend with a method ``work`` makes of
            its rows what multiplies their matrices itself, by a method ``multiply`` as here.

    Attributes:
        batches: the rows of each; none where all rows have memory of their own.
        nbytes: of the work planes on this machine.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        elsewhere: dict[Any, list[Row]] = {}
        for row in rows:
            if hasattr(row.backend, "work"):
                elsewhere.setdefault(row.backend, []).append(row)
        self._others = [backend.work(own) for backend, own in elsewhere.items()]
        alike = _alike([row for row in rows if row.backend not in elsewhere])
        self.batches: list[list[Row]] = []
        self._batches: list[list[_Stack]] = []
        self._reserved: dict[_Stack, Iteration] = {}
        self._room: dict[str, Array] = {}
        shared: list[list[Row]] = []
        if sum(_nbytes(row) for own in alike for row in own) > LIMIT:
            shared = [part for own in alike if _steps_alone(own[0]) for part in _cut(own)]
            alike = [own for own in alike if not _steps_alone(own[0])]
        self._stacks = [stack for own in alike for stack in _stacks(own, np.zeros)]
        self.nbytes = sum(stack.array.nbytes for stack in self._stacks) + self._share(shared)

    def _share(self, parts: Sequence[list[Row]]) -> int:
        """Put rows that are alike into batches, and return the bytes of the memory that these share."""
        size, most = 0, 0
        for part in parts:
            nbytes = sum(map(_nbytes, part)) + 64 * part[0].kernel.plan.work
            if not self.batches or size + nbytes > LIMIT:
                self.batches.append([])
                size = 0
            self.batches[-1] += part
            size += nbytes
            most = max(most, size)
        arena = np.zeros(most, np.uint8)
        for batch in self.batches:
            taken = _Arena(arena)
            self._batches.append([stack for own in _alike(batch) for stack in _stacks(own, taken.zeros)])
        return arena.nbytes

    def multiply(self, number: int) -> None:
        """Take the products that come after a pass. It may fail: nothing that is kept has moved."""
        for stack in self._stacks:
            if stack.number == number and not stack.group.rests and stack.array.size:
                self._multiply(stack, stack.iteration())
        for other in self._others:
            other.multiply(number)

    def reserve(self) -> None:
        """Do all that can fail of the products in batches."""
        stacks = [stack for batch in self._batches for stack in batch if not stack.group.rests and stack.array.size]
        self._reserved = {stack: stack.iteration() for stack in stacks}
        for stack, iteration in self._reserved.items():
            self._at_once(stack, iteration)

    def multiply_batch(self, number: int) -> None:
        """Take the products of a batch, whose rows have left what is multiplied."""
        for stack in self._batches[number]:
            if stack in self._reserved:
                self._multiply(stack, self._reserved[stack])

    def _multiply(self, own: _Stack, iteration: Iteration) -> None:
        stack, (count, room) = own.cut(iteration.parts), self._at_once(own, iteration)
        for start in range(0, len(stack), count):
            own.library.iterate(stack[start : start + count], iteration, room)

    def _at_once(self, own: _Stack, iteration: Iteration) -> tuple[int, Array]:
        """Return how many matrices of a stack are multiplied at a time, and room for that."""
        stack, library = own.cut(iteration.parts), own.library
        each = library.room(1, *stack.shape[1:])
        count = min(len(stack), max(1, LIMIT // max(1, each * stack.itemsize)))
        size, name = library.room(count, *stack.shape[1:]), stack.dtype.name
        if name not in self._room or self._room[name].size < size:
            self._room[name] = np.empty(size, stack.dtype)
        return count, self._room[name]


class _Arena:
    """Memory of which arrays are taken one after the other."""

    def __init__(self, memory: Array) -> None:
        self._memory, self._taken = memory, 0

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return the next array."""
        size = prod(shape) * np.dtype(dtype).itemsize
        found = self._memory[self._taken : self._taken + size].view(dtype).reshape(shape)
        self._taken += -(-size // 64) * 64
        return found


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows whose matrices are multiplied together."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        if row.kernel.plan.work:
            alone = _steps_alone(row)
            key = id(row.group), row.memories[0].shape, row.kernel.plan.compute, id(row.library), alone
            found.setdefault(key, []).append(row)
    return list(found.values())


def _nbytes(row: Row) -> int:
    """Return the bytes of a row's work planes."""
    plan = row.kernel.plan
    return prod(row.memories[0].shape) * sum(np.dtype(plane.dtype).itemsize for plane in plan.work_planes)


def _cut(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows that are alike in parts that fit into a batch."""
    count = max(1, LIMIT // max(1, _nbytes(rows[0]) + 64))
    return [[*rows[start : start + count]] for start in range(0, len(rows), count)]


def _steps_alone(row: Row) -> bool:
    """Whether machine code steps a row where it lies, after one pass that sums nothing, and no other row waits for it.

    Then nothing that comes after its products can fail.
    """
    if row.backend.name != MACHINE or not row.is_direct or row.is_apart:
        return False
    if row.kernel.plan.has_groups and crosses_rows(row.kernel.plan.view, row.shape):
        return False
    plans = [row.group.values.plan("step"), row.group.values.plan("monitored")]
    return all(
        len(plan.before) == 1
        and not plan.totals
        and not any(own.totals or _sees_vectors(own) for own in (*plan.before, plan))
        for plan in plans
    )


def _sees_vectors(plan: Plan) -> bool:
    own = plan.vectors
    return bool(plan.row_sums or plan.column_sums or (own and (own.hoisted or own.slots or own.totals)))


def _stacks(rows: Sequence[Row], zeros: Callable[..., Array]) -> list[_Stack]:
    """Return the stacks of rows that are alike, and let their memory be the work planes of these."""
    plan, shape, group = rows[0].kernel.plan, rows[0].memories[0].shape, rows[0].group
    kept, library, what = len(plan.kept_planes), rows[0].library or NUMPY, named(group)
    planes = [zeros((len(rows), *shape), plane.dtype) for plane in plan.work_planes]
    for index, row in enumerate(rows):
        row.memories = [*row.memories[:kept], *(array_memory(plane[index]) for plane in planes)]
    matrices = matrix_shape(shape, plan.view or "first")
    return [
        _Stack(number, own, group, library, matrices, planes[own.plane - kept], what)
        for number, before in enumerate(plan.before)
        for own in before.products
    ]
