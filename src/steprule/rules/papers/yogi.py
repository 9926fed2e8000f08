"""Yogi."""

from steprule.language import sign, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment


@rule(paper="Zaheer et al. 2018, Algorithm 2, NeurIPS 31", init={"v": "initial_accumulator"})
def yogi(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-2,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-3,
    initial_accumulator: NonNegative = 1e-6,
    bias_correction: bool = False,
):
    """Adam whose second moment changes by a bounded amount: by at most (1 - beta2) g^2.

    The paper has no bias correction; ``bias_correction=True`` is optax's form (which also starts m
    at the initial accumulator, here 0). ``initial_accumulator`` is v before the first step (the
    paper does not specify it).
    """
    m = beta1 * m + (1 - beta1) * g
    v = v - (1 - beta2) * sign(v - g**2) * g**2
    m_hat = m / (1 - beta1**t) if bias_correction else m
    v_hat = v / (1 - beta2**t) if bias_correction else v
    theta = theta - lr * m_hat / (sqrt(v_hat) + eps)
    return theta, m, v
