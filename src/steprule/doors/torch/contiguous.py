"""Strided tensors on a device: stepped as contiguous copies, which are written back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from steprule.doors.torch.rows import Slots

__all__ = ["contiguous_copies"]


def contiguous_copies(param: Tensor, grad: Tensor, state: Slots) -> tuple[Tensor, Tensor, Slots, Callable[[], None]]:
    """Return a contiguous parameter, gradient and slots, and what writes the parameter and the slots back.

    Made when a step is laid out, so that what can fail fails before anything is changed.
    """
    originals = [param.detach(), *state.slots.values()]
    copies = [original.contiguous() for original in originals]
    # What is in C order is not a copy and is stepped where it lies.
    pairs = [(original, copy) for original, copy in zip(originals, copies, strict=True) if copy is not original]
    slots = dict(zip(state.slots, copies[1:], strict=True))

    def put_back() -> None:
        with torch.no_grad():
            for original, copy in pairs:
                original.copy_(copy)

    return copies[0], grad.detach().contiguous(), dataclasses.replace(state, slots=slots), put_back
