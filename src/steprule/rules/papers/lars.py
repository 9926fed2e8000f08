"""LARS."""

from steprule.language import norm, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import NonNegative, Rate


@rule(paper="You, Gitman & Ginsburg 2017, Algorithm 1, arXiv:1708.03888", title="LARS")
def lars(
    theta,
    g,
    b,
    *,
    lr: Rate = 1.0,
    momentum: NonNegative | None = 0.9,
    weight_decay: NonNegative = 0.0,
    trust_coefficient: NonNegative = 1e-3,
    eps: NonNegative = 0.0,
    nesterov: bool = False,
    norm_of_sum: bool = False,
    lr_outside: bool = False,
):
    """Heavy ball whose steps have the size of their tensor, whatever the size of the gradient.

    The gradient with its decay is multiplied by ``trust_coefficient`` times the norm of theta over
    the sum of the norms of both parts plus ``eps``, or over the norm of their sum with
    ``norm_of_sum`` (optax). Where the norm of theta or that of the gradient (optax: of the sum) is 0
    or not a number, this ratio is 1. As in the paper, lr enters b, so that a schedule acts later;
    with ``lr_outside`` it does not (timm, pytorch_optimizer). ``momentum`` None keeps no b.
    ``nesterov`` looks ahead along b.
    """
    decayed = g + weight_decay * theta
    size, length = norm(theta), norm(decayed if norm_of_sum else g)
    both = length if norm_of_sum else length + weight_decay * size
    ratio = where((size > 0) & (length > 0), trust_coefficient * size / where(length > 0, both + eps, 1.0), 1.0)
    step = ratio * decayed if lr_outside else lr * ratio * decayed
    if momentum is not None:
        b = momentum * b + step
        step = step + momentum * b if nesterov else b
    theta = theta - (lr * step if lr_outside else step)
    return theta, None if momentum is None else b
