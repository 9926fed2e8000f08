"""ADABELIEF: Zhuang et al. 2020, Algorithm 2.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    s_t = beta2 s_{t-1} + (1 - beta2) (g_t - m_t)^2 + eps
    m_hat = m_t / (1 - beta1^t),  s_hat = s_t / (1 - beta2^t)
    theta_t = theta_{t-1} - lr m_hat / (sqrt(s_hat) + eps)

The eps in s_t stays in s (it is averaged with the rest), as in the authors' code. optax adds its eps_root to s_t there.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    s = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            s[i] = beta2 * s[i] + (1 - beta2) * (g[i] - m[i]) ** 2 + (eps if eps_root is None else eps_root)
            m_hat = m[i] / (1 - beta1**t)
            s_hat = s[i] / (1 - beta2**t)
            theta[i] = theta[i] - lr * m_hat / (math.sqrt(s_hat) + eps)
        path.append(list(theta))
    return path, {"m": m, "s": s}
