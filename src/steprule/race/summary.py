"""From runs to the table: each rule at its best learning rate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.run import Run

__all__ = ["EQUAL", "FEWEST_RATES", "FORGIVING", "NEAR_ZERO", "Point", "Row", "summarize"]

FORGIVING = 0.1
NEAR_ZERO = 0.01
EQUAL = 1e-12
FEWEST_RATES = 5
"""Learning rates that must have been tried for a share of them to tell anything."""


@dataclass(frozen=True)
class Point:
    """A rule at one learning rate: its finished runs over the seeds."""

    lr: float | None
    runs: tuple[Run, ...]

    @property
    def losses(self) -> list[float]:
        """Final training losses, infinite for runs that diverged, in order."""
        return sorted(math.inf if run.train_loss is None else run.train_loss for run in self.runs)

    @property
    def median(self) -> float:
        """The median final training loss; infinite when half of the runs diverged."""
        return median(self.losses)

    def rank(self, scale: float) -> tuple[float, float]:
        """Return what is compared: the median, and for equal ones how low the loss was on the way.

        Medians below 1e-12 of ``scale``, the loss at the start, count as equal: what is left there is rounding.
        """
        on_the_way = [math.fsum(run.history) if run.train_loss is not None else math.inf for run in self.runs]
        return max(self.median, EQUAL * scale) if self.median >= 0 else self.median, median(on_the_way)


@dataclass(frozen=True)
class Row:
    """A line of the table. The best point is None where no run was finished without diverging."""

    entrant: Entrant
    points: tuple[Point, ...]
    best: Point | None
    forgiving: float | None
    """Share of the learning rates tried whose median loss is within ``tolerance`` of the best one.

    None where fewer than five were tried: with three of them, every rule has a third or two.
    """
    tolerance: float
    finished: int
    expected: int
    at_edge: bool
    """The best learning rate is the first or the last of the grid, so a better one may lie outside."""

    @property
    def low(self) -> float:
        """The lowest final training loss over the seeds, at the best learning rate."""
        return self.best.losses[0] if self.best else math.inf

    @property
    def high(self) -> float:
        """The highest final training loss over the seeds, at the best learning rate."""
        return self.best.losses[-1] if self.best else math.inf

    @property
    def accuracy(self) -> float | None:
        """The median test accuracy at the best learning rate, where the problem has one."""
        runs = self.best.runs if self.best else ()
        shares = [run.metrics["test_accuracy"] for run in runs if "test_accuracy" in run.metrics]
        return statistics.median(shares) if shares else None

    @property
    def step_us(self) -> float | None:
        """Microseconds a step of the optimizer alone: the median over the runs at the best learning rate."""
        times = [run.step_us for run in (self.best.runs if self.best else ()) if run.step_us is not None]
        return statistics.median(times) if times else None


def summarize(plan: Plan, runs: Mapping[Task, Run]) -> list[Row]:
    """Return one row an entrant, the lowest training loss first."""
    rows = [_row(plan, runs, entrant) for entrant in plan.entrants]
    return sorted(rows, key=lambda row: row.best.rank(abs(plan.start)) if row.best else (math.inf, math.inf))


def median(values: Sequence[float]) -> float:
    """Return the median; infinite where half of the values are, or where there are none."""
    return statistics.median(values) if values else math.inf


def _row(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant) -> Row:
    grid = plan.grid(entrant)
    points = tuple(_point(plan, runs, entrant, lr) for lr in grid)
    scale = abs(plan.start)
    usable = [point for point in points if math.isfinite(point.median)]
    best = min(usable, key=lambda point: point.rank(scale), default=None)
    tolerance = FORGIVING * max(abs(best.median), NEAR_ZERO * scale) if best else 0.0
    tried = [point for point in points if point.runs]
    near = sum(point.median <= best.median + tolerance for point in tried) if best else 0
    return Row(
        entrant=entrant,
        points=points,
        best=best,
        forgiving=near / len(tried) if len(tried) >= FEWEST_RATES else None,
        tolerance=tolerance,
        finished=sum(len(point.runs) for point in points),
        expected=len(grid) * len(plan.seeds),
        at_edge=best is not None and len(tried) == len(grid) > 2 and best.lr in (grid[0], grid[-1]),
    )


def _point(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, lr: float | None) -> Point:
    tasks = [plan.task(entrant, lr, seed) for seed in plan.seeds]
    return Point(lr, tuple(runs[task] for task in tasks if task in runs))
