"""What the user's functions return: read as numbers, or refused with what was expected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from steprule.doors.box import FEW, Vector
from steprule.errors import StructureError

__all__ = ["all_finite", "as_complex", "as_floats", "as_gradient", "as_loss", "as_number", "problem_of", "split"]

_NUMBERS = "biufO"
"""NumPy's kinds of types that may hold real numbers; text that looks like a number is none."""
_FLOAT64 = np.dtype(np.float64)
_NO_NUMBERS = (TypeError, ValueError, RuntimeError)
"""What NumPy raises where it cannot read numbers; the last comes of torch, for tensors of a graph."""


def split(returned: Any) -> tuple[Any, Any]:
    """Return loss and gradient of what fun returned with ``jac=True``."""
    try:
        loss, gradient = returned
    except (TypeError, ValueError):
        raise StructureError(
            f"with jac=True fun must return (loss, gradient), got {_describe(returned)}; "
            "leave jac out if it returns the loss alone"
        ) from None
    return loss, gradient


def as_loss(value: Any) -> float:
    """Return the one number that fun returned."""
    if isinstance(value, float):  # NumPy's float64 is one
        return float(value)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        raise StructureError(
            "fun returned two values, expected one number; if they are (loss, gradient), pass jac=True"
        )
    return as_number(value)


def as_number(value: Any) -> float:
    """Return the one number in ``value``: a Python or NumPy scalar, or an array of size 1."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in _NUMBERS:
            return float(array.item())
    except _NO_NUMBERS:
        pass
    raise StructureError(f"fun must return one real number, got {_describe(value)}{_missing(value) or _one(value)}")


def as_complex(value: Any) -> complex:
    """Return the one number that fun returned for a complex x."""
    if not np.iscomplexobj(value) or np.size(value) != 1:
        raise StructureError(
            f"with jac='cs' fun must return a complex number for a complex x, got {_describe(value)}; "
            "use jac='3-point' if it cannot"
        )
    return complex(np.asarray(value).item())


def as_gradient(value: Any, n: int) -> Vector:
    """Return the n numbers that are a gradient."""
    if type(value) is np.ndarray and value.dtype is _FLOAT64 and value.shape == (n,):
        return value
    gradient = np.atleast_1d(as_floats(value, "the gradient"))
    if gradient.shape != (n,):
        remedy = "return it .ravel()-ed" if gradient.size == n else "return one number for each number of x"
        raise StructureError(f"the gradient has shape {gradient.shape}, but x has shape ({n},); {remedy}")
    return gradient


def as_floats(value: Any, what: str) -> Vector:
    """Return real numbers, of any type but text, as a float64 array of their shape."""
    try:
        array = np.asarray(value)
        # NumPy makes nan of None, which would pass for a number.
        if array.dtype.kind in _NUMBERS and not (array.dtype.kind == "O" and any(item is None for item in array.flat)):
            return np.asarray(array, np.float64)
    except _NO_NUMBERS:
        pass
    raise StructureError(
        f"{what} must be an array of real numbers, got {_describe(value)}{_missing(value) or _real(value)}"
    )


def _real(value: Any) -> str:
    """Return how to make real numbers of what is none, where that is known."""
    if hasattr(value, "toarray"):
        return "; a sparse one: .toarray().ravel()"
    if isinstance(value, tuple) and len(value) == 2 and np.isscalar(value[0]) and not np.isscalar(value[1]):
        return "; if it is (loss, gradient), let fun return both, with jac=True"
    kinds = {type(item) for item in value} if isinstance(value, (list, tuple)) else {type(value)}
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if complex in kinds or kind == "c":
        return "; real and imaginary parts are numbers of their own: np.asarray(..., 'complex128').view('float64')"
    if str in kinds or kind == "U":
        return "; text is made numbers by np.asarray(..., 'float64')"
    return "; one list of numbers, or lists of one length" if list in kinds else ""


def _one(value: Any) -> str:
    """Return how to make one real number of what is none, where that is known."""
    if isinstance(value, str):
        return "; text is made a number by float(...)"
    if isinstance(value, list | tuple | np.ndarray) and len(np.atleast_1d(np.asarray(value, object))) > 1:
        return "; return their sum or mean"
    return "; return its .real" if np.iscomplexobj(value) else ""


def _missing(value: Any) -> str:
    """Return what to do where there is nothing, or a tensor whose graph NumPy does not see."""
    if value is None:
        return " (is a `return` missing?)"
    return "; return it .detach()-ed" if hasattr(value, "detach") else ""


def all_finite(numbers: Vector) -> bool:
    """Whether all are finite; by the ufuncs themselves, since ``.all()`` costs as much again on a few numbers."""
    # What is infinite or NaN is so in the sum as well, and a sum that overflows is looked at below.
    if numbers.size <= FEW and math.isfinite(sum(numbers.tolist())):
        return True
    return bool(np.logical_and.reduce(np.isfinite(numbers)))


def problem_of(gradient: Vector) -> str:
    """Return which elements are not finite, in words; empty when all are."""
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
