"""NOVOGRAD: Ginsburg et al. 2019, Algorithm 1, of one tensor (layer).

    v_1 = |g_1|^2,  v_t = beta2 v_{t-1} + (1 - beta2) |g_t|^2
    m_t = beta1 m_{t-1} + (g_t / (sqrt(v_t) + eps) + lambda theta_{t-1})
    theta_t = theta_{t-1} - lr m_t

In the authors' code v starts at the first |g|^2 that is not 0, and with grad_averaging what is added to m is multiplied
by 1 - beta1. optax adds its eps_root to v, under the root.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.95,
    beta2: float = 0.98,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    eps_root: float | None = None,
    grad_averaging: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = 0.0
    path: list[list[float]] = []
    for g in gradients:
        square = sum(x * x for x in g)
        v = square if v == 0 else beta2 * v + (1 - beta2) * square
        for i in range(len(theta)):
            added = g[i] / (math.sqrt(v + (eps_root or 0.0)) + eps) + weight_decay * theta[i]
            m[i] = beta1 * m[i] + added * (1 - beta1 if grad_averaging else 1.0)
            theta[i] = theta[i] - lr * m[i]
        path.append(list(theta))
    return path, {"m": m, "v": v}
