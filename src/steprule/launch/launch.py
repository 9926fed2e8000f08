"""The executor: everything that can fail is done before anything moves, and then all moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from steprule.engine import PassKey, PassKind, kind_of
from steprule.language.sums import rounded_once
from steprule.launch.evaluate import Evaluated, RowScalars
from steprule.launch.guards import Gradients, Guards
from steprule.launch.passes import Pass
from steprule.launch.readings import Reading
from steprule.launch.recipe import NOTHING, Recipe, reading
from steprule.launch.row import Row, ScalarGroup
from steprule.runtime import Team
from steprule.runtime.commit import Commit

__all__ = ["Launch"]

_NONE: Mapping[str, float] = {}


class Launch(Recipe[Pass]):
    """Steps rows as this machine decides, with scalars that it computes.

    Args:
        rows: the parameters. Those that are not direct are stepped in their order.
        groups: those of the rows, each in one place.
        guards: what decides about steps.
        commit: what is counted of a step, written when it has been taken.
        team: who may take part in a step.
        before, after: what else a step does, before and after the rows. The first of ``before`` may fail.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        groups: Sequence[ScalarGroup],
        guards: Guards,
        commit: Commit,
        team: Callable[[], Team],
        before: Sequence[Callable[[], None]] = (),
        after: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.groups, self._commit, self._team = groups, commit, team
        self._written = None if before or after else commit
        super().__init__(rows, guards, before, after)
        self._is_sliced = any(row.touched is not None for row in rows)
        self._sizes = self._sizes_now()
        self._table, self._is_one_call = self._step.table, self._step.table.is_one_call
        self._is_guarded = any(name for group in groups for name in group.values.guard)
        self._is_prepared = self._all_done = False

    def _pass(self, which: PassKey, places: Sequence[int]) -> Pass:
        rows = [self.rows[place] for place in places]
        is_per_row = self._is_per_row(kind_of(which))
        return Pass(which, rows, self.groups, self._written if which == "step" else None, is_per_row=is_per_row)

    def factor(self, gradients: Gradients, others: Sequence[Sequence[float]] = ()) -> float | None:
        """Return what the gradients are multiplied by; None if the step is to be skipped.

        Args:
            gradients: to be examined where their sums do not tell.
            others: the sums of gradients that are none of the rows'.

        Raises:
            NonFiniteError: as the options say.
        """
        if self._norm is None:
            return 1.0
        self._norm.fill([self._evaluate(group, "norm", 1.0)[0] for group in self.groups])
        lines = [*self._summed(self._norm), *others]
        columns = 2 if self._guards.clip_value is not None else 1
        return self._guards.decide([rounded_once([line[k] for line in lines]) for k in range(columns)], gradients)

    def begin(self) -> None:
        """Make ready for a step, which from now on is not done: the one before was."""
        self._is_prepared = self._all_done = False

    def prepare(self, factor: float, *, is_read: bool = False) -> list[Evaluated]:
        """Do all that can fail of the step that was begun, and return the scalars and new scalar slots of each group.

        Nothing has moved.

        Args:
            factor: what the gradients are multiplied by.
            is_read: whether the step is for ``read``, not for ``run``.

        Raises:
            HyperparameterError: when the expressions of a rule have no value.
        """
        which: PassKind = "monitored" if is_read else "step"
        last = self._monitored_pass() if is_read else self._step
        if last.is_per_row:
            evaluated = self._with_sums(last, which, factor)
        else:
            evaluated = [self._evaluate(group, which, factor) for group in self.groups]
            last.fill([row for row, _ in evaluated])
        last.table.prepare(self._team())
        self._is_prepared = last is self._step
        return evaluated

    def run(self, around: AbstractContextManager[Any] = NOTHING) -> None:
        """Take the step that was prepared, and count it. A signal finds all done, or nothing."""
        if around is NOTHING and self._is_one_call:
            self._table.run()
        else:
            super().run(around)

    @property
    def is_done(self) -> bool:
        """Whether the step that was begun has been taken."""
        return self._all_done or (self._is_prepared and self._is_one_call and self._table.is_done)

    def _move(self, last: Pass) -> None:
        last.table.run()

    def _count(self) -> None:
        self._commit.write()
        self._all_done = True

    def _evaluate(self, group: ScalarGroup, which: PassKey, factor: float, rows: RowScalars | None = None) -> Evaluated:
        if group.rests:
            return b"", ()
        numbers = self._guards.numbers(group.scale, factor) if self._is_guarded else _NONE
        return group.values.evaluate(group.t, group.scheduled, group.scalars, numbers, which, rows)

    def _summed(self, own: Pass) -> list[list[float]]:
        """Return the sums of a pass that moves nothing, whose scalars are there."""
        own.table.prepare(self._team())
        own.table.run()
        return own.table.sums()

    def _is_per_row(self, kind: PassKind) -> bool:
        """Whether each row has scalars of its own, since these depend on sums over it."""
        return any(group.values.is_per_tensor(kind) for group in self.groups)

    def _with_sums(self, last: Pass, kind: PassKind, factor: float) -> list[Evaluated]:
        """Let each row have scalars of its own, with the sums over it, and return what there is of each group."""
        sums = self._sizes.copy() if not self._is_sliced else self._sizes_now()
        for own, _ in self._sums[kind]:
            self._fill(own, factor, sums)
            found = self._summed(own)
            for number, places in enumerate(own.members):
                if places:
                    sums[number] = [[*old, *found[k]] for old, k in zip(sums[number], places, strict=True)]
        return self._fill(last, factor, sums)

    def _sizes_now(self) -> list[list[list[float]]]:
        """Return how many elements are stepped of each row, by group."""
        sizes = [float(max(1, row.memories[1].size)) for row in self.rows]
        return [[[sizes[place]] for place in places] for places in self._step.members]

    def _fill(self, own: Pass, factor: float, sums: Sequence[Sequence[Sequence[float]]]) -> list[Evaluated]:
        """Write the scalars of every row of a pass, given each group's sums so far."""
        return [
            self._evaluate(group, own.which, factor, RowScalars(scalars, lines, of_group))
            for group, scalars, lines, of_group in zip(self.groups, own.scalars, own.lines, sums, strict=True)
            if lines or isinstance(own.which, str)
        ]

    def _readings(self, monitored: Pass, names: Sequence[str]) -> list[Reading]:
        pairs = zip(self.rows, monitored.table.sums(), strict=True)
        return [reading(row, names, row.group.t, line) for row, line in pairs if not row.group.rests]
