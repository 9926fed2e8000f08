"""Reading the saved planes of one parameter: as they are, or converted from another format on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from steprule.coding import encode, plane_name
from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf, decoded
from steprule.errors import StateError
from steprule.formats import Kept, saved_way, shape_of

__all__ = ["read_planes"]


def read_planes(saved: Mapping[str, Any], told: Mapping[str, Any], leaf: Leaf, convert: bool) -> dict[str, Array]:
    """Return the planes to take over for a parameter, by name. Changes nothing.

    Args:
        saved: arrays by the names of planes.
        told: the format of every value that has planes there.
        leaf: the parameter.
        convert: whether values in another format are decoded, and rounded to nearest in the parameter's own.

    Raises:
        StateError: when they do not fit.
    """
    here, slots = leaf.beside, leaf.kernel.slots
    ways = {name: _way(name, id_, leaf) for name, id_ in told.items()}
    if not slots.keys() <= ways.keys() or set(saved) != set(_names(ways, leaf)):
        raise StateError(f"{leaf.place}: the state has the slots {sorted(saved)}, expected {_names(here, leaf)}")
    differing = sorted(name for name in {*here, *ways} if _id(here, name) != _id(ways, name))
    if differing and not convert:
        name = differing[0]
        raise StateError(
            f"{leaf.place}: {name} is kept as {_id(here, name)} here, but the state has it as {_id(ways, name)}. "
            "Make the optimizer with the same states and weights, or load with convert=True, which rounds"
        )
    _check_planes(ways, saved, leaf)
    new: dict[str, Array] = {}
    for name, way in here.items():
        if name not in differing:
            new |= {plane: saved[plane] for plane in _kept_planes(name, way, leaf)}
        elif name in slots:
            new |= _converted(name, ways[name], way, saved, leaf.array.shape)
        else:  # what was beside another kind of parameter means nothing here
            new |= {plane: np.zeros((), np.int8) for plane in _kept_planes(name, way, leaf)}
    return new


def _id(ways: Mapping[str, Kept], name: str) -> str:
    return ways[name].id if name in ways else "nearest"


def _names(ways: Mapping[str, Kept], leaf: Leaf) -> list[str]:
    return sorted(plane for name, way in ways.items() for plane in _kept_planes(name, way, leaf))


def _way(name: str, id_: object, leaf: Leaf) -> Kept:
    way = saved_way(str(id_), leaf.storage.parameter, is_slot=name in leaf.kernel.slots)
    if way is None:
        raise StateError(f"{leaf.place}: the state has {name} in the format {id_!r}, which this steprule cannot read")
    return way


def _kept_planes(name: str, way: Kept, leaf: Leaf) -> list[str]:
    """Return the names of a value's planes, without the parameter itself."""
    return [plane_name(name, part.suffix) for part in way.parts if part.suffix or name in leaf.kernel.slots]


def _check_planes(ways: Mapping[str, Kept], saved: Mapping[str, Any], leaf: Leaf) -> None:
    parts = {plane_name(name, part.suffix): part for name, way in ways.items() for part in way.parts}
    for plane, part in parts.items():
        if plane not in saved:  # the parameter itself
            continue
        array, shape = saved[plane], shape_of(part, leaf.array.shape)
        if type(array) is not np.ndarray or array.shape != shape or array.dtype != part.dtype:
            got = f"{array.dtype} of shape {array.shape}" if type(array) is np.ndarray else f"a {type(array).__name__}"
            raise StateError(
                f"{leaf.place}: slot {plane} of the state is {got}, expected {part.dtype} of shape {shape}"
            )


def _converted(name: str, was: Kept, way: Kept, saved: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Array]:
    numbers = decoded(was, name, saved, shape)
    return {plane_name(name, suffix): plane for suffix, plane in encode(way, numbers).items()}
