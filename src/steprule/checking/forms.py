"""How parameters and gradients are handed to somebody's optimizer: whose arrays, in which structure."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMS", "LIBRARIES", "Form", "Library", "Unfit", "libraries"]

Arrays = Sequence[NDArray[Any]]


class Unfit(Exception):  # noqa: N818  (no error of the user's: another form is tried)
    """What came back is not in the form that was handed over."""


@dataclass(frozen=True)
class Library:
    """Whose arrays they are.

    Attributes:
        name: as a person says it.
        make: an array of the library that holds a NumPy array's numbers, in its type.
        read: a copy as a NumPy array.
        fill: writes numbers into an array, or None where arrays never change.
        scope: within what it is used.
    """

    name: str
    make: Callable[[NDArray[Any]], Any]
    read: Callable[[Any], NDArray[Any]]
    fill: Callable[[Any, NDArray[Any]], None] | None
    scope: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def _fill_array(array: Any, values: NDArray[Any]) -> None:
    array[...] = values


def _make_tensor(array: NDArray[Any]) -> Any:
    return sys.modules["torch"].from_numpy(np.array(array))


def _read_tensor(tensor: Any) -> NDArray[Any]:
    if not hasattr(tensor, "detach"):
        return _read_array(tensor)
    tensor = tensor.detach().cpu()
    plain = tensor if tensor.dtype != sys.modules["torch"].bfloat16 else tensor.float()
    return np.array(plain.numpy())


def _read_array(array: Any) -> NDArray[Any]:
    try:
        found = np.array(array)
    except ValueError:
        raise Unfit(f"{_a(array)} in the place of an array of numbers") from None
    if found.dtype == object or found.dtype.kind not in "fiub":
        raise Unfit(f"{type(array).__name__} in the place of an array of numbers")
    return found.astype(np.float64) if found.dtype.kind != "f" else found


def _fill_tensor(tensor: Any, values: NDArray[Any]) -> None:
    tensor.data.copy_(sys.modules["torch"].from_numpy(np.array(values)))


def _in_float64() -> contextlib.AbstractContextManager[Any]:
    found: contextlib.AbstractContextManager[Any] = sys.modules["jax"].enable_x64(True)
    return found


def _read_own(array: Any) -> NDArray[Any]:
    """Return a copy of what is NumPy's: code for another library takes NumPy's arrays, too, and returns its own."""
    library = type(array).__module__.partition(".")[0]
    if library in ("jax", "jaxlib", "torch"):
        raise Unfit(f"an array of {library} in the place of NumPy's")
    return _read_array(array)


NUMPY = Library("NumPy arrays", np.array, _read_own, _fill_array)
TORCH = Library("tensors of PyTorch", _make_tensor, _read_tensor, _fill_tensor)
JAX = Library("arrays of JAX", lambda array: sys.modules["jax"].numpy.asarray(array), _read_array, None, _in_float64)
LIBRARIES = {"numpy": NUMPY, "torch": TORCH, "jax": JAX}


def libraries() -> Iterator[Library]:
    """Return the libraries that somebody's file may be written for: NumPy, and those that it has imported."""
    yield from (library for name, library in LIBRARIES.items() if name in sys.modules)


@dataclass(frozen=True)
class Form:
    """The structure that parameters are handed over in.

    Attributes:
        name: as a person says it.
        pack: the structure of arrays.
        unpack: the arrays in a structure of that form.
        alone: whether each element is handed over as a parameter of its own.
        most: how many parameters it can hold.
    """

    name: str
    pack: Callable[[list[Any]], Any]
    unpack: Callable[[Any], list[Any]]
    alone: bool = False
    most: int = 1000


def _of_list(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise Unfit(f"{_a(value)} in the place of a list of arrays")
    return list(value)


def _of_dict(value: Any) -> list[Any]:
    if not hasattr(value, "keys"):
        raise Unfit(f"{_a(value)} in the place of a dict of arrays")
    if sorted(value) != [_key(place) for place in range(len(value))]:
        raise Unfit(f"a dict with the keys {', '.join(map(repr, value))} in the place of one with the parameters' own")
    return [value[key] for key in sorted(value)]


def _of_array(value: Any) -> list[Any]:
    if value is None or isinstance(value, (tuple, dict)):
        raise Unfit(f"{_a(value)} in the place of an array")
    return [value]


def _of_floats(value: Any) -> list[Any]:
    return [_a_number(one) for one in _of_list(value)]


def _of_float(value: Any) -> list[Any]:
    return [_a_number(value)]


def _a_number(value: Any) -> float:
    if np.ndim(value) != 0:
        raise Unfit(f"{_a(value)} in the place of a number")
    return float(value)


def _a(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _key(place: int) -> str:
    return f"w{place:02}"


FORMS = (
    Form("a list of arrays", list, _of_list),
    Form("a dict of arrays", lambda arrays: {_key(place): one for place, one in enumerate(arrays)}, _of_dict),
    Form("one array", lambda arrays: arrays[0], _of_array, most=1),
    Form("a list of numbers", lambda arrays: [float(one) for one in arrays], _of_floats, alone=True),
    Form("one number", lambda arrays: float(arrays[0]), _of_float, alone=True, most=1),
)
