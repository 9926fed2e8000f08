"""ADAN: Xie et al. 2022, Algorithm 1, its 1 - beta written as beta here.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) (g_t - g_{t-1})                    (g_0 = g_1)
    n_t = beta3 n_{t-1} + (1 - beta3) (g_t + beta2 (g_t - g_{t-1}))^2
    theta_t = (theta_{t-1} - lr (m_t + beta2 v_t) / (sqrt(n_t) + eps)) / (1 + lr weight_decay)

With bias_correction, the authors' code, m, v and n are divided by 1 - beta1^t, 1 - beta2^t and 1 - beta3^t where
they are used. m, v and n start at 0, as in the code. optax adds its eps_root under the root besides.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.98,
    beta2: float = 0.92,
    beta3: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction: bool = True,
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    n = [0.0] * len(theta)
    g_prev = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            change = 0.0 if t == 1 else g[i] - g_prev[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * change
            n[i] = beta3 * n[i] + (1 - beta3) * (g[i] + beta2 * change) ** 2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            n_hat = n[i] / (1 - beta3**t) if bias_correction else n[i]
            eta = lr / (math.sqrt(n_hat + (eps_root or 0.0)) + eps)
            theta[i] = (theta[i] - eta * (m_hat + beta2 * v_hat)) / (1 + lr * weight_decay)
            g_prev[i] = g[i]
        path.append(list(theta))
    return path, {"m": m, "v": v, "n": n, "g_prev": g_prev}
