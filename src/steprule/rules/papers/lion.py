"""Lion."""

from steprule.language import sign
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, Rate


@rule(paper="Chen et al. 2023, Algorithm 2, arXiv:2302.06675")
def lion(theta, g, m: FirstMoment, *, lr: Rate = 1e-4, beta1: Decay = 0.9, beta2: Decay = 0.99):
    """Step by the sign of an average of gradients; the average that is stored is a slower one.

    The paper's weight decay is ``decoupled(lion)``.
    """
    c = beta1 * m + (1 - beta1) * g
    theta = theta - lr * sign(c)
    m = beta2 * m + (1 - beta2) * g
    return theta, m
