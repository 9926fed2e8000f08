"""NorMuon."""

from typing import Literal

from steprule.language import maximum, mean, polar, size, sqrt, total, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Count, Decay, FirstMoment, NonNegative, PerRow, Positive, Rate


@rule(paper="Li et al. 2025, Algorithm 1, arXiv:2510.05491", title="NorMuon")
def normuon(
    theta,
    g,
    m: FirstMoment,
    v: PerRow,
    *,
    lr: Rate = 1e-3,
    momentum: Decay = 0.95,
    beta2: Decay = 0.95,
    weight_decay: NonNegative = 0.1,
    nesterov: bool = False,
    ns_steps: Count = 5,
    coefficients: Literal["jordan", "polar_express"] = "jordan",
    eps: NonNegative = 1e-10,
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    consistent_rms: Positive = 0.2,
):
    """Muon with rows of one size: each is divided by the root of an average of its mean square.

    That is v, of the polar factor's rows, which are neurons. Then the step of a matrix gets the RMS
    ``consistent_rms`` (the paper), or, with ``adjust_lr="original"``, the norm that its polar factor
    had, times sqrt(max(1, rows/columns)) (the authors' code, which has ``nesterov``, too). ``eps`` is
    added to the root. A matrix whose polar factor is 0 stays, but for its decay.
    """
    m = momentum * m + (1 - momentum) * g
    o = polar((1 - momentum) * g + momentum * m if nesterov else m, ns_steps, coefficients)
    rows, columns = size(g, over="column"), size(g, over="row")
    square = mean(o**2, over="row")
    v = beta2 * v + (1 - beta2) * square
    r = 1 / (sqrt(v) + eps)
    after = total(square * r * r, over="column")  # of the divided rows, as their squares are known
    if adjust_lr == "original":
        length = total(square, over="column") * maximum(1.0, rows / columns)
    else:
        length = consistent_rms**2 * rows
    scale = where(after > 0, sqrt(length / where(after > 0, after, 1.0)), 0.0)
    theta = theta - (lr * scale * r * o + lr * weight_decay * theta)
    return theta, m, v
