"""ADAGRAD: Duchi, Hazan & Singer 2011, Figure 1, the diagonal form without regulariser or constraint.

    G_t = G_{t-1} + g_t^2
    theta_t = theta_{t-1} - lr g_t / (eps + sqrt(G_t))

The paper's delta is eps, added to the root (H_t = delta I + diag(s_t)). The falling rate lr / (1 + (t - 1) lr_decay)
is torch.optim.Adagrad's.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    eps: float = 1e-10,
    lr_decay: float = 0.0,
    initial_accumulator: float = 0.0,
    eps_inside: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    g_sum = [initial_accumulator] * len(theta)  # the paper's diagonal of G_t
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        lr_t = lr / (1 + (t - 1) * lr_decay)
        for i in range(len(theta)):
            g_sum[i] = g_sum[i] + g[i] ** 2
            h = math.sqrt(g_sum[i] + eps) if eps_inside else eps + math.sqrt(g_sum[i])
            theta[i] = theta[i] - lr_t * g[i] / h
        path.append(list(theta))
    return path, {"G": g_sum}
