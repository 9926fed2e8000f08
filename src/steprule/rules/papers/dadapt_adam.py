"""Adam with D-Adaptation."""

import math
from typing import Annotated

from steprule.language import minimum, sqrt, total, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Range, Rate, Scalar


@rule(paper="Defazio & Mishchenko 2023, Adam with D-Adaptation, arXiv:2301.07733", title="DAdaptAdam", init={"d": "d0"})
def dadapt_adam(
    theta,
    g,
    m: FirstMoment,
    v: NonNegative,
    s,
    r: Scalar,
    d: Scalar,
    *,
    t,
    lr: Rate = 1.0,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    d0: Positive = 1e-6,
    growth_rate: Annotated[float, Range(1.0)] | None = None,
    bias_correction: bool = False,
    decoupled_decay: bool = False,
):
    """Adam with lr times a lower bound d of how far away the solution is, which grows from d0.

    Sums are over all tensors together. From the authors' code: the product in r is with v as it was
    before the step; ``growth_rate`` is the largest factor by which d grows in a step;
    ``bias_correction`` is Adam's, in lr; the decay is part of the gradient, or with
    ``decoupled_decay`` of the step. optax's dadapt_adamw has the last two always. After a
    gradient that is not finite d stays.
    """
    root = math.sqrt(beta2)
    g = g if decoupled_decay else g + weight_decay * theta
    rate = d * lr * (math.sqrt(1 - beta2**t) / (1 - beta1**t)) if bias_correction else d * lr
    r = root * r + (1 - root) * rate * total(g * (s / (sqrt(v) + eps)), over="all")
    s = root * s + (1 - root) * rate * g
    m = beta1 * m + (1 - beta1) * rate * g
    v = beta2 * v + (1 - beta2) * g**2
    length = (1 - root) * total(abs(s), over="all")
    d_hat = r / where(length > 0, length, 1.0)
    step = m / (sqrt(v) + eps)
    theta = theta - (step + rate * weight_decay * theta if decoupled_decay else step)
    if growth_rate is not None:
        d_hat = minimum(d_hat, d * growth_rate)
    return theta, m, v, s, r, where(d_hat > d, d_hat, d)
