"""The learning rates that the page looks for when it is opened: ``Tuning`` of ``assets/simulation.js``, in Python."""

from __future__ import annotations

import math

import numpy as np

from steprule.lab.surface import Surface, ground_of
from steprule.lab.trajectory import finite, trajectory
from steprule.rules import Rule

__all__ = ["MOST", "RATES", "best_rate"]

RATES = tuple(float(f"{digit}e{power}") for power in range(-4, 2) for digit in (1, 2, 5))
"""Those that are tried: three a decade."""
MOST = 1000
"""Steps of a path that is tried; longer ones are judged by their first."""


def best_rate(
    rule: Rule,
    surface: Surface,
    steps: int,
    *,
    start: tuple[float, ...],
    noise: float,
    scale: float,
    seed: int,
    **hyperparameters: float,
) -> float | None:
    """Return the rate whose path is lowest on average, by the heights of the map; None where every path is lost.

    Neither a slow one, nor one that jumps about before it settles. Arguments are those of ``trajectory``.
    """
    ground, found, lowest = ground_of(surface), None, math.inf
    for lr in RATES:
        if lr not in rule.hyperparameters["lr"].range:
            continue
        path = trajectory(
            rule, surface, min(steps, MOST), start=start, noise=noise, scale=scale, seed=seed,
            evaluated=True, **{**hyperparameters, "lr": lr},
        )  # fmt: skip
        points = path.astype(np.float64)
        if finite(surface, points) < len(points):
            continue
        total = sum(ground.height(points.T).tolist())  # one by one, as the page adds
        if total < lowest:
            found, lowest = lr, total
    return found
