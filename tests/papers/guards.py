"""What is done to gradients and learning rates before a rule sees them, as plain loops: math and struct alone.

The sum of the squares of one array, in float64: blocks of 16,384 elements; in a block element i adds its square to lane
i mod 128, in order; then the upper half of the lanes is added to the lower half, until one is left. The sums of the
blocks are added exactly and rounded once, and so are those of the arrays.

    norm = sqrt(sum),  factor = min(1, clip_norm / (norm + 1e-6))           (torch.nn.utils.clip_grad_norm_)

STABLEADAMW: Wortsman et al. 2023, Algorithm 2, for one tensor:

    beta1_t = beta1 (1 - beta1^(t-1)) / (1 - beta1^t),  beta2_t likewise
    v_t = beta1_t v_{t-1} + (1 - beta1_t) g_t
    u_t = beta2_t u_{t-1} + (1 - beta2_t) g_t^2
    RMS_t = sqrt(mean(g_t^2 / max(u_t, eps^2))),  eta_t = lr / max(1, RMS_t)
    theta_t = theta_{t-1} - eta_t weight_decay theta_{t-1} - eta_t v_t / (sqrt(u_t) + eps)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

LANES = 128
BLOCK = 16_384


def single(x: float) -> float:
    """Return the float32 nearest to a number, infinity where it is too large."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def exact_sum(numbers: Iterable[float]) -> float:
    """Return a sum that is rounded once."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return math.inf


def halved(lanes: Sequence[float]) -> float:
    """Add the upper half to the lower half until one is left."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[i] + lanes[half + i] for i in range(half)]
    return lanes[0]


def sum_of_squares(values: Sequence[float]) -> float:
    """Return the sum over one array, given in the order in which it is walked."""
    blocks = []
    for start in range(0, len(values), BLOCK):
        lanes = [0.0] * LANES
        for i, x in enumerate(values[start : start + BLOCK]):
            lanes[i % LANES] += x * x
        blocks.append(halved(lanes))
    return exact_sum(blocks)


def sum_of_squares_in_groups(rows: Sequence[Sequence[float]]) -> float:
    """Return the sum over an array whose rows are cut into groups of 128, of which 128 are a block."""
    groups = [row[start : start + LANES] for row in rows for start in range(0, len(row), LANES)]
    blocks = []
    for start in range(0, len(groups), BLOCK // LANES):
        lanes = [0.0] * LANES
        for group in groups[start : start + BLOCK // LANES]:
            for place, x in enumerate(group):
                lanes[place] += x * x
        blocks.append(halved(lanes))
    return exact_sum(blocks)


def norm_factor(sums: Iterable[float], clip_norm: float) -> float:
    """Return what all gradients are multiplied by, from the sums of the squares of each."""
    factor = clip_norm / (math.sqrt(exact_sum(sums)) + 1e-6)
    return 1.0 if factor >= 1.0 else factor


def clamped(x: float, size: float | None) -> float:
    """Return a number brought into [-size, size]; NaN stays."""
    if size is None:
        return x
    return size if x > size else -size if x < -size else x


def update_factor(g: Sequence[float], moments: Sequence[float], eps: float) -> float:
    """Return 1 / max(1, RMS) of one tensor; 1 where the RMS is not finite."""
    squares = [a * a / max(b, eps * eps) for a, b in zip(g, moments, strict=True)]
    rms = math.sqrt(exact_sum(squares) / len(squares))
    return 1.0 / rms if 1.0 < rms < math.inf else 1.0


def run_stable_adamw(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> list[list[float]]:
    """Return theta after each step of StableAdamW, all of theta one tensor."""
    theta = list(theta)
    v, u = [0.0] * len(theta), [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        beta1_t = beta1 * (1 - beta1 ** (t - 1)) / (1 - beta1**t)
        beta2_t = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
        for i in range(len(theta)):
            v[i] = beta1_t * v[i] + (1 - beta1_t) * g[i]
            u[i] = beta2_t * u[i] + (1 - beta2_t) * g[i] ** 2
        eta = lr * update_factor(g, u, eps)
        for i in range(len(theta)):
            theta[i] = theta[i] - eta * weight_decay * theta[i] - eta * v[i] / (math.sqrt(u[i]) + eps)
        path.append(list(theta))
    return path


def averages(gradients: Sequence[Sequence[float]], beta: float, corrected: bool) -> list[list[float]]:
    """Return the average of the squares after each step, from zero: that of Adam and its kin, and of RMSProp."""
    v = [0.0] * len(gradients[0])
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        v = [beta * v[i] + (1 - beta) * g[i] ** 2 for i in range(len(v))]
        path.append([x / (1 - beta**t) if corrected else x for x in v])
    return path


def largest_averages(gradients: Sequence[Sequence[float]], beta: float, correction: str) -> list[list[float]]:
    """Return AMSGrad's largest average so far, corrected before or after the maximum, or not at all."""
    largest = [0.0] * len(gradients[0])
    path: list[list[float]] = []
    for t, v in enumerate(averages(gradients, beta, correction == "before_max"), start=1):
        largest = [max(a, b) for a, b in zip(largest, v, strict=True)]
        path.append([x / (1 - beta**t) if correction == "after_max" else x for x in largest])
    return path


def additive(gradients: Sequence[Sequence[float]], beta: float, start: float, corrected: bool) -> list[list[float]]:
    """Return Yogi's second moment after each step."""
    v = [start] * len(gradients[0])
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i, x in enumerate(g):
            way = (v[i] > x**2) - (v[i] < x**2)
            v[i] = v[i] - (1 - beta) * way * x**2
        path.append([x / (1 - beta**t) if corrected else x for x in v])
    return path


def from_the_first(gradients: Sequence[Sequence[float]], beta: float) -> list[list[float]]:
    """Return ADOPT's second moment after each step: the first gradient's squares, then an average."""
    path = [[x**2 for x in gradients[0]]]
    for g in gradients[1:]:
        path.append([beta * v + (1 - beta) * x**2 for v, x in zip(path[-1], g, strict=True)])
    return path


def ahead(gradients: Sequence[Sequence[float]], beta2: float, beta3: float, corrected: bool) -> list[list[float]]:
    """Return Adan's second moment, of g and beta2 times its change, after each step."""
    before = gradients[0]
    looked = []
    for g in gradients:
        looked.append([x + beta2 * (x - y) for x, y in zip(g, before, strict=True)])
        before = g
    return averages(looked, beta3, corrected)
