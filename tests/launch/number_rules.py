"""Rules that keep a number of each tensor, and rules that sum over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import steprule as sr
from steprule import PerTensor, Scalar, mean, norm, rms, rule, size, total, where
from steprule.language.sums import rounded_once


@rule
def layer_moment(
    theta: Any, g: Any, m: Any, v: PerTensor, *, t: int, lr: float = 0.1, beta1: float = 0.9, beta2: float = 0.8
) -> Any:
    """A second moment of each tensor, as NovoGrad has it: its sum is in the step."""
    v = beta2 * v + (1 - beta2) * total(g * g)
    m = beta1 * m + g / (math.sqrt(v / (1 - beta2**t)) + 1e-8)
    return theta - lr * m, m, v


@rule(init={"v": "start"})
def late_moment(
    theta: Any, g: Any, v: PerTensor, steps: PerTensor, *, lr: float = 0.1, beta: float = 0.8, start: float = 2.0
) -> Any:
    """The next step alone takes the sum, and a number of the tensor that no sum is in."""
    return theta - lr * g / (math.sqrt(v) + 1e-8), beta * v + (1 - beta) * mean(g * g), steps + 1


@rule(init={"d": 1e-3})
def distance(theta: Any, g: Any, s: Any, r: Scalar, d: Scalar, *, t: int, lr: float = 1.0, beta: float = 0.9) -> Any:
    """An estimate of the step size from sums over all that the next step takes, as Prodigy has it."""
    r = beta * r + lr * d * total(g * theta, over="all") / (1 + beta**t)
    s = beta * s + d * g
    below = total(abs(s), over="all")
    d_new = sr.maximum(d, r / where(below > 0, below, 1.0))
    return theta - lr * d * g / t, s, r, d_new


@rule
def whole(theta: Any, g: Any, m: Any, *, lr: float = 0.1, beta: float = 0.9) -> Any:
    """Sums over all in the step, one in the other, beside one over the tensor."""
    shift = total(g, over="all") / size(g, over="all")
    spread = rms(g - shift, over="all")
    m = beta * m + (1 - beta) * (g - shift) / (spread + 1e-6)
    return theta - lr * norm(theta) * m, m


@rule
def mixed(theta: Any, g: Any, v: PerTensor, d: Scalar, *, lr: float = 0.1) -> Any:
    """Numbers of the tensor and of all, from sums that the step takes and sums that it does not."""
    length = norm(g, over="all")
    step = g / (length + v + 1.0) + mean(g) / size(g)
    return (
        theta - lr * step,
        0.5 * v + norm(theta) + d + length,
        d + total(theta * v, over="all") / size(theta, over="all"),
    )


RULES = {own.name: own for own in (layer_moment, late_moment, distance, whole, mixed)}
ALONE = ("layer_moment", "late_moment")
"""Those whose tensors know nothing of each other."""


def start_of(some: Any, array: Any) -> list[Any]:
    """Return the slots before the first step."""
    given = {
        name: some.hyperparameters[start].default if isinstance(start, str) else start
        for name, start in some.init.items()
    }
    return [float(given.get(n, 0.0)) if n in some.numbers else np.zeros_like(array) for n in some.slots]


def straight(some: str, arrays: Sequence[Any], gradients: Sequence[Sequence[Any]]) -> tuple[list[Any], dict[str, Any]]:
    """Return what steps over all tensors come to by plain loops in float64, and the scalar slots."""
    theta = [array.astype(np.float64) for array in arrays]
    count = max(1, sum(array.size for array in arrays))
    kept: dict[str, Any] = {"r": 0.0, "d": 1e-3 if some == "distance" else 0.0, "v": [0.0] * len(theta)}
    slots = [np.zeros_like(array) for array in theta]

    def over_all(parts: Sequence[Any]) -> float:
        return rounded_once([total(part) for part in parts])

    for t, grads in enumerate(gradients, start=1):
        g = [own.astype(np.float64) for own in grads]
        if some == "distance":
            r, d = kept["r"], kept["d"]
            r = 0.9 * r + 1.0 * d * over_all([a * b for a, b in zip(g, theta, strict=True)]) / (1 + 0.9**t)
            slots = [0.9 * s + d * own for s, own in zip(slots, g, strict=True)]
            below = over_all([abs(s) for s in slots])
            theta = [x - 1.0 * d * own / t for x, own in zip(theta, g, strict=True)]
            kept |= {"r": r, "d": max(d, r / (below if below > 0 else 1.0))}
        elif some == "whole":
            shift = over_all(g) / count
            spread = math.sqrt(over_all([(own - shift) * (own - shift) for own in g]) / count)
            slots = [0.9 * m + (1 - 0.9) * (own - shift) / (spread + 1e-6) for m, own in zip(slots, g, strict=True)]
            theta = [x - 0.1 * math.sqrt(total(x * x)) * m for x, m in zip(theta, slots, strict=True)]
        else:
            length, d, old, before = math.sqrt(over_all([x * x for x in g])), kept["d"], kept["v"], theta
            theta = [
                x - 0.1 * (own / (length + v + 1.0) + mean(own) / max(1, own.size))
                for x, own, v in zip(before, g, old, strict=True)
            ]
            kept["v"] = [0.5 * v + math.sqrt(total(x * x)) + d + length for x, v in zip(before, old, strict=True)]
            kept["d"] = d + over_all([x * v for x, v in zip(before, old, strict=True)]) / count
    return theta, kept
