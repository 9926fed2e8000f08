"""Where the numbers of torch's tensors lie."""

from __future__ import annotations

import torch
from torch import Tensor

from steprule.doors.torch import devices
from steprule.launch.memory import Memory

__all__ = ["KINDS", "tensor_memory"]

KINDS = {
    torch.float16: ("<f2", 2),
    torch.bfloat16: ("<i2", 2),
    torch.float32: ("<f4", 4),
    torch.float64: ("<f8", 8),
    torch.complex64: ("<f4", 8),
    torch.complex128: ("<f8", 16),
    torch.uint8: ("|u1", 1),
    torch.int8: ("|i1", 1),
    torch.int16: ("<i2", 2),
}
"""What NumPy calls the real numbers of a type, and the bytes of an element."""


def tensor_memory(tensor: Tensor, *, is_kept: bool = False) -> Memory:
    """Return where the numbers of a plain tensor lie, as real numbers; bfloat16 as its bits.

    Args:
        tensor: any that ``backend_of`` has a backend for.
        is_kept: whether the memory keeps the tensor alive.
    """
    dtype = tensor.dtype
    kind, size = KINDS[dtype]
    shape, strides = tuple(tensor.shape), tuple([size * stride for stride in tensor.stride()])
    if dtype.is_complex:
        shape, strides = (*shape, 2), (*strides, size // 2)
    return Memory(devices.address_of(tensor), shape, strides, kind, tensor if is_kept else None)
