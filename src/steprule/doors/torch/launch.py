"""One launch over the parameters that lie in this machine's memory, to be used again while nothing moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.group import GroupValues
from steprule.doors.layout import Spans
from steprule.doors.strided import step_in_blocks, step_strided
from steprule.doors.sums import units_of
from steprule.doors.torch.layout import Entries
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Memory, Row
from steprule.doors.torch.watch import Numbers, Watch, Watched
from steprule.formats import Formats
from steprule.rules.rule import Variant
from steprule.runtime import Table
from steprule.runtime.addresses import address
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Cohort", "Evaluated", "Launch", "cohorts_of"]

Evaluated = tuple[bytes, tuple[float, ...]]
"""A row of scalars, and the new scalar slots."""


@dataclass(eq=False)
class Cohort:
    """Parameters of one group with one step count and the same scalar slots: they share a row of scalars.

    Attributes:
        rows: their places among the rows of the launch.
        t: the steps taken.
        scalars: the scalar slots.
    """

    options: GroupOptions
    t: int
    scalars: dict[str, float]
    rows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row = self.options.values.new_row()
        self._bytes = memoryview(self.row.data).cast("B")

    def evaluate(self) -> Evaluated:
        """Return what the next step needs. Changes nothing.

        Raises:
            HyperparameterError: when the expressions of the rule have no value.
        """
        return self.options.values.evaluate(self.t + 1, {}, self.scalars)

    def take(self, evaluated: Evaluated) -> None:
        """Take over what ``evaluate`` returned."""
        row, scalars = evaluated
        self._bytes[: len(row)] = row
        self.t += 1
        if scalars:
            self.scalars = dict(zip(self.scalars, scalars, strict=True))


def cohorts_of(rows: Sequence[Row]) -> list[Cohort]:
    """Return the cohorts of the rows."""
    cohorts: dict[tuple[int, int, tuple[float, ...]], Cohort] = {}
    for index, row in enumerate(rows):
        scalars = {name: tensor.item() for name, tensor in row.scalars.items()}
        key = (id(row.options), row.t, tuple(scalars.values()))
        if key not in cohorts:
            cohorts[key] = Cohort(row.options, row.t, scalars)
        cohorts[key].rows.append(index)
    return list(cohorts.values())


def _tensor_guards() -> Any:
    try:
        from torch._C._dynamo.guards import TensorGuards
    except ImportError:  # private to torch: without it every step is laid out anew
        return None
    return TensorGuards


_Bound = tuple[Row, int]
"""A row, and the address of its scalars."""


class Launch:
    """Steps rows, all that can be walked as they lie in one launch.

    Args:
        rows: in the order of the optimizer's parameters.
        cohorts: of these rows.
        before: what is done first: steps by torch, of which the first may fail, and then nothing has moved.
        after: what is done last, and cannot fail.

    Attributes:
        is_direct: whether all is done in the one launch, which then may be kept for another step.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        cohorts: Sequence[Cohort],
        before: Sequence[Callable[[], None]],
        after: Sequence[Callable[[], None]],
    ) -> None:
        self.cohorts, self._before, self._after = cohorts, before, after
        self._params = [row.param for row in rows if not row.param.is_inference()]
        self._counts = Counts(rows, cohorts)
        self._spans = Spans(m.bounds for row in rows for m in (row.memories[0], *row.memories[2:]) if m.size)
        direct, apart = self._sorted(rows)
        self._apart = [(row, scalars, self._arrays(row)) for row, scalars in apart]
        self._table = _table(direct)
        self._all_done = False
        self.is_direct = not apart and not before and not after

    def _sorted(self, rows: Sequence[Row]) -> tuple[list[_Bound], list[_Bound]]:
        """Return the rows that can be walked as they lie, and the others, each with the address of its scalars."""
        scalars = {index: address(cohort.row) for cohort in self.cohorts for index in cohort.rows}
        filled = [(row, scalars[index]) for index, row in enumerate(rows) if row.memories[0].size]
        shared = _overlapping([row.memories[0].bounds for row, _ in filled])
        apart = [i in shared or not row.is_direct or self._crosses(row) for i, (row, _) in enumerate(filled)]
        pairs = list(zip(filled, apart, strict=True))
        return [item for item, is_apart in pairs if not is_apart], [item for item, is_apart in pairs if is_apart]

    def keep(self, rows: Sequence[Row], watched: Watched) -> None:
        """Make ready for ``holds``. The rows are not kept: their gradients' memory is not ours."""
        direct = [row for row in rows if row.memories[0].size]
        self._own = np.array([_extent(row.memories[0]) for row in direct], np.int64).reshape(-1, 3).T
        self._seen = b""
        self._stamps = [(own, *own.stamp) for own in watched.options]
        self._watch = Watch(watched, [row.place for row in direct], self._counts.numbers)
        # These tell of a conjugation or a sign that is due on complex tensors. That a real tensor is given a sign that
        # is due where it lies, by `.data =`, is not noticed.
        kept = [*watched.params, *(tensor for _, _, tensor in watched.slots)]
        self._complex = [tensor for tensor in kept if tensor.is_complex()]
        self._guards = _guards([*self._complex, *watched.grads])
        self._grads, self._any_absent = len(watched.grads), bool(watched.absent)

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
        self._table.addresses[:, 1] = found
        self._seen = seen
        return True

    def run(self, evaluated: Sequence[Evaluated], entries: Entries | None = None) -> None:
        """Take the step: fresh state, counts, scalar slots, then the arrays.

        Args:
            evaluated: what each cohort's ``evaluate`` returned.
            entries: what comes into the optimizer's state.
        """
        self._table.prepare(torch.get_num_threads())
        before = [(cohort.t, cohort.scalars) for cohort in self.cohorts]
        self._all_done = False
        try:
            if entries is not None:
                entries.put()
            for cohort, values in zip(self.cohorts, evaluated, strict=True):
                cohort.take(values)
            self._counts.write(self.cohorts)
            self._move()
        except BaseException:  # a signal: either the step has been taken, or nothing has
            if not self._is_done:
                for cohort, (t, scalars) in zip(self.cohorts, before, strict=True):
                    cohort.t, cohort.scalars = t, scalars
                self._counts.write(self.cohorts)
                if entries is not None:
                    entries.take_back()
            raise

    def _move(self) -> None:
        # As operations in place do, so that autograd refuses a graph that has saved the old numbers.
        torch.autograd.graph.increment_version(self._params)
        if self.is_direct:
            self._table.run()
            return
        # A signal in the middle would leave some parameters stepped and others not.
        with uninterrupted():
            for do in self._before:
                do()
            for row, scalars, arrays in self._apart:
                if row.kernel.needs_order:
                    step_in_blocks(row.kernel, scalars, arrays, row.words)
                else:
                    step_strided(row.kernel.address, scalars, arrays)
            self._table.run()
            for do in self._after:
                do()
            self._all_done = True

    @property
    def _is_done(self) -> bool:
        return self._all_done or (self.is_direct and self._table.is_done)

    def _crosses(self, row: Row) -> bool:
        """Whether the gradient lies in a parameter or slot: stepping one would change the gradient of another."""
        own, (low, high) = row.memories[0].address, row.memories[1].bounds
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


