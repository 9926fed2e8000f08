"""Guarded steps of the NumPy door: gradients measured, a decision taken, rows of scalars for tensors of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steprule.doors.evaluate import Evaluated
from steprule.doors.group import GroupValues
from steprule.doors.guards import Guards, NonFinite, small_squares, update_factor
from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf
from steprule.doors.measure import Measure
from steprule.doors.sums import total
from steprule.engine import Kernel, Task
from steprule.rules.hyperparameters import Value

__all__ = ["Guarded", "evaluate"]


def evaluate(
    groups: Sequence[GroupValues],
    t: int,
    scheduled: Sequence[Mapping[str, Value]],
    numbers: Mapping[str, float],
    task: Task,
) -> list[Evaluated]:
    """Return what each group's ``evaluate`` does."""
    return [group.evaluate(t, values, None, numbers, task) for group, values in zip(groups, scheduled, strict=True)]


class Guarded:
    """What is measured of the gradients and slots of one optimizer, and what follows for its step.

    Args:
        guards: the options.
        leaves: the parameters.
        groups: their groups.
        kernel_of: the kernel of a task for a parameter.
    """

    def __init__(
        self,
        guards: Guards,
        leaves: Sequence[Leaf],
        groups: Sequence[GroupValues],
        kernel_of: Callable[[Leaf, Task], Kernel],
    ) -> None:
        self._guards, self._leaves, self._groups = guards, leaves, groups
        self._norm = self._measure("norm", kernel_of) if guards.measures else None
        self._ratio = self._measure("ratio", kernel_of) if guards.update_clip else None

    def _measure(self, task: Task, kernel_of: Callable[[Leaf, Task], Kernel]) -> Measure:
        return Measure(self._leaves, [kernel_of(leaf, task) for leaf in self._leaves], task)

    def judge(
        self,
        t: int,
        scheduled: Sequence[Mapping[str, Value]],
        grads: Sequence[Array],
        apart: frozenset[int],
        task: Task,
    ) -> tuple[list[Evaluated], list[bytes]] | None:
        """Return what each group's ``evaluate`` does for the step, and the rows of parameters with rows of their own.

        None says that the step is to be skipped.

        Args:
            t: the number of the step.
            scheduled: what the schedules of each group say.
            grads: as a walk has prepared them.
            apart: those that are not walked as they lie.
            task: that of the step.

        Raises:
            NonFiniteError: as the options say.
            HyperparameterError: when the expressions of the rule have no value.
        """
        factor: float | None = 1.0
        if self._norm is not None:
            self._set_rows(self._norm, "norm", t, scheduled, 1.0)
            sums = self._norm.run(grads, apart)
            factor = self._guards.decide([total(column.tolist()) for column in sums.T], _Given(self, grads))
        if factor is None:
            return None
        numbers = self._guards.numbers(factor=factor)
        shared = evaluate(self._groups, t, scheduled, numbers, task)
        return shared, self._rows(t, scheduled, grads, apart, factor, shared, task)

    def _rows(
        self,
        t: int,
        scheduled: Sequence[Mapping[str, Value]],
        grads: Sequence[Array],
        apart: frozenset[int],
        factor: float,
        shared: Sequence[Evaluated],
        task: Task,
    ) -> list[bytes]:
        """Return the row of scalars of each parameter, where the learning rate differs from tensor to tensor."""
        if self._ratio is None:
            return []
        self._set_rows(self._ratio, "ratio", t, scheduled, factor)
        sums = self._ratio.run(grads, apart)[:, 0].tolist()
        places = {id(group): place for place, group in enumerate(self._groups)}
        rows: list[bytes] = []
        for leaf, squares in zip(self._leaves, sums, strict=True):
            place = places[id(leaf.group)]
            own, row = update_factor(squares, leaf.array.size), shared[place][0]
            if own != 1:
                numbers = self._guards.numbers(factor=factor, update=own)
                row, _ = leaf.group.evaluate(t, scheduled[place], None, numbers, task)
            rows.append(row)
        return rows

    def _set_rows(
        self, measure: Measure, task: Task, t: int, scheduled: Sequence[Mapping[str, Value]], factor: float
    ) -> None:
        numbers = self._guards.numbers(factor=factor)
        pairs = zip(self._groups, scheduled, strict=True)
        measure.set_shared({id(group): group.evaluate(t, values, None, numbers, task)[0] for group, values in pairs})

    def names(self) -> list[str]:
        """Return what messages call the parameters."""
        return [leaf.place for leaf in self._leaves]

    def clipped(self, grad: Array) -> Array:
        """Return a gradient as its norm is taken of it."""
        size = self._guards.clip_value
        return grad if size is None else np.clip(grad, -size, size)


class _Given:
    """The gradients of a step, as ``Guards.decide`` looks at them."""

    def __init__(self, guarded: Guarded, grads: Sequence[Array]) -> None:
        self._guarded, self._grads = guarded, grads

    def nonfinite(self) -> list[NonFinite]:
        counts = [(grad.size - int(np.count_nonzero(np.isfinite(grad))), grad.size) for grad in self._grads]
        named = zip(self._guarded.names(), counts, strict=True)
        return [NonFinite(name, count, size) for name, (count, size) in named if count]

    def squares(self) -> float:
        return small_squares([self._guarded.clipped(grad) for grad in self._grads])
