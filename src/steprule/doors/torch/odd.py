"""Gradients that are looked at one by one in every step, so that the launch of all rows serves again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.torch.rows import Stepped, backend_of, readable, tensor_memory
from steprule.doors.torch.sparse import slices_of
from steprule.launch.machine import MACHINE
from steprule.launch.memory import array_memory
from steprule.launch.row import Row

__all__ = ["OddGradients"]

_CALM = 100
"""Steps in which nothing has changed, after which it pays to find out which gradients are still odd."""


class OddGradients:
    """Gradients of other strides than their parameters, sparse ones, copies in another type, those that come and go.

    Args:
        odd: the parameters that have them.
        rows: all rows of the launch.

    Attributes:
        is_calm: whether nothing has changed for so long that the step should be laid out anew: some may be odd no more.
    """

    def __init__(self, odd: Sequence[Stepped], rows: Sequence[Row]) -> None:
        # Of what is stepped not the gradient: it would live as long as the launch.
        self._odd = [
            (own.row, own.param, own.options.group, own.grad.dtype, own.row.is_direct, own.row.is_sliced) for own in odd
        ]
        for row, _, _, _, was_direct, was_sliced in self._odd:
            # Passes that are made later must not take it for one that always lies as it does then.
            row.is_apart = row.is_apart or not (was_direct or was_sliced)
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
        self.release()
        now: list[tuple[bool, bool]] = []
        is_needless = False
        for row, param, group, dtype, was_direct, was_sliced in self._odd:
            given = grads[row.place]
            if given is None:
                if not row.group.wavers:
                    return False
                row.group.rests = True
                now.append((True, False))
                continue
            grad = self._taken(row, param, read(given, group), dtype)
            # A direct row is one of a table of direct rows, and one of slices likewise.
            if grad is None or was_direct > row.is_direct or was_sliced > row.memories[1].is_aligned:
                return False
            row.group.rests = False
            now.append((False, row.is_direct))
            is_needless = is_needless or (row.is_direct and grad is given)
        self._calm = self._calm + 1 if now == self._last else 0
        self._last, self.is_calm = now, is_needless and self._calm >= _CALM
        return not self.is_calm

    def _taken(self, row: Row, param: Tensor, grad: Tensor, dtype: Any) -> Tensor | None:
        """Let a row take a gradient, and return it as a kernel reads it; None if it must be laid out anew for it."""
        if grad.shape != param.shape or grad.is_complex() != param.is_complex() or not _is_number(grad):
            return None
        grad, touched = readable(grad, param), None
        if grad.is_sparse != (row.touched is not None):
            return None
        if grad.is_sparse:
            grad, touched = slices_of(grad)
        if grad.dtype != dtype or backend_of((grad,)) is not MACHINE or (touched is not None and not grad.numel()):
            return None
        row.place_gradient(tensor_memory(grad), touched)
        if row.is_direct and not row.memories[1].is_aligned:
            row.memories[1] = array_memory(row.memories[1].array().copy(order="K"))
        self._kept.append(grad)
        return grad

    def addresses(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the gradients of all rows lie, given where the others' do; 0 for those that are not there."""
        every = self._addresses
        every[self._regular] = found
        for index, row in self._rows:
            every[index] = 0 if row.group.rests else row.memories[1].address
            if row.group.rests:
                row.memories[1] = row.memories[1].at(0)
        return every

    def release(self) -> None:
        """Let go of the gradients, once the step is taken: their memory is not ours."""
        self._kept = []


def _is_number(grad: Tensor) -> bool:
    return grad.is_floating_point() or grad.is_complex()
