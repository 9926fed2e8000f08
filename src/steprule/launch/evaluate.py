"""The host's part of a step for one group: a prelude with the arguments that the group's values give it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Plan
from steprule.errors import HyperparameterError
from steprule.formats import keys
from steprule.language.sums import ALL
from steprule.rules.hyperparameters import Value
from steprule.runtime.addresses import address

__all__ = ["Evaluated", "Evaluation", "RowScalars", "Scalars"]

_PACK_KEYS = struct.Struct("2d").pack

_PUT = struct.Struct("d").pack_into
_MANY = 32
"""From so many rows on NumPy takes less time than Python."""

Evaluated = tuple[bytes, tuple[float, ...]]
"""A row of scalars as bytes, and the new scalar slots."""


class RowScalars(NamedTuple):
    """Parameters of one group, each with scalars of its own.

    Attributes:
        scalars: the rows of a pass, which are written; none where all read their group's.
        lines: the same, as bytes: faster where there are few.
        sums: the size of each parameter, then the sums over it: an array for each.
        numbers: the slots that are a number of each parameter: one line per slot.
        fresh: their new values, which are written.
        known: what ``Evaluation.finish`` may ask for, by name, which is written.
    """

    scalars: NDArray[np.float64]
    lines: Sequence[memoryview]
    sums: Sequence[NDArray[np.float64]]
    numbers: NDArray[np.float64]
    fresh: NDArray[np.float64]
    known: dict[str, Any]


class Scalars(MutableMapping[str, float]):
    """Slots that are numbers by name, of a group or of a parameter, in memory that a launch writes with the arrays.

    Args:
        values: what they hold at first; there will be no others.
        memory: where they are from now on, one after the other; default: memory of their own.
    """

    def __init__(self, values: Mapping[str, float], memory: NDArray[np.float64] | None = None) -> None:
        self._index = {name: index for index, name in enumerate(values)}
        self._numbers = np.zeros(len(values)) if memory is None else memory
        self._numbers[:] = [*values.values()]

    def __getitem__(self, name: str) -> float:
        return float(self._numbers[self._index[name]])

    def __setitem__(self, name: str, value: float) -> None:
        self._numbers[self._index[name]] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"the scalar slot {name!r} cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def place(self, name: str) -> int:
        """Return the address of a number."""
        return address(self._numbers) + self._index[name] * self._numbers.itemsize


class Evaluation:
    """A plan's prelude whose arguments are laid out, so that a step fills in only what changes.

    Args:
        plan: whose prelude it is: from hyperparameters, t, scalar slots and other numbers to a row of scalars.
        values: the hyperparameters; schedules among them have a value of their own every step.
        scalars: the names of the scalar slots.
        guard: the names of the guard's numbers, which come with every step.
        what: the rule and the group, for messages.

    Attributes:
        schedules: the arguments that are schedules, by place and name.
        scalar_slots: the slots of the group that are numbers; their new values follow the row.
        per_tensor: the slots that are a number of each parameter.
        waits: whether slots depend on what the step itself sums, so that ``finish`` gives their values.
    """

    def __init__(
        self, plan: Plan, values: Mapping[str, Any], scalars: Mapping[str, float], guard: set[str], what: str
    ) -> None:
        self._sums = plan.late_arguments
        self._prelude, self._late, self._places, self._after, self._after_places = plan.parts
        self._what, self.per_tensor = what, plan.per_tensor
        self.waits = self._after is not None
        slots = plan.prelude.scalar_slots
        self.scalar_slots = tuple(name for name in slots if name not in plan.per_tensor)
        names = self._prelude.arguments
        self._arguments: list[Any] = [values.get(name) for name in names]
        self._at_t = names.index("t") if "t" in names else None
        self.schedules = [(i, name) for i, name in enumerate(names) if callable(values.get(name))]
        self._at_scalars = [(i, name) for i, name in enumerate(names) if name in scalars]
        self._at_numbers = [(i, name) for i, name in enumerate(names) if name in guard or name.startswith(ALL)]
        self._width = len(self._prelude.conditions)
        self._end = self._width + len(self.scalar_slots)
        self._carried = self._width + len(slots)
        self._carries = self._prelude.scalar_slots[len(slots) :]
        pool = (*self._carries, *self._sums)
        self._pooled = self.waits or self._late is not None
        self._late_at = [] if self._late is None else [pool.index(name) for name in self._late.arguments]
        self._now: Sequence[float] = ()
        """What depends on parameters is computed from this, for messages."""
        self._pack = struct.Struct(f"{self._width}d").pack

    def _is_own(self, error: BaseException) -> bool:
        """Whether an error comes from the expressions, and not from a signal handler that ran among them."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        files = (self._prelude.function.__code__.co_filename, __file__)
        return trace is not None and trace.tb_frame.f_code.co_filename in files

    def new_row(self) -> NDArray[np.float64]:
        """Return a row that holds what a call returns, with the keys of random bits."""
        return np.zeros(self._width + 2, np.float64)

    def __call__(
        self,
        t: int,
        scheduled: Mapping[str, Value],
        scalars: Mapping[str, float],
        numbers: Mapping[str, float],
        seed: int | None,
        per_row: RowScalars | None = None,
    ) -> Evaluated:
        """Return the row of scalars of step ``t``, and the new scalar slots.

        Where there is a seed, rows end with the keys of the step.

        Args:
            t, scheduled, scalars, seed: what a step fills in.
            numbers: those of the guard, and sums over all, by name.
            per_row: where each parameter has scalars of its own: these are written, and the row is for none.

        Raises:
            HyperparameterError: when the expressions of the rule have no value.
        """
        arguments = self._arguments
        if self._at_t is not None:
            arguments[self._at_t] = t
        for index, name in self.schedules:
            if name not in scheduled:
                raise HyperparameterError(
                    f"{name} became a schedule while the schedules ran ({self._what}); set it between steps"
                )
            arguments[index] = scheduled[name]
        for index, name in self._at_scalars:
            arguments[index] = scalars[name]
        for index, name in self._at_numbers:
            arguments[index] = numbers[name]
        self._now = ()
        try:
            results = self._prelude.function(*arguments)
            row, new = self._pack(*results[: self._width]), tuple(map(float, results[self._width : self._end]))
            if seed is not None:
                row += _PACK_KEYS(*keys(seed, t))
            if per_row is not None:
                self._write(per_row, row, results)
        except (ArithmeticError, ValueError, TypeError, struct.error) as error:
            if not self._is_own(error):
                raise
            told = [*zip(self._prelude.arguments, arguments, strict=True)]
            if self._late is not None:
                now: Mapping[str, float] = dict(zip(self._late.arguments, self._now, strict=False))
                told += [(name, value) for name, value in now.items() if name in self._sums]
            named = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in told)
            raise HyperparameterError(
                f"{self._what} has no value at {named}: {error}. Choose other values, or guard the expression in the "
                "rule (both branches of where are computed)"
            ) from None
        return row, new

    def _write(self, per_row: RowScalars, row: bytes, results: Sequence[float]) -> None:
        """Write the scalars and the numbers of parameters that have their own."""
        pool: Sequence[Any] = ()
        if self._pooled:
            pool = (*results[self._carried :], *per_row.sums)
            pool += (*per_row.numbers,) if self.per_tensor else ()
        for place in range(self._end, self._carried):
            per_row.fresh[place - self._end] = results[place]
        found = self._write_at_once(per_row, row, pool) if len(per_row.lines) >= _MANY else None
        if found is None:
            found = self._write_one_by_one(per_row, row, pool)
        if self.waits and self._late is not None:
            per_row.known.update(zip(self._late.scalar_slots, found, strict=True))
        if self.waits:
            per_row.known.update(zip((*self._carries, *self._sums), pool, strict=True))

    def _write_one_by_one(self, per_row: RowScalars, row: bytes, pool: Sequence[Any]) -> Sequence[Any]:
        """Write them row by row, and return what goes on to ``finish``."""
        late, size = self._late, len(row)
        for line in per_row.lines:
            line[:size] = row
        if late is None:
            return ()
        given = [own.tolist() if isinstance(own := pool[at], np.ndarray) else repeat(own) for at in self._late_at]
        goes_on: list[tuple[float, ...]] = []
        for number, self._now in enumerate(zip(*given, strict=False)):
            found = late.function(*self._now)
            for place, value in zip(self._places, found, strict=False):
                if place < self._width:
                    _PUT(per_row.lines[number], 8 * place, value)
                else:
                    per_row.fresh[place - self._end, number] = value
            if self.waits:
                goes_on.append(found[len(self._places) :])
        carried = len(late.scalar_slots)
        return list(np.array(goes_on, np.float64).reshape(len(goes_on), carried).T) if carried else ()

    def _write_at_once(self, per_row: RowScalars, row: bytes, pool: Sequence[Any]) -> Sequence[Any] | None:
        """Do so for many rows at once, where that is possible."""
        late = self._late
        if late is not None and late.on_arrays is None:
            return None
        columns: Sequence[Any] = ()
        if late is not None and late.on_arrays is not None:
            try:
                with np.errstate(divide="raise", invalid="raise", over="ignore", under="ignore"):
                    columns = late.on_arrays(*(pool[at] for at in self._late_at))
            except FloatingPointError as error:
                if not self._is_own(error):
                    raise
                return None  # Python says at what numbers
        per_row.scalars[:, : len(row) // 8] = np.frombuffer(row)
        for place, column in zip(self._places, columns, strict=False):
            if place < self._width:
                per_row.scalars[:, place] = column
            else:
                per_row.fresh[place - self._end] = column
        return columns[len(self._places) :]

    def finish(self, new: tuple[float, ...], sums: Mapping[str, Any], per_row: RowScalars) -> tuple[float, ...]:
        """Return the new scalar slots, and write those of parameters, when a step has summed what they depend on.

        It does not fail: what Python's floats would raise at is infinite or NaN.

        Args:
            new: what a call returned.
            sums: those that the step has taken, by name.
            per_row: as that call had it.
        """
        if self._after is None:
            return new
        known, scalars = {**per_row.known, **sums}, list(new)
        given = [known[name] for name in self._after.arguments]
        with np.errstate(all="ignore"):
            found = self._after.without_errors(*given)
        for place, value in zip(self._after_places, found, strict=True):
            if place < self._end:
                scalars[place - self._width] = float(value)
            else:
                per_row.fresh[place - self._end] = value
        return tuple(scalars)
