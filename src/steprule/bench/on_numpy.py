"""AdamW in NumPy: written by hand, and by steprule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.bench.contestant import BETAS, DECAY, EPS, LR
from steprule.bench.work import Array

__all__ = ["ByHand", "OnNumpy"]


class ByHand:
    """AdamW as it is pasted into notebooks: a loop over arrays, each line making new ones.

    In float64 it is what the others' errors are measured against.
    """

    def __init__(self, thetas: Sequence[NDArray[Any]]) -> None:
        self._thetas = list(thetas)
        self._m = [np.zeros_like(theta) for theta in thetas]
        self._v = [np.zeros_like(theta) for theta in thetas]
        self._t = 0

    def step(self) -> None:
        """Take a step."""
        self._t += 1
        beta1, beta2 = BETAS
        for i, g in enumerate(self._gradients):
            m = self._m[i] = beta1 * self._m[i] + (1 - beta1) * g
            v = self._v[i] = beta2 * self._v[i] + (1 - beta2) * g**2
            m_hat, v_hat = m / (1 - beta1**self._t), v / (1 - beta2**self._t)
            theta = self._thetas[i] - LR * DECAY * self._thetas[i]
            self._thetas[i] = theta - LR * m_hat / (np.sqrt(v_hat) + EPS)

    def give(self, gradients: Sequence[NDArray[Any]]) -> None:
        """Take these gradients from now on."""
        self._gradients = gradients

    def parameters(self) -> list[NDArray[np.float64]]:
        """Return a copy of the parameters."""
        return [theta.astype(np.float64) for theta in self._thetas]

    def kept(self) -> object:
        """Return parameters and slots."""
        return self._thetas, self._m, self._v


class OnNumpy:
    """``steprule.Optimizer``, on copies of the parameters."""

    def __init__(self, thetas: Sequence[Array]) -> None:
        from steprule.doors.numpy import Optimizer

        self._thetas = [theta.copy() for theta in thetas]
        beta1, beta2 = BETAS
        self._optimizer = Optimizer(self._thetas, "adamw", lr=LR, beta1=beta1, beta2=beta2, eps=EPS, weight_decay=DECAY)

    def step(self) -> None:
        """Take a step."""
        self._optimizer.step(self._gradients)

    def give(self, gradients: Sequence[Array]) -> None:
        """Take these gradients from now on."""
        self._gradients = list(gradients)

    def parameters(self) -> list[NDArray[np.float64]]:
        """Return a copy of the parameters."""
        return [theta.astype(np.float64) for theta in self._thetas]

    def kept(self) -> object:
        """Return parameters and slots."""
        return self._thetas, self._optimizer.slots
