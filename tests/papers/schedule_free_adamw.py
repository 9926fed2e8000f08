"""Schedule-free AdamW: Defazio et al. 2024, Algorithm 1, with the weights of the authors' package.

    y_t = (1 - beta1) z_t + beta1 x_t
    v_t = beta2 v_{t-1} + (1 - beta2) g(y_t)^2,  v_hat = v_t / (1 - beta2^t)
    z_{t+1} = z_t - gamma_t g(y_t) / (sqrt(v_hat) + eps) - gamma_t lambda y_t
    x_{t+1} = (1 - c_{t+1}) x_t + c_{t+1} z_{t+1}
    gamma_t = lr min(1, t / warmup_steps)
    c_{t+1} = w_t / sum of all w so far,  w_t = t^r max(gamma_1, ..., gamma_t)^p

(The paper puts the bias correction of v into gamma_t; the package divides v by it, as here.) What is returned as theta
is y_{t+1}. Adam's first moment is gone, and with it its correction. The options are those of AdamW; see adamw.py.
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
    weight_decay: float = 0.01,
    scale_by_lr: bool = True,
    warmup_steps: float = 0.0,
    weight_t_power: float = 0.0,
    weight_lr_power: float = 2.0,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    y, x, z = list(theta), list(theta), list(theta)
    v = [0.0] * len(theta)
    largest = weights = 0.0
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        gamma = lr * t / warmup_steps if t < warmup_steps else lr
        largest = max(largest, gamma)
        weight = t**weight_t_power * largest**weight_lr_power
        weights += weight
        c = weight / weights if weights else 0.0
        for i in range(len(theta)):
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            v_hat = (v[i] / (1 - beta2**t) if bias_correction else v[i]) + (eps_root or 0.0)
            root = math.sqrt(v_hat + eps) if eps_inside else math.sqrt(v_hat) + eps
            if eps_hat and bias_correction:
                uncorrected = math.sqrt(v[i] + eps) if eps_inside else math.sqrt(v[i]) + eps
                root = uncorrected / math.sqrt(1 - beta2**t)
            decay = weight_decay * y[i]
            z[i] = z[i] - gamma * g[i] / root - (gamma * decay if scale_by_lr else decay)
            x[i] = (1 - c) * x[i] + c * z[i]
            y[i] = (1 - beta1) * z[i] + beta1 * x[i]
        path.append(list(y))
    return path, {"z": z, "v": v, "lr_max": largest, "weight_sum": weights}
