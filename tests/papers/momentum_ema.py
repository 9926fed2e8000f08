"""MOMENTUM_EMA: the first moment of Kingma & Ba 2015, Algorithm 1, uncorrected, as the step.

m_t = beta m_{t-1} + (1 - beta) g_t
theta_t = theta_{t-1} - lr m_t
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    beta: float = 0.9,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            m[i] = beta * m[i] + (1 - beta) * g[i]
            theta[i] = theta[i] - lr * m[i]
        path.append(list(theta))
    return path, {"m": m}
