"""AdaBelief."""

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate


@rule(paper="Zhuang et al. 2020, Algorithm 2, arXiv:2010.07468", title="AdaBelief")
def adabelief(
    theta,
    g,
    m: FirstMoment,
    s: NonNegative,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-16,
    eps_root: NonNegative | None = None,
):
    """Adam that divides by the spread of g around its average, not by its size.

    ``eps`` enters twice, as in the paper: it is added to s at every step, and to the root. Its
    default is that of the authors' code; the text says 1e-8. If given, ``eps_root`` is added to s
    instead (optax). The bias correction of m and s, which the paper omits from its listing for
    simplicity, is always on. At beta1 = 0, g is its own average, so with eps = 0 the step divides
    by zero.
    """
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * (g - m) ** 2 + (eps if eps_root is None else eps_root)
    m_hat = m / (1 - beta1**t)
    s_hat = s / (1 - beta2**t)
    theta = theta - lr * m_hat / (sqrt(s_hat) + eps)
    return theta, m, s
