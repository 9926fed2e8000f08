"""From runs to the table: each rule at its best setting."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.space import LR, value_of
from steprule.race.stages import expected, selected, tuned
from steprule.race.trial import Point, Scale, best_of, point

__all__ = ["FEWEST_TRIALS", "Row", "summarize"]

FEWEST_TRIALS = 5
"""Trials that must be finished for a share of them to tell anything."""


@dataclass(frozen=True)
class Row:
    """A line of the table. The best point is None where no run was finished without diverging."""

    entrant: Entrant
    points: tuple[Point, ...]
    """The trials."""
    chosen: Point | None
    """The trial with the lowest median loss so far."""
    best: Point | None
    """The runs that are reported: of the best setting, on fresh seeds; while there are none, those of the tuning."""
    is_fresh: bool
    """Whether they are on fresh seeds. Otherwise the setting was selected by these very runs, which flatters it."""
    forgiving: float | None
    """Share of the trials whose median loss is within ``tolerance`` of that of the best one.

    None where fewer than five were tried: with three of them, every rule has a third or two.
    """
    tolerance: float
    scale: Scale
    finished: int
    expected: int
    at_edge: bool
    """The best learning rate is the lowest or the highest that was tried, so a better one may lie outside."""

    @property
    def low(self) -> float:
        """The lowest final loss over the seeds, at the best setting."""
        return self.best.losses[0] if self.best else math.inf

    @property
    def high(self) -> float:
        """The highest final loss over the seeds, at the best setting."""
        return self.best.losses[-1] if self.best else math.inf

    @property
    def accuracy(self) -> float | None:
        """The median test accuracy at the best setting, where the problem has one."""
        return _median_of([run.metrics.get("test_accuracy") for run in self._shown])

    @property
    def train_loss(self) -> float | None:
        """The median final training loss at the best setting, over the runs that did not diverge."""
        return _median_of([run.train_loss for run in self._shown])

    @property
    def step_us(self) -> float | None:
        """Microseconds a step of the optimizer alone: the median over the runs at the best setting."""
        return _median_of([run.step_us for run in self._shown])

    @property
    def _shown(self) -> tuple[Run, ...]:
        return self.best.runs if self.best else ()


def summarize(plan: Plan, runs: Mapping[Task, Run]) -> list[Row]:
    """Return one row an entrant, the lowest loss first, those with fresh runs before those without."""
    scale = Scale.of(plan.start, runs.values())
    rows = [_row(plan, runs, entrant, scale) for entrant in plan.entrants]
    last = (math.inf, math.inf)
    return sorted(rows, key=lambda row: (not row.is_fresh, row.best.rank(scale) if row.best else last))


def _row(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, scale: Scale) -> Row:
    points = tuned(plan, runs, entrant)
    tried = [point for point in points if point.runs]
    chosen, setting = best_of(tried, plan.start), selected(plan, runs, entrant)
    fresh = point(plan, runs, entrant, setting, plan.seeds) if setting is not None else None
    shown = fresh if fresh and fresh.runs else chosen
    tolerance = scale.tolerance(chosen.median) if chosen else 0.0
    near = sum(point.median <= chosen.median + tolerance for point in tried) if chosen else 0
    return Row(
        entrant=entrant,
        points=points,
        chosen=chosen,
        best=shown,
        is_fresh=bool(fresh and fresh.runs),
        forgiving=near / len(tried) if len(tried) >= FEWEST_TRIALS else None,
        tolerance=tolerance,
        scale=scale,
        finished=sum(len(point.runs) for point in points) + len(fresh.runs if fresh else ()),
        expected=expected(plan, runs, entrant),
        at_edge=chosen is not None and _is_at_edge(plan, entrant, chosen, tried),
    )


def _is_at_edge(plan: Plan, entrant: Entrant, best: Point, tried: list[Point]) -> bool:
    """Return whether all trials are there, of more than two rates, and the best one has the lowest or the highest."""
    rates = sorted({rate for one in tried if (rate := value_of(one.setting, LR)) is not None})
    return len(tried) == plan.count(entrant) and len(rates) > 2 and best.lr in (rates[0], rates[-1])


def _median_of(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
