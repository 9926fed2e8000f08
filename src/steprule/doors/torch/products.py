"""The matrix products of the PyTorch door: torch's, in batches, in bfloat16 where the hardware has it.

Products in bfloat16 keep 8 bits of each number; ``tests/doors/torch/test_products.py`` says how far from the
exact polar factor each type is.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.language.newton_schulz import Iteration, scale_of

__all__ = ["TORCH", "TorchProducts", "has_bfloat16", "iterate", "room_of"]

Array = NDArray[Any]


@functools.cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are taken by instructions for them, and not made of float32.

    On processors these are AMX's and AVX-512's, through oneDNN; on NVIDIA's devices they come with Ampere.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8 if torch.version.cuda else True
    told = getattr(torch.cpu, "get_capabilities", None)
    known = told() if told is not None else {}
    return bool(torch.backends.mkldnn.is_available() and (known.get("amx_bf16") or known.get("avx512_bf16")))


class TorchProducts:
    """``torch.bmm`` over the work planes, where they lie: a ``launch.products.Library``.

    Args:
        in_bfloat16: whether products of float32 matrices are taken in bfloat16; None: where the processor has
            instructions for them.
    """

    def __init__(self, in_bfloat16: bool | None = None) -> None:
        self._in_bfloat16 = in_bfloat16

    def _kind(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Return the type that matrices of a type are multiplied in."""
        if dtype == np.float64:
            return torch.float64
        chosen = has_bfloat16(torch.device("cpu")) if self._in_bfloat16 is None else self._in_bfloat16
        return torch.bfloat16 if chosen else torch.float32

    def room(self, count: int, rows: int, columns: int) -> int:
        """Return how many numbers it needs room for: two matrices, and two of the shorter side, in one type or two."""
        return room_of(count, rows, columns)

    def iterate(self, stack: Array, iteration: Iteration, room: Array) -> None:
        """Let each matrix of a stack be what the steps make of it."""
        if not stack.size:
            return
        kind = self._kind(stack.dtype)
        with np.errstate(all="ignore"):
            np.divide(stack, scale_of(stack, iteration, room), out=stack)
        whole = torch.from_numpy(stack)
        with torch.inference_mode():
            iterate(whole, iteration, torch.from_numpy(room).view(kind))


TORCH = TorchProducts()


def room_of(count: int, rows: int, columns: int) -> int:
    """Return how many numbers ``iterate`` needs room for, for a stack of this shape."""
    return count * (2 * rows * columns + 2 * min(rows, columns) ** 2)


def iterate(stack: Tensor, iteration: Iteration, room: Tensor) -> None:
    """Let each matrix of a stack, divided by its norm, be what the steps make of it.

    With G = X X^T a step is a X + (b G + c G G) X, of a matrix with more rows than columns the same of X^T X: three
    batched products, into ``room``, in its type.

    Args:
        stack: of shape (matrices, rows, columns).
        iteration: what is done.
        room: memory for two numbers of each element, and two of each element of the product of the shorter side.
    """
    count, rows, columns = stack.shape
    short, is_wide = min(rows, columns), rows <= columns
    sizes = [count * short * short] * 2 + [count * rows * columns] * 2
    grams, powers, now, other = (part for part in room[: sum(sizes)].split(sizes))
    gram, power = grams.view(count, short, short), powers.view(count, short, short)
    x, y = now.view(stack.shape), other.view(stack.shape)
    x.copy_(stack)
    for a, b, c in iteration.steps:
        left, right = (x, x.mT) if is_wide else (x.mT, x)
        torch.bmm(left, right, out=gram)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=power)
        left, right = (power, x) if is_wide else (x, power)
        torch.baddbmm(x, left, right, beta=a, out=y)
        x, y = y, x
    stack.copy_(x)
