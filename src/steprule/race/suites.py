"""A suite: races of the same entrants on several problems, one after another, and what they say together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.errors import HyperparameterError, ProblemError, RuleError, StructureError
from steprule.race.budget import fit_all
from steprule.race.entrant import Entrant
from steprule.race.output import write_all
from steprule.race.plan import Plan, Settings, Task, make_plan
from steprule.race.problems import DOWNLOADED, NAMES
from steprule.race.run import Run
from steprule.race.runner import Race, run_plan
from steprule.race.standing import Standing, stand
from steprule.race.words import listed

__all__ = ["SHIPPED", "Suite", "fit_suite", "make_plans", "run_plans"]

SHIPPED = tuple(name for name in NAMES if name not in DOWNLOADED)
"""The problems of a suite that names none: all that need no download."""
_Watching = Callable[[Plan], AbstractContextManager[Callable[[dict[Task, Run]], None]]]


@dataclass(frozen=True)
class Suite:
    """What a suite gave: the plans of all of its races, and those races that have begun."""

    plans: tuple[Plan, ...]
    races: tuple[Race, ...]
    seconds: float
    interrupted: bool

    @property
    def finished(self) -> tuple[Race, ...]:
        """The races of which every run is finished."""
        return tuple(race for race in self.races if race.is_complete)

    @cached_property
    def standing(self) -> Standing:
        """What the finished races say together; there is at least one. Once: its tests may take minutes."""
        return stand(self.finished)

    @property
    def is_complete(self) -> bool:
        """Whether all races are finished."""
        return len(self.finished) == len(self.plans)


def make_plans(settings: Settings, problems: Sequence[str] = ()) -> list[Plan]:
    """Check the settings against every problem, and return the plans of the races.

    Raises:
        StepruleError: as ``make_plan``; or two problems have one name; or a rule cannot step a problem.
    """
    if settings.problem != Settings().problem:
        raise HyperparameterError(f"a suite takes its problems as a list, so problem={settings.problem!r} does nothing")
    plans = [make_plan(replace(settings, problem=problem)) for problem in problems or SHIPPED]
    for name, count in Counter(plan.problem.name for plan in plans).items():
        if count > 1:
            raise ProblemError(f"{name} is the name of {count} problems of the suite; name each once, or rename a file")
    _check_fit(plans)
    return plans


def fit_suite(plans: Sequence[Plan], settings: Settings, folder: Path) -> list[Plan]:
    """Return the plans with as many trials and seeds, the same for all, as fit into ``settings.minutes``."""
    return fit_all([(plan, folder / plan.problem.name) for plan in plans], settings)


def run_plans(
    plans: Sequence[Plan],
    folder: Path,
    settings: Settings,
    *,
    begin: float | None = None,
    watching: _Watching = lambda plan: nullcontext(lambda runs: None),
    done: Callable[[Race, Path], None] = lambda race, report: None,
) -> Suite:
    """Run race after race, each into its folder, and write each as soon as it is finished, or interrupted.

    Args:
        plans: of ``make_plans`` or ``fit_suite``.
        folder: in which every race has a folder of the problem's name.
        settings: whose ``jobs``, ``address`` and ``fresh`` are followed, as by ``run_plan``.
        begin: when the work began, of ``time.perf_counter``. Default: now.
        watching: gives for each plan what takes its finished runs, again and again.
        done: called with each race that has runs, and its report.
    """
    begin = time.perf_counter() if begin is None else begin
    races: list[Race] = []
    interrupted = False
    for plan in plans:
        own = folder / plan.problem.name
        with watching(plan) as watch:
            race = run_plan(plan, own, jobs=settings.jobs, address=settings.address, fresh=settings.fresh, watch=watch)
        races.append(race)
        try:
            if race.runs:
                done(race, write_all(race, own)[-1])
        except KeyboardInterrupt:
            interrupted = True
        if interrupted or race.interrupted:
            return Suite(tuple(plans), tuple(races), time.perf_counter() - begin, True)
    return Suite(tuple(plans), tuple(races), time.perf_counter() - begin, False)


def _check_fit(plans: Sequence[Plan]) -> None:
    """Refuse rules that cannot step the parameters of a problem: hours later, that race would end with it.

    Raises:
        RuleError: naming the rule, the first such problem, and the problems that it fits.
    """
    for entrant in plans[0].entrants:
        # Rules of single numbers step whatever an optimizer takes.
        whole = entrant.rule.trace().sees == "element"
        misfits = {} if whole else {plan.problem.name: why for plan in plans if (why := _misfit(plan, entrant))}
        if misfits:
            name, why = next(iter(misfits.items()))
            fits = [plan.problem.name for plan in plans if plan.problem.name not in misfits]
            others = f"It can step {listed(fits)}: race these alone" if fits else "It can step none of these problems"
            raise RuleError(f"{entrant.label} cannot step {name}: {why}\n{others}, or leave {entrant.label} out")


def _misfit(plan: Plan, entrant: Entrant) -> StructureError | None:
    params = plan.problem.problem.init(np.random.default_rng(0))
    try:
        Optimizer(params, entrant.rule, **dict(entrant.hyperparameters))
    except StructureError as error:
        return error
    return None
