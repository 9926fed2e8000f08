"""Adan."""

from steprule.language import sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment


@rule(paper="Xie et al. 2022, Algorithm 1, arXiv:2208.06677")
def adan(
    theta,
    g,
    m: FirstMoment,
    v,
    n: SecondMoment,
    g_prev,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.98,
    beta2: Decay = 0.92,
    beta3: Decay = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    bias_correction: bool = True,
    eps_root: NonNegative | None = None,
):
    """Nesterov momentum reformulated: averages of g, of its change, and of the square of their combination.

    The betas are decay rates, one minus the paper's. ``bias_correction`` is that of the authors'
    code; the paper's algorithm has none, and starts m and n at the first gradient and its square,
    where here they start at zero. ``weight_decay`` is the paper's proximal form, which is
    (theta - step) / (1 + lr weight_decay), written as a difference. In the first step the change
    of g counts as zero. ``eps_root`` is added under the root in addition to ``eps`` (optax).
    """
    change = where(t == 1, 0.0, g - g_prev)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * change
    n = beta3 * n + (1 - beta3) * (g + beta2 * change) ** 2
    m_hat = m / (1 - beta1**t) if bias_correction else m
    v_hat = v / (1 - beta2**t) if bias_correction else v
    n_hat = n / (1 - beta3**t) if bias_correction else n
    shifted = n_hat if eps_root is None else n_hat + eps_root
    step = lr * (m_hat + beta2 * v_hat) / (sqrt(shifted) + eps)
    theta = theta - (step + lr * weight_decay * theta) / (1 + lr * weight_decay)
    return theta, m, v, n, g
