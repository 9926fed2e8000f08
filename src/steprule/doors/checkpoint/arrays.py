"""What checkpoints need of the NumPy door: the state of an optimizer, and arrays that are filled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from steprule.checkpoint import Stored, decode, short, type_of
from steprule.checkpoint import stored as stored_array
from steprule.doors.arrays import outline_of, prepared, state_of
from steprule.doors.dicts import dict_of
from steprule.doors.layout import Array, check_parameter
from steprule.doors.numpy import Optimizer
from steprule.errors import CheckpointError, StateError, StructureError
from steprule.rules import Rule

__all__ = [
    "NUMBERS",
    "arrays_of",
    "dict_of",
    "fill",
    "look",
    "number_of",
    "outline_of",
    "prepared",
    "rules_of",
    "state_of",
    "stored_array",
    "told_number",
]

NUMBERS = ("bool", "int32", "int64", "float16", "bfloat16", "float32", "float64")
"""The types of tensors of one number that documents hold."""


def arrays_of(optimizer: Optimizer) -> list[Array]:
    """Return the parameters."""
    return [leaf.array for leaf in optimizer._leaves]


def rules_of(optimizer: Optimizer) -> list[Rule]:
    """Return what each group steps by."""
    return [group.rule for group in optimizer.groups]


def look(array: Array, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the types in the format's words that an array can be filled with, the first its own, and the shape.

    Raises:
        StateError: when it cannot be filled.
    """
    try:
        check_parameter(array, name)
    except StructureError as error:
        raise StateError(str(error)) from None
    own = type_of(array.dtype)
    if own is None:
        raise StateError(f"{name} is of type {array.dtype}, which no checkpoint holds")
    # Two bytes without a sign are what NumPy has for the bits of bfloat16.
    return [own, "BF16"] if own == "U16" else [own], (*array.shape, 2) if array.dtype.kind == "c" else array.shape


def fill(array: Array, one: Stored) -> None:
    """Put stored numbers into an array of their type."""
    plain = array.view(np.ndarray)
    if one.dtype == "BF16" and plain.dtype.kind != "u":
        plain = plain.view(np.uint16)
    plain[...] = one.array()


def number_of(mark: str, told: Any) -> Array:
    """Return an array of what was a tensor of one number; float32 for bfloat16, which NumPy has not.

    Raises:
        CheckpointError: when it is none.
    """
    with np.errstate(all="ignore"):
        made: Array = told_number(
            mark, told, lambda name, shape, number: np.full(shape, number, "float32" if name == "bfloat16" else name)
        )
    return made


def told_number(mark: str, told: Any, make: Callable[[str, list[int], float], Any]) -> Any:
    """Return what ``make(name, shape, number)`` makes of a tensor of one number in a document.

    Raises:
        CheckpointError: when it is none.
    """
    if mark == "$tensor" and isinstance(told, list) and len(told) == 3:
        name, shape, number = told[0], told[1], decode(told[2])
        if name in NUMBERS and type(number) in (bool, int, float) and shape in ([], [1], [1, 1]):
            with suppress(OverflowError, RuntimeError, ValueError):
                return make(name, shape, number)
    raise CheckpointError(f"the document has {short(mark)} with {short(told)}, which this version does not know")
