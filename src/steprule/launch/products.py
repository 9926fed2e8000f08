"""Products of matrices between the passes of a step, and the memory in which they are taken.

A pass leaves what is multiplied in work planes. Those of rows of one group and one shape lie in memory one after the
other: a stack, which is what a library multiplies, some matrices at a time. What it needs beside them is bounded:
``LIMIT`` bytes, or what one matrix needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Product
from steprule.errors import HyperparameterError
from steprule.language.matrices import matrix_shape
from steprule.language.polar import Iteration, gram_room, iterate
from steprule.launch.memory import array_memory
from steprule.launch.row import Row, ScalarGroup

__all__ = ["LIMIT", "NUMPY", "Library", "Work"]

LIMIT = 64 * 2**20
"""How many bytes a library is given beside the matrices, if one matrix needs no more."""
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
        names: how messages name the rows.
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
        found = self.product.polar.resolved(self.group.hyperparameters)
        _, rows, _ = self.matrices
        if rows % found.parts:
            raise HyperparameterError(
                f"{self.what}: matrices of {rows} rows cannot be cut into {found.parts} parts of equal height; nothing "
                f"was stepped. Set parts to a number that divides {rows}"
            )
        return found

    def cut(self, parts: int) -> Array:
        """Return the planes as a stack of matrices."""
        batch, rows, columns = self.matrices
        return self.array.reshape(len(self.array) * batch * parts, rows // parts, columns)


class Work:
    """The work planes of rows on this machine, and the products in them.

    Args:
        rows: the parameters; memory for their work planes is added to theirs. A backend with a method ``work`` makes of
            its rows what multiplies their matrices itself, by a method ``multiply`` as here.

    Attributes:
        nbytes: of the work planes on this machine.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        elsewhere: dict[Any, list[Row]] = {}
        for row in rows:
            if hasattr(row.backend, "work"):
                elsewhere.setdefault(row.backend, []).append(row)
        self._others = [backend.work(own) for backend, own in elsewhere.items()]
        here = [row for row in rows if row.backend not in elsewhere]
        self._stacks = [stack for own in _alike(here) for stack in _stacks(own)]
        self._room: dict[str, Array] = {}
        self.nbytes = sum(stack.array.nbytes for stack in self._stacks)

    def multiply(self, number: int) -> None:
        """Take the products that come after a pass. It may fail: nothing that is kept has moved."""
        for stack in self._stacks:
            if stack.number == number and not stack.group.rests and stack.array.size:
                self._multiply(stack)
        for other in self._others:
            other.multiply(number)

    def _multiply(self, own: _Stack) -> None:
        iteration, library = own.iteration(), own.library
        stack = own.cut(iteration.parts)
        _, rows, columns = stack.shape
        count = min(len(stack), _at_once(library, rows, columns, stack.itemsize))
        room = self._room_of(library.room(count, rows, columns), stack.dtype)
        for start in range(0, len(stack), count):
            library.iterate(stack[start : start + count], iteration, room)

    def _room_of(self, size: int, dtype: np.dtype[Any]) -> Array:
        room = self._room.get(dtype.name)
        if room is None or room.size < size:
            room = self._room[dtype.name] = np.empty(size, dtype)
        return room


def _at_once(library: Library, rows: int, columns: int, itemsize: int) -> int:
    """Return how many matrices are multiplied at a time."""
    return max(1, LIMIT // max(1, library.room(1, rows, columns) * itemsize))


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows whose matrices are multiplied together."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        if row.kernel.plan.work:
            key = id(row.group), row.memories[0].shape, row.kernel.plan.compute, id(row.library)
            found.setdefault(key, []).append(row)
    return list(found.values())


def _stacks(rows: Sequence[Row]) -> list[_Stack]:
    """Return the stacks of rows that are alike, and let their memory be the work planes of these."""
    plan, shape, group = rows[0].kernel.plan, rows[0].memories[0].shape, rows[0].group
    planes = [np.zeros((len(rows), *shape), plane.dtype) for plane in plan.work_planes]
    for index, row in enumerate(rows):
        row.memories = [*row.memories[: len(plan.kept_planes)], *(array_memory(plane[index]) for plane in planes)]
    what = f"rule {group.values.rule.name!r}{group.values.place}"
    matrices = matrix_shape(shape, plan.view or "first")
    return [
        _Stack(number, own, group, rows[0].library or NUMPY, matrices, planes[own.plane - len(plan.kept_planes)], what)
        for number, before in enumerate(plan.before)
        for own in before.products
    ]
