"""How the NumPy door takes a step: all that can fail first, then the arrays, and the count with them."""

from __future__ import annotations

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
from steprule.launch.guards import Guards
from steprule.launch.launch import Launch
from steprule.launch.readings import Reading, StepMonitor
from steprule.launch.row import ScalarGroup
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
        *("_structure", "_variants", "groups", "guards", "rule"),
    )
    rule: Rule
    groups: tuple[GroupValues, ...]
    guards: Guards
    _backend: Backend
    _structure: Structure
    _leaves: list[Leaf]
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
        factor: float | None = 1.0
        if self.guards.measures:
            factor = launch.factor(ArrayGradients(self._leaves, gradients, self.guards.clip_value))
        if factor is not None:
            self._take(t, launch, factor, is_read=self._monitor is not None and self._monitor.is_due())

    def _take(self, t: int, launch: Launch, factor: float, *, is_read: bool) -> None:
        """Move the arrays, count the step, and tell the monitor."""
        evaluated = launch.prepare(factor, is_read=is_read)
        self._commit.longs[0] = t
        if self.rule.scalars:
            self._commit.longs.view(np.float64)[1:] = [value for _, scalars in evaluated for value in scalars]
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
        return kernel(self.rule, group.variant, storage, self._backend, group.guard, "step")

    def _change_kernels(self) -> None:
        """Follow a group whose options (nesterov, say) were changed between steps."""
        self.guards.check_rules(self.rule, [(group.variant, group.place) for group in self.groups])
        for leaf in self._leaves:
            leaf.kernel = self._kernel(leaf.group, leaf.storage)
        self._lay_out()

    def _lay_out(self) -> None:
        """Bind the leaves to rows of scalars as long as the options of the groups need them."""
        places = [place for group in self.groups for place in group.scalar_places]
        self._commit = Commit([address(self._count), *places])
        self._scalars = [ScalarGroup(group, group.scalars) for group in self.groups]
        by_id = {id(own.values): own for own in self._scalars}
        self._layout = LaunchLayout(self._leaves, by_id, self._backend, self.guards, self._commit)
        # Last: whoever interrupts this finds options that are not yet laid out, and the next step does it anew.
        self._variants = [group.variant for group in self.groups]
