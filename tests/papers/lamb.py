"""LAMB: You et al. 2020, Algorithm 2, of one tensor.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
    r_t = (m_t / (1 - beta1^t)) / (sqrt(v_t / (1 - beta2^t)) + eps)
    theta_t = theta_{t-1} - lr phi(|theta_{t-1}|) / |r_t + lambda theta_{t-1}| (r_t + lambda theta_{t-1})

phi is the identity, or min(x, norm_limit). Where one of both norms is 0, their quotient counts as 1, as in all code.
With ratio_limit the quotient is at most that (Fong et al. 2020). Without bias_correction the denominators under m and v
are 1. optax adds its eps_root to the corrected v, under the root.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    bias_correction: bool = True,
    eps_root: float | None = None,
    norm_limit: float | None = None,
    ratio_limit: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        u = [0.0] * len(theta)
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            u[i] = m_hat / (math.sqrt(v_hat + (eps_root or 0.0)) + eps) + weight_decay * theta[i]
        phi = min(math.sqrt(sum(x * x for x in theta)), math.inf if norm_limit is None else norm_limit)
        length = math.sqrt(sum(x * x for x in u))
        ratio = phi / length if phi > 0 and length > 0 else 1.0
        if ratio_limit is not None and ratio > ratio_limit:
            ratio = ratio_limit
        theta = [x - lr * ratio * step for x, step in zip(theta, u, strict=True)]
        path.append(list(theta))
    return path, {"m": m, "v": v}
