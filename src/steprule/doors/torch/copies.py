"""Copies of what a loaded state holds of a parameter, on the parameter's device."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.entry import is_coded_key

__all__ = ["copied", "moved", "on_device_of", "waiting"]


def on_device_of(value: Any, param: Tensor, is_coded: bool) -> Any:
    """Return a copy of a plane on the parameter's device: of plain numbers in its layout, of codes in C order."""
    if isinstance(value, Tensor) and is_coded and not value.is_sparse:
        return value.detach().to(param.device).clone(memory_format=torch.contiguous_format)
    if not isinstance(value, Tensor):
        return value
    if value.shape != param.shape:  # numbers of rows or columns; what does not fit is refused elsewhere
        return value.detach().to(param.device, copy=True)
    dense = value.to_dense() if value.is_sparse else value
    like = torch.empty_like(param, dtype=value.dtype, memory_format=torch.preserve_format, requires_grad=False)
    return like.copy_(dense.detach())


def waiting(key: str, value: Any, param: Tensor, off: set[str]) -> Any:
    """Return a copy of what is not a slot of now. Slots that are ``off`` keep their format until they are on again."""
    return on_device_of(value, param, is_coded_key(key)) if key in off else moved(value, param)


def moved(value: Any, param: Tensor) -> Any:
    """Return a copy of what a caller keeps in a state, with its tensors on the parameter's device.

    Floating-point numbers get the parameter's type if it holds them all; torch narrows them to it as well.
    """
    if isinstance(value, dict):
        return {key: moved(item, param) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(moved(item, param) for item in value)
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    both_real = value.is_floating_point() and param.is_floating_point()
    widens = both_real and torch.promote_types(value.dtype, param.dtype) == param.dtype
    here = value.detach()
    there = here.to(param.device, param.dtype if widens else value.dtype)
    return copied(value) if there is here else there


def copied(value: Any) -> Any:
    """Return a copy; of a tensor that is part of a graph, without the graph."""
    return value.detach().clone() if isinstance(value, Tensor) and not value.is_leaf else copy.deepcopy(value)
