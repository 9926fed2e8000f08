"""Walking parameters, gradients and slots of NumPy arrays with a kernel.

Arrays that fill one run of memory, gradient alike, go into one launch. All others (strided views,
gradients in another order, unaligned parameters) are walked by NumPy's buffered iterator, a few thousand
elements at a time, by the same kernel; or by copies of some rows where the kernel must know the place of an element. A
gradient that lies in a parameter or slot is copied first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from steprule.doors.layout import Array, Spans, is_dense, same_walk
from steprule.doors.leaf import Leaf, words_of
from steprule.doors.remedies import is_number, of_gradient, of_gradient_type
from steprule.doors.strided import put, strided_step
from steprule.doors.sums import units_of
from steprule.errors import StructureError
from steprule.runtime import Table, get_num_threads
from steprule.runtime.addresses import address, addresses
from steprule.runtime.commit import Commit
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Walk", "in_one_run", "row_of"]

_MANY = 64  # rows above which NumPy's calls cost less than a loop


class Walk:
    """Steps the leaves, again and again, with gradients that may lie elsewhere each time.

    Args:
        leaves: the parameters.
        commit: what is counted of a step, written when it has been taken.
    """

    def __init__(self, leaves: Sequence[Leaf], commit: Commit) -> None:
        self._leaves, self._commit = leaves, commit
        self._expected = [(leaf.array.shape, leaf.array.dtype, leaf.array.strides, leaf.given) for leaf in leaves]
        self._strided = frozenset(i for i, leaf in enumerate(leaves) if leaf.array.size and not in_one_run(leaf))
        self._empty = frozenset(i for i, leaf in enumerate(leaves) if not leaf.array.size)
        arrays = [array for leaf in leaves for array in (leaf.array, *leaf.kept) if array.size]
        self._spans = Spans(map(np.lib.array_utils.byte_bounds, arrays))
        self._apart: frozenset[int] | None = None
        self._by_referee = any(leaf.kernel.run is not None for leaf in leaves)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a walk holds addresses of arrays and cannot be copied; make a new one")

    def check(self, grads: Sequence[Any]) -> tuple[list[Array], set[int]]:
        """Return the gradients as plain arrays, and which of them are not walked as their parameter is.

        Raises:
            StructureError: when one is no array of its parameter's shape and type, or a parameter has
                become read-only.
        """
        plain = list(grads)
        unlike: set[int] = set()
        for index, (grad, (shape, dtype, strides, given)) in enumerate(zip(grads, self._expected, strict=True)):
            if not given.flags.writeable:
                place = self._leaves[index].place
                raise StructureError(
                    f"{place} has become read-only; nothing was stepped. Set {place}.flags.writeable = True"
                )
            if type(grad) is np.ndarray and grad.shape == shape and grad.dtype is dtype and grad.strides == strides:
                continue
            leaf = self._leaves[index]
            plain[index] = _check_gradient(grad, leaf)
            if not same_walk(plain[index], leaf.array):
                unlike.add(index)
        return plain, unlike

    def prepare(self, grads: Sequence[Array], unlike: set[int]) -> list[Array]:
        """Lay out the launch for gradients that have passed ``check``, and return those to step with.

        A gradient that lies in the memory of a parameter or slot is copied: the step of one leaf would
        change the gradient of another. What can fail, fails here.
        """
        if self._by_referee:
            return [grad.copy(order="K") for grad in grads]  # its sums are taken in the order of memory
        apart = self._strided if not unlike else self._strided | (unlike - self._empty)
        if apart != self._apart:
            self._lay_out(apart)
        crossed = self._refresh(grads)
        if not crossed:
            self._table.prepare(get_num_threads())
            return list(grads)
        copies, unlike = self.check([grad.copy(order="K") if i in crossed else grad for i, grad in enumerate(grads)])
        return self.prepare(copies, unlike)  # copies lie in nobody's memory: this goes one level deep

    def run(self, grads: Sequence[Array]) -> None:
        """Step every leaf along what ``prepare`` returned, and count the step.

        A signal handler finds all of it done, or nothing.
        """
        if self._by_referee:
            self._run_referee(grads)
        elif not self._apart:
            self._table.run()
        else:
            steps = [self._step_of(self._leaves[index], grads[index]) for index in self._apart]
            self.run_by(lambda: self._run_all(steps))

    def run_by(self, launch: Callable[[], None]) -> None:
        """Step every leaf by another launch, of what ``prepare`` returned, and count the step."""
        with uninterrupted():
            launch()
            self._commit.write()

    @property
    def apart(self) -> frozenset[int]:
        """The leaves that are not in the launch that was prepared, other than empty ones."""
        return self._apart or frozenset()

    def _step_of(self, leaf: Leaf, grad: Array) -> Callable[[], None]:
        words = words_of(leaf.kernel, leaf.array.shape, leaf.origin)
        return strided_step(leaf.kernel, address(leaf.row), [leaf.array, grad, *leaf.kept], words)

    def _run_all(self, steps: Sequence[Callable[[], None]]) -> None:
        for step in steps:
            step()
        self._table.run()

    def _run_referee(self, grads: Sequence[Array]) -> None:
        """Step copies, and put them in place once all are there: NumPy may lack memory, or raise as it was told to."""
        moved: list[tuple[Array, Array]] = []
        for leaf, grad in zip(self._leaves, grads, strict=True):
            assert leaf.kernel.run is not None
            homes = [leaf.array, *leaf.kept]
            own, *kept = copies = [home.copy(order="K") for home in homes]
            named = {"origin": leaf.origin} if leaf.kernel.plan.inputs else {}
            leaf.kernel.run(own, grad, *kept, leaf.row, **named)
            moved += zip(homes, copies, strict=True)
        self.run_by(lambda: put(moved))

    def _lay_out(self, apart: frozenset[int]) -> None:
        """Make the table of the launch, without the leaves that are walked apart."""
        self._apart = None  # until all is made: what follows may be interrupted
        self._rows = [i for i in range(len(self._leaves)) if i not in apart and i not in self._empty]
        rows = [self._leaves[i] for i in self._rows]
        fixed = [row_of(leaf) for leaf in rows]
        units = [units_of(leaf.kernel, leaf.array.shape) for leaf in rows]
        width, commit = max(map(len, fixed), default=2), None if apart else self._commit
        self._table = Table([n for n, _ in units], width, [unit for _, unit in units], commit=commit)
        for row, leaf in enumerate(rows):
            self._table.set_row(row, leaf.kernel, address(leaf.row))
            self._table.addresses[row, : len(fixed[row])] = fixed[row]
        own = np.array([(address(a), a.nbytes, a.itemsize) for a in (leaf.array for leaf in rows)], np.int64)
        columns = own.reshape(-1, 3).T
        self._own: Any = columns if len(rows) > _MANY else columns.tolist()
        self._seen: object = None
        self._apart = apart

    def _refresh(self, grads: Sequence[Array]) -> set[int]:
        """Note where the gradients lie now. Return those that must be copied; see ``_crossed``."""
        if len(grads) == 1 and len(self._rows) == 1:
            only = address(grads[0])
            if only == self._seen:
                return set()
            found = np.array([only], np.int64)
            seen: object = only
        else:
            walked = grads if len(self._rows) == len(grads) else [grads[i] for i in self._rows]
            found = addresses(walked)
            seen = found.tobytes()
            if seen == self._seen and not self._apart:
                return set()
        crossed = self._crossed(grads, found)
        if not crossed:
            self._seen = None  # neither the old nor the new while they are written
            self._table.addresses[:, 1] = found
            self._seen = seen
        return crossed

    def _crossed(self, grads: Sequence[Array], found: Array) -> set[int]:
        """Return which gradients lie in a parameter or slot (other than as their own parameter), or are unaligned."""
        crossed = {i for i in self._apart or () if self._meets(grads[i])}
        own, sizes, items = self._own
        if len(own) > _MANY:
            bad = (found % items != 0) | ((found != own) & self._spans.meet_each(found, sizes))
            return crossed | {self._rows[row] for row in np.flatnonzero(bad)}
        meet = self._spans.meet
        for row, (start, at, size, item) in enumerate(zip(found.tolist(), own, sizes, items, strict=True)):
            if start % item or (start != at and meet(start, size)):
                crossed.add(self._rows[row])
        return crossed

    def _meets(self, grad: Array) -> bool:
        low, high = np.lib.array_utils.byte_bounds(grad)
        return self._spans.meet(low, high - low)


def in_one_run(leaf: Leaf) -> bool:
    """Whether a kernel can walk the parameter as it lies."""
    return is_dense(leaf.array) and (leaf.array.flags.c_contiguous or not leaf.kernel.needs_order)


def row_of(leaf: Leaf) -> list[int]:
    """Return addresses and words of a row of the launch; the gradient's are filled in later."""
    fixed = [address(array) for array in (leaf.array, leaf.array, *leaf.kept)]
    return fixed + words_of(leaf.kernel, leaf.array.shape, leaf.origin)


