"""MARS: Yuan et al. 2024, Algorithm 2 (MARS-AdamW) with the last step's gradient, of one tensor.

    c_t = g_t + gamma beta1 / (1 - beta1) (g_t - g_{t-1})
    c~_t = c_t / |c_t| if |c_t| > 1 else c_t
    m_t = beta1 m_{t-1} + (1 - beta1) c~_t
    v_t = beta2 v_{t-1} + (1 - beta2) c~_t^2
    theta_t = theta_{t-1} - lr (m_t / (1 - beta1^t) / (sqrt(v_t / (1 - beta2^t)) + eps) + lambda theta_{t-1})

In the paper x_1 = x_0, so that c_1 = g_1; in the authors' code the gradient before the first is zero (from_zero).
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 3e-3,
    beta1: float = 0.95,
    beta2: float = 0.99,
    eps: float = 1e-8,
    gamma: float = 0.025,
    weight_decay: float = 0.0,
    from_zero: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    before = [0.0] * len(theta) if from_zero else gradients[0]
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        c = [x + gamma * beta1 / (1 - beta1) * (x - y) for x, y in zip(g, before, strict=True)]
        length = math.sqrt(sum(x * x for x in c))
        for i in range(len(theta)):
            clipped = c[i] / length if length > 1 else c[i]
            m[i] = beta1 * m[i] + (1 - beta1) * clipped
            v[i] = beta2 * v[i] + (1 - beta2) * clipped**2
            u = m[i] / (1 - beta1**t) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            theta[i] = theta[i] - lr * (u + weight_decay * theta[i])
        before = g
        path.append(list(theta))
    return path, {"m": m, "v": v, "g_prev": list(before)}
