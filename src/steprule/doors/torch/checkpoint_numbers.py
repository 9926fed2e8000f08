"""Tensors of one number as JSON, and back: learning rates, and what schedulers keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steprule.checkpoint import Json, encode
from steprule.doors.checkpoint.arrays import NUMBERS, told_number

__all__ = ["number_json", "number_of"]

_KINDS: dict[str, torch.dtype] = {name: getattr(torch, name) for name in NUMBERS}


def number_json(value: Any) -> Json | None:
    """Return a tensor of one number as JSON; None for what is none."""
    if not isinstance(value, Tensor) or value.numel() != 1 or value.dim() > 2 or value.dtype not in _KINDS.values():
        return None
    number = encode(value.detach().item(), "a tensor")
    return {"$tensor": [str(value.dtype).removeprefix("torch."), list(value.shape), number]}


def number_of(mark: str, told: Any) -> Tensor:
    """Return a tensor of one number, in this machine's memory.

    Raises:
        CheckpointError: when it is none.
    """
    made: Tensor = told_number(mark, told, lambda name, shape, number: torch.full(shape, number, dtype=_KINDS[name]))
    return made