def _check_gradient(grad: object, leaf: Leaf) -> Array:
    place = leaf.place.replace("params", "grads", 1)
    if not leaf.array.ndim and (isinstance(grad, np.generic) or is_number(grad)):
        # NumPy's own arithmetic makes scalars of arrays without axes; Python's numbers have no type of their own.
        grad = np.asarray(grad, None if isinstance(grad, np.generic) else leaf.array.dtype)
    if not isinstance(grad, np.ndarray):
        kind = "None" if grad is None else f"a {type(grad).__name__}"
        raise StructureError(
            f"{place} is {kind}, expected a NumPy array of shape {leaf.array.shape}; nothing was stepped. "
            f"{of_gradient(grad, place, leaf.array)}"
        )
    if isinstance(grad, np.ma.MaskedArray):
        raise StructureError(
            f"{place} is a masked array; nothing was stepped. Say what masked elements are: {place}.filled(0)"
        )
    if grad.dtype != leaf.array.dtype:
        raise StructureError(
            f"{place} has type {grad.dtype}, but the parameter has type {leaf.array.dtype}; nothing was stepped. "
            f"{of_gradient_type(grad, place, leaf.array)}"
        )
    if grad.shape != leaf.array.shape:
        remedy = f": {place}.reshape({leaf.array.shape})" if grad.size == leaf.array.size else ""
        raise StructureError(
            f"{place} has shape {grad.shape}, but the parameter has shape {leaf.array.shape}; nothing was stepped. "
            f"A gradient has one number for every number of its parameter{remedy}"
        )
    return grad.view(np.ndarray)
