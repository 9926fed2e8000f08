"""What several races say together: mean ranks, performance profiles, and how forgiving rules are over problems."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steprule.race.evidence import Evidence, judge
from steprule.race.problem import Array
from steprule.race.runner import Race
from steprule.race.statistics import critical_difference, ratios
from steprule.race.summary import Row, summarize

__all__ = ["Result", "Standing", "stand"]


@dataclass(frozen=True)
class Result:
    """A finished race with what follows from it."""

    race: Race
    rows: tuple[Row, ...]
    evidence: Evidence

    @property
    def name(self) -> str:
        """Of the problem."""
        return self.race.plan.problem.name

    def row(self, label: str) -> Row:
        """Return the row of a rule."""
        return next(row for row in self.rows if row.entrant.label == label)


@dataclass(frozen=True)
class Standing:
    """The rules over all problems whose race is finished, the lowest mean rank first."""

    results: tuple[Result, ...]
    labels: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    """The mean over the problems of the middle of the ranks that a rule may have; all of them add up to a constant."""
    difference: float
    """By how much two mean ranks must differ for the rules to be told apart over the problems."""
    ratios: Array
    """(rules, problems): steps to the target by the fewest ones; infinite for never, NaN for problems left out."""
    forgiving: tuple[float | None, ...]
    """The mean over the problems of the share of trials that come near the rule's own best one."""
    diverged: tuple[float, ...]
    """The share of all trials that diverged."""

    @property
    def profiled(self) -> list[str]:
        """The problems that the profile counts."""
        kept = ~np.isnan(self.ratios[0])
        return [result.name for result, is_kept in zip(self.results, kept.tolist(), strict=True) if is_kept]

    def share(self, label: str, tau: float = math.inf) -> float | None:
        """Return the value of a rule's profile: on which share of the problems it needs at most tau times the fewest.

        Without tau, on which it reaches the target at all. None where no problem counts.
        """
        own = self.ratios[self.labels.index(label)]
        own = own[~np.isnan(own)]
        reached = own[np.isfinite(own)]
        return float(np.count_nonzero(reached <= tau) / len(own)) if len(own) else None

    def alike(self, label: str) -> list[str]:
        """Return the rules whose mean ranks cannot be told apart from that of this one."""
        own = self.mean_ranks[self.labels.index(label)]
        ranks = zip(self.labels, self.mean_ranks, strict=True)
        return [other for other, rank in ranks if other != label and abs(rank - own) < self.difference]


def stand(races: Sequence[Race]) -> Standing:
    """Return what finished races of the same entrants say; there is at least one."""
    results = tuple(map(_result, races))
    labels = [entrant.label for entrant in races[0].plan.entrants]
    ranks = {label: statistics.fmean(_middle(result, label) for result in results) for label in labels}
    # Of equal ones, that comes first which reaches more targets, and then the one that was named first.
    steps = np.array([[_steps(result, label) for result in results] for label in labels])
    reached = dict(zip(labels, np.isfinite(ratios(steps)).sum(axis=1), strict=True))
    order = sorted(labels, key=lambda label: (ranks[label], -reached[label]))
    return Standing(
        results=results,
        labels=tuple(order),
        mean_ranks=tuple(ranks[label] for label in order),
        difference=critical_difference(len(labels), len(results)),
        ratios=ratios(steps[[labels.index(label) for label in order]]),
        forgiving=tuple(_mean([result.row(label).forgiving for result in results]) for label in order),
        diverged=tuple(_lost([result.row(label) for result in results]) for label in order),
    )


def _result(race: Race) -> Result:
    rows = summarize(race.plan, race.runs)
    return Result(race, tuple(rows), judge(race.plan, race.runs, rows))


def _middle(result: Result, label: str) -> float:
    return statistics.fmean(result.evidence.judged[label].rank)


def _steps(result: Result, label: str) -> float:
    """Return the median steps to the target: infinite for a rule that diverges, NaN where there is no target."""
    reach = result.evidence.judged[label].reach
    if result.evidence.target is None:
        return math.nan
    return reach.steps if reach else math.inf


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def _lost(rows: Sequence[Row]) -> float:
    points = [point for row in rows for point in row.points]
    return sum(not math.isfinite(point.median) for point in points) / len(points)
