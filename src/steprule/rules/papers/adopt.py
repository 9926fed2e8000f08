"""ADOPT."""

from steprule.language import maximum, minimum, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, Positive, Rate, SecondMoment


@rule(paper="Taniguchi et al. 2024, Algorithm 1, arXiv:2411.02853", title="ADOPT")
def adopt(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.9999,
    eps: Positive = 1e-6,
    clip: bool = False,
):
    """Adam that converges for any beta2: g is divided by the root of the previous step's v, and then averaged.

    The first step only sets v = g^2, and m starts at zero (in the first version of the paper, m
    starts at the first divided gradient). ``clip`` bounds the divided gradient by (t - 1)^(1/4), as
    the authors' later code does.
    """
    scaled = g / maximum(sqrt(v), eps)
    if clip:
        bound = maximum(t - 1, 0.0) ** 0.25
        scaled = minimum(maximum(scaled, -bound), bound)
    m = where(t == 1, m, beta1 * m + (1 - beta1) * scaled)
    theta = where(t == 1, theta, theta - lr * m)
    v = where(t == 1, g**2, beta2 * v + (1 - beta2) * g**2)
    return theta, m, v
