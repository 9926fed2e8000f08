"""SIGNUM: Bernstein et al. 2018, Algorithm 2; with beta = 0 it is signSGD, Algorithm 1.

m_t = beta m_{t-1} + (1 - beta) g_t
theta_t = theta_{t-1} - lr sign(m_t)
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1e-4,
    beta: float = 0.9,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            m[i] = beta * m[i] + (1 - beta) * g[i]
            sign = (m[i] > 0) - (m[i] < 0)
            theta[i] = theta[i] - lr * sign
        path.append(list(theta))
    return path, {"m": m}
