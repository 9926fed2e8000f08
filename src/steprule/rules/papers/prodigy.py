"""Prodigy."""

import math
from typing import Annotated

from steprule.language import minimum, sqrt, total, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Range, Rate, Scalar


@rule(paper="Mishchenko & Defazio 2023, Algorithm 4, arXiv:2306.06101", init={"d": "d0", "d_max": "d0"})
def prodigy(
    theta,
    g,
    m: FirstMoment,
    v: NonNegative,
    s,
    theta0,
    r: Scalar,
    d: Scalar,
    d_max: Scalar,
    *,
    t,
    lr: Rate = 1.0,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    beta3: Decay | None = None,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    d0: Positive = 1e-6,
    d_coef: Positive = 1.0,
    growth_rate: Annotated[float, Range(1.0)] | None = None,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
    decoupled_decay: bool = True,
):
    """Adam with lr times an estimate d of how far away the solution is, which grows from d0.

    Sums are over all tensors together; r and s are the paper's over (1 - beta3) d0, which cancels.
    ``beta3`` is by default the root of beta2. From the authors' code: ``growth_rate`` is the largest
    factor by which d grows in a step, except in the first that raises it; ``bias_correction`` is
    Adam's, in lr; ``safeguard_warmup`` keeps lr out of s. ``eps`` is multiplied by d before the step,
    as in the paper; there by the new one. After a gradient that is not finite d stays.
    """
    beta3 = math.sqrt(beta2) if beta3 is None else beta3
    g = g if decoupled_decay else g + weight_decay * theta
    rate = d * lr * (math.sqrt(1 - beta2**t) / (1 - beta1**t)) if bias_correction else d * lr
    theta0 = where(t == 1, theta, theta0)
    r = beta3 * r + d / d0 * rate * total(g * (theta0 - theta), over="all")
    s = beta3 * s + d / d0 * (d if safeguard_warmup else rate) * g
    m = beta1 * m + (1 - beta1) * d * g
    v = beta2 * v + (1 - beta2) * d * d * g**2
    length = total(abs(s), over="all")
    d_hat = d_coef * r / where(length > 0, length, 1.0)
    step = rate * m / (sqrt(v) + d * eps)
    theta = theta - (step + rate * weight_decay * theta if decoupled_decay else step)
    if growth_rate is None:
        return theta, m, v, s, theta0, r, where(d_hat > d, d_hat, d), None
    d_max = where(d_hat > d_max, d_hat, d_max)
    return theta, m, v, s, theta0, r, minimum(d_max, growth_rate * where((d == d0) & (d_hat > d), d_hat, d)), d_max
