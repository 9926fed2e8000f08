"""Adam."""

import math

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment


@rule(paper="Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980")
def adam(
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
    bias_correction: bool = True,
    eps_inside: bool = False,
    eps_hat: bool = False,
    eps_root: NonNegative | None = None,
):
    """Step along an average of gradients over the root of an average of their squares.

    ``bias_correction`` removes the bias towards the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or under the root with ``eps_inside`` (a common
    variant). ``eps_hat`` adds it to the root of v before the correction, as in the more efficient
    order at the end of the paper's section 2 (torch.optim.SparseAdam). ``eps_root`` is added under
    the root in addition to ``eps`` (optax).
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t) if bias_correction else m
    v_hat = v / (1 - beta2**t) if bias_correction else v
    shifted = v_hat if eps_root is None else v_hat + eps_root
    root = sqrt(shifted + eps) if eps_inside else sqrt(shifted) + eps
    if eps_hat and bias_correction:
        root = (sqrt(v + eps) if eps_inside else sqrt(v) + eps) / math.sqrt(1 - beta2**t)
    theta = theta - lr * m_hat / root
    return theta, m, v
