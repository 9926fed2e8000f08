"""The evaluated point of rows, written over their parameters in one pass, and the parameters put back bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steprule.evaluating import saved_planes
from steprule.launch.evaluate import RowScalars
from steprule.launch.memory import Memory
from steprule.launch.passes import Pass
from steprule.launch.recipe import NOTHING, run_atomically
from steprule.launch.row import Row, ScalarGroup
from steprule.runtime import Team

__all__ = ["Evaluation", "put_back"]


class Evaluation:
    """The pass that makes rows the evaluated point.

    Args:
        rows: the parameters. Their memories are those of a step, with any in the place of the gradient's, which is not
            read, and behind them those of ``evaluating.saved_planes``, which get what the parameter was; on a device
            those have it already.
        groups: those of the rows, each in one place; their ``t`` is the last step, and ``scheduled`` what schedules of
            the pass ``"evaluate"`` say for it.
        team: who may take part.
    """

    def __init__(self, rows: Sequence[Row], groups: Sequence[ScalarGroup], team: Callable[[], Team]) -> None:
        self._rows, self._groups, self._team = rows, groups, team
        plans = [group.values.plan("evaluate") for group in groups]
        is_per_row = any(plan.is_per_tensor for plan in plans)
        self._pass = Pass("evaluate", rows, groups, is_per_row=is_per_row)
        here = [row for row in rows if getattr(row.device, "type", "cpu") == "cpu"]
        self._copies = [pair for row in here for pair in _copied(row)]

    def enter(self, done: Callable[[], None]) -> None:
        """Let the parameters be the evaluated point, whole or not at all.

        Args:
            done: notes that they are; a signal handler finds both, or neither.

        Raises:
            HyperparameterError: when the point has no value, or a schedule returns none.
        """
        self._fill()
        self._pass.table.prepare(self._team())
        for own, saved in self._copies:
            saved.array()[...] = own.array()
        run_atomically([self._pass.table.run], NOTHING, done)

    def _fill(self) -> None:
        """Write the scalars that the kernels read."""
        own, lines = self._pass, []
        for group, places, scalars, rows in zip(self._groups, own.members, own.scalars, own.lines, strict=True):
            sizes = np.array([max(1, self._rows[place].memories[0].size) for place in places], np.float64)
            of_rows = RowScalars(scalars, rows, [sizes], group.numbers, group.fresh, {}) if own.is_per_row else None
            values = group.values
            row, _ = values.evaluate(group.t, group.scheduled, group.scalars, which="evaluate", per_row=of_rows)
            lines.append(row)
        if not own.is_per_row:
            own.fill(lines)


def put_back(pairs: Sequence[tuple[Memory, Memory]], done: Callable[[], None]) -> None:
    """Let parameters be what was saved of them, whole or not at all.

    Args:
        pairs: a plane of a parameter, and what it was.
        done: notes that they are.
    """
    arrays = [(own.array(), saved.array()) for own, saved in pairs]

    def move() -> None:
        for own, saved in arrays:
            own[...] = saved

    run_atomically([move], NOTHING, done)


def _copied(row: Row) -> list[tuple[Memory, Memory]]:
    """Return the planes of a parameter that its kernel does not save, and where they are saved."""
    plan, saved = row.kernel_of("evaluate").plan, saved_planes(row.group.values.rule, row.storage)
    own = [0, *range(2, 1 + len(saved))]  # the gradient is behind the first
    stored, first = {store.plane for store in plan.stores}, len(plan.kept_planes) - len(saved)
    return [
        (row.memories[place], row.memories[first + number])
        for number, place in enumerate(own)
        if first + number not in stored
    ]
