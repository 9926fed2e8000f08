"""AdaMax."""

from steprule.language import maximum, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Rate


@rule(paper="Kingma & Ba 2015, Algorithm 2, arXiv:1412.6980")
def adamax(
    theta,
    g,
    m: FirstMoment,
    u: NonNegative,
    *,
    t,
    lr: Rate = 2e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: Positive | None = None,
):
    """Adam with the infinity norm: u is a decayed maximum of |g|.

    The paper has no epsilon; where u is 0 the division is skipped and the element does not change.
    ``eps`` is added to |g|, as in torch.optim.Adamax.
    """
    m = beta1 * m + (1 - beta1) * g
    u = maximum(beta2 * u, abs(g) if eps is None else abs(g) + eps)
    theta = theta - where(u == 0, 0.0, lr / (1 - beta1**t) * m / u)
    return theta, m, u
