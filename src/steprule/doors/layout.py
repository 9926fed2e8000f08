"""Layouts of NumPy arrays: which are dense, and which overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steprule.doors.remedies import of_parameter, of_type
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import FORMATS, Format

__all__ = [
    "Array",
    "check_disjoint",
    "check_parameter",
    "check_start",
    "check_type",
    "like",
]

Array = NDArray[Any]


def _steps(array: Array) -> list[tuple[int, int]]:
    """Return (stride in bytes, length) of the axes that move, smallest stride first."""
    return sorted((abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1)


def like(parameter: Array, dtype: str, value: float, what: str, order: Literal["C", "K"]) -> Array:
    """Return a slot for the parameter, in its own order of axes ("K") or in C order.

    Raises:
        HyperparameterError: when the type of the slot cannot hold the value it starts at.
    """
    slot: Array = np.empty_like(parameter, dtype=dtype, order=order, subok=False)
    slot[...] = check_start(value, dtype, what)
    return slot


def check_start(value: float, dtype: str, what: str) -> float:
    """Return what a slot of a type starts at, as a step would store it: a subnormal number is zero.

    Raises:
        HyperparameterError: when the type cannot hold it.
    """
    largest = float(np.finfo(dtype).max)
    if abs(value) > largest:
        raise HyperparameterError(f"{what} starts at {value!r}, more than {dtype} can hold; the largest is {largest}")
    return 0.0 if abs(value) < float(np.finfo(dtype).smallest_normal) else value


def check_parameter(leaf: object, place: str) -> Array:
    """Return the leaf if it is an array that can be updated in place.

    Raises:
        StructureError: with the place, what is wrong and the remedy.
    """
    if not isinstance(leaf, np.ndarray):
        if hasattr(leaf, "hyperparameters"):
            raise StructureError(
                f"{place} is a Group inside a structure; groups come as a list: Optimizer([Group(...), ...])"
            )
        kind = type(leaf).__name__
        raise StructureError(
            f"{place} is a {kind}, not a NumPy array, so it cannot be updated in place. {of_parameter(leaf, place)}"
        )
    if isinstance(leaf, np.ma.MaskedArray):
        raise StructureError(f"{place} is a masked array, whose mask a step would not see. Pass its data: {place}.data")
    if not leaf.flags.writeable:
        raise StructureError(f"{place} is read-only, so it cannot be updated in place. Pass a copy: {place}.copy()")
    if leaf.size and _overlaps_itself(leaf):
        raise StructureError(
            f"{place} shares memory between its own elements (a broadcast view?). Pass a copy: {place}.copy()"
        )
    return leaf


def check_type(array: Array, place: str) -> Format:
    """Return the format of an array's elements.

    Raises:
        StructureError: for types that are not floating-point format of ours.
    """
    name, native = array.dtype.name, array.dtype.isnative
    if name in FORMATS and native:
        return FORMATS[name]
    order = "" if native else " in foreign byte order"
    raise StructureError(
        f"{place} has the type {name}{order}; steps work on {', '.join(FORMATS)}. {of_type(array, place)}"
    )


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: an axis steps by less than what lies inside it."""
    inside = array.itemsize
    for stride, n in _steps(array):
        if stride < inside:
            return True
        inside = stride * (n - 1) + inside
    return False


def check_disjoint(arrays: Sequence[Array], places: Sequence[str]) -> None:
    """Check that no two parameters share memory; an element would be stepped twice.

    Raises:
        StructureError: naming both.
    """
    spans = sorted((*np.lib.array_utils.byte_bounds(array), index) for index, array in enumerate(arrays) if array.size)
    reach: list[tuple[int, int]] = []
    for low, high, index in spans:
        reach = [(end, other) for end, other in reach if end > low]
        for _, other in reach:
            if _share(arrays[index], arrays[other]):
                first, second = sorted((index, other))
                raise StructureError(
                    f"{places[second]} overlaps {places[first]} in memory, so its elements would be stepped twice. "
                    "Pass each parameter once, or a copy"
                )
        reach.append((high, index))


def _share(a: Array, b: Array) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=1_000_000))  # type: ignore[arg-type]  # any count is allowed
    except np.exceptions.TooHardError:
        return True
