"""Gradients that are looked at one by one in every step, so that the launch of all rows serves again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.torch.memory import tensor_memory
from steprule.doors.torch.rows import Stepped, is_plain, readable
from steprule.doors.torch.sparse import slices_of
from steprule.launch.row import Row

__all__ = ["OddGradients"]

_CALM = 100
"""Steps in which nothing has changed, after which it pays to find out which gradients are still odd."""


class OddGradients:
    """Gradients of other strides than their parameters, unaligned or sparse ones, copies, those that come and go.

    Args:
        odd: the parameters that have them.
        rows: all rows of the launch.

    Attributes:
        is_calm: whether nothing has changed for so long that the step should be laid out anew: some may be odd no more.
    """

    def __init__(self, odd: Sequence[Stepped], rows: Sequence[Row]) -> None:
        self._odd = [_Odd(own) for own in odd]
        self.places = {own.row.place for own in odd}
        self._rows = [(index, row) for index, row in enumerate(rows) if row.place in self.places]
        self._regular = [index for index, row in enumerate(rows) if row.place not in self.places]
        self._addresses = np.zeros(len(rows), np.int64)
        self._kept: list[Tensor] = []
        self._last: list[tuple[bool, bool]] = []
        self._calm = 0
        self.is_calm = False

    def __len__(self) -> int:
        return len(self._odd)

    def follow(self, grads: Sequence[Tensor | None], read: Callable[[Tensor, Mapping[str, Any]], Tensor]) -> bool:
        """Let the rows take these gradients, and return whether they can. The parameters are as they were laid out."""
        now: list[tuple[bool, bool]] = []
        self._kept, is_needless = [], False
        for odd in self._odd:
            row, given = odd.row, grads[odd.place]
            if given is None:
                if not row.group.wavers:
                    return False
                row.group.rests = True
                now.append((True, False))
                continue
            grad = odd.take(read(given, odd.group))
            if grad is None:
                return False
            self._kept.append(grad)
            row.group.rests = False
            now.append((False, row.is_direct))
            is_needless = is_needless or (row.is_direct and row.memories[1].address == given.data_ptr())
        self._calm = self._calm + 1 if now == self._last else 0
        self._last, self.is_calm = now, is_needless and self._calm >= _CALM
        return not self.is_calm

    def addresses(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the gradients of all rows lie, given where the others' do; 0 for those that are not there."""
        every = self._addresses
        if self._regular:
            every[self._regular] = found
        for index, row in self._rows:
            every[index] = 0 if row.group.rests else row.memories[1].address
            if row.group.rests:
                row.memories[1] = row.memories[1].at(0)
        return every

    def release(self) -> None:
        """Let go of the gradients, once the step is taken: their memory is not ours."""
        self._kept = []


class _Odd:
    """A parameter whose gradient is looked at in every step.

    Args:
        own: as it was laid out. Its gradient is not kept: it would live as long as the launch.

    Attributes:
        row, place, group: the row, its place, and the group of parameters.
    """

    def __init__(self, own: Stepped) -> None:
        self.row, self.place, self.group = own.row, own.row.place, own.options.group
        row = self.row
        self._param, self._shape, self._dtype = own.param, own.param.shape, own.grad.dtype
        self._was_direct, self._was_sliced = row.is_direct, row.is_sliced
        # Passes that are made later must not take it for one that always lies as it does then.
        row.is_apart = row.is_apart or not (row.is_direct or row.is_sliced)

    def take(self, grad: Tensor) -> Tensor | None:
        """Let the row take a gradient, and return it as a kernel reads it; None if it must be laid out anew for it."""
        row, dtype, touched = self.row, self._dtype, None
        if grad.shape != self._shape or grad.is_sparse != (row.touched is not None):
            return None
        if grad.dtype is not dtype:
            if grad.is_complex() != self._param.is_complex() or not _is_number(grad):
                return None
            grad = readable(grad, self._param)
        if row.touched is not None:
            grad, touched = slices_of(grad)
        if grad.dtype is not dtype or not is_plain(grad):
            return None
        memory = tensor_memory(grad)
        if touched is not None and not memory.size:
            return None
        row.place_gradient(memory, touched)
        row.align_gradient()
        # A direct row is one of a table of direct rows, and one of slices likewise.
        if self._was_direct > row.is_direct or self._was_sliced > memory.is_aligned:
            return None
        return grad


def _is_number(grad: Tensor) -> bool:
    return grad.is_floating_point() or grad.is_complex()
