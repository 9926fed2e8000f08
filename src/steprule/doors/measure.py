"""Sums over the gradients and slots of NumPy arrays, before a step or while it is taken: one task's, by parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.doors.evaluate import fill
from steprule.doors.layout import Array, same_walk
from steprule.doors.leaf import Leaf, words_of
from steprule.doors.strided import put
from steprule.doors.sums import Summed, Sums, blocks_of, sum_copies, total
from steprule.doors.walk import in_one_run, row_of
from steprule.engine import Kernel, Task
from steprule.runtime import get_num_threads
from steprule.runtime.addresses import address, addresses

__all__ = ["Measure"]


class Measure:
    """Takes the sums of one task, again and again.

    Args:
        leaves: the parameters.
        kernels: the kernel of the task for each of them.
        task: what is summed.
        owns: whether every parameter has scalars of its own, not its group's.
    """

    def __init__(self, leaves: Sequence[Leaf], kernels: Sequence[Kernel], task: Task, *, owns: bool = False) -> None:
        self._leaves, self._kernels = leaves, kernels
        keys = [index if owns else id(leaf.group) for index, leaf in enumerate(leaves)]
        self._made = {key: leaf.group.new_row(task) for key, leaf in dict(zip(keys, leaves, strict=True)).items()}
        self._rows = [self._made[key] for key in keys]
        self._apart: frozenset[int] | None = None

    def set_shared(self, rows: Mapping[int, bytes]) -> None:
        """Let the kernels read these scalars, by the id of the group."""
        for key, own in self._made.items():
            fill(own, rows[key])

    def set_own(self, rows: Sequence[bytes]) -> None:
        """Let the kernels read these scalars, a row a parameter."""
        for own, row in zip(self._rows, rows, strict=True):
            fill(own, row)

    def run(self, grads: Sequence[Array], apart: frozenset[int]) -> NDArray[np.float64]:
        """Return the sums of each parameter, a line each.

        Args:
            grads: as a walk has prepared them.
            apart: those that are not walked as they lie; they are copied.
        """
        return self.launch(grads, apart)()

    def launch(self, grads: Sequence[Array], apart: frozenset[int]) -> Callable[[], NDArray[np.float64]]:
        """Return what ``run`` does. What can fail has been done, on copies: until it is called nothing has moved."""
        found = np.zeros((len(self._leaves), len(self._kernels[0].plan.sums) if self._kernels else 1))
        moved: list[tuple[Array, Array]] = []
        is_referee = any(kernel.run is not None for kernel in self._kernels)
        if not is_referee and apart != self._apart:
            self._lay_out(apart)
        for index in range(len(self._leaves)) if is_referee else apart:
            found[index], pairs = self._by_copies(index, grads[index])
            moved += pairs
        direct = [] if is_referee else self._direct
        if direct:
            self._sums.table.addresses[:, 1] = addresses([grads[index] for index in direct])

        def launch() -> NDArray[np.float64]:
            if direct:
                self._sums.run(get_num_threads())
                found[direct] = self._sums.each()
            put(moved)
            return found

        return launch

    def _lay_out(self, apart: frozenset[int]) -> None:
        self._apart = None  # until all is made: what follows may be interrupted
        self._direct = [i for i, leaf in enumerate(self._leaves) if i not in apart and leaf.array.size]
        rows = [self._summed(i, row_of(self._leaves[i])) for i in self._direct]
        self._sums, self._apart = Sums(rows), apart

    def _summed(self, index: int, fixed: Sequence[int]) -> Summed:
        leaf = self._leaves[index]
        return Summed(self._kernels[index], address(self._rows[index]), fixed, leaf.array.shape)

    def _by_copies(self, index: int, grad: Array) -> tuple[NDArray[np.float64], list[tuple[Array, Array]]]:
        """Return the sums of a parameter, and what the kernel wrote into copies."""
        leaf, kernel = self._leaves[index], self._kernels[index]
        shape, homes = leaf.array.shape, [leaf.array, grad, *leaf.kept]
        if kernel.run is None:
            words = words_of(leaf.kernel, shape, leaf.origin)
            line, moved = sum_copies(kernel, address(self._rows[index]), homes, words, shape)
            return line[0], moved
        stored = sorted({store.plane for store in kernel.plan.stores})
        own = [home.copy(order="K") if place in stored else home for place, home in enumerate(homes)]
        return self._by_referee(index, own), [(homes[place], own[place]) for place in stored]

    def _by_referee(self, index: int, arrays: list[Array]) -> NDArray[np.float64]:
        leaf, kernel = self._leaves[index], self._kernels[index]
        sums = np.zeros((blocks_of(kernel, leaf.array.shape), len(kernel.plan.sums)))
        if in_one_run(leaf) and same_walk(arrays[1], leaf.array) and not kernel.needs_order:
            order = np.argsort([-stride for stride in leaf.array.strides], kind="stable")
            arrays = [array.transpose(order) for array in arrays]
        assert kernel.run is not None
        named: Mapping[str, object] = {"origin": leaf.origin} if kernel.plan.inputs else {}
        kernel.run(*arrays, self._rows[index], **named, sums=sums)
        return np.array([total(column.tolist()) for column in sums.T])
