"""What the fresh runs of a race are evidence for: who can be told apart, when a target is reached, what tuning buys."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steprule.race.plan import Plan, Task
from steprule.race.problem import Array
from steprule.race.run import Run
from steprule.race.statistics import LEVEL, best_of_k, interval, p_values, ranks
from steprule.race.summary import Row
from steprule.race.trial import Point, point

__all__ = ["Evidence", "Judged", "Reach", "judge"]


@dataclass(frozen=True)
class Reach:
    """How a rule's fresh runs come to the target: the compared loss at most that of the reference at its end."""

    runs: int
    """How many do."""
    of: int
    steps: float
    """Median over all of them, to the end of the first epoch at which it is reached; infinite where most never do."""
    seconds: float
    """Of training alone, likewise: on the machine of this race."""


@dataclass(frozen=True)
class Judged:
    """What is known of one rule."""

    rank: tuple[int, int]
    """The highest and the lowest that it may have."""
    interval: tuple[float, float]
    """95 % interval of the median loss."""
    reach: Reach | None


@dataclass(frozen=True)
class Evidence:
    """What the fresh runs tell. Rules whose tuning is not finished are not in it."""

    metric: str
    """The compared loss: ``validation_loss`` or ``train_loss``."""
    seeds: int
    """Fresh seeds that are finished for every rule in it, by which they are compared."""
    labels: tuple[str, ...]
    """Best first."""
    p: Array
    """Corrected p value of each pair, (rules, rules)."""
    judged: Mapping[str, Judged]
    reference: str
    target: float | None
    """The median loss of the reference at its end, of an even number the upper one; None where it has none.

    Not below 1e-12 of the start, where losses are rounding.
    """
    budget: Mapping[str, tuple[float, ...]]
    """The expected lowest loss of k random trials, for k = 1, 2, ..., of each rule that has enough of them."""

    @property
    def pairs(self) -> int:
        """How many pairs are compared."""
        return len(self.labels) * (len(self.labels) - 1) // 2

    def alike(self, label: str) -> list[str]:
        """Return the rules that cannot be told apart from this one."""
        p = self.p[self.labels.index(label)]
        return [other for other, value in zip(self.labels, p, strict=True) if other != label and value >= LEVEL]


def judge(plan: Plan, runs: Mapping[Task, Run], rows: Sequence[Row]) -> Evidence:
    """Return what can be said from the rows of ``summarize``.

    Rules are compared on the seeds that all of them have finished. A rule of which every trial has diverged counts as
    diverged on all seeds.
    """
    shown = [row for row in rows if row.is_fresh or (row.best is None and row.finished == row.expected)]
    seeds = [seed for seed in plan.seeds if all(_has(plan, runs, row, seed) for row in shown)]
    losses = np.array([_losses(plan, runs, row, seeds) for row in shown]).reshape(len(shown), len(seeds))
    p = p_values(losses) if seeds else np.ones((len(shown), len(shown)))
    target = _target(plan, rows)
    places = ranks([row.best.median if row.best else math.inf for row in shown], p)
    judged = {
        row.entrant.label: Judged(place, _interval(row.best), _reach(plan, row.best, target))
        for row, place in zip(shown, places, strict=True)
    }
    budget = {row.entrant.label: _budget(plan, row) for row in rows}
    return Evidence(
        metric=plan.found.metric,
        seeds=len(seeds),
        labels=tuple(judged),
        p=p,
        judged=judged,
        reference=plan.entrants[0].label,
        target=target,
        budget={label: values for label, values in budget.items() if values},
    )


def _has(plan: Plan, runs: Mapping[Task, Run], row: Row, seed: int) -> bool:
    return row.best is None or plan.task(row.entrant, row.best.setting, seed) in runs


def _losses(plan: Plan, runs: Mapping[Task, Run], row: Row, seeds: Sequence[int]) -> list[float]:
    """Return what is compared: how far losses are above the floor, so that what is rounding is equal."""
    if row.best is None:
        return [math.inf] * len(seeds)
    return [row.scale.above(loss) for loss in point(plan, runs, row.entrant, row.best.setting, seeds).values]


def _interval(best: Point | None) -> tuple[float, float]:
    if best is None:
        return math.inf, math.inf
    low, high = interval(np.array(best.values))
    return float(low), float(high)


def _target(plan: Plan, rows: Sequence[Row]) -> float | None:
    row = next(row for row in rows if row.entrant is plan.entrants[0])
    if not (row.best and row.is_fresh and math.isfinite(row.best.median)):
        return None
    # The upper one of an even number, so that most runs of the reference reach it.
    upper = min(loss for loss in row.best.losses if loss >= row.best.median)
    return row.scale.floor + row.scale.above(upper)


def _reach(plan: Plan, best: Point | None, target: float | None) -> Reach | None:
    if best is None or target is None:
        return None
    epochs = [next((epoch for epoch, loss in enumerate(run.curve) if loss <= target), None) for run in best.runs]
    steps = [math.inf if epoch is None else float(epoch * plan.found.batches) for epoch in epochs]
    seconds = [math.inf if epoch is None else run.clock[epoch] for epoch, run in zip(epochs, best.runs, strict=True)]
    count = sum(epoch is not None for epoch in epochs)
    return Reach(count, len(epochs), statistics.median(steps), statistics.median(seconds))


def _budget(plan: Plan, row: Row) -> tuple[float, ...]:
    """Return the best-of-k curve over the trials that were drawn from the space as it was declared.

    The defaults were not drawn, and what was tried beyond the edge is not of that space. A trial that diverged is
    worth as much as no training.
    """
    drawn = row.points[1 : 1 + plan.count(row.entrant) - plan.later(row.entrant) - 1]
    if plan.trials is None or len(drawn) < 2 or not all(one.runs for one in drawn):
        return ()
    losses = np.array([one.median if math.isfinite(one.median) else plan.start for one in drawn])
    return tuple(float(value) for value in best_of_k(np.minimum(losses, plan.start)))
