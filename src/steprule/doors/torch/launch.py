"""One launch over the parameters that lie in this machine's memory, to be used again while nothing moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.evaluate import Evaluated
from steprule.doors.group import GroupValues
from steprule.doors.guards import Gradients, Guards
from steprule.doors.layout import Spans, overlapping
from steprule.doors.readings import Reading
from steprule.doors.strided import strided_step
from steprule.doors.torch import devices
from steprule.doors.torch.cohorts import Cohort, Counts, cohorts_of
from steprule.doors.torch.decided import Decided
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.device_table import DeviceTables
from steprule.doors.torch.judge import Judge
from steprule.doors.torch.layout import Entries, Layout
from steprule.doors.torch.measure import Apart, Bound
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Memory, Row
from steprule.doors.torch.table import table_of
from steprule.doors.torch.watch import Watch, Watched, guards_of
from steprule.doors.torch.watched import WatchedRows
from steprule.engine import Task
from steprule.formats import Formats
from steprule.rules.rule import Variant
from steprule.runtime.addresses import address
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Launch"]


class Launch:
    """Steps rows, all that can be walked as they lie in one launch.

    Args:
        layout: what the step consists of. Steps by torch come first, of which the first may fail, and then nothing has
            moved; what is put back comes last, and cannot fail.
        guards: what decides about steps.
        decision: for a step that is decided on the device that all rows lie on; None: this machine decides.
        found: what ``GradScaler`` found, for the device's decision.

    Attributes:
        cohorts: of the rows, where this machine counts their steps.
        is_direct: whether all is done in the one launch, which then may be kept for another step.
    """

    def __init__(
        self, layout: Layout, guards: Guards, decision: Decision | None = None, found: Tensor | None = None
    ) -> None:
        rows = layout.rows
        self.cohorts = [] if decision else cohorts_of(rows)
        self._before, self._after = layout.eager, layout.put_back
        self._eager = {grad.device for grad, _ in layout.eager_grads}
        self._params = [row.param for row in rows if not row.param.is_inference()]
        self._counts = Counts(rows, self.cohorts)
        self._spans = Spans(m.bounds for row in rows for m in (row.memories[0], *row.memories[2:]) if m.size)
        self._has_copies = False
        judged = guards.measures or guards.update_clip
        self._judge: Judge | None = None
        self._away: DeviceTables | Decided
        self._direct: list[Bound] = []
        self._apart: list[Apart] = []
        self._placed: list[Bound] = []
        if decision is not None:
            self._rows_away = [self._apart_from_states(row) for row in rows]
            self._away = Decided(self._rows_away, guards, decision, found)
        else:
            self._direct, self._apart, self._placed = self._sorted(rows)
            self._rows_away = [row for row, _ in self._placed]
            if judged:
                self._judge = Judge(guards, self._direct, self._apart, self._placed, layout.eager_grads)
            scalars = [self._scalars(row, cohort) for row, cohort in self._placed]
            self._away = DeviceTables("step", self._rows_away, scalars)
        self._all_done = False
        in_turns = self._away.is_in_turns or self._has_copies
        self.is_direct = not (self._apart or self._before or self._after or in_turns)
        own = [(row, address(self._scalars(row, cohort))) for row, cohort in self._direct]
        self._is_one_call = self.is_direct and not self._rows_away
        """Whether a step is one call of machine code, which counts it as well."""
        self._table = table_of(own, self._counts.numbers.commit if self._is_one_call else None)
        self._watched: WatchedRows | None = None

    def _sorted(self, rows: Sequence[Row]) -> tuple[list[Bound], list[Apart], list[Bound]]:
        """Return the rows that can be walked as they lie, the others, and those on devices."""
        cohorts = {index: cohort for cohort in self.cohorts for index in cohort.rows}
        own = [(row, cohorts[index]) for index, row in enumerate(rows) if row.memories[0].size]
        filled = [item for item in own if not item[0].is_placed]
        placed = [(self._apart_from_states(row), cohort) for row, cohort in own if row.is_placed]
        shared = overlapping([row.memories[0].bounds for row, _ in filled])
        apart = [i in shared or not row.is_direct or self._crosses(row) for i, (row, _) in enumerate(filled)]
        pairs = list(zip(filled, apart, strict=True))
        others = [(row, cohort, self._arrays(row)) for (row, cohort), is_apart in pairs if is_apart]
        return [item for item, is_apart in pairs if not is_apart], others, placed

    def _apart_from_states(self, row: Row) -> Row:
        """Return a row on a device with a copy of a gradient that lies in a parameter or slot."""
        if not self._crosses(row):
            return row
        self._has_copies = True
        copy = row.grad.detach().clone()
        return dataclasses.replace(row, grad=copy, memories=[row.memories[0], Memory(copy), *row.memories[2:]])

    def _scalars(self, row: Row, cohort: Cohort) -> NDArray[np.float64]:
        """Return the scalars that a row reads."""
        own = self._judge.scalars.get(id(row)) if self._judge is not None else None
        return cohort.row if own is None else own

    def keep(self, layout: Layout, options: Sequence[GroupOptions]) -> bool:
        """Make ready for ``holds``, and return whether it may serve again."""
        watched = layout.watched(options) if self.is_direct else None
        if watched is not None:
            self._keep(watched)
        return watched is not None

    def _keep(self, watched: Watched) -> None:
        """Take note of all that the launch depends on. Gradients are not kept: their memory is not ours."""
        for row in self._rows_away:
            row.grad = row.param
        direct = [*(row for row, _ in self._direct), *self._rows_away]
        self._direct = [(dataclasses.replace(row, grad=row.param), cohort) for row, cohort in self._direct]
        self._own = np.array([_extent(row) for row in direct], np.int64).reshape(-1, 3).T
        self._seen = b""
        self._stamps = [(own, *own.stamp) for own in watched.options]
        self._watch = Watch(watched, [row.place for row in direct], self._counts.numbers)
        # These tell of a conjugation or a sign that is due on complex tensors. That a real tensor is given a sign that
        # is due where it lies, by `.data =`, is not noticed.
        kept = [*watched.params, *(tensor for _, _, tensor in watched.slots)]
        self._complex = [tensor for tensor in kept if tensor.is_complex()]
        self._guards = guards_of([*self._complex, *watched.grads])
        self._grads, self._any_absent = len(watched.grads), bool(watched.absent)

    def asks(self, found: Tensor | None) -> bool:
        """Whether the launch serves where ``GradScaler`` has found this; a device that decides is told."""
        if not isinstance(self._away, Decided):
            return True
        if (found is None) != (self._away.found is None) or (found is not None and found.device != self._away.device):
            return False
        self._away.found = found
        return True

    def holds(self, options: Sequence[GroupOptions], states: list[Any], grads: list[Any]) -> bool:
        """Whether the launch serves another step, along these gradients: all that it depends on is as it was."""
        if len(options) != len(self._stamps) or not all(map(_is_as_stamped, options, self._stamps)):
            return False
        present = [grad for grad in grads if grad is not None] if self._any_absent else grads
        if len(present) != self._grads or not self._guards(*self._complex, *present):
            return False
        if not self._watch.holds(states, grads):
            return False
        found = self._watch.found
        seen = found.tobytes()
        if seen == self._seen:
            return True
        own, sizes, items = self._own
        if ((found % items != 0) | ((found != own) & self._spans.meet_each(found, sizes))).any():
            return False
        here = len(self._direct)
        self._seen = b""  # neither the old nor the new while they are written: a signal handler may raise
        self._table.addresses[:, 1] = found[:here]
        self._away.look(found[here:])
        if self._judge is not None:
            self._judge.look(found)
        self._seen = seen
        return True

    def factor(self, gradients: Gradients) -> float | None:
        """Return what the gradients are multiplied by; None if the step is to be skipped.

        Raises:
            NonFiniteError: as the options say.
        """
        if self._rows_away:
            self._away.check()
        if self._eager and any(map(devices.is_capturing, self._eager)):
            raise RuntimeError(
                "step() is captured in a CUDA graph, and some parameters are stepped by torch operations (DTensor and "
                "other subclasses, no Triton), whose numbers come from the host; nothing was captured"
            )
        return 1.0 if self._judge is None else self._judge.factor(gradients)

    def begin(self) -> None:
        """Make ready for a step, which from now on is not done: the one before was."""
        self._all_done = False
        self._table.prepare(torch.get_num_threads())

    def evaluate(self, factor: float, task: Task = "step") -> list[Evaluated]:
        """Return what each cohort's ``evaluate`` does, and make ready what else the step reads. Changes nothing."""
        if self._judge is None:
            return [cohort.evaluate(task=task) for cohort in self.cohorts]
        return self._judge.evaluate(self.cohorts, factor, task)

    def read(
        self,
        evaluated: Sequence[Evaluated],
        names: Sequence[str],
        entries: Entries | None,
        readings: list[Reading],
    ) -> None:
        """Take the step as ``run`` does, and add what it did. ``evaluated`` is that of the task ``"watch"``."""
        if isinstance(self._away, Decided):
            away = self._away
            self.run(evaluated, entries, lambda: readings.extend(away.read(names)))
            return
        if self._watched is None:
            owns = bool(self._judge is not None and self._judge.scalars)
            self._watched = WatchedRows(self._direct, self._apart, self._placed, owns=owns)
        shared = {id(cohort): row for cohort, (row, _) in zip(self.cohorts, evaluated, strict=True)}
        pending = self._judge.pending if self._judge is not None else []
        gradients = np.concatenate([self._table.addresses[:, 1], self._away.gradients])
        self._watched.make_ready(gradients, pending, shared)
        take = self._watched.launch(names)
        self.run([(b"", scalars) for _, scalars in evaluated], entries, lambda: readings.extend(take()))

    def run(
        self,
        evaluated: Sequence[Evaluated],
        entries: Entries | None = None,
        instead: Callable[[], None] | None = None,
    ) -> None:
        """Take the step that was begun: fresh state, arrays, counts, scalar slots. A signal finds all done, or nothing.

        A launch whose step was not taken must not be used again.

        Args:
            evaluated: what ``evaluate`` returned.
            entries: what comes into the optimizer's state.
            instead: what steps the rows, if it is not the launch's own table.
        """
        for cohort, values in zip(self.cohorts, evaluated, strict=True):
            cohort.take(values)
        self._counts.set(self.cohorts)
        if self._judge is not None and instead is None:
            self._judge.commit()
        # As operations in place do, so that autograd refuses a graph that has saved the old numbers.
        torch.autograd.graph.increment_version(self._params)
        if self._is_one_call and instead is None and (entries is None or entries.is_empty):
            self._table.run()
            return
        steps = [] if instead else [self._step_of(*item) for item in self._apart]
        with uninterrupted():
            self._run_all(entries, instead or (lambda: self._step_rows(steps)))

    def _run_all(self, entries: Entries | None, step_rows: Callable[[], None]) -> None:
        try:
            if entries is not None:
                entries.put()
            for do in self._before:
                do()
            step_rows()
            for do in self._after:
                do()
            self._counts.numbers.commit.write()
            self._all_done = True
        except BaseException:  # the first of the steps by torch has failed
            if entries is not None:
                entries.take_back()
            raise

    def _step_of(self, row: Row, cohort: Cohort, arrays: list[NDArray[Any]]) -> Callable[[], None]:
        return strided_step(row.kernel, address(self._scalars(row, cohort)), arrays, row.words)

    def _step_rows(self, steps: Sequence[Callable[[], None]]) -> None:
        self._away.run()
        for step in steps:
            step()
        self._table.run()

    @property
    def is_captured(self) -> bool:
        """Whether a CUDA graph is captured, in which nothing can be read."""
        return any(devices.is_capturing(row.param.device) for row in self._rows_away[:1])

    @property
    def is_decided(self) -> bool:
        """Whether the device decides about steps."""
        return isinstance(self._away, Decided)

    @property
    def is_done(self) -> bool:
        """Whether the step that was begun has been taken."""
        return self._all_done or (self._is_one_call and self._table.is_done)

    def _crosses(self, row: Row) -> bool:
        """Whether the gradient lies in a parameter or slot: stepping one would change the gradient of another."""
        (own, _, _), (low, high) = _extent(row), row.memories[1].bounds
        return own != low and self._spans.meet(low, high - low)

    def _arrays(self, row: Row) -> list[NDArray[Any]]:
        """Return the arrays of a row, with a copy of a gradient that lies in a parameter or slot."""
        low, high = row.memories[1].bounds
        param, grad, *slots = (memory.array() for memory in row.memories)
        return [param, grad.copy() if self._spans.meet(low, high - low) else grad, *slots]


def _is_as_stamped(own: GroupOptions, stamp: tuple[GroupOptions, GroupValues, Variant, Formats, list[Tensor]]) -> bool:
    values, variant, formats, params = own.stamp
    same = own is stamp[0] and values is stamp[1] and params is stamp[4]
    return same and variant == stamp[2] and formats == stamp[3]


def _extent(row: Row) -> tuple[int, int, int]:
    """Return where the gradient may lie though it is the parameter's memory, the gradient's bytes, and an element's.

    An element is read before it is written; elements of another size would be other ones.
    """
    own, grad = row.memories[:2]
    return own.address if own.itemsize == grad.itemsize else -1, grad.nbytes, grad.itemsize
