"""A fair race of optimizers on a real problem: ``steprule race``.

``race(Settings(...))`` does from Python what the command does; ``Problem`` is what a problem of your
own has to offer. It needs scikit-learn, matplotlib and joblib: ``pip install '.[race]'`` in a checkout.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steprule.race.budget import fit
from steprule.race.film import animate
from steprule.race.plan import DEFAULT_RULES, Plan, Settings, make_plan
from steprule.race.problem import Problem
from steprule.race.runner import Race, run_plan
from steprule.race.suites import Suite, fit_suite, make_plans, run_plans
from steprule.race.summary import Row, summarize

__all__ = [
    "DEFAULT_RULES",
    "Plan",
    "Problem",
    "Race",
    "Row",
    "Settings",
    "Suite",
    "animate",
    "fit",
    "fit_suite",
    "make_plan",
    "make_plans",
    "race",
    "run_plan",
    "run_plans",
    "suite",
    "summarize",
    "write",
]


def race(settings: Settings) -> Race:
    """Run a race, or go on with one, write its results to the output folder, and return it.

    Raises:
        StepruleError: whatever is wrong with the problem, a rule or a setting.
    """
    begin = time.perf_counter()
    plan = make_plan(settings)
    folder = settings.folder(plan.problem.name)
    fresh = settings.fresh
    if settings.minutes is not None:
        plan, fresh = fit(plan, settings, folder), False
    done = run_plan(plan, folder, jobs=settings.jobs, address=settings.address, fresh=fresh, begin=begin)
    write(done, folder)
    return done


def suite(settings: Settings, problems: Sequence[str] = ()) -> Suite:
    """Run races of the same rules on several problems, or go on with them; write each, and what they say together.

    Args:
        settings: of every race. ``output`` is the folder of the suite, ``race-results/suite`` by default, in which
            each race has its own; ``minutes`` is for all of them.
        problems: names or paths. Default: all problems that ship and need no download.

    Raises:
        StepruleError: whatever is wrong with a problem, a rule or a setting, before anything is run.
    """
    from steprule.race.suite_output import write_suite

    begin = time.perf_counter()
    plans, folder, fresh = make_plans(settings, problems), settings.folder("suite"), settings.fresh
    if settings.minutes is not None:
        plans, fresh = fit_suite(plans, settings, folder), False
    done = run_plans(plans, folder, replace(settings, fresh=fresh), begin=begin)
    write_suite(done, folder)
    return done


def write(race: Race, folder: Path) -> list[Path]:
    """Write ``results.json``, the figures and ``report.html``; return where they are, the report last.

    A race without a finished run has nothing to report: nothing is written, and the list is empty.
    """
    from steprule.race.output import write_all

    return write_all(race, folder)
