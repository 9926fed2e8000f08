"""Muon."""

from typing import Literal

from steprule.language import maximum, polar, size, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Count, Decay, FirstMoment, NonNegative, Positive, Rate


@rule(paper="Jordan et al. 2024, kellerjordan.github.io/posts/muon; match_rms_adamw: Liu et al. 2025, arXiv:2502.16982")
def muon(
    theta,
    g,
    m: FirstMoment,
    *,
    t,
    lr: Rate = 1e-3,
    momentum: Decay = 0.95,
    weight_decay: NonNegative = 0.1,
    nesterov: bool = True,
    bias_correction: bool = False,
    ns_steps: Count = 5,
    coefficients: Literal["jordan", "polar_express"] = "jordan",
    a: float = 3.4445,
    b: float = -4.7750,
    c: float = 2.0315,
    eps: NonNegative = 1e-7,
    adjust_lr: Literal["original", "transposed", "match_rms_adamw"] = "original",
    consistent_rms: Positive = 0.2,
    parts: Count = 1,
):
    """Step along the orthogonal polar factor of an average of gradients, of each matrix.

    ``ns_steps`` Newton-Schulz steps come close to it: with the quintic ``a``, ``b``, ``c``, or with
    the polynomials of Polar Express (Amsel et al. 2025, arXiv:2505.16932). A norm below ``eps``
    counts as that. ``adjust_lr`` multiplies lr by sqrt(max(1, rows/columns)); by that of the
    transposed matrix, for weights that are inputs x outputs, as JAX has them; or by
    ``consistent_rms`` sqrt(max(rows, columns)), which lets the step have that RMS, Adam's. ``parts``
    cuts a matrix along its rows, 3 for queries, keys and values in one. ``bias_correction`` corrects
    the average for its start at 0, and that of Nesterov's form for one step more (optax).
    """
    m = momentum * m + (1 - momentum) * g
    if nesterov:
        own, ahead = (1 - momentum) * g, momentum * m
        u = own / (1 - momentum**t) + ahead / (1 - momentum ** (t + 1)) if bias_correction else own + ahead
    else:
        u = m / (1 - momentum**t) if bias_correction else m
    o = polar(u, ns_steps, "polar_express" if coefficients == "polar_express" else (a, b, c), parts=parts, eps=eps)
    rows, columns = size(g, over="column") / parts, size(g, over="row")
    if adjust_lr == "match_rms_adamw":
        scale = consistent_rms * sqrt(maximum(rows, columns))
    else:
        scale = sqrt(maximum(1.0, columns / rows if adjust_lr == "transposed" else rows / columns))
    theta = theta - (lr * scale * o + lr * weight_decay * theta)
    return theta, m
