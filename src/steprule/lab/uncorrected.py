"""Adam without its bias correction, to see what the correction is for."""

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment

__all__ = ["adam_uncorrected"]


@rule(paper="Kingma & Ba 2015, section 3, without its correction, arXiv:1412.6980")
def adam_uncorrected(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
):
    """Adam as it would be without its bias correction: the averages start at zero and have not warmed up."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    theta = theta - lr * m / (sqrt(v) + eps)
    return theta, m, v
