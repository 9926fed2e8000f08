"""NADAM: Dozat 2016, Nesterov-accelerated adaptive moment estimation.

    mu_t = beta1 (1 - 0.5 * 0.96^(t psi))
    g_hat = g_t / (1 - prod_{i<=t} mu_i)
    m_t = beta1 m_{t-1} + (1 - beta1) g_t,     m_hat = m_t / (1 - prod_{i<=t+1} mu_i)
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2,   v_hat = v_t / (1 - beta2^t)     (Dozat's n, nu)
    m_bar = (1 - mu_t) g_hat + mu_{t+1} m_hat
    theta_t = theta_{t-1} - lr m_bar / (sqrt(v_hat) + eps)

The form of Dozat's report (its Algorithm 8), with the constant decay mu of m read as beta1, like torch.optim.NAdam.
The workshop paper (its Algorithm 2) has mu_t there, and another factor nu in v_hat.
Without psi (None) mu_t is beta1, as in optax.nadam, which adds its eps_root under the root besides.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    psi: float | None = 0.004,
    eps_root: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    mu_product = 1.0
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        mu, mu_next = (beta1 * (1 - (0.0 if psi is None else 0.5 * 0.96 ** (i * psi))) for i in (t, t + 1))
        mu_product = mu_product * mu
        for i in range(len(theta)):
            g_hat = g[i] / (1 - mu_product)
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            m_hat = m[i] / (1 - mu_product * mu_next)
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            v_hat = v[i] / (1 - beta2**t)
            m_bar = (1 - mu) * g_hat + mu_next * m_hat
            theta[i] = theta[i] - lr * m_bar / (math.sqrt(v_hat + (eps_root or 0.0)) + eps)
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"m": m, "v": v}
    if psi is not None:
        slots["mu_product"] = mu_product
    return path, slots
