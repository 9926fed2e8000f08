"""NovoGrad."""

from steprule.language import norm, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, PerTensor, Rate


@rule(paper="Ginsburg et al. 2019, Algorithm 1, arXiv:1905.11286", title="NovoGrad")
def novograd(
    theta,
    g,
    m: FirstMoment,
    v: PerTensor,
    *,
    lr: Rate = 1e-3,
    beta1: Decay = 0.95,
    beta2: Decay = 0.98,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    eps_root: NonNegative | None = None,
    grad_averaging: bool = False,
):
    """Sum gradients that have been divided by the norm of their tensor.

    v, one number of the tensor, averages the squared norm of g. It starts at the first one that is
    not 0, as in the authors' code; in the paper at the first. ``grad_averaging`` makes of the sum m
    an average (the authors' code has the option). ``eps_root`` is added under the root in addition
    to ``eps`` (optax).
    """
    length = norm(g)
    v = where(v > 0, beta2 * v + (1 - beta2) * (length * length), length * length)
    u = g / (sqrt(v if eps_root is None else v + eps_root) + eps) + weight_decay * theta
    m = beta1 * m + ((1 - beta1) * u if grad_averaging else u)
    theta = theta - lr * m
    return theta, m, v
