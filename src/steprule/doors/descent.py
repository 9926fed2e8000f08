"""Minimizing a loss that can be compared between points."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.doors.box import Box, Vector
from steprule.doors.iterate import Iterate, Stop, make_result
from steprule.doors.objective import Objective, Point
from steprule.doors.settings import Settings

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["DONE", "MAXITER", "Descent", "Patience", "result_of"]

MAXITER = Stop(1, "Maximum number of iterations has been exceeded.")
DONE = "Optimization terminated successfully"
_GIVEN_AWAY = 1e-6
"""An iterate of vanishing gradient that gave away more than this share of the progress is not an answer."""


class Patience:
    """Whether the loss has not improved for long, by SciPy's relative measure (L-BFGS-B's ftol)."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.patience
        self._ftol = settings.ftol
        self.progress = (math.inf, 0)

    @property
    def is_spent(self) -> bool:
        """Whether the last loss was one too many without improvement."""
        return self._limit is not None and self.progress[1] >= self._limit

    def is_over(self, loss: float) -> bool:
        """Take in the next loss."""
        if self._limit is None:
            return False
        reference, waited = self.progress
        scale = max(abs(reference), abs(loss), 1.0)
        if math.isinf(reference) or reference - loss > self._ftol * scale:
            self.progress = (loss, 0)
        else:
            self.progress = (reference, waited + 1)
        return self.is_spent


