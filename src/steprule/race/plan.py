"""The plan of a race: what is asked for, and the tasks that follow from it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from steprule.errors import HyperparameterError, ProblemError
from steprule.race.check import check_problem
from steprule.race.entrant import Entrant, entrants
from steprule.race.load import Loaded, load_problem
from steprule.version import __version__

__all__ = ["DEFAULT_RULES", "Plan", "Settings", "Task", "check_jobs", "make_plan", "versions"]

DEFAULT_RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw")
_BACKENDS = ("local", "dask")
_SEEDS = 3
_QUICK_RATES, _QUICK_EPOCHS = 3, 8
_PACKAGES = ("numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Settings:
    """What is asked for. None stands for the problem's own choice.

    Args:
        problem: a name, or a path to a .py file.
        rules: specifications, each ``RULE`` or ``RULE(name=value, ...)``.
        lrs: learning rates, the same for every rule.
        seeds: how many; they are ``seed``, ``seed + 1``, ...
        epochs: of one run.
        seed: the first seed.
        jobs: worker processes. Default: the processors at hand.
        backend: where runs are executed: "local", in processes of this machine, or "dask", by the workers of a cluster.
        address: of the Dask cluster's scheduler, as in "10.0.0.1:8786".
        output: folder of the results. Default ``race-results/PROBLEM``.
        fresh: forget the runs that are in the folder.
        quick: every third learning rate and an eighth of the epochs, unless given.
    """

    problem: str = "digits-mlp"
    rules: tuple[str, ...] = DEFAULT_RULES
    lrs: tuple[float, ...] | None = None
    seeds: int | None = None
    epochs: int | None = None
    seed: int = 0
    jobs: int | None = None
    backend: str = "local"
    address: str | None = None
    output: Path | None = None
    fresh: bool = False
    quick: bool = False

    def folder(self, problem: str) -> Path:
        """Return the output folder."""
        return self.output or Path("race-results") / problem

    def check(self) -> None:
        """Raise ``HyperparameterError`` for a number out of range."""
        for name in ("seeds", "epochs", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise HyperparameterError(f"{name} must be at least 1, got {value}")
        if self.seed < 0:
            raise HyperparameterError(f"seed must be at least 0, got {self.seed}")
        self._check_backend()
        if self.quick and self.lrs is not None and self.epochs is not None:
            raise HyperparameterError("quick does nothing beside lrs and epochs: it chooses fewer of both")
        if self.lrs is not None and (not self.lrs or not all(math.isfinite(lr) and lr > 0 for lr in self.lrs)):
            raise HyperparameterError(f"learning rates must be positive numbers, got {list(self.lrs)}")

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
    lr: float | None
    """None for a rule without a learning rate."""
    seed: int
    epochs: int

    @cached_property
    def key(self) -> str:
        """The run's name on disk: the same if and only if the numbers are."""
        identity = {**asdict(self), "problem": Path(self.problem).name, "rule": self.rule.rpartition("/")[2]}
        text = json.dumps([identity, versions()], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Plan:
    """A checked race: a problem, entrants, a grid, seeds."""

    problem: Loaded
    entrants: tuple[Entrant, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    start: float
    """The loss at the start, for one seed; it sets the scale of what counts as a small difference."""

    @cached_property
    def tasks(self) -> dict[Task, Entrant]:
        """Every run, seed by seed, from a coarse grid to a fine one: half a race has seen all of the range."""
        coarse_first = (*self.lrs[::4], *self.lrs[2::4], *self.lrs[1::2])
        rounds = [(lr, seed) for seed in self.seeds for lr in coarse_first]
        tasks = [
            (self.task(entrant, lr if entrant.has_lr else None, seed), entrant)
            for lr, seed in rounds
            for entrant in self.entrants
        ]
        return dict(tasks)

    def grid(self, entrant: Entrant) -> Sequence[float | None]:
        """Return the learning rates of an entrant: [None] for a rule that has none."""
        return self.lrs if entrant.has_lr else (None,)

    def task(self, entrant: Entrant, lr: float | None, seed: int) -> Task:
        """Return one run of an entrant."""
        return Task(
            problem=self.problem.spec,
            problem_digest=self.problem.digest,
            rule=entrant.spec,
            rule_digest=entrant.digest,
            hyperparameters=entrant.hyperparameters,
            lr=lr,
            seed=seed,
            epochs=self.epochs,
        )


def make_plan(settings: Settings) -> Plan:
    """Return the plan of a race, after trying the problem and loading the rules.

    Raises:
        StepruleError: whatever is wrong with the problem, a rule or a setting.
    """
    settings.check()
    field = entrants(settings.rules)
    problem = load_problem(settings.problem)
    lrs, epochs = settings.lrs or _checked_grid(problem), settings.epochs
    if settings.lrs and not any(entrant.has_lr for entrant in field):
        raise HyperparameterError("learning rates (--lrs) do nothing: no rule of this race has one")
    if settings.quick:
        # The second of three, so that the few rates left lie in the middle of the grid.
        lrs = settings.lrs or lrs[1::_QUICK_RATES] or lrs
        epochs = epochs or max(1, problem.epochs // _QUICK_EPOCHS)
    return Plan(
        problem=problem,
        entrants=field,
        lrs=tuple(sorted(set(map(float, lrs)))),
        seeds=tuple(range(settings.seed, settings.seed + (settings.seeds or _SEEDS))),
        epochs=epochs or problem.epochs,
        start=check_problem(problem),
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
    packages = {name: version(name) for name in _PACKAGES}
    return {"steprule": __version__, "python": platform.python_version(), **packages}


def _checked_grid(problem: Loaded) -> tuple[float, ...]:
    if problem.lrs and all(isinstance(lr, (int, float, np.number)) and lr > 0 for lr in problem.lrs):
        return problem.lrs
    raise ProblemError(f"problem {problem.name}: lrs must be positive numbers, got {list(problem.lrs)}")
