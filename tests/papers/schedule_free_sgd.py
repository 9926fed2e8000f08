"""Schedule-free SGD: Defazio et al. 2024, Algorithm 1, with the weights of the authors' package.

    y_t = (1 - beta) z_t + beta x_t
    z_{t+1} = z_t - gamma_t g(y_t)
    x_{t+1} = (1 - c_{t+1}) x_t + c_{t+1} z_{t+1}
    gamma_t = lr min(1, t / warmup_steps)
    c_{t+1} = w_t / sum of all w so far,  w_t = t^r max(gamma_1, ..., gamma_t)^p

The paper weighs by gamma_t^2 (r = 0, p = 2). What is returned as theta is y_{t+1}; x is not kept.
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    beta: float = 0.9,
    warmup_steps: float = 0.0,
    weight_t_power: float = 0.0,
    weight_lr_power: float = 2.0,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    x, z = list(theta), list(theta)
    largest = weights = 0.0
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        gamma = lr * t / warmup_steps if t < warmup_steps else lr
        largest = max(largest, gamma)
        weight = t**weight_t_power * largest**weight_lr_power
        weights += weight
        c = weight / weights if weights else 0.0
        for i in range(len(theta)):
            z[i] = z[i] - gamma * g[i]
            x[i] = (1 - c) * x[i] + c * z[i]
        path.append([(1 - beta) * z[i] + beta * x[i] for i in range(len(theta))])
    return path, {"z": z, "lr_max": largest, "weight_sum": weights}
