"""LARS: You, Gitman & Ginsburg 2017, Algorithm 1, of one tensor (layer).

    ratio = eta |theta| / (|g| + beta |theta|)
    b_t = m b_{t-1} + lr ratio (g + beta theta)
    theta_t = theta_{t-1} - b_t

The paper's eta is trust_coefficient, its beta weight_decay, its m momentum. Where |theta| or |g| is 0 the ratio is 1,
as in all code. Published variants: eps in the denominator; the norm of g + beta theta in the place of the sum of both
norms (optax); lr multiplies b instead of what enters it (timm, pytorch_optimizer); Nesterov's look-ahead.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1.0,
    momentum: float | None = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
    nesterov: bool = False,
    norm_of_sum: bool = False,
    lr_outside: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    b = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        decayed = [x + weight_decay * y for x, y in zip(g, theta, strict=True)]
        of_theta = math.sqrt(sum(x * x for x in theta))
        of_g = math.sqrt(sum(x * x for x in (decayed if norm_of_sum else g)))
        ratio = 1.0
        if of_theta > 0 and of_g > 0:
            ratio = trust_coefficient * of_theta
            ratio /= of_g + eps if norm_of_sum else of_g + weight_decay * of_theta + eps
        for i in range(len(theta)):
            step = ratio * decayed[i] * (1.0 if lr_outside else lr)
            if momentum is not None:
                b[i] = momentum * b[i] + step
                step = step + momentum * b[i] if nesterov else b[i]
            theta[i] = theta[i] - step * (lr if lr_outside else 1.0)
        path.append(list(theta))
    return path, {} if momentum is None else {"b": b}
