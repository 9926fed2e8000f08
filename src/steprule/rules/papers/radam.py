"""RAdam."""

import math
from typing import Annotated

from steprule.language import sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Range, Rate, SecondMoment


@rule(paper="Liu et al. 2020, Algorithm 2, arXiv:1908.03265")
def radam(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    rho_min: Annotated[float, Range(4.0)] = 4.0,
    eps_hat: bool = False,
    eps_root: NonNegative | None = None,
):
    """Adam that uses plain momentum until the variance of its adaptive rate is tractable.

    It adapts once rho_t > ``rho_min`` (4 in the paper, 5 in the authors' code and in
    torch.optim.RAdam). The paper has no epsilon (use eps=0 for that); ``eps`` is added to the root of
    the corrected v, or with ``eps_hat`` to the root of v before its correction (torch.optim.RAdam).
    ``eps_root`` is added under the root of the corrected v in addition (optax).
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    shifted = v_hat if eps_root is None else v_hat + eps_root
    root = (sqrt(v) + eps) / math.sqrt(1 - beta2**t) if eps_hat else sqrt(shifted) + eps
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    tractable = rho > rho_min
    x, y = where(tractable, rho, 5.0), where(tractable, rho_inf, 5.0)  # 5: anything that divides
    r = sqrt((x - 4) * (x - 2) * y / ((y - 4) * (y - 2) * x))
    theta = theta - lr * where(tractable, r * m_hat / root, m_hat)
    return theta, m, v
