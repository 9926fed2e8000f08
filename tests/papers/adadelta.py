"""ADADELTA: Zeiler 2012, Algorithm 1.

    E[g^2]_t = rho E[g^2]_{t-1} + (1 - rho) g_t^2
    dx_t = - RMS[dx]_{t-1} / RMS[g]_t g_t,   RMS[y] = sqrt(E[y^2] + eps)
    E[dx^2]_t = rho E[dx^2]_{t-1} + (1 - rho) dx_t^2
    x_{t+1} = x_t + dx_t

lr is torch.optim.Adadelta's: it scales the step taken, not the one that is accumulated.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1.0,
    rho: float = 0.95,
    eps: float = 1e-6,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    e_g2 = [0.0] * len(theta)
    e_dx2 = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            e_g2[i] = rho * e_g2[i] + (1 - rho) * g[i] ** 2
            rms_g = math.sqrt(e_g2[i] + eps)
            rms_dx = math.sqrt(e_dx2[i] + eps)
            dx = -(rms_dx / rms_g) * g[i]
            e_dx2[i] = rho * e_dx2[i] + (1 - rho) * dx**2
            theta[i] = theta[i] + lr * dx
        path.append(list(theta))
    return path, {"E_g2": e_g2, "E_dx2": e_dx2}
