"""One run: a rule with a learning rate and a seed on a problem. The part that runs in the workers."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.errors import ProblemError, StepruleError, StructureError
from steprule.race.check import VALIDATION, metrics_of, misfit
from steprule.race.entrant import load_rule
from steprule.race.load import Loaded, load_problem
from steprule.race.plan import Task
from steprule.race.problem import Params
from steprule.race.rates import hyperparameters_of
from steprule.rules.settings import labelled
from steprule.runtime import get_num_threads, set_num_threads
from steprule.usercode import user_code

__all__ = ["Run", "in_words", "one_thread", "run"]

T = TypeVar("T")
_BOUND = 1000.0
"""A loss that has risen by this many times the loss at the start (or by this, if that is below 1) has diverged."""
_PATH = 500
"""Points of a path that are kept, at most."""
_INIT, _BATCHES = 0, 1
"""What a random stream is for: a number in its seed, so that streams do not overlap."""


@dataclass
class Run:
    """What one run gave. Times apart, the same task gives the same numbers."""

    steps: int = 0
    diverged: bool = False
    train_loss: float | None = None
    """After the last epoch; None when the run diverged."""
    metrics: dict[str, float] = field(default_factory=dict)
    """All that ``evaluate`` returned after the last epoch."""
    history: list[float] = field(default_factory=list)
    """train_loss before the first epoch and after each; a run that diverges ends early."""
    path: list[list[float]] = field(default_factory=list)
    """The parameters step by step, for a problem of one array of two numbers; none while they rest."""
    path_steps: list[int] = field(default_factory=list)
    """The step after which they were there: 0 at the start."""
    validation: list[float] = field(default_factory=list)
    """validation_loss before the first epoch and after each, where the problem has one."""
    clock: list[float] = field(default_factory=list)
    """Seconds of training before the first epoch (0) and after each."""
    step_us: float | None = None
    """Median time of the optimizer's step, in microseconds, on one thread."""
    seconds: float = 0.0

    @property
    def curve(self) -> list[float]:
        """The loss that is compared, before the first epoch and after each."""
        return self.validation or self.history

    @property
    def loss(self) -> float | None:
        """The loss that is compared, after the last epoch; None when the run diverged."""
        return None if self.diverged or self.train_loss is None else [self.train_loss, *self.validation][-1]

    def numbers(self) -> dict[str, Any]:
        """Return all but the times."""
        return {name: value for name, value in asdict(self).items() if name not in ("clock", "step_us", "seconds")}


class _DivergedError(Exception):
    """The loss is not finite, or above the bound."""


def run(task: Task, parent: int | None = None) -> Run:
    """Return the result of a task. Divergence is a result, not an error.

    Args:
        task: what to run.
        parent: the process that waits for the result; when it is killed, this one ends too.

    Raises:
        StepruleError: what the problem or the rule raises, with the run, the epoch and the batch.
    """
    loaded, place = load_problem(task.problem), _Place()
    try:
        with one_thread(), np.errstate(all="ignore"), user_code(f"problem {loaded.name}", ProblemError):
            return _Training(loaded, task, parent, place).run()
    except StepruleError as error:
        raise type(error)(f"{error}\nwhile racing {in_words(task)}{place}") from None


@dataclass
class _Place:
    """How far a run has come, for the message of what ends it."""

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        batch = f", batch {self.batch}" if self.batch else ""
        return f", epoch {self.epoch}{batch}" if self.epoch else ""


def in_words(task: Task) -> str:
    """Return what messages call a task."""
    rule = labelled(task.rule.rpartition("/")[2], task.hyperparameters)
    return f"{rule}{'' if task.lr is None else f', lr {task.lr:.3g}'}, seed {task.seed}"


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread here: the sums of a matrix product depend on how threads share it."""
    from threadpoolctl import threadpool_limits

    before = get_num_threads()
    set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        set_num_threads(before)


class _Training:
    def __init__(self, loaded: Loaded, task: Task, parent: int | None, place: _Place) -> None:
        self._loaded, self._task, self._parent, self._place = loaded, task, parent, place
        self._params: Params = loaded.problem.init(np.random.default_rng([task.seed, _INIT]))
        rule = load_rule(task.rule, task.rule_digest)
        self._optimizer = Optimizer(self._params, rule, **hyperparameters_of(task))
        self._has_point = rule.evaluated is not None
        self._is_plane = isinstance(self._params, np.ndarray) and self._params.shape == (2,)
        self._times: list[int] = []
        self._result = Run()

    def run(self) -> Run:
        begin = time.perf_counter()
        result = self._result
        try:
            self._evaluate()
            result.clock.append(0.0)
            start = result.history[0]
            bound = start + _BOUND * max(1.0, abs(start))
            for epoch in range(self._task.epochs):
                self._epoch(epoch, bound)
                self._evaluate(bound)
            result.train_loss = result.history[-1]
        except (_DivergedError, OverflowError, FloatingPointError):
            # Python's own floats raise where NumPy's give an infinity.
            result.diverged = True
            result.metrics = {}
        result.steps = len(self._times)
        result.step_us = statistics.median(self._times) / 1e3 if self._times else None
        result.path, result.path_steps = _thin(result.path), _thin(result.path_steps)
        result.seconds = time.perf_counter() - begin
        return result

    def _epoch(self, epoch: int, bound: float) -> None:
        problem, optimizer, place = self._loaded.problem, self._optimizer, self._place
        started = time.perf_counter()
        place.epoch, place.batch = epoch + 1, 1
        if self._parent is not None and os.getppid() != self._parent:
            os._exit(1)
        # A generator an epoch: the order does not depend on what an earlier epoch left undrawn.
        for batch in problem.batches(np.random.default_rng([self._task.seed, _BATCHES, epoch])):
            loss, grads = problem.loss_and_grad(self._params, batch)
            if not float(loss) <= bound:
                raise _DivergedError
            self._note_point()
            begin = time.perf_counter_ns()
            try:
                optimizer.step(grads)
            except StructureError as error:
                raise ProblemError(misfit(error, self._loaded.name)) from None
            self._times.append(time.perf_counter_ns() - begin)
            place.batch += 1
        place.batch = 0
        self._result.clock.append(self._result.clock[-1] + time.perf_counter() - started)

    def _evaluate(self, bound: float = math.inf) -> None:
        with self._optimizer.evaluating() if self._has_point else nullcontext():
            metrics = metrics_of(self._loaded.problem.evaluate(self._params), self._loaded.name)
        loss = metrics["train_loss"]
        if not (math.isfinite(loss) and loss <= bound and math.isfinite(metrics.get(VALIDATION, 0.0))):
            raise _DivergedError
        self._result.history.append(loss)
        self._result.validation += [metrics[VALIDATION]] if VALIDATION in metrics else []
        self._result.metrics = metrics
        self._note_point()

    def _note_point(self) -> None:
        if self._is_plane:
            point = self._params.tolist()
            if not self._result.path or self._result.path[-1] != point:
                self._result.path.append(point)
                self._result.path_steps.append(len(self._times))


def _thin(path: list[T]) -> list[T]:
    """Return at most some hundred points of a path, the first and the last one among them."""
    stride = max(1, -(-len(path) // _PATH))
    return [*path[:-1:stride], *path[-1:]]
