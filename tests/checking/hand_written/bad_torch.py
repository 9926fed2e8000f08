"""Classes of PyTorch's kind that are written wrongly, or that lack something."""

from __future__ import annotations

import torch


class OfNothing(torch.optim.Optimizer):
    """It does not call what it derives from, so it has no state."""

    def __init__(self, params, lr=0.1):
        self.own, self.lr = list(params), lr

    def step(self):  # type: ignore[override]
        for p in self.own:
            p.data -= self.lr * p.grad


class BindsAnew(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self):  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p = p - group["lr"] * p.grad


class ForgetsNoGrad(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self):  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad
