"""The plan of a race: what is asked for, and the tasks that follow from it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from steprule.errors import HyperparameterError, ProblemError
from steprule.race.check import Found, check_problem
from steprule.race.entrant import Entrant, entrants
from steprule.race.load import Loaded, load_problem
from steprule.race.space import LR, Dimension, Setting, defaults, dimensions, draw, value_of
from steprule.report import about

__all__ = ["DEFAULT_RULES", "Plan", "Schedule", "Settings", "Task", "check_jobs", "make_plan", "versions"]

DEFAULT_RULES = ("adam", "adamw", "rmsprop", "adagrad", "momentum", "sgd")
"""The rules of a race that names none."""
_BACKENDS = ("local", "dask")
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
_SCHEDULES = get_args(Schedule)
_TRIALS, _SEEDS, _TUNING_SEEDS = 16, 16, 1
_QUICK_TRIALS, _QUICK_SEEDS, _QUICK_EPOCHS = 4, 10, 8
_LATER = 4
"""One trial in so many waits until the others are finished."""
_PACKAGES = ("numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Settings:
    """What is asked for. None stands for the default, or for the problem's own choice.

    Args:
        problem: a name, or a path to a .py file.
        rules: specifications, each ``RULE`` or ``RULE(name=value, ...)``. The first is the reference.
        lrs: learning rates, the same for every rule; then nothing else is tuned, and each is a trial.
        trials: settings that are tried of each rule. Default 16.
        schedule: how the learning rate falls to zero after its warm-up; ``constant``: it stays, from the first step.
            Default: the problem's own, if it has one, or linear.
        tuning_seeds: seeds that each trial is run with. Default 1. They are ``seed``, ``seed + 1``, ...
        seeds: fresh seeds that each rule's best setting is run with. Default 16. They come after those of the tuning.
        epochs: of one run.
        seed: the first seed; settings are drawn by it too.
        jobs: worker processes. Default: the processors at hand.
        backend: where runs are executed: "local", in processes of this machine, or "dask", by the workers of a cluster.
        address: of the Dask cluster's scheduler, as in "10.0.0.1:8786".
        output: folder of the results. Default ``race-results/PROBLEM``.
        fresh: forget the runs that are in the folder.
        minutes: that the race may take; trials and seeds follow from it.
        quick: 4 trials, 10 seeds and an eighth of the epochs, unless given.
    """

    problem: str = "digits-mlp"
    rules: tuple[str, ...] = DEFAULT_RULES
    lrs: tuple[float, ...] | None = None
    trials: int | None = None
    schedule: Schedule | None = None
    tuning_seeds: int | None = None
    seeds: int | None = None
    epochs: int | None = None
    seed: int = 0
    jobs: int | None = None
    backend: str = "local"
    address: str | None = None
    output: Path | None = None
    fresh: bool = False
    minutes: float | None = None
    quick: bool = False

    def folder(self, problem: str) -> Path:
        """Return the output folder."""
        return self.output or Path("race-results") / problem

    def check(self) -> None:
        """Raise ``HyperparameterError`` for a number out of range, or an option that does nothing."""
        for name in ("trials", "tuning_seeds", "seeds", "epochs", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise HyperparameterError(f"{name.replace('_', ' ')} must be at least 1, got {value}")
        if self.seed < 0:
            raise HyperparameterError(f"seed must be at least 0, got {self.seed}")
        if self.schedule not in (None, *_SCHEDULES):
            raise HyperparameterError(f"schedule must be one of {', '.join(_SCHEDULES)}, got {self.schedule!r}")
        if self.quick and None not in (self.trials or self.lrs, self.seeds, self.epochs):
            raise HyperparameterError("quick does nothing beside trials (or lrs), seeds and epochs: it chooses fewer")
        self._check_backend()
        self._check_minutes()
        if self.lrs is None:
            return
        if self.trials is not None:
            raise HyperparameterError("trials does nothing beside lrs: each of these learning rates is a trial")
        if not self.lrs or not all(math.isfinite(lr) and lr > 0 for lr in self.lrs):
            raise HyperparameterError(f"learning rates must be positive numbers, got {list(self.lrs)}")

    def _check_minutes(self) -> None:
        if self.minutes is None:
            return
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise HyperparameterError(f"minutes must be a positive number, got {self.minutes}")
        others = {"trials": self.trials, "lrs": self.lrs, "seeds": self.seeds, "quick": self.quick or None}
        if self.address is not None:
            raise HyperparameterError("minutes times runs on this machine; for a cluster give --trials and --seeds")
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise HyperparameterError(f"minutes plans trials and seeds, so {' and '.join(given)} would not be followed")

    def _check_backend(self) -> None:
        if self.backend not in _BACKENDS:
            raise HyperparameterError(f"backend must be one of {', '.join(_BACKENDS)}, got {self.backend!r}")
        if self.backend == "dask" and not self.address:
            raise HyperparameterError(
                "backend dask needs the address of a scheduler, as in --address 10.0.0.1:8786; `dask scheduler` starts "
                "one and prints its address"
            )
        if self.backend != "dask" and self.address is not None:
            raise HyperparameterError(
                f"an address ({self.address}) does nothing without --backend dask; add that, or drop the address"
            )
        check_jobs(self.jobs, self.address)


@dataclass(frozen=True)
class Task:
    """One run: all that determines its numbers, in types that travel to another process and to JSON."""

    problem: str
    problem_digest: str
    rule: str
    rule_digest: str
    hyperparameters: tuple[tuple[str, Any], ...]
    """What the user has set."""
    setting: Setting
    """What the race tries."""
    schedule: Schedule
    steps: int
    """That the schedule is made for."""
    seed: int
    epochs: int

    @property
    def lr(self) -> float | None:
        """The highest learning rate of the run; None for a rule without one."""
        return value_of(self.setting, LR)

    @cached_property
    def key(self) -> str:
        """The run's name on disk: the same if and only if the numbers are."""
        identity = {**asdict(self), "problem": Path(self.problem).name, "rule": self.rule.rpartition("/")[2]}
        text = json.dumps([identity, versions()], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Plan:
    """A checked race: a problem, entrants, what is tried of each, seeds."""

    problem: Loaded
    entrants: tuple[Entrant, ...]
    lrs: tuple[float, ...]
    """The grid of learning rates where the user gave one; otherwise the lowest and the highest."""
    trials: int | None
    """How many are drawn; None: each learning rate is one."""
    schedule: Schedule
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int
    seed: int
    found: Found
    note: str = ""
    """What a budget has made of it."""

    @property
    def start(self) -> float:
        """The compared loss at the start, for one seed; it sets the scale of what counts as a small difference."""
        return self.found.start

    @property
    def steps(self) -> int:
        """Steps of one run."""
        return self.found.batches * self.epochs

    def space(self, entrant: Entrant) -> tuple[Dimension, ...]:
        """Return what is tuned of an entrant, where trials are drawn."""
        return dimensions(entrant, (self.lrs[0], self.lrs[-1]), has_schedule=self.schedule != "constant")

    def count(self, entrant: Entrant) -> int:
        """Return how many trials an entrant has: the same for all, but one where there is nothing to tune."""
        if self.trials is None:
            return len(self.lrs) if entrant.has_lr else 1
        return self.trials if self.space(entrant) else 1

    def later(self, entrant: Entrant) -> int:
        """Return how many of them wait for the others, to look beyond the edge where the best of these lies there."""
        return 0 if self.trials is None else self.count(entrant) // _LATER

    def first(self, entrant: Entrant) -> list[Setting]:
        """Return the trials that do not wait for others: the defaults, then draws; or the grid, a coarse one first."""
        if self.trials is None:
            coarse_first = (*self.lrs[::4], *self.lrs[2::4], *self.lrs[1::2])
            return [((LR, lr),) for lr in coarse_first] if entrant.has_lr else [()]
        space = self.space(entrant)
        drawn = self.count(entrant) - self.later(entrant) - 1
        return [defaults(entrant, space), *(draw(space, self.seed, 0, drawn) if drawn else [])]

    def task(self, entrant: Entrant, setting: Setting, seed: int) -> Task:
        """Return one run of an entrant."""
        return Task(
            problem=self.problem.spec,
            problem_digest=self.problem.digest,
            rule=entrant.spec,
            rule_digest=entrant.digest,
            hyperparameters=entrant.hyperparameters,
            setting=setting,
            schedule="constant" if entrant.keeps_rate else self.schedule,
            steps=self.steps,
            seed=seed,
            epochs=self.epochs,
        )

    @cached_property
    def _entrants(self) -> dict[tuple[str, str, tuple[tuple[str, Any], ...]], Entrant]:
        return {(one.spec, one.digest, one.hyperparameters): one for one in self.entrants}

    def entrant(self, task: Task) -> Entrant:
        """Return whose run that is."""
        return self._entrants[task.rule, task.rule_digest, task.hyperparameters]


def make_plan(settings: Settings) -> Plan:
    """Return the plan of a race, after trying the problem and loading the rules.

    Raises:
        StepruleError: whatever is wrong with the problem, a rule or a setting.
    """
    settings.check()
    field = entrants(settings.rules)
    problem = load_problem(settings.problem)
    lrs = settings.lrs or _checked_grid(problem)
    if settings.lrs and not any(entrant.has_lr for entrant in field):
        raise HyperparameterError("learning rates (--lrs) do nothing: no rule of this race has one")
    quick, begin = settings.quick, settings.seed + (settings.tuning_seeds or _TUNING_SEEDS)
    trials = settings.trials or (_QUICK_TRIALS if quick else _TRIALS)
    seeds = settings.seeds or (_QUICK_SEEDS if quick else _SEEDS)
    return Plan(
        problem=problem,
        entrants=field,
        lrs=tuple(sorted(set(map(float, lrs)))),
        trials=None if settings.lrs else trials,
        schedule=settings.schedule or _checked_schedule(problem),
        tuning_seeds=tuple(range(settings.seed, begin)),
        seeds=tuple(range(begin, begin + seeds)),
        epochs=settings.epochs or (max(1, problem.epochs // _QUICK_EPOCHS) if quick else problem.epochs),
        seed=settings.seed,
        found=check_problem(problem),
    )


def check_jobs(jobs: int | None, address: str | None) -> None:
    """Refuse a number of jobs where the workers of a cluster do the work.

    Raises:
        HyperparameterError: when both are given.
    """
    if jobs is not None and address is not None:
        raise HyperparameterError(
            f"jobs={jobs} does nothing on a Dask cluster, which has as many workers as were started; drop it"
        )


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that a run's numbers may depend on."""
    return about.versions(_PACKAGES)


def _checked_schedule(problem: Loaded) -> Schedule:
    if problem.schedule in _SCHEDULES:
        return cast("Schedule", problem.schedule)
    raise ProblemError(
        f"problem {problem.name}: schedule must be one of {', '.join(_SCHEDULES)}, got {problem.schedule!r}"
    )


def _checked_grid(problem: Loaded) -> tuple[float, ...]:
    if problem.lrs and all(isinstance(lr, (int, float, np.number)) and lr > 0 for lr in problem.lrs):
        return problem.lrs
    raise ProblemError(f"problem {problem.name}: lrs must be positive numbers, got {list(problem.lrs)}")
