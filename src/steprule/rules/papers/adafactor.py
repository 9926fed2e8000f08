"""Adafactor."""

import math

from steprule.language import maximum, mean, minimum, ndim, rms, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, NonNegative, PerColumn, PerRow, Positive, Rate


@rule(paper="Shazeer & Stern 2018, Algorithms 4 and 5, arXiv:1804.04235", matrices="last")
def adafactor(
    theta,
    g,
    r: PerRow,
    c: PerColumn,
    m,
    *,
    t,
    lr: Rate = 1e-2,
    beta1: Decay | None = None,
    beta2: Decay | None = None,
    decay_rate: NonNegative = 0.8,
    eps1: NonNegative = 1e-30,
    eps2: NonNegative | None = 1e-3,
    clip_threshold: Positive = 1.0,
    weight_decay: NonNegative = 0.0,
    relative_step: bool = True,
    clamp: bool = False,
):
    """Adam's second moment in two factors, a number of each row and column, and steps in the size of the tensor.

    A vector has the second moment of each element, which is c. The step has an RMS of at most
    ``clip_threshold``, times min(lr, 1/sqrt(t)) (``relative_step``; else lr), times the RMS of theta,
    which counts as ``eps2`` at least; with None lr is the size itself. The moment's decay is
    1 - t**-decay_rate, or ``beta2`` with Adam's bias correction. ``beta1`` averages the steps.
    ``clamp`` has torch.optim.Adafactor's use of ``eps1``: no part of the squares, but the least root of
    the second moment, and the least mean of r of a matrix.
    """
    new = t**-decay_rate if beta2 is None else (1 - beta2) / (1 - beta2**t)
    square = g**2 if clamp else g**2 + eps1
    r = (1 - new) * r + new * mean(square, over="row")
    c = (1 - new) * c + new * mean(square, over="column")
    average = mean(r, over="column")
    share = where(ndim(g) > 1, r / maximum(average, eps1), 1.0) if clamp else r / average
    root = sqrt(share) * sqrt(c)  # the product of r and c could be too small for float32
    u = g / (maximum(root, eps1) if clamp else root)
    u = u / maximum(1.0, rms(u) / clip_threshold)
    rho = minimum(lr, 1 / math.sqrt(t)) if relative_step else lr
    step = (rho if eps2 is None else maximum(eps2, rms(theta)) * rho) * u
    if beta1 is not None:
        m = beta1 * m + (1 - beta1) * step
        step = m
    theta = theta - (step + lr * weight_decay * theta)
    return theta, r, c, None if beta1 is None else m
