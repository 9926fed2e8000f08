"""What steps do to a parameter, in plain NumPy: rules, and statistics of arrays before and after a step.

A rule here returns, for the arithmetic of the given type, the new parameter and slots, the step that is subtracted, the
step with eps = 0, and the averages m_hat and v_hat. What is summed is computed in that type, the sum in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Stepped:
    """What a rule makes of a parameter."""

    new: Array
    step: Array
    slots: dict[str, Array] = field(default_factory=dict)
    bare: Array | None = None
    m_hat: Array | None = None
    v_hat: Array | None = None
    eps: float = 0.0


def sgd(theta: Array, g: Array, slots: dict[str, Array], t: int, *, lr: float) -> Stepped:
    step = theta.dtype.type(lr) * g
    return Stepped(theta - step, step)


def momentum(theta: Array, g: Array, slots: dict[str, Array], t: int, *, lr: float, mu: float) -> Stepped:
    c = theta.dtype.type
    b = c(mu) * slots["b"] + c(1.0) * g
    return Stepped(theta - c(lr) * b, c(lr) * b, {"b": b})


def lion(theta: Array, g: Array, slots: dict[str, Array], t: int, *, lr: float, beta1: float, beta2: float) -> Stepped:
    c = theta.dtype.type
    mixed = c(beta1) * slots["m"] + c(1 - beta1) * g
    m = c(beta2) * slots["m"] + c(1 - beta2) * g
    step = c(lr) * np.sign(mixed)
    return Stepped(theta - step, step, {"m": m}, m_hat=m)


def rmsprop(theta: Array, g: Array, slots: dict[str, Array], t: int, *, lr: float, rho: float, eps: float) -> Stepped:
    c = theta.dtype.type
    v = c(rho) * slots["v"] + c(1 - rho) * (g * g)
    step = c(lr) * (g / (np.sqrt(v) + c(eps)))
    return Stepped(theta - step, step, {"v": v}, c(lr) * (g / np.sqrt(v)), None, v, eps)


def adam(
    theta: Array,
    g: Array,
    slots: dict[str, Array],
    t: int,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> Stepped:
    c = theta.dtype.type
    m = c(beta1) * slots["m"] + c(1 - beta1) * g
    v = c(beta2) * slots["v"] + c(1 - beta2) * (g * g)
    m_hat, v_hat = m / c(1 - beta1**t), v / c(1 - beta2**t)
    step = c(lr) * m_hat / (np.sqrt(v_hat) + c(eps))
    decayed = theta - c(lr * weight_decay) * theta if weight_decay else theta
    bare = c(lr) * m_hat / np.sqrt(v_hat)
    return Stepped(decayed - step, step, {"m": m, "v": v}, bare, m_hat, v_hat, eps)


def statistics(theta: Array, g: Array, stored: Array, did: Stepped, lr: float) -> dict[str, Any]:
    """Return the row of a step: None for what the rule does not have."""
    n = theta.size
    moved = did.new != theta
    still = moved & (stored == theta)
    size = np.abs(did.step)
    return {
        "lr": lr,
        "gradient_norm": _norm(g),
        "weight_norm": _norm(theta),
        "update_ratio": _norm(stored - theta) / _norm(theta) if theta.any() else None,
        "zero_share": np.count_nonzero(g == 0) / n,
        "nonfinite": np.count_nonzero(~np.isfinite(g)),
        "frozen_share": np.count_nonzero(still) / np.count_nonzero(moved) if moved.any() else None,
        "epsilon_share": None if did.bare is None else np.count_nonzero(size < abs(did.bare) / 2) / n,
        "update_rms": _update_rms(g, did),
        "signal_to_noise": _signal(did),
        "idle_share": _idle(g, did),
        **{f"step_q{percent}": quantile(size, lr, percent / 100) for percent in (10, 50, 90)},
    }


def _wide(x: Array) -> Array:
    return np.asarray(x).astype(np.float64)


def _norm(x: Array) -> float:
    return math.sqrt(np.sum(_wide(x) ** 2))


def _update_rms(g: Array, did: Stepped) -> float | None:
    if did.v_hat is None:
        return None
    floor = did.v_hat.dtype.type(max(did.eps**2, 1.1754943508222875e-38))
    return math.sqrt(np.sum(_wide(g * g / np.maximum(did.v_hat, floor))) / g.size)


def _signal(did: Stepped) -> float | None:
    if did.v_hat is None or did.m_hat is None:
        return None
    known = did.v_hat > 0
    return float(np.sum(_wide(np.abs(did.m_hat[known]) / np.sqrt(did.v_hat[known]))) / did.new.size)


def _idle(g: Array, did: Stepped) -> float | None:
    if did.m_hat is None:
        return None
    least = 0 if did.v_hat is None else g.dtype.type(1e-4) * np.sqrt(did.v_hat)
    return np.count_nonzero((g == 0) & (np.abs(did.m_hat) <= least)) / g.size


def quantile(size: Array, lr: float, q: float) -> float:
    """Return a quantile of sizes that are only known to lie between powers of 4 times lr."""
    below, edge = 0, 0.0
    for power in range(-12, 4):
        count = int(np.count_nonzero(size < size.dtype.type(lr * 4.0**power)))
        if count >= q * size.size:
            if not edge:
                return 0.0
            return float(lr * 4.0 ** (power - 1 + (q * size.size - below) / (count - below)))
        below, edge = count, lr * 4.0**power
    return math.inf
