"""RMSPROP: Tieleman & Hinton 2012, lecture 6.5; centered and with momentum: Graves 2013, eq. 38-41.

    v_t = rho v_{t-1} + (1 - rho) g_t^2                (Graves' n)
    g_avg_t = rho g_avg_{t-1} + (1 - rho) g_t          (Graves' g, centered only)
    d_t = g_t / sqrt(v_t - g_avg_t^2 + eps)            (without g_avg^2 where not centered)
    b_t = momentum b_{t-1} + d_t                       (Graves' Delta, up to the rate)
    theta_t = theta_{t-1} - lr b_t                     (lr d_t without momentum)

Graves has eps under the root and the rate inside b; torch.optim.RMSprop adds eps to the root and keeps the rate
outside b, which is the same while lr is constant. A v too large for a number stays infinite, less any average.
optax looks ahead with nesterov (it steps along d_t + momentum b_t), and v_0 is its initial_scale.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    rho: float = 0.99,
    eps: float = 1e-8,
    momentum: float | None = None,
    centered: bool = False,
    eps_inside: bool = False,
    nesterov: bool = False,
    initial_scale: float = 0.0,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    v = [initial_scale] * len(theta)
    g_avg = [0.0] * len(theta)
    b = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            v[i] = rho * v[i] + (1 - rho) * (g[i] * g[i])
            variance = v[i]
            if centered:
                g_avg[i] = rho * g_avg[i] + (1 - rho) * g[i]
                if v[i] < math.inf:
                    variance = max(v[i] - g_avg[i] * g_avg[i], 0.0)
            root = math.sqrt(variance + eps) if eps_inside else math.sqrt(variance) + eps
            if momentum is None:
                theta[i] = theta[i] - lr * g[i] / root
            else:
                b[i] = momentum * b[i] + g[i] / root
                theta[i] = theta[i] - lr * (g[i] / root + momentum * b[i] if nesterov else b[i])
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"v": v}
    if centered:
        slots["g_avg"] = g_avg
    if momentum is not None:
        slots["b"] = b
    return path, slots
