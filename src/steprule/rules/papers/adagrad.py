"""AdaGrad."""

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import NonNegative, Rate


@rule(paper="Duchi, Hazan & Singer 2011, Figure 1 (diagonal), JMLR 12", init={"G": "initial_accumulator"})
def adagrad(
    theta,
    g,
    G: NonNegative,  # noqa: N803  (the paper's symbol)
    *,
    t,
    lr: Rate = 1e-2,
    eps: NonNegative = 1e-10,
    lr_decay: NonNegative = 0.0,
    initial_accumulator: NonNegative = 0.0,
    eps_inside: bool = False,
):
    """Each element's rate falls with the root of the sum of its squared gradients.

    ``eps`` is added to the root, or under the root with ``eps_inside``. ``lr_decay`` divides lr by
    1 + (t - 1) lr_decay (torch.optim.Adagrad). ``initial_accumulator`` is G before the first step.
    """
    G = G + g**2  # noqa: N806
    root = sqrt(G + eps) if eps_inside else sqrt(G) + eps
    theta = theta - lr / (1 + (t - 1) * lr_decay) * g / root
    return theta, G
