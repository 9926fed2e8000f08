"""ASGD: Polyak & Juditsky 1992, averaged iterates; rate and decay as in Bottou's code.

    eta_t = lr / (1 + lambd lr (t - 1))^alpha
    theta_t = theta_{t-1} - eta_t (lambd theta_{t-1} + g_t)
    mu_t = 1 / max(1, t - 1 - t0)
    ax_t = ax_{t-1} + mu_t (theta_t - ax_{t-1})

The count in mu_t is torch.optim.ASGD's: mu is 1 up to t = t0 + 2, the first iterate that the average keeps (in
Bottou's code it is t0 + 1). With lagged, eta and mu are those that the next step will use.
"""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    lagged: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    ax = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
        mu = 1 / max(1.0, t - 1 - t0)
        for i in range(len(theta)):
            theta[i] = theta[i] - eta * (lambd * theta[i] + g[i])
            ax[i] = theta[i] if mu == 1 else ax[i] + mu * (theta[i] - ax[i])
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"ax": ax}
    if lagged:
        n = len(gradients)
        slots |= {"eta": lr / (1 + lambd * lr * n) ** alpha, "mu": 1 / max(1.0, n - t0)}
    return path, slots
