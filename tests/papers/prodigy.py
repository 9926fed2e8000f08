"""PRODIGY: Mishchenko & Defazio 2023, Algorithm 4, of one tensor (or of all tensors, one after the other).

    m_{k+1} = beta1 m_k + (1 - beta1) d_k g_k
    v_{k+1} = beta2 v_k + (1 - beta2) d_k^2 g_k^2
    r_{k+1} = beta3 r_k + (1 - beta3) lr d_k^2 <g_k, theta_0 - theta_k>
    s_{k+1} = beta3 s_k + (1 - beta3) lr d_k^2 g_k
    d_{k+1} = max(d_k, d_coef r_{k+1} / |s_{k+1}|_1)
    theta_{k+1} = theta_k - lr d_k m_{k+1} / (sqrt(v_{k+1}) + d_k eps) - lr d_k lambda theta_k

beta3 is the root of beta2. The slots r and s are those of the authors' code, which are divided by (1 - beta3) d_0. Its
options: beta3; growth_rate, by which alone d may grow in a step, but not in the first that raises it; bias_correction,
a factor of lr; safeguard_warmup, without lr in s; the decay in the gradient (decoupled_decay=False).
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float | None = None,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
    decoupled_decay: bool = True,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    start, theta = list(theta), list(theta)
    m, v, s = ([0.0] * len(theta) for _ in range(3))
    r, d, d_max = 0.0, d0, d0
    beta3 = math.sqrt(beta2) if beta3 is None else beta3
    path: list[list[float]] = []
    for t, given in enumerate(gradients, start=1):
        g = [x if decoupled_decay else x + weight_decay * y for x, y in zip(given, theta, strict=True)]
        rate = lr * d * (math.sqrt(1 - beta2**t) / (1 - beta1**t) if bias_correction else 1.0)
        r = beta3 * r + (1 - beta3) * rate * d * sum(g[i] * (start[i] - theta[i]) for i in range(len(g)))
        for i in range(len(theta)):
            s[i] = beta3 * s[i] + (1 - beta3) * (d if safeguard_warmup else rate) * d * g[i]
            m[i] = beta1 * m[i] + (1 - beta1) * d * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * d**2 * g[i] ** 2
            decay = weight_decay * theta[i] if decoupled_decay else 0.0
            theta[i] = theta[i] - rate * (m[i] / (math.sqrt(v[i]) + d * eps) + decay)
        length = sum(abs(x) for x in s)
        d_hat = d_coef * r / length if length > 0 else d
        if growth_rate is None:
            d = max(d, d_hat)
        else:
            d_max = max(d_max, d_hat)
            d = min(d_max, (max(d, d_hat) if d == d0 else d) * growth_rate)
        path.append(list(theta))
    scale = (1 - beta3) * d0
    slots: dict[str, list[float] | float] = {"m": m, "v": v, "theta0": start, "d": d}
    slots |= {"s": [x / scale for x in s], "r": r / scale}
    return path, slots if growth_rate is None else {**slots, "d_max": d_max}
