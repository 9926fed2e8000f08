"""Tensors as a checkpoint holds them, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.checkpoint import Stored, type_of
from steprule.doors.torch.memory import tensor_memory
from steprule.doors.torch.rows import is_plain
from steprule.errors import CheckpointError, StateError

__all__ = ["fill", "look", "stored_array", "tensor_of"]

# What arrays hold the bits of, where NumPy has no such type.
_BITS = {
    torch.bfloat16: ("BF16", torch.int16, np.uint16),
    torch.float8_e4m3fn: ("F8_E4M3", torch.uint8, np.uint8),
    torch.float8_e5m2: ("F8_E5M2", torch.uint8, np.uint8),
    torch.float8_e4m3fnuz: ("F8_E4M3FNUZ", torch.uint8, np.uint8),
    torch.float8_e5m2fnuz: ("F8_E5M2FNUZ", torch.uint8, np.uint8),
}
_PLAIN = {
    getattr(torch, name): type_of(np.dtype(name))
    for name in (
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}


def stored_array(tensor: Tensor, what: str) -> Stored:
    """Return how a file holds a tensor. In this machine's memory nothing is copied; others when their turn comes.

    Raises:
        CheckpointError: for tensors that are not dense, have no data, or are of a type that the format has not.
    """
    own = tensor.detach()
    words = _why_not(own)
    if words:
        raise CheckpointError(f"{what} is {words}; nothing was written")
    return Stored(_type_of(own), _shape_of(own), lambda: _array(own), own.is_complex())


def _type_of(tensor: Tensor) -> str:
    return _BITS[tensor.dtype][0] if tensor.dtype in _BITS else str(_PLAIN[tensor.dtype])


def _shape_of(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)


def _why_not(tensor: Tensor) -> str:
    """Return why a file cannot hold a tensor; empty if it can."""
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        if hasattr(tensor, "full_tensor"):
            return (
                "a DTensor, of which each process has a part. Use torch.distributed.checkpoint: with state = "
                "get_optimizer_state_dict(model, optimizer), save(state, checkpoint_id=folder); or load(state, "
                "checkpoint_id=folder), then set_optimizer_state_dict(model, optimizer, state)"
            )
        return f"a {type(tensor).__name__}, which a file cannot hold"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"of layout {tensor.layout}. Convert it: tensor.to_dense()"
    if tensor.is_meta:
        return "on the device 'meta', and has no numbers"
    if tensor.dtype not in _BITS and tensor.dtype not in _PLAIN:
        return f"of type {tensor.dtype}, which a checkpoint cannot hold. Convert it"
    return ""


def _array(tensor: Tensor) -> Any:
    """Return the numbers of a tensor, of complex ones with a last axis of parts, and else the bits."""
    bits = _BITS.get(tensor.dtype)
    if is_plain(tensor):
        array = tensor_memory(tensor).array()
        return array if bits is None else array.view(bits[2])
    # A copy: of the tensor's own memory numpy() would make a storage that cannot be resized.
    copy = tensor.resolve_conj().resolve_neg().cpu().clone(memory_format=torch.contiguous_format)
    copy = torch.view_as_real(copy) if copy.is_complex() else copy
    return copy.numpy() if bits is None else copy.view(bits[1]).numpy().view(bits[2])


def tensor_of(plane: NDArray[Any] | Tensor) -> Tensor:
    """Return a plane of a state as a tensor, in its memory; two bytes without a sign are those of a bfloat16."""
    if isinstance(plane, Tensor):
        return plane
    is_bits = plane.dtype == np.uint16
    return torch.from_numpy(plane.view(np.int16)).view(torch.bfloat16) if is_bits else torch.from_numpy(plane)


def look(tensor: Tensor, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the types in the format's words that a tensor can be filled with, and the shape.

    Raises:
        StateError: when it cannot be filled.
    """
    words = _why_not(tensor.detach())
    if not words and tensor.is_inference() and not torch.is_inference_mode_enabled():
        words = "made in inference mode, and cannot be changed outside it. Load within torch.inference_mode()"
    # An empty tensor, of which torch.tensor makes such strides, has nothing to fill.
    is_expanded = any(step == 0 and n > 1 for step, n in zip(tensor.stride(), tensor.shape, strict=True))
    if not words and is_expanded and tensor.numel():
        words = "one number seen as many (expand), and cannot be filled. Pass a copy: tensor.clone()"
    if words:
        raise StateError(f"{name} is {words}")
    return [_type_of(tensor)], _shape_of(tensor)


def fill(tensor: Tensor, one: Stored) -> None:
    """Put stored numbers into a tensor of their type."""
    bits = _BITS.get(tensor.dtype)
    new = (
        torch.from_numpy(one.array()) if bits is None else torch.from_numpy(one.get().view(bits[2])).view(tensor.dtype)
    )
    with torch.no_grad():
        tensor.copy_(new)
