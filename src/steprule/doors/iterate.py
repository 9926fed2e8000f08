"""The moving point of a minimization: stepped by a rule, projected, averaged, shown to a callback."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from steprule.doors.box import Box, Vector
from steprule.doors.numpy import Optimizer
from steprule.errors import StructureError

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Average", "Iterate", "Stop", "broken", "make_result"]


class Stop(NamedTuple):
    """Why a run is over. Status 0 is convergence."""

    status: int
    message: str


def broken(problem: str, nit: int) -> Stop:
    """Return the stop for what is not finite, found after ``nit`` steps."""
    remedy = "check fun there" if nit == 0 else "x is from before; a smaller lr may help"
    return Stop(3, f"Not finite after {nit} iterations: {problem}; {remedy}.")


def make_result(**fields: Any) -> OptimizeResult:
    """Return SciPy's result with these fields."""
    import scipy.optimize

    # Its type stubs know no constructor.
    make: Any = scipy.optimize.OptimizeResult
    result: OptimizeResult = make(**fields)
    return result


class Average:
    """The mean of the iterates: of all alike ("polyak"), or decaying into the past (a number).

    Polyak & Juditsky 1992, doi:10.1137/0330046. The decaying one is corrected for its start as
    Adam's are, m_t = (d m'_t-1 + (1 - d) x_t) / (1 - d^t) with the uncorrected m', so it starts at x_1.
    """

    def __init__(self, kind: str | float) -> None:
        self._decay = kind if isinstance(kind, float) else None
        self._count = 0
        self.value: Vector | None = None

    def add(self, x: Vector) -> None:
        """Take in the next iterate."""
        self._count += 1
        if self.value is None:
            self.value = x.copy()
        elif self._decay is None:
            self.value += (x - self.value) / self._count
        else:
            self.value += (1 - self._decay) / (1 - self._decay**self._count) * (x - self.value)


class Iterate:
    """x, moved in place by ``step``.

    Attributes:
        x: the current point, float64 of shape (n,), always within the box.
        nit: the number of steps taken.
        average: the mean of the iterates, or None where none is asked for.
    """

    def __init__(self, x: Vector, box: Box, optimizer: Optimizer, average: Average | None, callback: Any) -> None:
        self.x = x
        self.nit = 0
        self.average = average
        self._box = box
        self._optimizer = optimizer
        self._callback = _wrap(callback)
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
        if np.isfinite(self.x).all():
            return None
        self.x[...] = self._before
        return broken("the step led to an x that is not finite", self.nit)

    def note(self) -> None:
        """Count the current point in the average."""
        if self.average is not None:
            self.average.add(self.x)

    def mean(self) -> Vector | None:
        """Return the average, within the box in spite of rounding; None if there is none."""
        if self.average is None or self.average.value is None:
            return None
        mean = self.average.value.copy()
        self._box.project(mean)
        return mean

    def tell(self, loss: float) -> Stop | None:
        """Call the callback; the run stops if it raises StopIteration."""
        if self._callback is None:
            return None
        try:
            self._callback(make_result(x=self.x.copy(), fun=loss, nit=self.nit))
        except StopIteration:
            return Stop(99, "`callback` raised `StopIteration`.")
        return None


def _wrap(callback: Any) -> Callable[[Any], object] | None:
    """Return a callable of the intermediate result; a parameter of that very name asks for it, as in SciPy."""
    if callback is None:
        return None
    if not callable(callback):
        raise StructureError(f"callback must be callback(xk) or callback(intermediate_result), got {callback!r}")
    try:
        names = set(inspect.signature(callback).parameters)
    except ValueError:
        # Some builtins have no signature.
        names = set()
    if names == {"intermediate_result"}:
        return lambda result: callback(intermediate_result=result)
    return lambda result: callback(result.x)
