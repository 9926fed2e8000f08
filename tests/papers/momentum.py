"""MOMENTUM: Polyak 1964, the heavy ball; Nesterov form as rewritten by Sutskever et al. 2013.

    b_t = mu b_{t-1} + (1 - dampening) g_t          (b_1 = g_1)
    theta_t = theta_{t-1} - lr b_t                  (heavy ball)
    theta_t = theta_{t-1} - lr (g_t + mu b_t)       (nesterov)

The rate stands outside b, as in torch.optim.SGD; Polyak and Sutskever have it inside (b then is lr times this
one), which is the same while lr is constant.
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    mu: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    b = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            if t == 1:
                b[i] = g[i]  # torch: the first gradient is not dampened
            else:
                b[i] = mu * b[i] + (1 - dampening) * g[i]
            if nesterov:
                theta[i] = theta[i] - lr * (g[i] + mu * b[i])
            else:
                theta[i] = theta[i] - lr * b[i]
        path.append(list(theta))
    return path, {"b": b}
