"""LION: Chen et al. 2023, Algorithm 2, without its weight decay.

c_t = beta1 m_{t-1} + (1 - beta1) g_t
theta_t = theta_{t-1} - lr sign(c_t)
m_t = beta2 m_{t-1} + (1 - beta2) g_t
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            c = beta1 * m[i] + (1 - beta1) * g[i]
            sign = (c > 0) - (c < 0)
            theta[i] = theta[i] - lr * sign
            m[i] = beta2 * m[i] + (1 - beta2) * g[i]
        path.append(list(theta))
    return path, {"m": m}
