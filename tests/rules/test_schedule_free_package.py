"""Schedule-free rules against their authors' package, over runs in float64: every point of 60 steps, in both modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import steprule as sr

torch = pytest.importorskip("torch")
schedulefree = pytest.importorskip("schedulefree")

STEPS = 60
OPTIONS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "sgd": ("SGDScheduleFree", "schedule_free_sgd", {"lr": 0.3}, {"lr": 0.3}),
    "sgd with a warm-up": (
        "SGDScheduleFree",
        "schedule_free_sgd",
        {"lr": 0.3, "momentum": 0.8, "warmup_steps": 20, "r": 1.0, "weight_lr_power": 1.0},
        {"lr": 0.3, "beta": 0.8, "warmup_steps": 20, "weight_t_power": 1.0, "weight_lr_power": 1.0},
    ),
    "adamw": ("AdamWScheduleFree", "schedule_free_adamw", {"lr": 0.05}, {"lr": 0.05, "weight_decay": 0.0}),
    "adamw with a decay": (
        "AdamWScheduleFree",
        "schedule_free_adamw",
        {"lr": 0.05, "betas": (0.95, 0.9), "eps": 1e-4, "weight_decay": 0.3, "warmup_steps": 7, "r": 0.5},
        {"lr": 0.05, "beta1": 0.95, "beta2": 0.9, "eps": 1e-4, "weight_decay": 0.3, "warmup_steps": 7}
        | {"weight_t_power": 0.5},
    ),
}


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("which", OPTIONS)
def test_trajectories_are_those_of_the_authors(which: str, foreach: bool) -> None:
    name, rule, theirs, ours = OPTIONS[which]
    rng = np.random.default_rng(0)
    a, start = rng.standard_normal((40, 12)) / 6, rng.standard_normal(12)
    x, y = start.copy(), torch.tensor(start.copy(), requires_grad=True)
    optimizer, other = sr.Optimizer(x, rule, **ours), getattr(schedulefree, name)([y], foreach=foreach, **theirs)
    other.train()
    for t in range(1, STEPS + 1):
        optimizer.step(a.T @ np.tanh(a @ x - 1))
        y.grad = torch.tensor(a.T @ np.tanh(a @ y.detach().numpy() - 1))
        other.step()
        np.testing.assert_allclose(x, y.detach().numpy(), rtol=1e-10, atol=1e-12)
        if t % 10 == 0:
            other.eval()
            np.testing.assert_allclose(optimizer.evaluated, y.detach().numpy(), rtol=1e-10, atol=1e-12)
            other.train()  # which adds and takes away: their last places change, ours do not
    assert not np.allclose(optimizer.evaluated, x, rtol=1e-6)
