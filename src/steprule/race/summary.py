"""From runs to the table: each rule at its best learning rate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.run import Run

__all__ = ["EQUAL", "FEWEST_RATES", "FORGIVING", "NEAR_ZERO", "Point", "Row", "Scale", "summarize"]

FORGIVING = 0.1
NEAR_ZERO = 0.01
EQUAL = 1e-12
FEWEST_RATES = 5
"""Learning rates that must have been tried for a share of them to tell anything."""


@dataclass(frozen=True)
class Scale:
    """What a loss of a race is measured by. Losses may be negative; then none of their ratios means anything."""

    floor: float
    """From where losses are counted: zero, or the lowest loss of the race where one is negative."""
    start: float
    """How far above that the loss at the start is: what is small against it does not count."""

    @classmethod
    def of(cls, start: float, runs: Iterable[Run]) -> Scale:
        """Return the scale of a race from the loss at the start and the runs that are finished."""
        floor = min([0.0, start, *(run.train_loss for run in runs if run.train_loss is not None)])
        return cls(floor, start - floor)

    def above(self, loss: float) -> float:
        """Return how far a loss is above the floor. Below 1e-12 of the start, all count as that: it is rounding."""
        return max(loss - self.floor, EQUAL * self.start)

    def tolerance(self, best: float) -> float:
        """Return by how much a loss may be above the best one, to count as near it."""
        return FORGIVING * max(best - self.floor, NEAR_ZERO * self.start)


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

    def rank(self, scale: Scale) -> tuple[float, float]:
        """Return what is compared: the median above the floor, and for equal ones how low the loss was on the way."""
        on_the_way = [math.fsum(run.history) if run.train_loss is not None else math.inf for run in self.runs]
        return scale.above(self.median), median(on_the_way)


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
    scale: Scale
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
    scale = Scale.of(plan.start, runs.values())
    rows = [_row(plan, runs, entrant, scale) for entrant in plan.entrants]
    return sorted(rows, key=lambda row: row.best.rank(scale) if row.best else (math.inf, math.inf))


def median(values: Sequence[float]) -> float:
    """Return the median; infinite where half of the values are, or where there are none."""
    return statistics.median(values) if values else math.inf


def _row(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, scale: Scale) -> Row:
    grid = plan.grid(entrant)
    points = tuple(_point(plan, runs, entrant, lr) for lr in grid)
    usable = [point for point in points if math.isfinite(point.median)]
    best = min(usable, key=lambda point: point.rank(scale), default=None)
    tolerance = scale.tolerance(best.median) if best else 0.0
    tried = [point for point in points if point.runs]
    near = sum(point.median <= best.median + tolerance for point in tried) if best else 0
    return Row(
        entrant=entrant,
        points=points,
        best=best,
        forgiving=near / len(tried) if len(tried) >= FEWEST_RATES else None,
        tolerance=tolerance,
        scale=scale,
        finished=sum(len(point.runs) for point in points),
        expected=len(grid) * len(plan.seeds),
        at_edge=best is not None and len(tried) == len(grid) > 2 and best.lr in (grid[0], grid[-1]),
    )


def _point(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, lr: float | None) -> Point:
    tasks = [plan.task(entrant, lr, seed) for seed in plan.seeds]
    return Point(lr, tuple(runs[task] for task in tasks if task in runs))
