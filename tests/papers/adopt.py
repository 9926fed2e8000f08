"""ADOPT: Taniguchi et al. 2024, Algorithm 1; the clipping is that of the authors' later code.

t = 1:  v = g_1^2, theta and m = 0 stay  (the paper's v_0 = g_0^2; its t is one less than here)
t > 1:  d_t = g_t / max(sqrt(v_{t-1}), eps),  with clip bounded to [-c, c], c = (t - 1)^(1/4)
        m_t = beta1 m_{t-1} + (1 - beta1) d_t
        theta_t = theta_{t-1} - lr m_t
        v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.9999,
    eps: float = 1e-6,
    clip: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            if t == 1:
                v[i] = g[i] ** 2
            else:
                d = g[i] / max(math.sqrt(v[i]), eps)
                if clip:
                    c = (t - 1) ** 0.25
                    d = max(-c, min(d, c))
                m[i] = beta1 * m[i] + (1 - beta1) * d
                theta[i] = theta[i] - lr * m[i]
                v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        path.append(list(theta))
    return path, {"m": m, "v": v}
