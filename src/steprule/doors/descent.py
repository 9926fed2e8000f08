"""Two ways to minimize: on a loss that can be compared between points, and on one batch after another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.doors.batches import Batches, Losses
from steprule.doors.box import Box
from steprule.doors.iterate import Iterate, Stop, broken, make_result
from steprule.doors.objective import Objective, Point
from steprule.doors.settings import Settings
from steprule.errors import HyperparameterError, StructureError

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Descent", "StochasticDescent"]

_MAXITER = Stop(1, "Maximum number of iterations has been exceeded.")
_DONE = "Optimization terminated successfully"
_END = object()
_GIVEN_AWAY = 1e-6
"""An iterate of vanishing gradient that gave away more than this share of the progress is no answer."""


class _Patience:
    """Whether the loss has not improved for long, by SciPy's relative measure (L-BFGS-B's ftol)."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.patience
        self._ftol = settings.ftol
        self._reference = math.inf
        self._waited = 0

    def is_over(self, loss: float) -> bool:
        """Take in the next loss."""
        scale = max(abs(self._reference), abs(loss), 1.0)
        if math.isinf(self._reference) or self._reference - loss > self._ftol * scale:
            self._reference = loss
            self._waited = 0
        else:
            self._waited += 1
        return self._limit is not None and self._waited >= self._limit


class Descent:
    """Minimizes a deterministic objective; returns the best point seen, or the averaged iterate."""

    def __init__(self, iterate: Iterate, objective: Objective, box: Box, settings: Settings) -> None:
        self._iterate = iterate
        self._objective = objective
        self._box = box
        self._settings = settings
        self._patience = _Patience(settings)
        self._best: Point | None = None
        self._answer: Point | None = None

    def solve(self) -> OptimizeResult:
        """Return the OptimizeResult of the whole run."""
        stop = self._look() or self._test()
        while stop is None:
            stop = self._advance()
        return self._result(stop)

    def _advance(self) -> Stop | None:
        if self._iterate.nit >= self._settings.maxiter:
            return _MAXITER
        return (
            self._iterate.step(self._here.gradient)
            or self._look()
            or self._iterate.tell(self._here.loss)
            or self._test()
        )

    def _look(self) -> Stop | None:
        """Evaluate the objective where the iterate is."""
        self._here = here = self._objective(self._iterate.x)
        if here.problem:
            return broken(here.problem, self._iterate.nit)
        if self._iterate.nit:
            self._iterate.note()
        if self._best is None:
            self._first = here.loss
        if self._best is None or here.loss < self._best.loss:
            self._best = here.copy()
        return None

    def _test(self) -> Stop | None:
        if self._is_flat():
            return Stop(0, f"{_DONE}: the gradient is within gtol={self._settings.gtol:g}.")
        if self._patience.is_over(self._here.loss):
            return Stop(0, f"{_DONE}: no improvement of the loss in {self._settings.patience} iterations.")
        return None

    def _is_flat(self) -> bool:
        """Whether the point that would be returned meets gtol; then it is the answer."""
        assert self._best is not None
        here, best = self._here, self._best
        # The second term is L-BFGS-B's measure of equal losses: x0 may be the optimum but for rounding.
        rounding = Settings.ftol * max(abs(here.loss), abs(best.loss), 1.0)
        worse = here.loss - best.loss > max(_GIVEN_AWAY * (self._first - best.loss), rounding)
        if worse or not self._meets_gtol(here):
            return False
        mean = self._iterate.mean()
        answer = here if mean is None else self._objective(mean)
        if answer.problem or not self._meets_gtol(answer):
            return False
        self._answer = answer.copy()
        return True

    def _meets_gtol(self, point: Point) -> bool:
        assert self._settings.gtol is not None
        return self._box.slope(point.x, point.gradient) <= self._settings.gtol

    def _result(self, stop: Stop) -> OptimizeResult:
        point = self._answer or self._best or self._here
        mean = self._iterate.mean()
        if self._answer is None and mean is not None:
            averaged = self._objective(mean)
            if averaged.problem:
                stop = Stop(3, f"Not finite at the average of the iterates: {averaged.problem}; x is the best iterate.")
            else:
                point = averaged
        # A copy: the gradient may be a buffer that the user's function fills again and again.
        jac = point.gradient.copy()
        jac[self._objective.unknown] = np.nan
        return _result(stop, self._iterate, self._objective, x=point.x, fun=point.loss, jac=jac)


class StochasticDescent:
    """Minimizes an objective that is seen one batch at a time; returns the last or averaged iterate."""

    def __init__(self, iterate: Iterate, objective: Objective, batches: Batches, settings: Settings) -> None:
        self._iterate = iterate
        self._objective = objective
        self._batches = batches
        self._settings = settings
        self._patience = _Patience(settings)
        self._losses = Losses()
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
        return _result(stop, self._iterate, self._objective, x=x, fun=self._losses.recent(self._batches.once))

    def _pass(self) -> Stop | None:
        batches = self._batches.open()
        while self._iterate.nit < self._settings.maxiter:
            batch = next(batches, _END)
            if batch is _END:
                return self._end_pass()
            stop = self._advance(batch)
            if stop is not None:
                return stop
        return _MAXITER

    def _advance(self, batch: Any) -> Stop | None:
        here = self._objective(self._iterate.x, batch)
        if here.problem:
            return broken(here.problem, self._iterate.nit)
        self._losses.add(here.loss)
        stop = self._iterate.step(here.gradient)
        if stop is not None:
            return stop
        self._iterate.note()
        return self._iterate.tell(here.loss)

    def _end_pass(self) -> Stop | None:
        nit = self._iterate.nit
        if nit == 0:
            raise StructureError("data is empty: it gave no batch")
        loss = self._losses.end_pass()
        if self._batches.once or loss is None:
            return Stop(2, f"The data ended after {nit} batches.")
        if self._patience.is_over(loss):
            return Stop(
                0, f"{_DONE}: no improvement of the mean loss in {self._settings.patience} passes through the data."
            )
        return None


def _result(stop: Stop, iterate: Iterate, objective: Objective, **found: Any) -> OptimizeResult:
    return make_result(
        **found,
        success=stop.status == 0,
        status=stop.status,
        message=stop.message,
        nit=iterate.nit,
        nfev=objective.nfev,
        njev=objective.njev,
    )
