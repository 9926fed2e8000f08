"""Sparse gradients: what they touch is stepped where it lies, or gathered, stepped, and put back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.torch.rows import Slots
from steprule.errors import StructureError
from steprule.launch.row import Touched

__all__ = ["gather", "slices_of"]


def slices_of(grad: Tensor) -> tuple[Tensor, Touched]:
    """Return the numbers of a sparse gradient in this machine's memory, and the slices that have them.

    Entries of the gradient with equal indices are summed first: a step is not linear.

    Raises:
        StructureError: for an index outside of the parameter, which torch does not look for unless it is asked to.
    """
    axes = grad.sparse_dim()
    shape = tuple(grad.shape[:axes])
    indices: Any = grad._indices().numpy()
    _check(indices, shape)  # first: coalescing writes where they say
    if not grad.is_coalesced():
        grad = grad.coalesce()
        indices = grad._indices().numpy()
    if axes == 1:
        places = indices[0]
    else:
        places = np.ravel_multi_index(tuple(indices), shape) if axes else np.zeros(indices.shape[1], np.int64)
    return grad._values().detach().contiguous(), Touched(np.ascontiguousarray(places, np.int64), axes)


def _check(indices: NDArray[np.int64], shape: Sequence[int]) -> None:
    """Check that indices lie within the first axes of a parameter, of this shape."""
    # As unsigned ones, negative indices are large: one look instead of two.
    largest = np.maximum.reduce(indices.view(np.uint64), axis=1).tolist() if indices.size else ()
    for place, n in zip(largest, shape, strict=False):
        if place >= n:
            index = place if place < 2**63 else place - 2**64
            raise StructureError(
                f"a sparse gradient has index {index} along an axis of {n}; nothing was stepped. "
                "torch.sparse.check_sparse_tensor_invariants.enable() tells where such gradients come from"
            )


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
