"""What to do where an array is expected and something else was given: text that ends with code to run.

Code speaks of what was given by its place in the caller's structure, ``params['w'][0]``.
"""

from __future__ import annotations

import numbers
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.formats import FORMATS

__all__ = ["is_number", "of_gradient", "of_gradient_type", "of_parameter", "of_type"]


def is_number(value: object) -> bool:
    """Whether it is a real number of Python or NumPy, and no array."""
    return isinstance(value, numbers.Real | np.floating | np.integer) and not isinstance(value, bool)


def of_type(array: NDArray[Any], place: str) -> str:
    """Return how to make of a parameter of another type one that can be stepped, with nothing lost if possible."""
    dtype = array.dtype
    if dtype.kind == "c":
        return _of_complex(array, place)
    if dtype.kind in "SUMm" or dtype.names is not None:
        return "It does not hold numbers of one type: leave it out, or pass the numbers in it as arrays of their own"
    keeps = dtype.name if dtype.name in FORMATS else "float32" if np.can_cast(dtype, "float32") else "float64"
    lossy = ", which rounds it," if dtype.kind == "f" and dtype.itemsize > 8 else ""
    return f"Make a copy{lossy} and keep it, since that is what is stepped: {place}.astype({keeps!r})"


def _of_complex(array: NDArray[Any], place: str) -> str:
    """Return how to see real and imaginary parts side by side, in the same memory where NumPy can do it."""
    part = "float32" if array.dtype.itemsize == 8 else "float64"
    known = array.dtype.isnative and array.dtype.itemsize <= 16
    lies_alone = array.ndim > 0 and (array.shape[-1] == 1 or array.strides[-1] == array.itemsize)
    if known and not array.ndim:
        place = f"{place}.reshape(1)"
    elif not known or not lies_alone:
        return f"Step a copy of its real and imaginary parts, and give gradients alike: {_parts_of(place, part)}"
    return f"Step its real and imaginary parts, in its own memory, and give gradients alike: {place}.view({part!r})"


def _parts_of(place: str, part: str) -> str:
    whole = "complex64" if part == "float32" else "complex128"
    return f"np.array({place}, {whole!r}, order='C', ndmin=1).view({part!r})"


def of_parameter(leaf: object, place: str) -> str:
    """Return what to do with a parameter that is not an array of NumPy's."""
    if is_number(leaf):
        alone = f"np.array({place}, 'float64')"
        around = re.sub(r"\[\d+\]$", "", place)
        if around == place:
            return f"Make an array of it: {alone}"
        return f"Make one array of the list around it, np.array({around}, 'float64'), or of the number alone: {alone}"
    if _is_from(leaf, "torch"):
        return f"steprule.torch.Optimizer steps tensors; or pass the memory of one on the CPU: {place}.detach().numpy()"
    if _is_from(leaf, "jax"):
        return f"steprule.jax steps arrays of JAX, which do not change; or step a copy: np.array({place})"
    if hasattr(leaf, "__array__"):
        return f"Step a copy: np.array({place})"
    return "Leave it out: parameters are arrays of numbers, in lists, tuples and dicts"


def of_gradient(grad: object, place: str, parameter: NDArray[Any]) -> str:
    """Return what to do with a gradient that is not an array of NumPy's."""
    shape, name = parameter.shape, parameter.dtype.name
    if grad is None:
        return (
            "Is a `return` missing? A parameter that is never to be stepped is left out of the optimizer; where only "
            f"this gradient is zero, give zeros: np.zeros({shape}, {name!r})"
        )
    if is_number(grad):
        remedy = f": np.reshape(np.asarray({place}, {name!r}), {shape})" if parameter.size == 1 else ""
        return f"A gradient has one number for every number of its parameter{remedy}"
    if _is_from(grad, "torch"):
        return f"Pass the numbers of the tensor: {place}.detach().cpu().numpy()"
    return f"Make an array of it: np.asarray({place}, {name!r})"


def of_gradient_type(grad: Any, place: str, parameter: NDArray[Any]) -> str:
    """Return what to do with a gradient of another type than its parameter's."""
    name = parameter.dtype.name
    if grad.dtype.kind != "c":
        return f"Convert it: {place}.astype({name!r})"
    if 2 * grad.size == parameter.size:
        part = "float32" if name == "float32" else "float64"
        return f"Give its real and imaginary parts as the parameter has them: {_parts_of(place, part)}"
    return f"A real parameter has a real gradient: {place}.real.astype({name!r})"


def _is_from(value: object, package: str) -> bool:
    """Whether a value is of a class of that package, which is not imported for it."""
    names = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return any(name in (package, f"{package}lib") for name in names)
