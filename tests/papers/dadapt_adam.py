"""DADAPT_ADAM: Defazio & Mishchenko 2023, Adam with D-Adaptation, of one tensor (or of all, one after the other).

    rate_k = lr d_k
    r_{k+1} = sqrt(beta2) r_k + (1 - sqrt(beta2)) rate_k <g_k, s_k / (sqrt(v_k) + eps)>
    s_{k+1} = sqrt(beta2) s_k + (1 - sqrt(beta2)) rate_k g_k
    m_{k+1} = beta1 m_k + (1 - beta1) rate_k g_k
    v_{k+1} = beta2 v_k + (1 - beta2) g_k^2
    d_{k+1} = max(d_k, r_{k+1} / ((1 - sqrt(beta2)) |s_{k+1}|_1))
    theta_{k+1} = theta_k - m_{k+1} / (sqrt(v_{k+1}) + eps)

In the authors' code the decay is in the gradient, or lr d_k lambda theta_k is taken off besides (decoupled_decay);
growth_rate bounds d_{k+1} / d_k, and bias_correction is a factor of lr.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    growth_rate: float | None = None,
    bias_correction: bool = False,
    decoupled_decay: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m, v, s = ([0.0] * len(theta) for _ in range(3))
    r, d = 0.0, d0
    root = math.sqrt(beta2)
    path: list[list[float]] = []
    for t, given in enumerate(gradients, start=1):
        g = [x if decoupled_decay else x + weight_decay * y for x, y in zip(given, theta, strict=True)]
        rate = lr * d * (math.sqrt(1 - beta2**t) / (1 - beta1**t) if bias_correction else 1.0)
        product = sum(g[i] * s[i] / (math.sqrt(v[i]) + eps) for i in range(len(g)))
        r = root * r + (1 - root) * rate * product
        for i in range(len(theta)):
            s[i] = root * s[i] + (1 - root) * rate * g[i]
            m[i] = beta1 * m[i] + (1 - beta1) * rate * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            decay = rate * weight_decay * theta[i] if decoupled_decay else 0.0
            theta[i] = theta[i] - decay - m[i] / (math.sqrt(v[i]) + eps)
        length = sum(abs(x) for x in s)
        if length > 0:
            d_hat = r / ((1 - root) * length)
            d = max(d, d_hat if growth_rate is None else min(d_hat, d * growth_rate))
        path.append(list(theta))
    return path, {"m": m, "v": v, "s": s, "r": r, "d": d}
