"""ADAM: Kingma & Ba 2015, Algorithm 1.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
    m_hat = m_t / (1 - beta1^t),  v_hat = v_t / (1 - beta2^t)
    theta_t = theta_{t-1} - lr m_hat / (sqrt(v_hat) + eps)

Without bias_correction m_hat is m and v_hat is v; with eps_inside the root is sqrt(v_hat + eps).
With eps_hat (end of section 2): alpha_t = lr sqrt(1 - beta2^t) / (1 - beta1^t), theta_t = theta_{t-1} - alpha_t m_t /
(sqrt(v_t) + eps), or sqrt(v_t + eps) with eps_inside.
optax adds its eps_root to v_hat, under the root, besides.
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
    bias_correction: bool = True,
    eps_inside: bool = False,
    eps_hat: bool = False,
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            v_hat += eps_root or 0.0
            root = math.sqrt(v_hat + eps) if eps_inside else math.sqrt(v_hat) + eps
            if eps_hat and bias_correction:
                alpha_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
                theta[i] = theta[i] - alpha_t * m[i] / (math.sqrt(v[i] + eps) if eps_inside else math.sqrt(v[i]) + eps)
            else:
                theta[i] = theta[i] - lr * m_hat / root
        path.append(list(theta))
    return path, {"m": m, "v": v}
