"""A race that fits into a number of minutes: a first run of each rule is timed, and trials and seeds follow from it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steprule.errors import HyperparameterError
from steprule.race.plan import Plan, Settings
from steprule.race.runner import processors, run_plan
from steprule.race.words import counted, listed

__all__ = ["fit", "fit_all"]

_LADDER = (
    *((64, 32), (48, 24), (32, 20), (24, 16), (16, 16), (12, 14), (12, 12)),
    *((8, 12), (8, 10), (6, 10), (4, 10), (4, 7), (4, 4), (2, 3)),
)
"""Trials and fresh seeds of each rule, from the most to the fewest."""
_SHARE = 0.85
"""Of the time that runs may take; the rest is for starting processes, waiting for the last run, and drawing."""
_DRAWING = 10.0


def fit(plan: Plan, settings: Settings, folder: Path) -> Plan:
    """Return the plan with as many trials and seeds as fit into ``settings.minutes``: ``fit_all`` for one race."""
    return fit_all([(plan, folder)], settings)[0]


def fit_all(races: Sequence[tuple[Plan, Path]], settings: Settings) -> list[Plan]:
    """Return the plans of races, each with its folder, with as many trials and seeds as fit into ``settings.minutes``.

    The first trial of each rule, which is part of the race, is run for its time. That time is kept with the run, so
    the same command in the same folder makes the same plan again. All races have as many trials and seeds.

    Raises:
        HyperparameterError: when not even two trials and three seeds fit; it says how many minutes they take.
        KeyboardInterrupt: when the timed runs are interrupted; finished ones are kept.
    """
    assert settings.minutes is not None
    each = sum(_timed(plan, settings, folder) for plan, folder in races)
    drawing = _DRAWING * len(races)
    room = 60 * settings.minutes * _SHARE - drawing
    chosen = next((step for step in _LADDER if sum(step) * each <= room), None)
    plan = races[0][0]
    if chosen is None:
        least = (sum(_LADDER[-1]) * each + drawing) / _SHARE / 60
        names = listed([plan.problem.name for plan, _ in races])
        raise HyperparameterError(
            f"{settings.minutes:g} minutes are too few for {counted(len(plan.entrants), 'rule')} on {names}: "
            f"{_LADDER[-1][0]} trials and {_LADDER[-1][1]} seeds of each take about {least:.1f}. "
            f"Give more --minutes, fewer --rules{' or problems' if len(races) > 1 else ''} or fewer --epochs"
        )
    trials, seeds = chosen
    usual = f"{plan.trials} and {len(plan.seeds)}"
    note = f"planned for {settings.minutes:g} minutes: {trials} trials and {seeds} fresh seeds of each rule"
    note += "" if chosen == (plan.trials, len(plan.seeds)) else f", in place of {usual}"
    begin = plan.tuning_seeds[-1] + 1
    return [replace(plan, trials=trials, seeds=tuple(range(begin, begin + seeds)), note=note) for plan, _ in races]


def _timed(plan: Plan, settings: Settings, folder: Path) -> float:
    """Return how many seconds one run of each rule takes."""
    timed = run_plan(replace(plan, trials=1, seeds=()), folder, jobs=settings.jobs, fresh=settings.fresh)
    if timed.interrupted:
        raise KeyboardInterrupt
    jobs = settings.jobs or processors()
    # A run that diverged has ended early, and tells nothing of the others.
    whole = [run.seconds for run in timed.runs.values() if not run.diverged] or [
        run.seconds for run in timed.runs.values()
    ]
    return statistics.fmean(whole) * len(plan.entrants) / jobs
