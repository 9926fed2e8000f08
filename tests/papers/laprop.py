"""LAPROP: Ziyin, Wang & Ueda 2020, Algorithm 1 (its mu and nu are beta1 and beta2 here).

    n_t = beta2 n_{t-1} + (1 - beta2) g_t^2
    m_t = beta1 m_{t-1} + (1 - beta1) g_t / (sqrt(n_t / (1 - beta2^t)) + eps)
    theta_t = theta_{t-1} - lr m_t / (1 - beta1^t)

centered, in the authors' code: from the eleventh step on the root is of n_t less the square of an average of gradients,
which is not corrected itself.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 4e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-15,
    centered: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m, n, g_avg = ([0.0] * len(theta) for _ in range(3))
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            n[i] = beta2 * n[i] + (1 - beta2) * g[i] ** 2
            g_avg[i] = beta2 * g_avg[i] + (1 - beta2) * g[i]
            used = n[i]
            if centered and t > 10:
                used = max(0.0, n[i] - g_avg[i] ** 2)
            scaled = g[i] / (math.sqrt(used / (1 - beta2**t)) + eps)
            m[i] = beta1 * m[i] + (1 - beta1) * scaled
            theta[i] = theta[i] - lr * m[i] / (1 - beta1**t)
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"m": m, "n": n}
    return path, {**slots, "g_avg": g_avg} if centered else slots
