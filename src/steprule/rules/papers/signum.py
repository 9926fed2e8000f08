"""Signum: signSGD with momentum."""

from steprule.language import sign
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, Rate


@rule(paper="Bernstein et al. 2018, Algorithm 2, arXiv:1802.04434")
def signum(theta, g, m: FirstMoment, *, lr: Rate = 1e-4, beta: Decay = 0.9):
    """Step by the sign of the momentum; beta = 0 is signSGD."""
    m = beta * m + (1 - beta) * g
    theta = theta - lr * sign(m)
    return theta, m
