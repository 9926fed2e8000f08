"""AMSGrad."""

from typing import Literal

from steprule.language import maximum, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment


@rule(paper="Reddi, Kale & Kumar 2018, Algorithm 2, arXiv:1904.09237")
def amsgrad(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    v_max: NonNegative,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    correction: Literal["none", "after_max", "before_max"] = "none",
    eps_root: NonNegative | None = None,
):
    """Adam whose second moment never decreases: it divides by the largest v so far.

    ``correction="none"`` is the paper's form (which has no epsilon either; use eps=0 for that).
    ``"after_max"`` takes the maximum of v and corrects it for bias afterwards (torch.optim.Adam
    with amsgrad=True); ``"before_max"`` takes the maximum of the corrected v (optax.amsgrad).
    ``eps_root`` is added under the root in addition to ``eps`` (optax). For the paper's projection
    onto the feasible set use ``steprule.minimize(bounds=...)``.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    v_max = maximum(v_max, v / (1 - beta2**t) if correction == "before_max" else v)
    v_hat = v_max / (1 - beta2**t) if correction == "after_max" else v_max
    shifted = v_hat if eps_root is None else v_hat + eps_root
    m_hat = m if correction == "none" else m / (1 - beta1**t)
    theta = theta - lr * m_hat / (sqrt(shifted) + eps)
    return theta, m, v, v_max
