"""ADEMAMIX: Pagliardini, Ablin & Grangier 2024, Algorithm 1, without its weight decay.

    m1_t = beta1 m1_{t-1} + (1 - beta1) g_t,         m1_hat = m1_t / (1 - beta1^t)
    m2_t = beta3_t m2_{t-1} + (1 - beta3_t) g_t      (not corrected)
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2,         v_hat = v_t / (1 - beta2^t)       (the paper's nu)
    theta_t = theta_{t-1} - lr (m1_hat + alpha_t m2_t) / (sqrt(v_hat) + eps)

alpha_t and beta3_t are f_alpha and f_beta3 with T = warmup and beta_start = beta1; constant without warmup.
"""

import math


def f_beta3(t: int, beta3: float, beta_start: float, warmup: float) -> float:
    """Raise beta from beta_start to beta3 so that its half-life grows linearly over the warmup."""
    tau = t / warmup
    if tau >= 1 or beta3 == 0:
        return beta3
    if beta_start == 0:  # the limit of the formula below
        return min(math.exp(math.log(beta3) / tau), beta3)
    log_s, log_3 = math.log(beta_start), math.log(beta3)
    return min(math.exp(log_s * log_3 / ((1 - tau) * log_3 + tau * log_s)), beta3)


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.9999,
    alpha: float = 5.0,
    eps: float = 1e-8,
    warmup: float | None = None,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m1 = [0.0] * len(theta)
    m2 = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        alpha_t = alpha if warmup is None else min(t * alpha / warmup, alpha)
        beta3_t = beta3 if warmup is None else f_beta3(t, beta3, beta1, warmup)
        for i in range(len(theta)):
            m1[i] = beta1 * m1[i] + (1 - beta1) * g[i]
            m2[i] = beta3_t * m2[i] + (1 - beta3_t) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m1_hat = m1[i] / (1 - beta1**t)
            v_hat = v[i] / (1 - beta2**t)
            theta[i] = theta[i] - lr * (m1_hat + alpha_t * m2[i]) / (math.sqrt(v_hat) + eps)
        path.append(list(theta))
    return path, {"m1": m1, "m2": m2, "v": v}
