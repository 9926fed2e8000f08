"""Sparse gradients: what they touch is stepped where it lies, or gathered, stepped, and put back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.doors.torch.rows import Slots
from steprule.launch.row import Touched

__all__ = ["gather", "slices_of"]


def slices_of(grad: Tensor) -> tuple[Tensor, Touched]:
    """Return the numbers of a sparse gradient in this machine's memory, and the slices that have them.

    Entries of the gradient with equal indices are summed first: a step is not linear.
    """
    grad = grad.coalesce()
    indices, axes = grad.indices(), grad.sparse_dim()
    places: Any = indices[0].numpy()
    if axes > 1:
        places = np.ravel_multi_index(tuple(indices.numpy()), tuple(grad.shape[:axes]))
    return grad.values().detach().contiguous(), Touched(np.ascontiguousarray(places, np.int64), axes)


def gather(param: Tensor, grad: Tensor, state: Slots) -> tuple[Tensor, Tensor, Slots, Callable[[], None]]:
    """Return copies of what the gradient touches, of the parameter and its slots, and what puts them back.

    Entries of the gradient with equal indices are summed first: a step is not linear.
    """
    grad = grad.coalesce()
    at = tuple(grad.indices())
    originals = [param.detach(), *state.slots.values()]
    touched = [original[at] for original in originals]
    slots = dict(zip(state.slots, touched[1:], strict=True))

    def put_back() -> None:
        with torch.no_grad():
            for original, new in zip(originals, touched, strict=True):
                original[at] = new

    return touched[0], grad.values(), dataclasses.replace(state, slots=slots), put_back
