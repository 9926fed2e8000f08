"""Tensors of the tests that processes make as well, which have no need of torch's own tables of optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def numbers(shape: Sequence[int], dtype: torch.dtype, seed: int) -> Tensor:
    """Return normal numbers: the same for every type, but for its rounding."""
    random = torch.Generator().manual_seed(seed)
    if dtype.is_complex:
        return torch.view_as_complex(torch.randn((*shape, 2), generator=random)).to(dtype)
    return torch.randn(tuple(shape), generator=random, dtype=torch.float64).to(dtype)
