"""RADAM: Liu et al. 2020, Algorithm 2.

    rho_inf = 2 / (1 - beta2) - 1,  rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)
    m, v, m_hat as in Adam
    rho_t > 4:  l_t = 1 / sqrt(v_t / (1 - beta2^t))
                r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
                theta_t = theta_{t-1} - lr r_t m_hat l_t
    else:       theta_t = theta_{t-1} - lr m_hat

The paper has no epsilon. It is added to the corrected root here, as in Adam; with eps_hat to sqrt(v_t) before the
correction, as torch.optim.RAdam does (the same for eps = 0). optax adds its eps_root under the corrected root besides.
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
    rho_min: float = 4.0,
    eps_hat: bool = False,
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    rho_inf = 2 / (1 - beta2) - 1
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t)
            if rho > rho_min:
                r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
                root = math.sqrt(v[i] / (1 - beta2**t) + (eps_root or 0.0)) + eps
                if eps_hat:
                    root = (math.sqrt(v[i]) + eps) / math.sqrt(1 - beta2**t)
                theta[i] = theta[i] - lr * r * m_hat / root
            else:
                theta[i] = theta[i] - lr * m_hat
        path.append(list(theta))
    return path, {"m": m, "v": v}
