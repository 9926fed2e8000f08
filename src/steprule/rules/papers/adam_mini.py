"""Adam-mini."""

from typing import Literal

from steprule.language import mean, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, PerRow, Rate


@rule(paper="Zhang et al. 2024, Algorithm 1, arXiv:2406.16793", title="AdamMini")
def adam_mini(
    theta,
    g,
    m: FirstMoment,
    v: PerRow,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    blocks: Literal["row", "tensor"] = "row",
):
    """AdamW with one second moment, the mean of the squared gradients, for each row.

    A row, all that has one index along the first axis, is a neuron's weights, a filter, or a token's
    embedding. A vector is one row, as norms' weights are in the authors' code, where biases step by
    AdamW. Queries and keys have a block for each head there: give them as tensors whose first axis
    counts the heads. With ``blocks="tensor"`` the whole tensor is one block.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * mean(g**2, over=blocks)
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - (lr * m_hat / (sqrt(v_hat) + eps) + lr * weight_decay * theta)
    return theta, m, v
