"""RMSProp."""

import math

from steprule.language import maximum, sqrt, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Fraction, NonNegative, Rate, SecondMoment


@rule(
    paper="Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, eq. 38-45, arXiv:1308.0850",
    init={"v": "initial_scale"},
)
def rmsprop(
    theta,
    g,
    v: SecondMoment,
    g_avg,
    b,
    *,
    lr: Rate = 1e-2,
    rho: Fraction = 0.99,
    eps: NonNegative = 1e-8,
    momentum: NonNegative | None = None,
    centered: bool = False,
    eps_inside: bool = False,
    nesterov: bool = False,
    initial_scale: NonNegative = 0.0,
):
    """Divide the gradient by the root of an average of its squares.

    ``centered`` subtracts the square of the average gradient (slot g_avg), so v becomes a variance.
    If rounding makes it negative, it counts as zero; if v overflows, both terms would be infinite,
    so v alone is used and the step is 0 and not NaN. ``momentum`` steps along a heavy ball (slot b)
    of the scaled gradients, and with ``nesterov`` looks ahead along it (optax). ``eps`` is added to
    the root (torch), or under the root with ``eps_inside`` (Graves, TensorFlow). The lecture has
    rho = 0.9; the default is torch's. ``initial_scale`` is v before the first step (optax). With
    eps = 0 the step divides by zero at rho = 1, where v stays zero if it starts at zero, and at rho
    = 0 with ``centered``.
    """
    v = rho * v + (1 - rho) * g**2
    variance = v
    if centered:
        g_avg = rho * g_avg + (1 - rho) * g
        variance = where(v < math.inf, maximum(v - g_avg**2, 0.0), v)
    step = g / (sqrt(variance + eps) if eps_inside else sqrt(variance) + eps)
    if momentum is not None:
        b = momentum * b + step
        step = step + momentum * b if nesterov else b
    theta = theta - lr * step
    return theta, v, g_avg if centered else None, b if momentum is not None else None
