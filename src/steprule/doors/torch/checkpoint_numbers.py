"""Tensors of one number as JSON, and back: learning rates, and what schedulers keep."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from steprule.checkpoint import Json, decode, encode, short
from steprule.errors import CheckpointError

__all__ = ["number_json", "number_of"]

_KINDS = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.bool, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


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
    if mark == "$tensor" and isinstance(told, list) and len(told) == 3:
        name, shape, number = told
        kind, value = _KINDS.get(name) if isinstance(name, str) else None, decode(number)
        if kind is not None and type(value) in (bool, int, float) and shape in ([], [1], [1, 1]):
            with suppress(OverflowError, RuntimeError):
                return torch.full(shape, value, dtype=kind)
    raise CheckpointError(f"the document has {short(mark)} with {short(told)}, which means nothing to this steprule")
