"""AMSGRAD: Reddi, Kale & Kumar 2018, Algorithm 2, without the projection and with constant rate and beta1.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
    v_max_t = max(v_max_{t-1}, v_t)                          (the paper's v_hat)
    theta_t = theta_{t-1} - lr m_t / (sqrt(v_max_t) + eps)   (eps = 0 in the paper)

With Adam's bias correction there are two readings: "after_max" (torch.optim.Adam) divides v_max_t by 1 - beta2^t
when it is used, "before_max" (optax.amsgrad) takes the maximum over v_t / (1 - beta2^t). Both correct m.
optax adds its eps_root under the root besides.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    correction: str = "none",
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    v_max = [0.0] * len(theta)
    below = eps_root or 0.0
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            if correction == "none":
                v_max[i] = max(v_max[i], v[i])
                theta[i] = theta[i] - lr * m[i] / (math.sqrt(v_max[i] + below) + eps)
            elif correction == "after_max":
                v_max[i] = max(v_max[i], v[i])
                m_hat = m[i] / (1 - beta1**t)
                theta[i] = theta[i] - lr * m_hat / (math.sqrt(v_max[i] / (1 - beta2**t) + below) + eps)
            elif correction == "before_max":
                v_max[i] = max(v_max[i], v[i] / (1 - beta2**t))
                m_hat = m[i] / (1 - beta1**t)
                theta[i] = theta[i] - lr * m_hat / (math.sqrt(v_max[i] + below) + eps)
            else:
                raise ValueError(correction)
        path.append(list(theta))
    return path, {"m": m, "v": v, "v_max": v_max}
