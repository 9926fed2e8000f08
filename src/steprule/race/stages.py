"""The stages of a race: trials, trials that look further, fresh seeds. Each follows from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.space import Setting, draw, widened
from steprule.race.trial import Point, best_of, point

__all__ = ["expected", "is_complete", "known", "selected", "trials", "tuned"]


def trials(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant) -> list[Setting]:
    """Return the settings of an entrant that are tried, as far as they are known.

    The last ones are drawn when all others are finished: beyond the edge of the learning rates if the best one lies
    there, and inside otherwise, so that every rule has as many. They go on in the same sequence of draws.
    """
    first, later = plan.first(entrant), plan.later(entrant)
    if not later or not _are_finished(plan, runs, entrant, first):
        return first
    space, best = plan.space(entrant), _best(plan, runs, entrant, first)
    begin = len(first) - 1
    return first + draw(widened(space, first, best.setting) if best else space, plan.seed, begin, begin + later)


def tuned(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant) -> tuple[Point, ...]:
    """Return the trials of an entrant with their finished runs; of a grid, by learning rate."""
    settings = trials(plan, runs, entrant)
    settings = sorted(settings) if plan.trials is None else settings
    return tuple(point(plan, runs, entrant, setting, plan.tuning_seeds) for setting in settings)


def selected(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant) -> Setting | None:
    """Return the best setting of an entrant; None while trials are not finished, or where all have diverged."""
    settings = trials(plan, runs, entrant)
    if len(settings) < plan.count(entrant) or not _are_finished(plan, runs, entrant, settings):
        return None
    best = _best(plan, runs, entrant, settings)
    return best.setting if best else None


def known(plan: Plan, runs: Mapping[Task, Run]) -> list[Task]:
    """Return the runs of the race that are known, in the order in which to do them.

    Trial by trial, so that half a race has seen something of every rule; then seed by seed.
    """
    return [*dict.fromkeys([*_tuning(plan, runs), *_reporting(plan, runs)])]


def expected(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant) -> int:
    """Return how many runs an entrant will have: none on fresh seeds when all of its trials have diverged."""
    tuning = plan.count(entrant) * len(plan.tuning_seeds)
    settings = trials(plan, runs, entrant)
    done = len(settings) == plan.count(entrant) and _are_finished(plan, runs, entrant, settings)
    return tuning + (0 if done and selected(plan, runs, entrant) is None else len(plan.seeds))


def is_complete(plan: Plan, runs: Mapping[Task, Run]) -> bool:
    """Return whether nothing is left to run."""
    return all(task in runs for task in known(plan, runs))


def _tuning(plan: Plan, runs: Mapping[Task, Run]) -> Iterator[Task]:
    of = {entrant: trials(plan, runs, entrant) for entrant in plan.entrants}
    for seed in plan.tuning_seeds:
        for index in range(max(map(len, of.values()))):
            for entrant, settings in of.items():
                if index < len(settings):
                    yield plan.task(entrant, settings[index], seed)


def _reporting(plan: Plan, runs: Mapping[Task, Run]) -> Iterator[Task]:
    best = {entrant: selected(plan, runs, entrant) for entrant in plan.entrants}
    for seed in plan.seeds:
        for entrant, setting in best.items():
            if setting is not None:
                yield plan.task(entrant, setting, seed)


def _best(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, settings: list[Setting]) -> Point | None:
    return best_of([point(plan, runs, entrant, setting, plan.tuning_seeds) for setting in settings], plan.start)


def _are_finished(plan: Plan, runs: Mapping[Task, Run], entrant: Entrant, settings: list[Setting]) -> bool:
    return all(plan.task(entrant, setting, seed) in runs for setting in settings for seed in plan.tuning_seeds)
