"""The moving point of a minimization: stepped by a rule, projected, averaged, shown to a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from steprule.doors.box import Box, Vector
from steprule.doors.callback import wrap
from steprule.doors.numpy import Optimizer
from steprule.doors.returned import all_finite
from steprule.errors import NonFiniteError
from steprule.launch.guards import Guards

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Average", "Iterate", "NonFinite", "Stop", "make_result"]


class Stop(NamedTuple):
    """Why a run is over. Status 0 is convergence."""

    status: int
    message: str


class NonFinite:
    """What is done about a loss, gradient or step that is not finite: the run stops, tries again, or raises.

    Args:
        policy: "stop", "skip" or "raise".
        max_skips: after so many evaluations in a row the next one stops the run, too.

    Attributes:
        skipped: the evaluations that were passed over; None where none would be.
    """

    def __init__(self, policy: str, max_skips: int | None) -> None:
        guards = Guards(nonfinite="propagate" if policy == "stop" else policy, max_skips=max_skips)
        self._policy, self._max_skips = policy, guards.max_skips
        self.skipped = 0 if policy == "skip" else None
        self.in_a_row = 0

    def handle(self, problem: str, nit: int, remedy: str = "") -> Stop | None:
        """Return the stop for what is not finite, found after ``nit`` steps; None when it is passed over.

        ``remedy`` ends the message, where there is a better one than for a point on the way.

        Raises:
            NonFiniteError: where the policy is to raise.
        """
        if self.skipped is not None and self.in_a_row < self._max_skips:
            self.skipped += 1
            self.in_a_row += 1
            return None
        return self.stop(problem, nit, remedy)

    def stop(self, problem: str, nit: int, remedy: str = "") -> Stop:
        """Return the stop, or raise."""
        before = f", as in the {self.in_a_row} evaluations before, which were skipped" if self.in_a_row else ""
        remedy = remedy or ("check fun there" if nit == 0 else "x is from before; a smaller lr may help")
        message = f"Not finite after {nit} iterations: {problem}{before}; {remedy}."
        if self._policy == "raise":
            raise NonFiniteError(message)
        return Stop(3, message)


def make_result(**fields: Any) -> OptimizeResult:
    """Return SciPy's result with these fields."""
    import scipy.optimize

    # Its type stubs know no constructor.
    make: Any = scipy.optimize.OptimizeResult
    result: OptimizeResult = make(**fields)
    return result


class Average:
    """The mean of the iterates: of all alike ("polyak"), of the last ("tail"), or decaying into the past (a number).

    Polyak & Juditsky 1992, doi:10.1137/0330046. The decaying one is corrected for its start as
    Adam's are, m_t = (d m'_t-1 + (1 - d) x_t) / (1 - d^t) with the uncorrected m', so it starts at x_1.

    The tail is suffix averaging (Rakhlin, Shamir & Sridharan 2012, arXiv:1109.5647) for a run that may end at any
    time: the mean of the block of iterates under way and of the one before it, where a block begins when the iterates
    are a third more than at the beginning of the last. So it is of the last quarter to the last 44 % of them.
    """

    _GROWTH = 3  # a block begins after 4/3 of the iterates: 1 more for each 3

    def __init__(self, kind: str | float) -> None:
        self.kind = kind
        self._count = self._begun = self._before = 0  # iterates, those before this block, and before the last
        self._mean: Vector | None = None
        self._last: Vector | None = None

    def add(self, x: Vector) -> None:
        """Take in the next iterate."""
        if self.kind == "tail" and self._count and self._GROWTH * (self._count - self._begun) >= self._begun:
            self._last, self._before, self._begun = self._mean, self._begun, self._count
            self._mean = None
        self._count += 1
        if self._mean is None:
            self._mean = x.copy()
        elif isinstance(self.kind, float):
            self._mean += (1 - self.kind) / (1 - self.kind**self._count) * (x - self._mean)
        else:
            self._mean += (x - self._mean) / (self._count - self._begun)

    def snapshot(self) -> dict[str, Any]:
        """Return what ``restore`` takes."""
        mean, last = (None if one is None else one.copy() for one in (self._mean, self._last))
        return {"count": self._count, "begun": self._begun, "before": self._before, "mean": mean, "last": last}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from the iterates of another run."""
        self._count, self._begun, self._before = (saved[name] for name in ("count", "begun", "before"))
        self._mean, self._last = (None if saved[name] is None else saved[name].copy() for name in ("mean", "last"))

    @property
    def value(self) -> Vector | None:
        """The mean; None before the first iterate."""
        if self._mean is None or self._last is None:
            return self._mean
        share = (self._count - self._begun) / (self._count - self._before)
        mean: Vector = self._last + share * (self._mean - self._last)
        return mean


class Iterate:
    """x, moved in place by ``step``.

    Args:
        x: where it starts.
        box: the bounds.
        optimizer: that of x.
        average: the mean to be kept, if any.
        callback: the caller's.
        nonfinite: what is done about a step that leads nowhere.

    Attributes:
        x: the current point, float64 of shape (n,), always within the box.
        nit: the number of steps taken.
        average: the mean of the iterates, or None where none is asked for.
        take_state: returns where the run stands, for the callback.
    """

    take_state: Callable[[], Any]

    def __init__(
        self,
        x: Vector,
        box: Box,
        optimizer: Optimizer,
        average: Average | None,
        callback: Any,
        nonfinite: NonFinite,
    ) -> None:
        self.x = x
        self.nit = 0
        self.average = average
        self._box = box
        self._optimizer = optimizer
        self._callback = wrap(callback)
        self.nonfinite = nonfinite
        self._before = x.copy()
        self._gradient = np.zeros_like(x)

    def step(self, gradient: Vector) -> Stop | None:
        """Take one step of the rule and project. Where x is not finite afterwards, it stays and the run stops."""
        self._before[...] = self.x
        # From one buffer: the optimizer looks at where a gradient lies only when that is new.
        self._gradient[...] = gradient
        self._optimizer.step(self._gradient)
        self._box.project(self.x)
        self.nit += 1
        if all_finite(self.x):
            return None
        self.x[...] = self._before
        return self.nonfinite.stop("the step led to an x that is not finite", self.nit)

    def record(self) -> None:
        """Count the current point in the average."""
        if self.average is not None:
            self.average.add(self.x)

    @property
    def t(self) -> int:
        """The steps taken, with those of the runs that this one goes on from."""
        return self._optimizer.t

    def snapshot(self) -> dict[str, Any] | None:
        """Return what ``restore`` takes: of the average, if there is one."""
        return None if self.average is None else self.average.snapshot()

    def restore(self, saved: Mapping[str, Any] | None) -> None:
        """Go on from another run with the same kind of average."""
        if self.average is not None and saved is not None:
            self.average.restore(saved)

    def mean(self) -> Vector | None:
        """Return the average, or the rule's evaluated point, within the box; None if there is none."""
        if self.average is None and self._optimizer.rule.evaluated is not None and self._optimizer.t:
            mean: Vector = self._optimizer.evaluated
        elif self.average is None or self.average.value is None:
            return None
        else:
            mean = self.average.value.copy()
        self._box.project(mean)
        return mean

    def call_back(self, loss: float) -> Stop | None:
        """Call the callback; the run stops if it raises StopIteration."""
        if self._callback is None:
            return None
        try:
            self._callback(self.x, loss, self.nit, self.take_state)
        except StopIteration:
            return Stop(99, "`callback` raised `StopIteration`.")
        return None
