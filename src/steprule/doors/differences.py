"""Gradients by SciPy's finite differences, within the bounds, by one thread or several."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.doors.box import Box, Vector
from steprule.doors.returned import as_complex, as_number
from steprule.errors import HyperparameterError

__all__ = ["SCHEMES", "Differences"]

SCHEMES = ("2-point", "3-point", "cs")
"""SciPy's schemes of finite differences."""

_STEP = math.sqrt(np.finfo(np.float64).eps)
"""The absolute step of differences when no scheme is named, as in SciPy's BFGS."""
_AROUND = 1e-3


@dataclass(frozen=True)
class _Moved:
    """The user's function of the free variables alone; no closure, so that it can be sent to other processes."""

    fun: Callable[..., Any]
    arguments: tuple[Any, ...]
    x: Vector
    free: NDArray[np.intp]
    box: Box
    is_complex: bool

    def __call__(self, z: Any) -> Any:
        point = self.x.astype(z.dtype)
        point[self.free] = z
        if self.is_complex:
            return as_complex(self.fun(point, *self.arguments))
        # The scheme's own x + h may round to an ulp outside.
        self.box.project(point)
        return as_number(self.fun(point, *self.arguments))


class Differences:
    """A scheme of finite differences.

    Args:
        fun: the user's function.
        scheme: one of ``SCHEMES``, or None for forward differences with the step of SciPy's BFGS.
        box: the bounds, which no call leaves.
        n: the number of variables.
        rel_step, abs_step: the step; at most one of them.
        workers: how many threads evaluate the points of a gradient, or a callable like ``map`` that does.

    Attributes:
        nfev: calls of ``fun``.
        has_step: whether the caller chose the step.
        unknown: the variables without a derivative: bounds with no number between them leave no
            room. It is taken for 0.
    """

    def __init__(
        self, fun: Any, scheme: str | None, box: Box, n: int, rel_step: Any, abs_step: Any, workers: Any
    ) -> None:
        if rel_step is not None and scheme is None:
            raise HyperparameterError(
                "finite_diff_rel_step does nothing with jac=None; name a scheme: jac='2-point', or give "
                "finite_diff_abs_step"
            )
        if rel_step is not None and abs_step is not None:
            raise HyperparameterError("of finite_diff_rel_step and finite_diff_abs_step one counts; remove the other")
        if abs_step is not None and not (isinstance(abs_step, numbers.Real) and 0 < float(abs_step) < math.inf):
            raise HyperparameterError(f"finite_diff_abs_step must be a number above 0, got {abs_step!r}")
        self._fun, self._box = fun, box
        self._scheme: Any = scheme
        self._rel_step = rel_step
        self.has_step = rel_step is not None or abs_step is not None
        self._abs_step = _STEP if scheme is None and abs_step is None else abs_step
        self._options = {} if workers is None else {"workers": _workers(workers)}
        low, high = np.broadcast_to(box.low, n), np.broadcast_to(box.high, n)
        with np.errstate(invalid="ignore"):  # of infinite ends
            # SciPy's step into a box of subnormal width is 0, and the difference 0 / 0.
            is_narrow = high - low < np.finfo(np.float64).tiny
            self.unknown = np.flatnonzero(is_narrow | (low + (high / 2 - low / 2) == low))
        self._free = np.delete(np.arange(n), self.unknown)
        self._bounds = (low[self._free], high[self._free])
        self.nfev = 0

    def __call__(self, x: Vector, loss: float, arguments: tuple[Any, ...]) -> Vector:
        """Return the gradient at x, where ``fun`` gave ``loss``."""
        gradient = np.zeros(x.size)
        free = self._free
        if not free.size:
            return gradient
        # SciPy's public approx_fprime knows no bounds: it would call fun outside of them.
        from scipy.optimize._numdiff import approx_derivative

        per_variable = 2 if self._scheme == "3-point" else 1
        derivative: Any = approx_derivative  # with options that not every SciPy has
        gradient[free] = derivative(
            _Moved(self._fun, arguments, x, free, self._box, self._scheme == "cs"),
            x[free],
            method=self._scheme or "2-point",
            rel_step=self._rel_step,
            abs_step=self._abs_step,
            f0=np.array([loss]),
            bounds=self._bounds,
            **self._options,
        )
        self.nfev += per_variable * free.size
        return gradient

    def explain_zeros(self, x: Vector, loss: float, arguments: tuple[Any, ...]) -> str:
        """Return why a gradient of exact zeros at x is none, after a look further around; empty for a minimum.

        In float32, or where fun counts, a step of 1.5e-8 changes nothing.
        """
        if self._scheme == "cs" or not self._free.size:
            return ""
        differs = False
        for i in self._free:
            for step in (_AROUND, -_AROUND):
                point = x.copy()
                point[i] += step * max(1.0, abs(x[i]))
                self._box.project(point)
                self.nfev += 1
                near = as_number(self._fun(point.copy(), *arguments))
                if near < loss:
                    return f"fun is lower at x[{i}] = {point[i]:g}"
                differs |= near != loss
        return "" if differs else "fun gives the same number at all points tried, so it may not use x"


def _workers(workers: Any) -> Any:
    """Return a callable like ``map``, if this SciPy can use it.

    A number is one of threads. Processes, which SciPy would start for every gradient anew, run the caller's script from
    its first line, without end where that has no ``if __name__ == "__main__"``.
    """
    is_count = isinstance(workers, int | np.integer) and not isinstance(workers, bool)
    if not callable(workers) and not (is_count and (workers > 0 or workers == -1)):
        raise HyperparameterError(
            f"workers must be a number of threads (-1: one for every core) or a callable like map, got {workers!r}"
        )
    from scipy.optimize._numdiff import approx_derivative

    if "workers" not in inspect.signature(approx_derivative).parameters:
        import scipy

        raise HyperparameterError(f"workers needs SciPy 1.16, and this is {scipy.__version__}; update it, or remove it")
    return workers if callable(workers) else ThreadPoolExecutor(os.cpu_count() if workers == -1 else int(workers)).map
