"""How the NumPy door takes a step: all that can fail first, then the arrays, and the count with them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.doors.evaluate import Evaluated, fill
from steprule.doors.group import GroupValues
from steprule.doors.guarded import Guarded, evaluate
from steprule.doors.guards import Guards, HasGuards
from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf, task_kernel
from steprule.doors.readings import Reading, Watcher
from steprule.doors.structure import Structure
from steprule.doors.turns import InTurns
from steprule.doors.walk import Walk
from steprule.doors.watched import WatchedStep
from steprule.engine import Kernel, Task, kernel
from steprule.formats import Storage
from steprule.rules import Rule
from steprule.rules.hyperparameters import Value
from steprule.rules.rule import Variant
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit

__all__ = ["Stepping"]


class Stepping(HasGuards, InTurns):
    """The steps of ``Optimizer``, which has the parameters, the groups and the options."""

    # An attribute that is not there (opt.lr = ...) would be set in silence otherwise.
    __slots__ = (
        *("_backend", "_commit", "_count", "_guarded", "_is_stepping", "_leaves", "_monitor", "_structure"),
        *("_variants", "_walk", "_watched", "groups", "guards", "rule"),
    )
    rule: Rule
    groups: tuple[GroupValues, ...]
    guards: Guards
    _backend: str
    _structure: Structure
    _leaves: list[Leaf]
    _count: NDArray[np.int64]
    _commit: Commit
    _variants: list[Variant]
    _monitor: Watcher | None
    _walk: Walk
    _guarded: Guarded | None
    _watched: WatchedStep

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
        leaves, unlike = self._walk.check(self._structure.leaves(grads))
        leaves = self._walk.prepare(leaves, unlike)
        task: Task = "watch" if self._monitor is not None and self._monitor.is_due() else "step"
        if self._guarded is None:
            self._take(t, scheduled, leaves, task, evaluate(self.groups, t, scheduled, {}, task), ())
            return
        judged = self._guarded.judge(t, scheduled, leaves, self._walk.apart, task)
        if judged is not None:
            self._take(t, scheduled, leaves, task, *judged)

    def _take(
        self,
        t: int,
        scheduled: Sequence[Mapping[str, Value]],
        grads: Sequence[Array],
        task: Task,
        results: Sequence[Evaluated],
        rows: Sequence[bytes],
    ) -> None:
        """Move the arrays, count the step, and tell the monitor."""
        self._commit.longs[0] = t
        if self.rule.scalars:
            self._commit.longs.view(np.float64)[1:] = [value for _, scalars in results for value in scalars]
        readings: list[Reading] = []
        try:
            if task == "step":
                for group, (row, _) in zip(self.groups, results, strict=True):
                    group.fill(row)
                for leaf, row in zip(self._leaves, rows, strict=False):
                    fill(leaf.row, row)
                self._walk.run(grads)
            else:
                launch = self._watched.launch(t, grads, self._walk.apart, results, rows, scheduled)
                self._walk.run_by(lambda: readings.extend(launch()))
        except BaseException:  # a signal: either the step has been taken, or nothing has
            if self.t == t:
                self._tell(readings)
            raise
        self._tell(readings)

    def _tell(self, readings: Sequence[Reading]) -> None:
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
        for group in self.groups:
            group.make_row()
        for leaf in self._leaves:
            leaf.row = leaf.group.new_row() if self.guards.update_clip else leaf.group.row
        places = [place for group in self.groups for place in group.scalar_places]
        self._commit = Commit([address(self._count), *places])
        self._walk = Walk(self._leaves, self._commit)
        self._guarded: Guarded | None = None
        # No method of ours: the optimizer would hold itself, and its slots, until the garbage collector runs.
        kernel_of = functools.partial(task_kernel, self.rule, self._backend)
        self._watched = WatchedStep(self.rule, self._leaves, self.groups, kernel_of, owns=self.guards.update_clip)
        if not self.guards.is_idle:
            self._guarded = Guarded(self.guards, self._leaves, self.groups, kernel_of)
        # Last: whoever interrupts this finds options that are not yet laid out, and the next step does it anew.
        self._variants = [group.variant for group in self.groups]
