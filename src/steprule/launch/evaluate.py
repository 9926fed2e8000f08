"""The host's part of a step for one group: a prelude with the arguments that the group's values give it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Plan
from steprule.errors import HyperparameterError
from steprule.formats import keys
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
        scalars: the rows of a pass, which are written.
        lines: the same, as bytes.
        sums: of each parameter the size, and the sums over it.
    """

    scalars: NDArray[np.float64]
    lines: Sequence[memoryview]
    sums: Sequence[Sequence[float]]


class Scalars(MutableMapping[str, float]):
    """The scalar slots of a group by name, in memory that a launch writes when the arrays have moved.

    Args:
        values: what they hold at first; there will be no others.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        self._index = {name: index for index, name in enumerate(values)}
        self._numbers = np.array([*values.values()], np.float64)

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
        scalar_slots: the slots whose new values follow the row.
    """

    def __init__(
        self, plan: Plan, values: Mapping[str, Any], scalars: Mapping[str, float], guard: set[str], what: str
    ) -> None:
        self._sums = plan.late_arguments
        self._prelude, self._late, self._places = plan.split_prelude
        self._what, self.scalar_slots = what, plan.prelude.scalar_slots
        names = self._prelude.arguments
        self._arguments: list[Any] = [values.get(name) for name in names]
        self._at_t = names.index("t") if "t" in names else None
        self.schedules = [(i, name) for i, name in enumerate(names) if callable(values.get(name))]
        self._at_scalars = [(i, name) for i, name in enumerate(names) if name in scalars]
        self._at_guard = [(i, name) for i, name in enumerate(names) if name in guard]
        self._width = len(self._prelude.conditions)
        self._end = self._width + len(self.scalar_slots)
        self._now: Sequence[float] = ()
        """The sums at which scalars are computed, for messages."""
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
        guard: Mapping[str, float],
        seed: int | None,
        per_row: RowScalars | None = None,
    ) -> Evaluated:
        """Return the row of scalars of step ``t``, and the new scalar slots.

        Where there is a seed, rows end with the keys of the step.

        Args:
            t, scheduled, scalars, guard, seed: what a step fills in.
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
        for index, name in self._at_guard:
            arguments[index] = guard[name]
        self._now = ()
        try:
            results = self._prelude.function(*arguments)
            row, new = self._pack(*results[: self._width]), tuple(map(float, results[self._width : self._end]))
            if seed is not None:
                row += _PACK_KEYS(*keys(seed, t))
            if per_row is not None:
                self._write(per_row, row, results[self._end :])
        except (ArithmeticError, ValueError, TypeError, struct.error) as error:
            if not self._is_own(error):
                raise
            told = zip((*self._prelude.arguments, *self._sums), (*arguments, *self._now), strict=False)
            named = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in told)
            raise HyperparameterError(
                f"{self._what} has no value at {named}: {error}. Choose other values, or guard the expression in the "
                "rule (both branches of where are computed)"
            ) from None
        return row, new

    def _write(self, per_row: RowScalars, row: bytes, between: Sequence[float]) -> None:
        """Write the scalars of parameters that have their own."""
        if self._write_at_once(per_row, row, between):
            return
        for line, self._now in zip(per_row.lines, per_row.sums, strict=True):
            line[: len(row)] = row
            numbers = () if self._late is None else self._late.function(*between, *self._now)
            for place, number in zip(self._places, numbers, strict=True):
                _PUT(line, 8 * place, number)

    def _write_at_once(self, per_row: RowScalars, row: bytes, between: Sequence[float]) -> bool:
        """Write the scalars of many rows at once, and return whether that was possible."""
        on_arrays = None if self._late is None else self._late.on_arrays
        if len(per_row.sums) < _MANY or (on_arrays is None and self._late is not None):
            return False
        columns: Sequence[Any] = ()
        if on_arrays is not None:
            try:
                with np.errstate(divide="raise", invalid="raise", over="ignore", under="ignore"):
                    columns = on_arrays(*between, *np.array(per_row.sums).T)
            except FloatingPointError as error:
                if not self._is_own(error):
                    raise
                return False  # Python says at what numbers
        per_row.scalars[:, : len(row) // 8] = np.frombuffer(row)
        for place, column in zip(self._places, columns, strict=True):
            per_row.scalars[:, place] = column
        return True
