"""Sparse gradients: what they touch of a parameter and its slots is gathered, stepped, and put back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from steprule.doors.torch.rows import Slots

__all__ = ["gather"]


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
