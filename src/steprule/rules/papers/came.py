"""CAME."""

from steprule.language import maximum, mean, ndim, rms, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, NonNegative, PerColumn, PerRow, Positive, Rate


@rule(paper="Luo et al. 2023, Algorithm 2, arXiv:2307.02047", title="CAME", matrices="last")
def came(
    theta,
    g,
    m,
    r: PerRow,
    c: PerColumn,
    r_s: PerRow,
    c_s: PerColumn,
    *,
    lr: Rate = 2e-4,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    beta3: Decay = 0.9999,
    eps1: NonNegative = 1e-30,
    eps2: NonNegative = 1e-16,
    clip_threshold: Positive = 1.0,
    weight_decay: NonNegative = 0.0,
):
    """Adafactor's average step, smaller where single steps have been far from it.

    r and c are the factors of the second moment, r_s and c_s those of an average of the squared
    distances, the paper's S. A vector has the second moment of each element, which is c, and steps by
    m, as in the authors' code. Their weight decay is decoupled.
    """
    r = beta2 * r + (1 - beta2) * mean(g**2 + eps1, over="row")
    c = beta2 * c + (1 - beta2) * mean(g**2 + eps1, over="column")
    # Roots first: the product of two factors could be too small for float32.
    u = g / (sqrt(r / mean(r, over="column")) * sqrt(c))
    u = u / maximum(1.0, rms(u) / clip_threshold)
    m = beta1 * m + (1 - beta1) * u
    distance = (u - m) ** 2 + eps2
    r_s = beta3 * r_s + (1 - beta3) * mean(distance, over="row")
    c_s = beta3 * c_s + (1 - beta3) * mean(distance, over="column")
    is_matrix = ndim(g) > 1
    share = where(is_matrix, sqrt(r_s / mean(r_s, over="column")), 1.0)
    theta = theta - (lr * m / (share * where(is_matrix, sqrt(c_s), 1.0)) + lr * weight_decay * theta)
    return theta, m, r, c, r_s, c_s
