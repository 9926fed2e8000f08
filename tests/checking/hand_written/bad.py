"""What cannot be checked, and why."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

a_number = 3
KEPT: dict[Any, Any] = {}


def nothing(params, grads, state):
    pass


def does_nothing(params, grads, state):
    return params, state


def shapes(params, grads, state):
    return [p[None] - 0.1 * g for p, g in zip(params, grads, strict=True)]


def raises(params, grads, state):
    return params["w"] - grads["w"]


def many(params, grads, m, v, t):
    return params


def three(params, grads, state):
    return params, grads, state


def never(params, grads, state):
    while True:
        time.sleep(0.01)


def random_steps(params, grads, state):
    return [p - random.random() * g for p, g in zip(params, grads, strict=True)]


def keeps(params, grads, state):
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        KEPT[i, p.shape] = 0.9 * KEPT.get((i, p.shape), 0.0) + g
        new.append(p - 0.1 * KEPT[i, p.shape])
    return new


def nan(params, grads, state):
    return [np.full_like(p, np.nan) for p in params]


def divides(params, grads, state):
    m, t = state or (0.0, 0)
    m = 0.9 * m + 0.1 * grads[0]
    return [float(params[0]) - 0.1 * m / (1 - 0.9**t)], (m, t + 1)


def noise(params, grads, state):
    """No rule: steps that look like noise, the same in every run."""
    return [p - 0.01 * np.sin(1e3 * g + p) for p, g in zip(params, grads, strict=True)]


def clips(params, grads, state):
    """Gradient descent that clips by the norm of each tensor."""
    return [p - 0.1 * g / max(1.0, float(np.linalg.norm(g))) for p, g in zip(params, grads, strict=True)]


def prints(params, grads, state):
    print("a step")
    return [p - 0.1 * g for p, g in zip(params, grads, strict=True)]


class Stepless:
    """A class without a step."""


class Renamed:
    """A class that calls its step otherwise."""

    def apply(self, params, grads):
        return [p - 0.1 * g for p, g in zip(params, grads, strict=True)]


def by_name(params, grads, state):
    params["W1"] -= 0.1 * grads["dW1"]
    return params


def by_keyword(*, params, grads, state):
    return [p - 0.1 * g for p, g in zip(params, grads, strict=True)]


class NeedsARate:
    def __init__(self, params, lr):
        self.params, self.lr = params, lr

    def step(self, grads):
        for p, g in zip(self.params, grads, strict=True):
            p -= self.lr * g