def _guards(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """Return what tells whether tensors are of the types, shapes, strides and devices that these are."""
    kind = _tensor_guards()
    if kind is None:
        return lambda *tensors: False
    guards = kind(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)

    def check(*tensors: Any) -> bool:
        try:
            return bool(guards.check(*tensors))
        except TypeError:  # a None where there was a gradient
            return False

    return check


class Counts:
    """The step counts and scalar slots of all rows: tensors of the optimizer's state, written together."""

    def __init__(self, rows: Sequence[Row], cohorts: Sequence[Cohort]) -> None:
        tensors: list[Tensor] = []
        parts: list[tuple[int, str, int]] = []
        for index, cohort in enumerate(cohorts):
            own = [rows[place] for place in cohort.rows]
            steps = [row.step for row in own if row.step is not None]
            for name, group in [("", steps), *((name, [row.scalars[name] for row in own]) for name in cohort.scalars)]:
                tensors += group
                parts.append((index, name, len(group)))
        self.numbers = Numbers(tensors)
        ends = itertools.accumulate(n for _, _, n in parts)
        self._parts = [
            (index, name, self.numbers.part(end - n, end))
            for (index, name, n), end in zip(parts, ends, strict=True)
            if n
        ]

    def write(self, cohorts: Sequence[Cohort]) -> None:
        """Let the tensors hold what the cohorts say."""
        for index, name, columns in self._parts:
            cohort = cohorts[index]
            for column in columns:
                column.fill(cohort.scalars[name] if name else cohort.t)
        self.numbers.write()


def _table(rows: Sequence[_Bound]) -> Table:
    units = [_units(row) for row, _ in rows]
    width = max((len(row.memories) + len(row.words) for row, _ in rows), default=2)
    table = Table([n for n, _ in units], width, [unit for _, unit in units])
    for index, (row, scalars) in enumerate(rows):
        table.set_row(index, row.kernel.address, scalars)
        fixed = [*(memory.address for memory in row.memories), *row.words]
        table.addresses[index, : len(fixed)] = fixed
    return table


def _units(row: Row) -> tuple[int, int]:
    """Return what the kernel of a row counts, and how many elements it counts as one. Complex numbers are two."""
    return units_of(row.kernel, row.memories[0].shape)


def _extent(memory: Memory) -> tuple[int, int, int]:
    return memory.address, memory.nbytes, memory.itemsize


def _overlapping(params: Sequence[tuple[int, int]]) -> set[int]:
    """Return which parameters may share memory with another, given where they begin and end.

    They are stepped one after the other, as by torch.
    """
    found: set[int] = set()
    reach, last = 0, -1
    for (low, high), index in sorted((bounds, index) for index, bounds in enumerate(params)):
        if low < reach:
            found |= {index, last}
        if high > reach:
            reach, last = high, index
    return found
