"""The executor: everything that can fail is done before anything moves, and then all moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from steprule.compile import Plan
from steprule.engine import PassKey, PassKind, kind_of
from steprule.language.sums import rounded_once
from steprule.launch.backend import Lines
from steprule.launch.batches import in_batches
from steprule.launch.evaluate import Evaluated, RowScalars
from steprule.launch.guards import Gradients, Guards
from steprule.launch.passes import Pass
from steprule.launch.products import Work
from steprule.launch.readings import Reading
from steprule.launch.recipe import NOTHING, Recipe, reading
from steprule.launch.row import Row, ScalarGroup
from steprule.launch.totals import Plans, Sizes, Totals
from steprule.launch.vectors import Known
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
        tell: writes into the commit what there is of each group; None where nothing is.
        team: who may take part in a step.
        before, after: what else a step does, before and after the rows. The first of ``before`` may fail.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        groups: Sequence[ScalarGroup],
        guards: Guards,
        commit: Commit,
        tell: Callable[[Sequence[Evaluated]], None] | None,
        team: Callable[[], Team],
        before: Sequence[Callable[[], None]] = (),
        after: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.groups, self._commit, self._tell, self._team = groups, commit, tell, team
        self._plans: dict[PassKind, Plans] = {}
        plans = self._plans_of("step")
        self._written = None if before or after or plans.wait or plans.see_matrices else commit
        self._work = Work(rows)
        super().__init__(rows, guards, before, after)
        self._is_sliced = any(row.touched is not None for row in rows)
        self._sizes = Sizes(rows, self._step.members)
        self._waiting: tuple[Any, ...] | None = None
        self._table, self._is_one_call = self._step.table, self._step.table.is_one_call
        self._is_guarded = any(name for group in groups for name in group.values.guard)
        self._is_prepared = self._all_done = False

    def _pass(self, which: PassKey, places: Sequence[int]) -> Pass:
        rows = [self.rows[place] for place in places]
        plans = self._plans_of(kind_of(which))
        is_per_row = plans.are_per_tensor if isinstance(which, str) else plans.have_late_scalars(which[1])
        return Pass(which, rows, self.groups, self._written if which == "step" else None, is_per_row=is_per_row)

    def _last(self, kind: PassKind) -> Pass:
        last = super()._last(kind)
        if self._work.batches:
            in_batches(self.rows, last, *self._sums[kind][0], self._work)
        return last

    def _plans_of(self, kind: PassKind) -> Plans:
        """Return the plans of a kind of step.

        Raises:
            HyperparameterError: where the groups' sums over all are not alike.
        """
        if kind not in self._plans:
            plans = [(group.values.plan(kind), group.values.place) for group in self.groups]
            self._plans[kind] = Plans(plans, [group.values.rule for group in self.groups])
        return self._plans[kind]

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
        lines = [*map(list, self._summed(self._norm)), *others]
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
        self._waiting = None
        if self._plans[which].take_sums:
            evaluated = self._with_sums(last, which, factor)
        else:
            evaluated = [self._evaluate(group, which, factor) for group in self.groups]
            last.fill([row for row, _ in evaluated])
        last.table.prepare(self._team())
        if self._tell is not None:
            self._tell(evaluated)
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
        for vectors in last.vectors:
            vectors.write()

    def _count(self) -> None:
        if self._waiting is not None:
            self._add_own_sums(*self._waiting)
        self._commit.write()
        self._all_done = True

    def _evaluate(
        self,
        group: ScalarGroup,
        which: PassKey,
        factor: float,
        sums: Mapping[str, float] = _NONE,
        rows: RowScalars | None = None,
    ) -> Evaluated:
        if group.rests:
            return b"", ()
        numbers = self._guards.numbers(group.scale, factor) if self._is_guarded else _NONE
        numbers = {**numbers, **sums} if sums else numbers
        return group.values.evaluate(group.t, group.scheduled, group.scalars, numbers, which, rows)

    def _summed(self, own: Pass) -> Lines:
        """Return the sums of a pass that moves nothing, whose scalars are there."""
        own.table.prepare(self._team())
        own.table.run()
        lines = _sums_of(own)
        more: dict[int, Sequence[float]] = {}
        for group in own.vectors:
            if totals := group.totals:
                more.update(zip(group.places, totals, strict=True))
        return [[*line, *more.get(place, ())] for place, line in enumerate(lines)] if more else lines

    def _with_sums(self, last: Pass, kind: PassKind, factor: float) -> list[Evaluated]:
        """Write the scalars of a step that takes sums, or numbers kept of rows, and return what there is of each group.

        Where slots wait for what the step itself sums, ``_add_own_sums`` will give their values.
        """
        plans = self._plans[kind]
        sizes = Sizes(self.rows, self._step.members) if self._is_sliced else self._sizes
        totals = Totals(self.groups, sizes, self._guards.share, counts=plans.ask_for_all)
        known: Known = {}
        team = self._team()
        passes = self._sums[kind]
        for number, before in enumerate(plans.before):
            if number >= len(passes):  # of groups without rows
                totals.add(before, [()] * len(before), ())
                continue
            own, _ = passes[number]
            self._fill(own, before, factor, totals)
            for vectors in own.vectors:
                vectors.compute(known, team)
            totals.add(before, own.members, self._summed(own))
            for vectors in own.vectors:
                vectors.finish(known)
            self._work.multiply(number)
        evaluated, rows = self._fill(last, plans.last, factor, totals)
        for vectors in last.vectors:
            vectors.compute(known, team)
        if plans.wait:
            if last.whole_sums is not None:
                last.whole_sums.check()
            # Not a bound method: a cycle would keep all there is.
            self._waiting = last, plans.last, totals, evaluated, rows
        return evaluated

    def _fill(
        self, own: Pass, plans: Sequence[Plan | None], factor: float, totals: Totals
    ) -> tuple[list[Evaluated], list[RowScalars]]:
        """Write the scalars of a pass, given the sums so far, and return what there is of each group."""
        evaluated: list[Evaluated] = []
        rows: list[RowScalars] = []
        parts = zip(self.groups, plans, own.scalars, own.lines, totals.of_rows, totals.of_all, strict=True)
        for group, plan, scalars, lines, of_rows, of_all in parts:
            of_group = RowScalars(scalars, lines, of_rows, group.numbers, group.fresh, {})
            rows.append(of_group)
            evaluated.append(self._evaluate(group, own.which, factor, of_all, of_group) if plan else (b"", ()))
        if not own.is_per_row:
            own.fill([row for row, _ in evaluated])
        return evaluated, rows

    def _add_own_sums(
        self,
        last: Pass,
        plans: Sequence[Plan],
        totals: Totals,
        evaluated: list[Evaluated],
        rows: Sequence[RowScalars],
    ) -> None:
        """Let slots have the values that follow from what the step has summed, and tell. It does not fail."""
        totals.add(plans, last.members, _sums_of(last))
        for index, (group, plan, of_rows) in enumerate(zip(self.groups, plans, totals.of_rows, strict=True)):
            if not group.rests:
                own = of_rows[len(of_rows) - len(plan.tensor_totals) :]
                sums = {**totals.of_all[index], **dict(zip(plan.tensor_totals, own, strict=True))}
                row, new = evaluated[index]
                evaluated[index] = row, group.values.finish(last.which, new, sums, rows[index])
        if self._tell is not None:
            self._tell(evaluated)

    def _readings(self, monitored: Pass, names: Sequence[str]) -> list[Reading]:
        pairs = zip(self.rows, _sums_of(monitored), strict=True)
        return [reading(row, names, row.group.t, line) for row, line in pairs if not row.group.rests]


def _sums_of(own: Pass) -> Lines:
    """Return the sums that a pass has taken of each row, over the whole of its parameter."""
    lines = own.table.sums()
    return lines if own.whole_sums is None else own.whole_sums(lines)
