"""Sparse gradients: what they touch is stepped where it lies, or gathered, stepped, and put back."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.torch.rows import Slots
from steprule.errors import StructureError
from steprule.launch.row import Touched
from steprule.runtime.addresses import address
from steprule.runtime.coalescing import IS_OUTSIDE, IS_RISING, RADIX, coalescing

__all__ = ["gather", "slices_of"]


def slices_of(grad: Tensor) -> tuple[Tensor, Touched]:
    """Return the numbers of a sparse gradient in this machine's memory, and the slices that have them.

    Entries of the gradient with equal indices are summed first, in their order: a step is not linear. Numbers of 16
    bits are summed as float32, and rounded once.

    Raises:
        StructureError: for an index outside of the parameter, which torch does not look for unless it is asked to.
    """
    indices, values = grad._indices(), grad._values()
    if type(indices) is not Tensor or not indices.is_contiguous():
        indices = torch.from_numpy(np.ascontiguousarray(indices.numpy()))
    if not values.is_contiguous():
        values = values.detach().contiguous()
    axes, n = grad.sparse_dim(), indices.shape[1]
    touched = Touched(np.empty(n, np.int64), axes)
    found = coalescing().locate(indices.data_ptr(), axes, n, _extents(grad.shape)[1], touched.address)
    if found == IS_OUTSIDE:  # first of all: what lies there is another's
        raise _outside(indices.tolist(), grad.shape)
    return (values, touched) if found == IS_RISING else _coalesced(values, touched, math.prod(grad.shape[:axes]))


@functools.lru_cache(maxsize=64)
def _extents(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Return a shape as machine code reads it, and where it lies."""
    extents = np.array(shape, np.int64)
    return extents, address(extents)


def _coalesced(values: Tensor, touched: Touched, limit: int) -> tuple[Tensor, Touched]:
    """Return the sums of the values of equal slices, of which there are so many, and these; or both as they are."""
    machine, n = coalescing(), touched.count
    room = np.empty(4 * n + RADIX, np.int64)
    at = address(room)
    count = machine.order(touched.address, n, limit, at)
    if count == n:
        return values, touched
    kind, size = values.dtype, _REALS.get(values.dtype)
    if size is None:
        values, size = values.detach().float(), 4
    own = Touched(np.empty(count, np.int64), touched.axes)
    sums = torch.empty((count, *values.shape[1:]), dtype=values.dtype)
    machine.merge[size](at, n, own.address, values.data_ptr(), sums.data_ptr(), values.nbytes // (n * size))
    return sums if sums.dtype is kind else sums.to(kind), own


_REALS = {torch.float32: 4, torch.float64: 8, torch.complex64: 4, torch.complex128: 8}
"""The bytes of a real number in types that are summed as they are."""


def _outside(indices: Sequence[Sequence[int]], shape: Sequence[int]) -> StructureError:
    """Return the error for indices, axis by axis, of which some lie outside of a parameter of this shape."""
    index, n = next((i, n) for own, n in zip(indices, shape, strict=False) for i in own if not 0 <= i < n)
    return StructureError(
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
