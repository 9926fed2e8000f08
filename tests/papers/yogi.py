"""YOGI: Zaheer et al. 2018, Algorithm 2.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = v_{t-1} - (1 - beta2) sign(v_{t-1} - g_t^2) g_t^2
    theta_t = theta_{t-1} - lr m_t / (sqrt(v_t) + eps)

bias_correction divides m by 1 - beta1^t and v by 1 - beta2^t, as in Adam (and optax.yogi): eps is added after.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-3,
    initial_accumulator: float = 1e-6,
    bias_correction: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [initial_accumulator] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            g2 = g[i] ** 2
            sign = (v[i] > g2) - (v[i] < g2)
            v[i] = v[i] - (1 - beta2) * sign * g2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            theta[i] = theta[i] - lr * m_hat / (math.sqrt(v_hat) + eps)
        path.append(list(theta))
    return path, {"m": m, "v": v}
