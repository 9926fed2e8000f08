"""How the NumPy door takes a step: all that can fail first, then the arrays, and the count with them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.doors.gradients import ArrayGradients, LaunchLayout
from steprule.doors.guards import HasGuards
from steprule.doors.leaf import Leaf
from steprule.doors.reentrancy import NotReentrant
from steprule.doors.structure import Structure
from steprule.engine import Kernel, kernel
from steprule.formats import Storage
from steprule.launch.backend import Backend
from steprule.launch.evaluate import Evaluated, Scalars
from steprule.launch.guards import Guards
from steprule.launch.launch import Launch
from steprule.launch.readings import Reading, StepMonitor
from steprule.launch.row import ScalarGroup
from steprule.launch.totals import check_alike
from steprule.launch.values import GroupValues
from steprule.rules import Rule
from steprule.rules.rule import Variant
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit

__all__ = ["Stepping"]


class Stepping(HasGuards, NotReentrant):
    """The steps of ``Optimizer``, which has the parameters, the groups and the options."""

    # An attribute that is not there (opt.lr = ...) would be set in silence otherwise.
    __slots__ = (
        *("_backend", "_commit", "_count", "_is_stepping", "_leaves", "_monitor", "_layout", "_scalars"),
        "_trained",
        *("_structure", "_variants", "groups", "guards", "rule"),
    )
    rule: Rule
    groups: tuple[GroupValues, ...]
    guards: Guards
    _backend: Backend
    _structure: Structure
    _leaves: list[Leaf]
    _trained: list[list[NDArray[Any]]] | None
    """Of each parameter the planes that are trained, in the order of ``evaluating.saved_planes``, while it is the
    evaluated point; None while training."""
    _count: NDArray[np.int64]
    _commit: Commit
    _variants: list[Variant]
    _monitor: StepMonitor | None
    _scalars: list[ScalarGroup]
    _layout: LaunchLayout

    @property
    def t(self) -> int:
        """The number of steps taken."""
        return int(self._count[0])

    def _step(self, grads: Any) -> None:
        t = self.t + 1
        # First, since a schedule is the caller's code and may do anything, to gradients and options as well.
        scheduled = [group.scheduled(t) for group in self.groups]
        if [group.variant for group in self.groups] != self._variants:
            self._change_kernels()
        for own, values in zip(self._scalars, scheduled, strict=True):
            own.t, own.scheduled = t, values
        launch, gradients = self._layout.launch(*self._layout.check(self._structure.leaves(grads)))
        if t == 1:
            for leaf in self._leaves:
                leaf.begin()
        factor: float | None = 1.0
        if self.guards.measures:
            factor = launch.factor(ArrayGradients(self._leaves, gradients, self.guards.clip_value))
        if factor is not None:
            self._take(t, launch, factor, is_read=self._monitor is not None and self._monitor.is_due())

    def _take(self, t: int, launch: Launch, factor: float, *, is_read: bool) -> None:
        """Move the arrays, count the step, and tell the monitor."""
        self._commit.longs[0] = t
        launch.prepare(factor, is_read=is_read)
        readings: list[Reading] = []
        try:
            if is_read:
                launch.read([leaf.place for leaf in self._leaves], readings)
            else:
                launch.run()
        except BaseException:  # a signal: either the step has been taken, or nothing has
            if self.t == t:
                self._notify(readings)
            raise
        self._notify(readings)

    def _notify(self, readings: list[Reading]) -> None:
        if self._monitor is not None:
            self._monitor.take(readings or None)

    def _kernel(self, group: GroupValues, storage: Storage) -> Kernel:
        return kernel(group.rule, group.variant, storage, self._backend, group.guard, "step")

    def _change_kernels(self) -> None:
        """Follow a group whose options (nesterov, say) were changed between steps."""
        self._check_clips()
        for leaf in self._leaves:
            leaf.kernel = self._kernel(leaf.group, leaf.storage)
        self._lay_out()

    def _check_clips(self) -> None:
        for group in self.groups:
            self.guards.check_rule(group.rule, group.variant, group.place, group.guard.clips_update)

    def _lay_out(self) -> None:
        """Bind the leaves to rows of scalars as long as the options of the groups need them."""
        plans = [(group.plan("step"), group.place) for group in self.groups]
        check_alike(plans, [group.rule for group in self.groups])
        places = [place for group in self.groups for place in group.scalar_places]
        self._scalars = [ScalarGroup(group, group.scalars) for group in self.groups]
        by_id = {id(own.values): own for own in self._scalars}
        places += [place for own in self._scalars for place in self._bind_numbers(own)]
        self._commit = Commit([address(self._count), *places])
        tell = None
        if places:
            numbers = self._commit.longs.view(np.float64)[1:]
            at = sum(len(group.scalar_places) for group in self.groups)
            tell = functools.partial(_tell, numbers[:at], numbers[at:], self._scalars)
        self._layout = LaunchLayout(self._leaves, by_id, self._backend, self.guards, self._commit, tell)
        # Last: whoever interrupts this finds options that are not yet laid out, and the next step does it anew.
        self._variants = [group.variant for group in self.groups]

    def _bind_numbers(self, group: ScalarGroup) -> Sequence[int]:
        """Let the numbers that are kept of each leaf of a group lie side by side, and return where."""
        names = group.values.per_tensor
        if not names:
            return []
        leaves = [leaf for leaf in self._leaves if leaf.group is group.values]
        lines = [[leaf.numbers[name] for leaf in leaves] for name in names]
        group.numbers = np.array(lines, np.float64).reshape(len(names), len(leaves))
        group.fresh = group.numbers.copy()
        for place, leaf in enumerate(leaves):
            leaf.numbers = Scalars(leaf.numbers, group.numbers[:, place])
        return range(address(group.numbers), address(group.numbers) + group.numbers.nbytes, 8)


def _tell(
    scalars: NDArray[np.float64],
    numbers: NDArray[np.float64],
    groups: Sequence[ScalarGroup],
    evaluated: Sequence[Evaluated],
) -> None:
    """Let a commit have the new numbers of each group, then those of its parameters."""
    scalars[:] = [value for _, own in evaluated for value in own]
    if len(numbers):
        np.concatenate([group.fresh.ravel() for group in groups], out=numbers)
