"""AdEMAMix."""

import math

from steprule.language import minimum, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Rate, SecondMoment


@rule(paper="Pagliardini, Ablin & Grangier 2024, Algorithm 1, arXiv:2409.03137", title="AdEMAMix")
def ademamix(
    theta,
    g,
    m1: FirstMoment,
    m2,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    beta3: Decay = 0.9999,
    alpha: NonNegative = 5.0,
    eps: NonNegative = 1e-8,
    warmup: Positive | None = None,
):
    """Adam with a second, much slower average of gradients, weighted by alpha.

    ``warmup`` (a number of steps) increases alpha linearly from 0, and beta3 from beta1 such that
    its half-life grows linearly, as the paper's schedulers f_alpha and f_beta3 do; with None both
    are constant. f_beta3 is undefined at beta1 = 0, where its limit is used: the half-life grows
    from zero, and beta3 starts as beta3^(warmup / t) (the authors' code adds 1e-8 to beta1, which
    gives nearly the same). The paper's weight decay is ``decoupled(ademamix)``.
    """
    if warmup is not None:
        done = minimum(t / warmup, 1.0)
        alpha = alpha * done
        # 0.5: anything that has a logarithm.
        slow, fast = math.log(where(beta3 == 0, 0.5, beta3)), math.log(where(beta1 == 0, 0.5, beta1))
        rising = where(beta1 == 0, slow / done, fast * slow / ((1 - done) * slow + done * fast))
        beta3 = minimum(math.exp(rising), beta3)
    m1 = beta1 * m1 + (1 - beta1) * g
    m2 = beta3 * m2 + (1 - beta3) * g
    v = beta2 * v + (1 - beta2) * g**2
    m1_hat = m1 / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - lr * (m1_hat + alpha * m2) / (sqrt(v_hat) + eps)
    return theta, m1, m2, v
