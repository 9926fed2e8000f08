"""MARS."""

from steprule.language import norm, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate


@rule(paper="Yuan et al. 2024, Algorithm 2 (MARS-AdamW, approximate), arXiv:2411.10438", title="MARS")
def mars(
    theta,
    g,
    m: FirstMoment,
    v: NonNegative,
    g_prev,
    *,
    t,
    lr: Rate = 3e-3,
    beta1: Decay = 0.95,
    beta2: Decay = 0.99,
    eps: NonNegative = 1e-8,
    gamma: NonNegative = 0.025,
    weight_decay: NonNegative = 0.0,
    from_zero: bool = False,
):
    """AdamW on gradients from which some of their noise is removed, by their change since the last step.

    c = g + gamma beta1 / (1 - beta1) (g - g_prev), divided by its norm over the tensor where that is
    above 1, stands for g in both averages. The exact form of the paper evaluates the last gradient
    on this step's data; here, as in the paper's experiments, it is the last step's own. Before the
    first step it counts as equal to the first, as in the paper; with ``from_zero`` as 0, as in the
    authors' code, which steps only matrices in this way, and others by AdamW.
    """
    c = g + gamma * beta1 / (1 - beta1) * (g - (g_prev if from_zero else where(t == 1, g, g_prev)))
    length = norm(c)
    c = c / where(length > 1, length, 1.0)
    m = beta1 * m + (1 - beta1) * c
    v = beta2 * v + (1 - beta2) * c**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * theta)
    return theta, m, v, g
