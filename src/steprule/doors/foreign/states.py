"""The states of an optimizer as plain numbers, and a state dict made of such numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.doors.checkpoint.door import door_of
from steprule.doors.layout import Array
from steprule.doors.state import ParameterState, State, compute_of
from steprule.errors import StateError

__all__ = ["array_of", "states_of", "stepped", "taken"]


def array_of(value: Any) -> Array:
    """Return a copy of an array or a tensor as float32 or float64, or as integers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() and value.element_size() < 4 else value.numpy()
    array = np.array(value)
    return array.astype(np.float32) if array.dtype.itemsize < 4 and array.dtype.kind not in "iub" else array


def states_of(optimizer: Any) -> State:
    """Return the state of an optimizer with low-precision slots decoded."""
    state: State = door_of(optimizer).state_of(optimizer)
    return replace(state, parameters=[own.decoded() for own in state.parameters])


def stepped(
    own: ParameterState,
    label: str,
    t: int | None,
    slots: Mapping[str, Array],
    scalars: Mapping[str, float] | None = None,
) -> ParameterState:
    """Return the state of a parameter with these slots and scalar slots after ``t`` steps; ``label`` is its name.

    Raises:
        StateError: when a slot is of another shape.
    """
    kind = compute_of(own.dtype)
    for slot, array in slots.items():
        shape = own.planes[slot].shape if slot in own.planes else own.shape
        if array.shape != shape:
            of = f"shape {own.shape}" if shape == own.shape else f"a {slot} of shape {shape}"
            raise StateError(f"parameter {label} has {of}, but its {slot} in the state {array.shape}")
    planes = {slot: np.asarray(array, kind, order="C") for slot, array in slots.items()}
    return replace(own, t=t, scalars=scalars or {}, formats=dict.fromkeys(planes, kind), planes=planes)


def taken(state: State, parameters: Sequence[ParameterState], optimizer: Any) -> dict[str, Any]:
    """Return a state dict that an optimizer can load; its hyperparameters stay as they are.

    Raises:
        StateError: when the parameters do not fit.
    """
    made: dict[str, Any] = door_of(optimizer).dict_of(replace(state, parameters=parameters), optimizer)
    return made
