"""Gradient descent with momentum: the heavy ball, and the exponential average."""

from steprule.language import where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, Fraction, NonNegative, Rate


@rule(paper="Polyak 1964, doi:10.1016/0041-5553(64)90137-5; Nesterov form: Sutskever et al. 2013, PMLR 28(3)")
def momentum(
    theta, g, b, *, t, lr: Rate = 1e-2, mu: NonNegative = 0.9, dampening: Fraction = 0.0, nesterov: bool = False
):
    """Heavy ball: b sums past gradients, decayed by mu.

    ``dampening`` scales the gradients that enter b by 1 - dampening, from the second step on (as in
    torch.optim.SGD; the first gradient enters unscaled). The learning rate is applied outside b, as
    in torch; if it were inside (Polyak), a schedule would act later. ``nesterov`` looks ahead: it
    steps along g + mu b.
    """
    b = mu * b + where(t == 1, 1.0, 1 - dampening) * g
    step = g + mu * b if nesterov else b
    theta = theta - lr * step
    return theta, b


@rule(
    paper="first moment of Kingma & Ba 2015, Algorithm 1, without bias correction, arXiv:1412.6980",
    title="MomentumEMA",
)
def momentum_ema(theta, g, m: FirstMoment, *, lr: Rate = 1e-2, beta: Decay = 0.9):
    """Momentum as an exponential average: the heavy ball with its step scaled by 1 - beta."""
    m = beta * m + (1 - beta) * g
    theta = theta - lr * m
    return theta, m
