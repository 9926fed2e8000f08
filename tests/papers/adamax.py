"""ADAMAX: Kingma & Ba 2015, Algorithm 2.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    u_t = max(beta2 u_{t-1}, |g_t|)
    theta_t = theta_{t-1} - lr / (1 - beta1^t) m_t / u_t

The paper has no epsilon; torch.optim.Adamax has |g_t| + eps in place of |g_t|. Where u is 0 (0/0) theta stays.
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    u = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            size = abs(g[i]) if eps is None else abs(g[i]) + eps
            u[i] = max(beta2 * u[i], size)
            if u[i] > 0:
                theta[i] = theta[i] - lr / (1 - beta1**t) * m[i] / u[i]
        path.append(list(theta))
    return path, {"m": m, "u": u}
