"""LAMB."""

from steprule.language import minimum, norm, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Rate, SecondMoment
from steprule.rules.trust import quotient_or_one


@rule(paper="You et al. 2020, Algorithm 2, arXiv:1904.00962; ratio_limit: Fong et al. 2020, arXiv:2011.13584")
def lamb(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-6,
    weight_decay: NonNegative = 0.01,
    bias_correction: bool = True,
    eps_root: NonNegative | None = None,
    norm_limit: Positive | None = None,
    ratio_limit: Positive | None = None,
):
    """AdamW's step, scaled to lr times the size of the tensor.

    The step of each tensor is multiplied by its trust ratio, the norm of theta over that of the
    step; where one of both is 0 or not a number, the ratio is 1. ``norm_limit`` limits the norm of
    theta (the upper end of the paper's phi; 10 in early code), ``ratio_limit`` the ratio itself
    (LAMBC: 1). ``bias_correction`` is in Algorithm 2, but not in the paper's third version and in
    some code. ``eps_root`` is added under the root in addition to ``eps`` (optax).
    ``trust_ratio(adamw)`` is the same, with another default of ``eps``.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t) if bias_correction else m
    v_hat = v / (1 - beta2**t) if bias_correction else v
    u = m_hat / (sqrt(v_hat if eps_root is None else v_hat + eps_root) + eps) + weight_decay * theta
    phi = norm(theta) if norm_limit is None else minimum(norm(theta), norm_limit)
    ratio = quotient_or_one(phi, norm(u))
    if ratio_limit is not None:
        ratio = minimum(ratio, ratio_limit)
    theta = theta - lr * ratio * u
    return theta, m, v
