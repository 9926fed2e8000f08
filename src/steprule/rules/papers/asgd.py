"""Averaged stochastic gradient descent."""

from steprule.language import maximum, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import NonNegative, Rate, Scalar


@rule(
    paper="Polyak & Juditsky 1992, doi:10.1137/0330046; step sizes: Bottou 2012, Stochastic Gradient Descent Tricks",
    init={"eta": "lr", "mu": 1.0},
    evaluated=lambda ax: ax,
)
def asgd(
    theta,
    g,
    ax,
    eta: Scalar,
    mu: Scalar,
    *,
    t,
    lr: Rate = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: NonNegative = 0.75,
    t0: NonNegative = 1e6,
    lagged: bool = False,
):
    """Gradient descent with a decreasing step size, and ax, the average of the iterates from step t0 + 2 on.

    The step size is lr / (1 + lambd lr (t - 1))^alpha, and theta decays by lambd times that (the L2
    term of Bottou's objective, as in torch.optim.ASGD). Before step t0 + 2 the average is theta
    itself. ``lagged`` stores the step size and the weight for the next step in eta and mu
    (torch.optim.ASGD), so that a change of lr takes effect one step later.
    """
    gamma = eta if lagged else lr / (1 + lambd * lr * (t - 1)) ** alpha
    weight = mu if lagged else 1 / maximum(1.0, t - 1 - t0)
    theta = theta - (gamma * g + lambd * gamma * theta)
    ax = where(weight == 1, theta, ax + weight * (theta - ax))
    if not lagged:
        return theta, ax, None, None
    return theta, ax, lr / (1 + lambd * lr * t) ** alpha, 1 / maximum(1.0, t - t0)
