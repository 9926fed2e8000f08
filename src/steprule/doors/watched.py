"""Steps of the NumPy door that are read while they are taken."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.doors.evaluate import Evaluated
from steprule.doors.group import GroupValues
from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf
from steprule.doors.measure import Measure
from steprule.doors.readings import Reading, formats_in
from steprule.doors.sums import alike
from steprule.engine import Kernel, Task, watched
from steprule.rules import Rule
from steprule.rules.hyperparameters import Value

__all__ = ["WatchedStep"]


class WatchedStep:
    """Takes steps by kernels that also sum what they do.

    Args:
        rule: the rule.
        leaves: the parameters.
        groups: their groups.
        kernel_of: the kernel of a task for a parameter.
        owns: whether every parameter has scalars of its own.
    """

    def __init__(
        self,
        rule: Rule,
        leaves: Sequence[Leaf],
        groups: Sequence[GroupValues],
        kernel_of: Callable[[Leaf, Task], Kernel],
        *,
        owns: bool,
    ) -> None:
        self._owns = owns
        self._rule, self._leaves, self._groups, self._kernel_of = rule, leaves, groups, kernel_of

    @functools.cached_property
    def _names(self) -> list[tuple[str, ...]]:
        return [watched(self._rule, leaf.group.variant, leaf.storage) for leaf in self._leaves]

    @functools.cached_property
    def _measures(self) -> list[tuple[list[int], Measure]]:
        """One launch for all parameters with equally many sums."""
        kernels = [self._kernel_of(leaf, "watch") for leaf in self._leaves]
        return [
            (places, Measure([self._leaves[i] for i in places], [kernels[i] for i in places], "watch", owns=self._owns))
            for places in alike(self._names)
        ]

    def launch(
        self,
        t: int,
        grads: Sequence[Array],
        apart: frozenset[int],
        results: Sequence[Evaluated],
        rows: Sequence[bytes],
        scheduled: Sequence[Mapping[str, Value]],
    ) -> Callable[[], list[Reading]]:
        """Return what takes the step, and returns what it did. What can fail has been done.

        Args:
            t: its number.
            grads: as a walk has prepared them.
            apart: those that are not walked as they lie.
            results: what each group's ``evaluate`` returned for the task.
            rows: the rows of scalars of parameters with rows of their own.
            scheduled: what the schedules of each group say.
        """
        shared = {id(group): row for group, (row, _) in zip(self._groups, results, strict=True)}
        launches: list[tuple[list[int], Callable[[], NDArray[np.float64]]]] = []
        for places, measure in self._measures:
            if rows:
                measure.set_own([rows[i] for i in places])
            else:
                measure.set_shared(shared)
            inside = frozenset(k for k, i in enumerate(places) if i in apart)
            launches.append((places, measure.launch([grads[i] for i in places], inside)))
        values = {id(group): {**group, **told} for group, told in zip(self._groups, scheduled, strict=True)}

        def launch() -> list[Reading]:
            lines: list[list[float]] = [[]] * len(self._leaves)
            for places, take in launches:
                for i, line in zip(places, take().tolist(), strict=True):
                    lines[i] = line
            return self._readings(t, values, lines)

        return launch

    def _readings(
        self, t: int, values: Mapping[int, Mapping[str, Value]], lines: Sequence[Sequence[float]]
    ) -> list[Reading]:
        return [
            Reading(
                leaf.place,
                leaf.array.shape,
                str(leaf.array.dtype),
                formats_in(leaf.kernel),
                self._rule.name,
                t,
                values[id(leaf.group)],
                dict(zip(names, line, strict=True)),
            )
            for leaf, names, line in zip(self._leaves, self._names, lines, strict=True)
        ]
