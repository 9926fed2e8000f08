"""The states of an optimizer as plain numbers, and a state dict made of such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steprule.checkpoint import Stored, stored
from steprule.coding import decode, plane_name
from steprule.doors.checkpoint.content import Content, Parameter
from steprule.doors.checkpoint.door import door_of
from steprule.doors.layout import Array
from steprule.errors import StateError
from steprule.formats import FORMATS, saved_way

__all__ = ["State", "array_of", "states_of", "taken"]


@dataclass
class State:
    """The state of one parameter.

    Attributes:
        t: the steps taken; None where nobody counted.
        slots: the slots as numbers; none before the first step.
        scalars: the scalar slots.
    """

    t: int | None
    slots: dict[str, Array] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)


def array_of(value: Any) -> Array:
    """Return a copy of an array or a tensor as float32 or float64, or as integers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() and value.element_size() < 4 else value.numpy()
    array = np.array(value)
    return array.astype(np.float32) if array.dtype.itemsize < 4 and array.dtype.kind not in "iub" else array


def states_of(optimizer: Any) -> tuple[Content, list[State]]:
    """Return what an optimizer is, and its states with slots of fewer bits decoded."""
    content: Content = door_of(optimizer).content_of(optimizer)
    return content, [_state(own) for own in content.parameters]


def _state(own: Parameter) -> State:
    state = State(own.t, {}, own.scalars)
    kind = FORMATS["float64" if own.dtype in ("float64", "complex128") else "float32"]
    for slot, id_ in own.formats.items():
        way = saved_way(id_, kind, is_slot=True)
        if way is not None:  # else it is the parameter's own
            planes = {part.suffix: own.planes[plane_name(slot, part.suffix)].array() for part in way.parts}
            state.slots[slot] = np.array(planes[""]) if way.is_plain else decode(way, planes, own.shape)
    return state


def taken(states: Sequence[State], optimizer: Any) -> dict[str, Any]:
    """Return a state dict that an optimizer can load; its hyperparameters stay as they are.

    Args:
        states: of the parameters, in order.
        optimizer: whose state it is to be.

    Raises:
        StateError: when they do not fit.
    """
    door = door_of(optimizer)
    content: Content = door.content_of(optimizer)
    if len(states) != len(content.parameters):
        raise StateError(f"the state is of {len(states)} parameters, this optimizer has {len(content.parameters)}")
    pairs = zip(content.labels, content.parameters, states, strict=True)
    content.parameters = [_parameter(label, own, state) for label, own, state in pairs]
    made: dict[str, Any] = door.state_of(content, optimizer, True, False)
    return made


def _parameter(label: str, own: Parameter, state: State) -> Parameter:
    kind = "float64" if own.dtype == "float64" else "float32"
    planes: dict[str, Stored] = {}
    for slot, array in state.slots.items():
        if array.shape != own.shape:
            raise StateError(f"parameter {label} has shape {own.shape}, but its {slot} in the state {array.shape}")
        planes[slot] = stored(np.ascontiguousarray(array, kind), slot)
    return replace(own, t=state.t, scalars=state.scalars, formats=dict.fromkeys(planes, kind), planes=planes)
