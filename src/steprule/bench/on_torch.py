"""An optimizer of PyTorch's kind, ours and others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steprule.bench.work import Array

__all__ = ["OnTorch"]


class OnTorch:
    """An optimizer, on copies of the parameters.

    Args:
        thetas: the parameters.
        made: its class.
        dtype: of the parameters and the gradients.
        compiled: whether the step is compiled by ``torch.compile``.
        options: of the optimizer.
    """

    def __init__(
        self, thetas: Sequence[Array], made: Any, dtype: str = "float32", compiled: bool = False, **options: Any
    ) -> None:
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._params = [torch.nn.Parameter(torch.tensor(theta).to(self._dtype)) for theta in thetas]
        self._optimizer = made(self._params, **options)
        if hasattr(self._optimizer, "train"):  # schedule-free optimizers are told what the parameters are for
            self._optimizer.train()
        self.step = torch.compile(self._optimizer.step) if compiled else self._optimizer.step

    def give(self, gradients: Sequence[Array]) -> None:
        """Take these gradients from now on."""
        for param, gradient in zip(self._params, gradients, strict=True):
            param.grad = torch.from_numpy(gradient).to(self._dtype)

    def parameters(self) -> list[NDArray[np.float64]]:
        """Return a copy of the parameters."""
        return [param.detach().to(torch.float64).numpy() for param in self._params]

    def kept(self) -> object:
        """Return parameters and states."""
        return self._params, list(self._optimizer.state.values())
