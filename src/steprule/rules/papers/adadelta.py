"""AdaDelta."""

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Fraction, NonNegative, Rate


@rule(paper="Zeiler 2012, Algorithm 1, arXiv:1212.5701")
def adadelta(
    theta,
    g,
    E_g2: NonNegative,  # noqa: N803  (the paper's symbols)
    E_dx2: NonNegative,  # noqa: N803
    *,
    lr: Rate = 1.0,
    rho: Fraction = 0.95,
    eps: NonNegative = 1e-6,
):
    """The step has the units of theta: the RMS of past steps over the RMS of gradients.

    The paper has no ``lr`` (it is 1); torch.optim.Adadelta multiplies by it and has rho = 0.9. At
    rho = 1 both averages stay zero, so with eps = 0 the division is 0 / 0 there (the result is
    NaN).
    """
    E_g2 = rho * E_g2 + (1 - rho) * g**2  # noqa: N806
    dx = sqrt(E_dx2 + eps) / sqrt(E_g2 + eps) * g
    E_dx2 = rho * E_dx2 + (1 - rho) * dx**2  # noqa: N806
    theta = theta - lr * dx
    return theta, E_g2, E_dx2