class Descent:
    """Minimizes a deterministic objective; returns the best point seen, or the averaged iterate."""

    _here: Point

    def __init__(self, iterate: Iterate, objective: Objective, box: Box, settings: Settings) -> None:
        self._iterate = iterate
        self._objective = objective
        self._box = box
        self._settings = settings
        self._patience = Patience(settings)
        self._best: Point | None = None
        self._answer: Point | None = None
        self._first = math.nan
        self._is_new = True

    def solve(self) -> OptimizeResult:
        """Return the OptimizeResult of the whole run."""
        stop = self._begin()
        while stop is None:
            stop = self._advance()
        return self._result(stop)

    def progress(self) -> dict[str, Any]:
        """Return what a run that goes on from here must know."""
        return {
            "here": self._here.copy()._asdict(),
            "best": None if self._best is None else self._best.copy()._asdict(),
            "first": self._first,
            "patience": self._patience.progress,
            "average": self._iterate.snapshot(),
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Take over what ``progress`` returned."""
        self._here = Point(**progress["here"]).copy()
        self._best = None if progress["best"] is None else Point(**progress["best"]).copy()
        self._first, self._patience.progress = progress["first"], progress["patience"]
        self._iterate.restore(progress["average"])
        self._is_new = False

    def _begin(self) -> Stop | None:
        if not self._is_new and not self._here.problem:
            # The loss has been told to patience; tolerances may be others than before.
            return self._converged() or (self._out_of_patience() if self._patience.is_spent else None)
        stop = self._evaluate_here()
        if stop is not None:
            return stop
        doubt = self._objective.explain_zeros(self._here)
        if doubt:
            return Stop(
                4,
                f"Differences are exactly 0 at x0, and {doubt}. Where fun is in float32 or rounds, a larger step sees "
                "it (finite_diff_abs_step=1e-3), or give jac.",
            )
        return self._test()

    def _advance(self) -> Stop | None:
        if self._iterate.nit >= self._settings.maxiter:
            return MAXITER
        stop = self._iterate.step(self._here.gradient) or self._evaluate_here()
        if stop is not None:
            return stop
        # Before the callback, so that a state which it reads knows all of this step.
        tested = self._test()
        return self._iterate.call_back(self._here.loss) or tested

    def _evaluate_here(self) -> Stop | None:
        """Evaluate the objective where the iterate is, again where it is not finite and that is to be skipped."""
        self._here, stop = self._evaluate(self._iterate.x)
        if stop is not None:
            return stop
        here = self._here
        if self._iterate.nit:
            self._iterate.record()
        if self._best is None:
            self._first = here.loss
        if self._best is None or here.loss < self._best.loss:
            self._best = here.copy()
        return None

    def _evaluate(self, x: Vector) -> tuple[Point, Stop | None]:
        """Return what is known at x, and the stop where that is not finite and not passed over."""
        nonfinite, point = self._iterate.nonfinite, self._objective(x)
        while point.problem:
            stop = nonfinite.handle(point.problem, self._iterate.nit)
            if stop is not None:
                return point, stop
            point = self._objective(x)
        nonfinite.in_a_row = 0
        return point, None

    def _test(self) -> Stop | None:
        stop = self._converged()
        if stop is None and self._patience.is_over(self._here.loss):
            stop = self._out_of_patience()
        return stop

    def _out_of_patience(self) -> Stop:
        return Stop(0, f"{DONE}: no improvement of the loss in {self._settings.patience} iterations.")

    def _converged(self) -> Stop | None:
        """Return the stop where the point that would be returned meets gtol; then it is the answer."""
        here, best = self._here, self._best
        if not self._meets_gtol(here):
            return None
        assert best is not None
        # The second term is L-BFGS-B's measure of equal losses: x0 may be the optimum but for rounding.
        rounding = Settings.ftol * max(abs(here.loss), abs(best.loss), 1.0)
        if here.loss - best.loss > max(_GIVEN_AWAY * (self._first - best.loss), rounding):
            return None
        mean = self._iterate.mean()
        answer = here if mean is None else self._objective(mean)
        if answer.problem or not self._meets_gtol(answer):
            return None
        self._answer = answer.copy()
        return Stop(0, f"{DONE}: the gradient is within gtol={self._settings.gtol:g}.")

    def _meets_gtol(self, point: Point) -> bool:
        assert self._settings.gtol is not None
        return self._box.slope(point.x, point.gradient) <= self._settings.gtol

    def _result(self, stop: Stop) -> OptimizeResult:
        point = self._answer or self._best or self._here
        mean = self._iterate.mean()
        if self._answer is None and mean is not None:
            averaged, bad = self._evaluate(mean)
            if bad is not None:
                stop = Stop(3, f"Not finite at the average of the iterates: {averaged.problem}; x is the best iterate.")
            else:
                point = averaged
        elif point is self._best and not self._answer:
            point = self._again(point)
        # A copy: the gradient may be a buffer that the user's function fills again and again.
        jac = point.gradient.copy()
        if self._objective.differences is not None:
            jac[self._objective.differences.unknown] = np.nan
        return result_of(stop, self._iterate, self._objective, x=point.x, fun=point.loss, jac=jac)

    def _again(self, best: Point) -> Point:
        """Return the best point with its loss measured anew, where it was chosen among others: luck does not last."""
        if np.array_equal(best.x, self._here.x):
            return best
        loss = self._objective.loss(best.x)
        if not abs(loss - best.loss) > Settings.ftol * max(abs(loss), abs(best.loss), 1.0):
            return best
        from scipy.optimize import OptimizeWarning

        warnings.warn(
            f"fun gave {best.loss:.6g} and then {loss:.6g} at the same x. It is noisy, so the point of lowest loss is "
            "the luckiest one: pass noisy=True (or data=, if it draws batches). `fun` is the second value.",
            OptimizeWarning,
            stacklevel=5,  # the caller of minimize
        )
        return best._replace(loss=loss)


def result_of(stop: Stop, iterate: Iterate, objective: Objective, **found: Any) -> OptimizeResult:
    """Return the result of a run; ``found`` is what it found."""
    if iterate.nonfinite.skipped is not None:
        found["skipped"] = iterate.nonfinite.skipped
    return make_result(
        **found,
        success=stop.status == 0,
        status=stop.status,
        message=stop.message,
        nit=iterate.nit,
        nfev=objective.nfev,
        njev=objective.njev,
    )
