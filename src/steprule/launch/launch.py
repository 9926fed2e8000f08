"""The executor: the passes of a step, in their order; everything is decided before anything moves, and then all moves.

A step of rows is a recipe of passes: where guards measure, the squares of the gradients (``norm``); where each
tensor's update is clipped, the ratios of each (``ratio``); and last the pass that moves (``step``), or that moves and
sums what is read of the step (``watch``). What a pass sums enters the scalars of the next.

``whole`` is the one place that knows what it means that a step is whole or has not happened. (Where a torch optimizer
has a parameter twice, a step is several launches, which its door keeps together.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Task, watched
from steprule.launch.evaluate import Evaluated
from steprule.launch.guards import Gradients, Guards, update_factor
from steprule.launch.passes import Pass
from steprule.launch.readings import Reading, formats_in
from steprule.launch.row import Row, ScalarGroup
from steprule.launch.sums import total
from steprule.runtime.commit import Commit
from steprule.runtime.interrupts import uninterrupted

__all__ = ["NOTHING", "Launch", "reading", "whole"]

_NONE: Mapping[str, float] = {}
NOTHING: AbstractContextManager[Any] = nullcontext()


def _silent() -> None:
    pass


def whole(parts: Sequence[Callable[[], None]], around: AbstractContextManager[Any], done: Callable[[], None]) -> None:
    """Do all parts of a step and count it: a signal handler of Python runs before all of it, or after it.

    Args:
        parts: what moves; the first may fail.
        around: what is done before, and undone if a part fails.
        done: what counts the step.
    """
    with uninterrupted():
        with around:
            for part in parts:
                part()
        done()


class Launch:
    """Steps rows, again and again, along gradients that may lie elsewhere each time.

    Args:
        rows: the parameters. Those that are not direct are stepped in their order.
        groups: those of the rows, each in one place.
        guards: what decides about steps.
        commit: what is counted of a step, written when it has been taken.
        threads: how many a step may use.
        before, after: what else a step does, before and after the rows. The first of ``before`` may fail.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        groups: Sequence[ScalarGroup],
        guards: Guards,
        commit: Commit,
        threads: Callable[[], int],
        before: Sequence[Callable[[], None]] = (),
        after: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.rows, self.groups, self._guards, self._commit, self._threads = rows, groups, guards, commit, threads
        self._before, self._after = before, after
        self._norm = Pass("norm", rows, groups) if guards.measures else None
        self._ratio = Pass("ratio", rows, groups) if guards.update_clip else None
        is_alone = not (before or after)
        self._step = Pass("step", rows, groups, commit if is_alone else None, owns=guards.update_clip)
        self._table, self._is_one_call = self._step.table, self._step.table.is_one_call
        self._watch: Pass | None = None
        self._gradients: NDArray[np.int64] = np.array([row.memories[1].address for row in rows], np.int64)
        self._is_guarded = any(name for group in groups for name in group.values.guard)
        self._is_prepared = self._all_done = False

    def look(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses; those of rows that are not direct are in the row."""
        self._gradients = gradients
        for own in (self._norm, self._ratio, self._step, self._watch):
            if own is not None:
                own.table.look(gradients)

    def factor(self, gradients: Gradients, others: Sequence[Sequence[float]] = ()) -> float | None:
        """Return what the gradients are multiplied by; None if the step is to be skipped.

        Args:
            gradients: to be looked at more closely where their sums do not tell.
            others: the sums of gradients that are none of the rows'.

        Raises:
            NonFiniteError: as the options say.
        """
        if self._norm is None:
            return 1.0
        lines = [*self._measured(self._norm, 1.0), *others]
        columns = 2 if self._guards.clip_value is not None else 1
        return self._guards.decide([total([line[k] for line in lines]) for k in range(columns)], gradients)

    def begin(self) -> None:
        """Make ready for a step, which from now on is not done: the one before was."""
        self._is_prepared = self._all_done = False

    def prepare(self, factor: float, task: Task = "step") -> list[Evaluated]:
        """Do all that can fail of the step that was begun, and return the scalars and new scalar slots of each group.

        Nothing has moved.

        Args:
            factor: what the gradients are multiplied by.
            task: ``"watch"`` for a step that is read.

        Raises:
            HyperparameterError: when the expressions of a rule have no value.
        """
        evaluated = [self._evaluated(group, task, factor) for group in self.groups]
        lines = [line for line, _ in evaluated]
        if self._ratio is not None:
            lines = self._own_lines(self._ratio, lines, factor, task)
        last = self._step if task == "step" else self._watching()
        last.fill(lines)
        last.table.prepare(self._threads())
        self._is_prepared = last is self._step
        return evaluated

    def run(self, around: AbstractContextManager[Any] = NOTHING) -> None:
        """Take the step that was prepared, and count it. A signal finds all done, or nothing.

        Args:
            around: what is done before all else, and undone if what follows fails.
        """
        if around is NOTHING and self._is_one_call:
            self._table.run()
        else:
            self._run(self._step, around)

    def read(
        self, names: Sequence[str], readings: list[Reading], around: AbstractContextManager[Any] = NOTHING
    ) -> None:
        """Take the step as ``run`` does, prepared to be read, and add what it did to ``readings``.

        Args:
            names: what messages call the parameters, by place.
            readings: to be added to as soon as the step was taken, for signal handlers that raise.
            around: as ``run`` has it.
        """
        watch = self._watching()
        self._run(watch, around, lambda: readings.extend(self._readings(watch, names)))

    def _watching(self) -> Pass:
        """Return the pass of steps that are read, made for the first of them."""
        if self._watch is None:
            watch = Pass("watch", self.rows, self.groups, owns=self._guards.update_clip)
            watch.table.look(self._gradients)
            self._watch = watch
        return self._watch

    @property
    def is_done(self) -> bool:
        """Whether the step that was begun has been taken."""
        return self._all_done or (self._is_prepared and self._is_one_call and self._table.is_done)

    def _run(self, last: Pass, around: AbstractContextManager[Any], tell: Callable[[], None] = _silent) -> None:
        def done() -> None:
            self._commit.write()
            self._all_done = True
            tell()

        whole([*self._before, last.table.run, *self._after], around, done)

    def _evaluated(self, group: ScalarGroup, task: Task, factor: float, update: float = 1.0) -> Evaluated:
        numbers = self._guards.numbers(group.scale, factor, update) if self._is_guarded else _NONE
        return group.values.evaluate(group.t, group.scheduled, group.scalars, numbers, task)

    def _measured(self, measure: Pass, factor: float) -> list[list[float]]:
        """Return the sums of a pass that moves nothing."""
        measure.fill([self._evaluated(group, measure.task, factor)[0] for group in self.groups])
        measure.table.prepare(self._threads())
        measure.table.run()
        return measure.table.sums()

    def _own_lines(self, ratio: Pass, lines: Sequence[bytes], factor: float, task: Task) -> list[bytes]:
        """Return the scalars of each row, where the learning rate differs from tensor to tensor."""
        shared = {id(group): line for group, line in zip(self.groups, lines, strict=True)}
        own: list[bytes] = []
        for row, (squares,) in zip(self.rows, self._measured(ratio, factor), strict=True):
            update, line = update_factor(squares, row.memories[0].size), shared[id(row.group)]
            if update != 1:
                line, _ = self._evaluated(row.group, task, factor, update)
            own.append(line)
        return own

    def _readings(self, watch: Pass, names: Sequence[str]) -> list[Reading]:
        pairs = zip(self.rows, watch.table.sums(), strict=True)
        return [reading(row, names, row.group.t, line) for row, line in pairs]


def reading(row: Row, names: Sequence[str], t: int, line: Sequence[float]) -> Reading:
    """Return what step ``t`` did to a row.

    Args:
        row: the parameter.
        names: what messages call the parameters, by place.
        t: the number of the step.
        line: what the kernel has summed.
    """
    group, shape, formats = row.group, row.memories[0].shape, formats_in(row.kernel)
    values = group.values
    sums = dict(zip(watched(values.rule, values.variant, row.storage), line, strict=True))
    return Reading(names[row.place], shape, row.dtype, formats, values.rule.name, t, group.hyperparameters, sums)
