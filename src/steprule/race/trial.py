"""What a setting of a rule gave over its seeds, and which of them is the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.space import LR, Setting, value_of

__all__ = ["EQUAL", "FORGIVING", "NEAR_ZERO", "Point", "Scale", "best_of", "median", "point"]

FORGIVING = 0.1
NEAR_ZERO = 0.01
EQUAL = 1e-12


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
        floor = min([0.0, start, *(run.loss for run in runs if run.loss is not None)])
        return cls(floor, start - floor)

    def above(self, loss: float) -> float:
        """Return how far a loss is above the floor. Below 1e-12 of the start, all count as that: it is rounding."""
        return max(loss - self.floor, EQUAL * self.start)

    def tolerance(self, best: float) -> float:
        """Return by how much a loss may be above the best one, to count as near it."""
        return FORGIVING * max(best - self.floor, NEAR_ZERO * self.start)


@dataclass(frozen=True)
class Point:
    """A rule at one setting: its finished runs over some seeds."""

    setting: Setting
    runs: tuple[Run, ...]

    @property
    def lr(self) -> float | None:
        """The highest learning rate of the runs; None for a rule without one."""
        return value_of(self.setting, LR)

    @property
    def values(self) -> list[float]:
        """Final losses, infinite for runs that diverged, seed by seed."""
        return [math.inf if run.loss is None else run.loss for run in self.runs]

    @property
    def losses(self) -> list[float]:
        """Final losses, infinite for runs that diverged, in order."""
        return sorted(self.values)

    @property
    def median(self) -> float:
        """The median final loss; infinite when half of the runs diverged."""
        return median(self.losses)

    def rank(self, scale: Scale) -> tuple[float, float]:
        """Return what is compared: the median above the floor, and for equal ones how low the loss was on the way."""
        on_the_way = [math.fsum(run.curve) if run.loss is not None else math.inf for run in self.runs]
        return scale.above(self.median), median(on_the_way)


def median(values: Sequence[float]) -> float:
    """Return the median; infinite where half of the values are, or where there are none."""
    return statistics.median(values) if values else math.inf


def point(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, setting: Setting, seeds: Iterable[int]) -> Point:
    """Return a setting of an entrant with those of its runs that are finished."""
    tasks = [plan.task(entrant, setting, seed) for seed in seeds]
    return Point(setting, tuple(runs[task] for task in tasks if task in runs))


def best_of(points: Sequence[Point], start: float) -> Point | None:
    """Return the point with the lowest median; None where none has a finite one.

    It depends on these points alone, so that which setting is selected of a rule does not depend on other rules.
    """
    usable = [point for point in points if math.isfinite(point.median)]
    scale = Scale.of(start, (run for point in usable for run in point.runs))
    return min(usable, key=lambda point: point.rank(scale), default=None)
