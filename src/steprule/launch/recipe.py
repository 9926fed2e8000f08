"""A step of rows as a recipe of passes, wherever it is decided and its scalars are computed.

Where guards measure, the first pass sums the squares of all gradients, by which they decide; then come those that a
rule needs for its sums (``Plan.before``); and last the pass that moves, or that moves and sums what is read of the
step. What a pass sums enters the scalars of the next, and what the last one sums slots that are numbers.

``run_atomically`` is the one place that knows what it means that a step has happened whole or not at all. (Where a
torch optimizer has a parameter twice, a step is several launches, which its door keeps together.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from steprule.engine import PassKey, PassKind, monitored_sums
from steprule.launch.guards import Guards
from steprule.launch.readings import Reading, formats_in
from steprule.launch.row import Row
from steprule.rules.averaging import averaging
from steprule.runtime.interrupts import uninterrupted

__all__ = ["NOTHING", "Recipe", "reading", "run_atomically"]

NOTHING: AbstractContextManager[Any] = nullcontext()


class RowPass(Protocol):
    """A pass over rows."""

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of its rows lie at these addresses."""
        ...


P = TypeVar("P", bound=RowPass)


def run_atomically(
    parts: Sequence[Callable[[], None]], around: AbstractContextManager[Any], done: Callable[[], None]
) -> None:
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


class Recipe(Generic[P]):
    """The passes of a step over rows, again and again, along gradients that may lie elsewhere each time.

    Args:
        rows: the parameters.
        guards: what decides about steps.
        before, after: what else a step does, before and after the rows. The first of ``before`` may fail.

    Attributes:
        is_done: whether the step that was begun has been taken.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        guards: Guards,
        before: Sequence[Callable[[], None]] = (),
        after: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.rows, self._guards, self._before, self._after = rows, guards, before, after
        self._gradients: NDArray[np.int64] = np.array([row.memories[1].address for row in rows], np.int64)
        self._sums: dict[PassKind, list[tuple[P, NDArray[np.int64]]]] = {}
        """By what follows them, the passes whose sums are each row's own, with the places of rows that have them."""
        self._norm = self._pass("norm", range(len(rows))) if guards.measures else None
        self._step = self._last("step")
        self._monitored: P | None = None

    def _last(self, kind: PassKind) -> P:
        """Return the pass that steps, and make those before it."""
        sums = self._sums[kind] = list[tuple[P, NDArray[np.int64]]]()
        plans = [row.kernel_of(kind).plan for row in self.rows]
        for number in range(max((len(plan.before) for plan in plans), default=0)):
            places = [place for place, plan in enumerate(plans) if len(plan.before) > number]
            sums.append((self._pass((kind, number), places), np.array(places, np.int64)))
        return self._pass(kind, range(len(self.rows)))

    def _pass(self, which: PassKey, places: Sequence[int]) -> P:
        """Return a pass over the rows at these places."""
        raise NotImplementedError

    def _move(self, last: P) -> None:
        """Run the last pass of a step."""
        raise NotImplementedError

    def _count(self) -> None:
        """Count the step that has been taken."""
        raise NotImplementedError

    def _readings(self, monitored: P, names: Sequence[str]) -> list[Reading]:
        """Return what the step did that has been taken by this pass."""
        raise NotImplementedError

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses; those of rows that are not direct are in the row."""
        self._gradients = gradients
        for own in (self._norm, self._step, self._monitored):
            if own is not None:
                own.set_gradients(gradients)
        for summing, places in itertools.chain(*self._sums.values()):
            summing.set_gradients(gradients[places])

    def run(self, around: AbstractContextManager[Any] = NOTHING) -> None:
        """Take the step that was prepared, and count it. A signal finds all done, or nothing.

        Args:
            around: what is done before all else, and undone if what follows fails.
        """
        self._take(self._step, around)

    def read(
        self, names: Sequence[str], readings: list[Reading], around: AbstractContextManager[Any] = NOTHING
    ) -> None:
        """Take the step as ``run`` does, prepared to be read, and add what it did to ``readings``.

        Args:
            names: what messages call the parameters, by place.
            readings: to be added to as soon as the step was taken, for signal handlers that raise.
            around: as ``run`` has it.
        """
        monitored = self._monitored_pass()
        self._take(monitored, around, lambda: readings.extend(self._readings(monitored, names)))

    def _monitored_pass(self) -> P:
        """Return the pass of steps that are read, made for the first of them."""
        if self._monitored is None:
            self._monitored = self._last("monitored")
            self.set_gradients(self._gradients)
        return self._monitored

    def _take(self, last: P, around: AbstractContextManager[Any], tell: Callable[[], None] = lambda: None) -> None:
        def done() -> None:
            self._count()
            tell()

        run_atomically([*self._before, lambda: self._move(last), *self._after], around, done)


def reading(row: Row, names: Sequence[str], t: int, line: Sequence[float]) -> Reading:
    """Return what step ``t`` did to a row.

    Args:
        row: the parameter.
        names: what messages call the parameters, by place.
        t: the number of the step.
        line: what the kernel has summed.
    """
    group, shape, formats = row.group, row.whole, formats_in(row.kernel)
    rule, variant = group.values.rule, group.values.variant
    read = monitored_sums(rule, variant, row.storage)
    sums = dict(zip(read, map(float, line[: len(read)]), strict=True))  # those that slots take follow
    average = averaging(rule, variant)
    return Reading(names[row.place], shape, row.dtype, formats, rule.name, t, group.hyperparameters, average, sums)
