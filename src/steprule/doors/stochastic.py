"""Minimizing what is seen with noise: one batch after another, or a loss that is another one at every call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.doors.batches import Batches, Losses, Noise
from steprule.doors.box import Vector
from steprule.doors.descent import DONE, MAXITER, Patience, result_of
from steprule.doors.iterate import Iterate, Stop
from steprule.doors.objective import Objective
from steprule.doors.settings import Settings
from steprule.errors import HyperparameterError, StructureError

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["NoisyDescent", "StochasticDescent"]

_END: Any = object()


class StochasticDescent:
    """Minimizes an objective that is seen one batch at a time; returns the last or averaged iterate."""

    def __init__(self, iterate: Iterate, objective: Objective, batches: Batches | Noise, settings: Settings) -> None:
        self._iterate = iterate
        self._objective = objective
        self._batches = batches
        self._settings = settings
        self._patience = Patience(settings)
        self._losses = Losses(batches.once)
        self._taken = self._passed = 0  # batches of the pass under way, and those of them before this run
        if batches.once and settings.patience is not None:
            raise HyperparameterError(
                "patience compares passes through the data, but this iterator is used up in one; "
                "give a list, or a callable that returns an iterable for every pass"
            )

    def solve(self) -> OptimizeResult:
        """Return the OptimizeResult of the whole run."""
        stop = None
        while stop is None:
            stop = self._pass()
        mean = self._iterate.mean()
        x = self._iterate.x if mean is None else mean
        stop, found = self._found(x, stop)
        return result_of(stop, self._iterate, self._objective, x=x, **found)

    def progress(self) -> dict[str, Any]:
        """Return what a run that goes on from here must know."""
        return {
            "taken": self._taken,
            "losses": self._losses.snapshot(),
            "patience": self._patience.progress,
            "average": self._iterate.snapshot(),
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Take over what ``progress`` returned."""
        self._passed = 0 if self._batches.once else progress["taken"]
        self._patience.progress = progress["patience"]
        self._losses.restore(progress["losses"])
        self._iterate.restore(progress["average"])

    def _found(self, x: Vector, stop: Stop) -> tuple[Stop, dict[str, Any]]:
        """Return why the run is over, and what is known of the loss at x."""
        return stop, {"fun": self._losses.recent()}

    def _pass(self) -> Stop | None:
        batches = self._batches.open()
        # Those that the run before has taken of this pass.
        self._taken = sum(1 for _ in itertools.islice(batches, self._passed))
        self._passed = 0
        while self._iterate.nit < self._settings.maxiter:
            batch = next(batches, _END)
            if batch is _END:
                return self._end_pass()
            self._taken += 1
            stop = self._advance(batch)
            if stop is not None:
                return stop
        return MAXITER

    def _advance(self, batch: tuple[Any, ...]) -> Stop | None:
        nonfinite = self._iterate.nonfinite
        here = self._objective(self._iterate.x, *batch)
        if here.problem:
            return nonfinite.handle(here.problem, self._iterate.nit)
        nonfinite.in_a_row = 0
        self._losses.add(here.loss)
        stop = self._iterate.step(here.gradient)
        if stop is not None:
            return stop
        self._iterate.record()
        return self._iterate.call_back(here.loss)

    def _end_pass(self) -> Stop | None:
        nit = self._iterate.nit
        if not self._taken and not nit:
            raise StructureError(
                "data is empty: it gave no batch. An iterator is used up in one pass: make a new one, or give a list, "
                "or a callable that returns an iterable for every pass"
            )
        loss = self._losses.end_pass()
        if self._batches.once or not self._taken:
            return Stop(2, f"The data ended after {nit} batches.")
        if loss is not None and self._patience.is_over(loss):
            return Stop(
                0, f"{DONE}: no improvement of the mean loss in {self._settings.patience} passes through the data."
            )
        return None


class NoisyDescent(StochasticDescent):
    """Minimizes an objective that gives another loss and gradient at every call; returns the averaged iterate."""

    def __init__(self, iterate: Iterate, objective: Objective, settings: Settings) -> None:
        super().__init__(iterate, objective, Noise(), settings)
        differences = objective.differences
        if differences is not None and not differences.has_step:
            raise HyperparameterError(
                "differences over the default step, about 1e-8, of a noisy fun are its noise times 1e8; give jac, or a "
                "step over which fun changes by more than its noise, to both sides, since to one side the slope is "
                "that of a place half a step away: jac='3-point', finite_diff_abs_step=0.1"
            )

    def _found(self, x: Vector, stop: Stop) -> tuple[Stop, dict[str, Any]]:
        """Measure the loss at x anew: what was seen on the way is of other points."""
        if stop is MAXITER:
            # There is no test of convergence that could be met instead.
            stop = Stop(0, f"{DONE}: all steps were taken, and a noisy run has no other end.")
        count = self._settings.measurements
        if count == 0:
            stop, found = super()._found(x, stop)
            return stop, {**found, "fun_error": math.nan}
        if count is None:
            count = min(100, max(10, self._iterate.t // 10))
        losses: list[float] = []
        # Where evaluations at x itself have ended the run, more of them tell nothing.
        if stop.status != 3 or not np.array_equal(x, self._iterate.x):
            bad = self._measure(x, count, losses)
            if bad is not None:
                stop = bad if stop.status != 3 else Stop(3, f"{stop.message} {bad.message}")
        fun = float(np.mean(losses)) if losses else math.nan
        error = float(np.std(losses, ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else math.nan
        return stop, {"fun": fun, "fun_error": error}

    def _measure(self, x: Vector, count: int, losses: list[float]) -> Stop | None:
        """Add ``count`` losses at x to ``losses``; return the stop where one is not finite and not passed over."""
        nonfinite = self._iterate.nonfinite
        while len(losses) < count:
            loss = self._objective.loss(x)
            if math.isfinite(loss):
                nonfinite.in_a_row = 0
                losses.append(loss)
                continue
            done = len(losses)
            problem = f"the loss is {loss} at the final x, in measurement {done + 1} of {count}"
            remedy = f"fun is the mean of the {done} before" if done else "fun is nan"
            remedy += "" if nonfinite.skipped is not None else ", and nonfinite='skip' measures again"
            stop = nonfinite.handle(problem, self._iterate.nit, remedy)
            if stop is not None:
                return stop
        return None
