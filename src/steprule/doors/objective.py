"""The user's objective: its loss and gradient at a point, checked and counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from steprule.doors.box import Box, Vector
from steprule.errors import HyperparameterError, StructureError, suggest

__all__ = ["DIFFERENCES", "Objective", "Point", "start"]

DIFFERENCES = ("2-point", "3-point", "cs")
"""SciPy's schemes of finite differences."""

_STEP = math.sqrt(np.finfo(np.float64).eps)
"""The absolute step of differences when no scheme is named, as in SciPy's BFGS."""

_NUMBERS = "biufO"
"""NumPy's kinds of types that may hold real numbers; text that looks like a number is none."""


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

    Attributes:
        nfev: calls of ``fun``, those for finite differences included.
        njev: gradients computed. With ``jac=True`` a call of ``fun`` counts as one of each, as in SciPy.
        unknown: indices of the variables whose derivative is never computed: fixed ones leave no room
            for a difference. It is taken for 0.
    """

    def __init__(self, fun: Any, jac: Any, args: Any, box: Box, n: int, rel_step: Any = None) -> None:
        if not callable(fun):
            raise StructureError(f"fun must be a callable, fun(x, *args) -> float, got {fun!r}")
        self._fun: Callable[..., Any] = fun
        self._jac = _read_jac(jac)
        self._args = args if isinstance(args, tuple) else (args,)
        self._box = box
        self._n = n
        self._rel_step = rel_step
        if rel_step is not None and self._jac not in DIFFERENCES:
            raise HyperparameterError(
                f"finite_diff_rel_step does nothing with jac={jac!r}; name a scheme: jac='2-point'"
            )
        by_differences = self._jac is None or self._jac in DIFFERENCES
        self.unknown = box.fixed if by_differences else box.fixed[:0]
        self.nfev = self.njev = 0

    def __call__(self, x: Vector, *batch: Any) -> Point:
        """Return loss and gradient at x. The user's functions get copies of x.

        Raises:
            StructureError: they returned something else than a number and n numbers.
        """
        returned = self._call(x, batch)
        if self._jac is True:
            self.njev += 1
            loss, gradient = _split(returned)
            loss, gradient = _as_loss(loss), _as_gradient(gradient, self._n)
        else:
            loss, gradient = _as_loss(returned), None
        if not math.isfinite(loss):
            return Point(x, loss, np.full(self._n, np.nan), f"the loss is {loss}")
        if gradient is None:
            gradient = self._gradient(x, loss, batch)
        return Point(x, loss, gradient, _problem_of(gradient))

    def _call(self, x: Any, batch: tuple[Any, ...]) -> Any:
        self.nfev += 1
        return self._fun(x.copy(), *batch, *self._args)

    def _gradient(self, x: Vector, loss: float, batch: tuple[Any, ...]) -> Vector:
        self.njev += 1
        if callable(self._jac):
            return _as_gradient(self._jac(x.copy(), *batch, *self._args), self._n)
        gradient = np.zeros(self._n)
        free = np.delete(np.arange(self._n), self.unknown)
        if free.size:
            gradient[free] = self._differences(x, loss, free, batch)
        return gradient

    def _differences(self, x: Vector, loss: float, free: Any, batch: tuple[Any, ...]) -> Any:
        """Return the derivatives by SciPy's differences for the ``free`` variables."""
        # SciPy's public approx_fprime knows no bounds: it would call fun outside of them.
        from scipy.optimize._numdiff import approx_derivative

        low, high = np.broadcast_to(self._box.low, self._n), np.broadcast_to(self._box.high, self._n)

        def moved(z: Any) -> Any:
            point = x.astype(z.dtype)
            point[free] = z
            if self._jac == "cs":
                return _as_complex(self._call(point, batch))
            # The scheme's own x + h may round to an ulp outside.
            self._box.project(point)
            return _as_number(self._call(point, batch))

        return approx_derivative(
            moved,
            x[free],
            method=self._jac or "2-point",
            rel_step=self._rel_step,
            abs_step=_STEP if self._jac is None else None,
            f0=np.array([loss]),
            bounds=(low[free], high[free]),
        )


def start(x0: Any) -> Vector:
    """Return x0 as a new float64 vector; arrays of any shape are flattened in C order.

    Raises:
        StructureError: when it is empty, or holds anything but finite real numbers.
    """
    x = _as_floats(x0, "x0").flatten()
    if not x.size:
        raise StructureError("x0 is empty, so there is nothing to optimize")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise StructureError(f"x0 must be finite, but element {bad[0]} is {x[bad[0]]}")
    return x


def _read_jac(jac: Any) -> Any:
    """Return True, a callable, a scheme, or None for SciPy's default differences."""
    if jac is None or isinstance(jac, (bool, np.bool_)):
        return True if jac is not None and bool(jac) else None
    if callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES):
        return jac
    hint = suggest(jac, DIFFERENCES) if isinstance(jac, str) else ""
    raise StructureError(f"jac must be True, a callable, '2-point', '3-point', 'cs' or None, got {jac!r}.{hint}")


def _split(returned: Any) -> tuple[Any, Any]:
    try:
        loss, gradient = returned
    except (TypeError, ValueError):
        raise StructureError(
            f"with jac=True fun must return (loss, gradient), got {_describe(returned)}; "
            "leave jac away if it returns the loss alone"
        ) from None
    return loss, gradient


def _as_loss(value: Any) -> float:
    if isinstance(value, (tuple, list)) and len(value) == 2:
        raise StructureError(
            "fun returned two values, expected one number; if they are (loss, gradient), pass jac=True"
        )
    return _as_number(value)


def _as_number(value: Any) -> float:
    """Return the one number in ``value``: a Python or NumPy scalar, or an array of size 1."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in _NUMBERS:
            return float(array.item())
    except (TypeError, ValueError):
        pass
    hint = " (is a `return` missing?)" if value is None else ""
    raise StructureError(f"fun must return one real number, got {_describe(value)}{hint}")


def _as_complex(value: Any) -> complex:
    """Return the one number that fun returned for a complex x."""
    if not np.iscomplexobj(value) or np.size(value) != 1:
        raise StructureError(
            f"with jac='cs' fun must return a complex number for a complex x, got {_describe(value)}; "
            "use jac='3-point' if it cannot"
        )
    return complex(np.asarray(value).item())


def _as_gradient(value: Any, n: int) -> Vector:
    gradient = np.atleast_1d(_as_floats(value, "the gradient"))
    if gradient.shape != (n,):
        remedy = "; return it .ravel()-ed" if gradient.size == n else ""
        raise StructureError(f"the gradient has shape {gradient.shape}, but x has shape ({n},){remedy}")
    return gradient


def _as_floats(value: Any, what: str) -> Vector:
    """Return real numbers, of any type but text, as a float64 array of their shape."""
    try:
        array = np.asarray(value)
        # NumPy makes nan of None, which would pass for a number.
        if array.dtype.kind in _NUMBERS and not (array.dtype.kind == "O" and any(item is None for item in array.flat)):
            return np.asarray(array, np.float64)
    except (TypeError, ValueError):
        pass
    raise StructureError(f"{what} must be an array of real numbers, got {_describe(value)}")


def _problem_of(gradient: Vector) -> str:
    finite = np.isfinite(gradient)
    if finite.all():
        return ""
    first = int(np.argmin(finite))
    count = int(gradient.size - np.count_nonzero(finite))
    return (
        f"the gradient is not finite in {count} of {gradient.size} elements (the first: g[{first}] = {gradient[first]})"
    )


def _describe(value: Any) -> str:
    """Return what ``value`` is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
