"""The user's objective: its loss and gradient at a point, checked and counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from steprule.doors.box import Box, Vector
from steprule.doors.differences import SCHEMES, Differences
from steprule.doors.returned import all_finite, as_floats, as_gradient, as_loss, problem_of, split
from steprule.errors import HyperparameterError, StructureError, suggest

__all__ = ["Objective", "Point", "start"]


class Point(NamedTuple):
    """What is known at x. ``problem`` says what is not finite there; the gradient may be nan then."""

    x: Vector
    loss: float
    gradient: Vector
    problem: str = ""

    def copy(self) -> Point:
        """Return a point that later steps and the user's own buffers do not change."""
        return Point(self.x.copy(), self.loss, self.gradient.copy(), self.problem)


class Objective:
    """Calls ``fun(x, *batch, *args)`` and the gradient that goes with it, at points of shape (n,).

    Args:
        fun, jac, args: as ``minimize`` takes them.
        box: the bounds.
        n: the number of variables.
        steps: ``finite_diff_rel_step``, ``finite_diff_abs_step`` and ``workers``, for differences.

    Attributes:
        njev: gradients computed. With ``jac=True`` a call of ``fun`` counts as one of each, as in SciPy.
        differences: the scheme of differences, or None where the caller gives the gradient.
    """

    def __init__(self, fun: Any, jac: Any, args: Any, box: Box, n: int, **steps: Any) -> None:
        if not callable(fun):
            raise StructureError(f"fun must be a callable, fun(x, *args) -> float, got {fun!r}")
        self._fun: Callable[..., Any] = fun
        self._jac = _read_jac(jac)
        self._args = args if isinstance(args, tuple) else (args,)
        self._n = n
        self.differences: Differences | None = None
        if self._jac is None or self._jac in SCHEMES:
            given = (steps.get(name) for name in ("finite_diff_rel_step", "finite_diff_abs_step", "workers"))
            self.differences = Differences(fun, self._jac, box, n, *given)
        for name, value in steps.items():
            if value is not None and self.differences is None:
                raise HyperparameterError(
                    f"{name} is for differences, and does nothing with jac={jac!r}; remove it, or name a scheme: "
                    "jac='2-point'"
                )
        self._calls = self.njev = 0

    @property
    def nfev(self) -> int:
        """Calls of ``fun``, those for finite differences included."""
        return self._calls + (self.differences.nfev if self.differences else 0)

    def __call__(self, x: Vector, *batch: Any) -> Point:
        """Return loss and gradient at x. The user's functions get copies of x.

        Raises:
            StructureError: they returned something else than a number and n numbers.
        """
        returned = self._call(x, batch)
        if self._jac is True:
            self.njev += 1
            loss, gradient = split(returned)
            loss, gradient = as_loss(loss), as_gradient(gradient, self._n)
        else:
            loss, gradient = as_loss(returned), None
        if not math.isfinite(loss):
            return Point(x, loss, np.full(self._n, np.nan), f"the loss is {loss}")
        if gradient is None:
            gradient = self._gradient(x, loss, batch)
        return Point(x, loss, gradient, "" if all_finite(gradient) else problem_of(gradient))

    def loss(self, x: Vector) -> float:
        """Return the loss alone, of an objective without batches."""
        returned = self._call(x, ())
        if self._jac is True:
            self.njev += 1
            returned, _ = split(returned)
        return as_loss(returned)

    def explain_zeros(self, here: Point) -> str:
        """Return why a gradient of zeros by differences is not one, where that can be seen; otherwise nothing."""
        if self.differences is None or here.gradient.any():
            return ""
        return self.differences.explain_zeros(here.x, here.loss, self._args)

    def _call(self, x: Vector, batch: tuple[Any, ...]) -> Any:
        self._calls += 1
        return self._fun(x.copy(), *batch, *self._args)

    def _gradient(self, x: Vector, loss: float, batch: tuple[Any, ...]) -> Vector:
        self.njev += 1
        if self.differences is not None:
            return self.differences(x, loss, (*batch, *self._args))
        return as_gradient(self._jac(x.copy(), *batch, *self._args), self._n)


def start(x0: Any) -> Vector:
    """Return x0 as a new float64 vector; arrays of any shape are flattened in C order.

    Raises:
        StructureError: when it is empty, or holds anything but finite real numbers.
    """
    if x0 is None:
        raise StructureError("x0 is None; give the numbers to start from, or the state of a result")
    x = as_floats(x0, "x0").flatten()
    if not x.size:
        raise StructureError("x0 is empty; give one number for each variable, np.zeros(n) for instance")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise StructureError(f"x0 must be finite, but element {bad[0]} is {x[bad[0]]}; start from another number")
    return x


def _read_jac(jac: Any) -> Any:
    """Return True, a callable, a scheme, or None for SciPy's default differences."""
    if jac is None or isinstance(jac, (bool, np.bool_)):
        return True if jac is not None and bool(jac) else None
    if callable(jac) or (isinstance(jac, str) and jac in SCHEMES):
        return jac
    hint = suggest(jac, SCHEMES) if isinstance(jac, str) else ""
    raise StructureError(f"jac must be True, a callable, '2-point', '3-point', 'cs' or None, got {jac!r}.{hint}")
