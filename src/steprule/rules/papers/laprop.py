"""LaProp."""

from steprule.language import maximum, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment


@rule(paper="Ziyin, Wang & Ueda 2020, Algorithm 1, arXiv:2002.04839", title="LaProp")
def laprop(
    theta,
    g,
    m: FirstMoment,
    n: SecondMoment,
    g_avg,
    *,
    t,
    lr: Rate = 4e-4,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-15,
    centered: bool = False,
):
    """Adam with its halves apart: g is divided by its root mean square first, and averaged then.

    beta1 and beta2 are the paper's mu and nu. ``centered`` subtracts the square of the average
    gradient (slot g_avg) after the tenth step, as in the authors' code; if rounding makes the
    variance negative, it counts as zero. As in the paper, lr multiplies the average; in the
    authors' code it enters the average, so that a schedule of lr acts later there.
    """
    n = beta2 * n + (1 - beta2) * g**2
    n_hat = n / (1 - beta2**t)
    if centered:
        g_avg = beta2 * g_avg + (1 - beta2) * g
        n_hat = where(t > 10, maximum(n - g_avg**2, 0.0), n) / (1 - beta2**t)
    m = beta1 * m + (1 - beta1) * g / (sqrt(n_hat) + eps)
    m_hat = m / (1 - beta1**t)
    theta = theta - lr * m_hat
    return theta, m, n, g_avg if centered else None
