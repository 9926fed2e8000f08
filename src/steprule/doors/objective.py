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
        if not self.unknown.size:
            return self._differences(x, loss, lambda z: z, (self._box.low, self._box.high), batch)
        gradient = np.zeros(self._n)
        free = np.delete(np.arange(self._n), self.unknown)
        if free.size:

            def whole(z: Any) -> Any:
                full = x.astype(z.dtype)
                full[free] = z
                return full

            ends = (np.asarray(self._box.low)[free], np.asarray(self._box.high)[free])
            gradient[free] = self._differences(x[free], loss, whole, ends, batch)
        return gradient

    def _differences(
        self, z: Vector, loss: float, whole: Callable[[Any], Any], ends: Any, batch: tuple[Any, ...]
    ) -> Vector:
        # SciPy's public approx_fprime knows no bounds: it would call fun outside of them.
        from scipy.optimize._numdiff import approx_derivative

        is_complex = self._jac == "cs"
        gradient = approx_derivative(
            lambda moved: _as_number(self._call(whole(moved), batch), is_complex),
            z,
            method=self._jac or "2-point",
            rel_step=self._rel_step,
            abs_step=_STEP if self._jac is None else None,
            f0=np.array([loss]),
            bounds=ends,
        )
        return np.atleast_1d(np.asarray(gradient, np.float64))


def start(x0: Any) -> Vector:
    """Return x0 as a new float64 vector; arrays of any shape are flattened in C order.

    Raises:
        StructureError: when it is empty, or holds anything but finite real numbers.
    """
    given = np.asarray(x0)
    if given.dtype.kind == "c":
        raise StructureError("x0 is complex; optimize its real and imaginary parts side by side")
    try:
        x = np.array(given, np.float64).ravel()
    except (TypeError, ValueError):
        raise StructureError(f"x0 must be an array of real numbers, got {_describe(x0)}") from None
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
    return float(_as_number(value))


def _as_number(value: Any, allow_complex: bool = False) -> Any:
    """Return the one number in ``value``: a Python or NumPy scalar, or an array of size 1."""
    try:
        number = np.asarray(value).item()
        if allow_complex and isinstance(number, complex):
            return number
        return float(number)
    except (TypeError, ValueError):
        hint = " (is a `return` missing?)" if value is None else ""
        raise StructureError(f"fun must return one real number, got {_describe(value)}{hint}") from None


def _as_gradient(value: Any, n: int) -> Vector:
    given = np.asarray(value)
    if given.dtype.kind not in "biufO" or (given.dtype.kind == "O" and given.ndim == 0):
        raise StructureError(f"the gradient must hold real numbers, got {_describe(value)}")
    gradient = np.atleast_1d(given)
    if gradient.shape != (n,):
        remedy = "; return it .ravel()-ed" if gradient.size == n else ""
        raise StructureError(f"the gradient has shape {given.shape}, but x has shape ({n},){remedy}")
    try:
        return np.ascontiguousarray(gradient, np.float64)
    except (TypeError, ValueError):
        raise StructureError(f"the gradient must hold real numbers, got {_describe(value)}") from None


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
