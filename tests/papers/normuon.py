"""NORMUON: Li et al. 2025, Algorithm 1, arXiv:2510.05491, of a matrix (run_matrix).

    M_t = mu M_{t-1} + (1 - mu) G_t
    O_t = the Newton-Schulz steps of Muon, of M_t; with nesterov of (1 - mu) G_t + mu M_t (the authors' code)
    v_t = beta2 v_{t-1} + (1 - beta2) mean(O_t^2) of each row
    N_t = O_t / (sqrt(v_t) + eps)
    W_t = W_{t-1} - lr lambda W_{t-1} - lr rho sqrt(rows columns) / ||N_t||_F  N_t

With adjust_lr="original" the last factor is sqrt(max(1, rows / columns)) ||O_t||_F / ||N_t||_F (the authors' code).
"""

import math

from tests.papers.muon import Matrix, newton_schulz


def run_matrix(
    theta: Matrix,
    gradients: list[Matrix],
    *,
    lr: float = 1e-3,
    momentum: float = 0.95,
    beta2: float = 0.95,
    weight_decay: float = 0.1,
    nesterov: bool = False,
    ns_steps: float = 5.0,
    coefficients: str = "jordan",
    eps: float = 1e-10,
    adjust_lr: str = "match_rms_adamw",
    consistent_rms: float = 0.2,
) -> tuple[list[Matrix], dict[str, Matrix | list[float]]]:
    """Return the matrix after each step, and the final slots by name."""
    theta = [list(row) for row in theta]
    rows, columns = len(theta), len(theta[0])
    m = [[0.0] * columns for _ in theta]
    v = [0.0] * rows
    path: list[Matrix] = []
    for g in gradients:
        u = [[0.0] * columns for _ in theta]
        for i in range(rows):
            for j in range(columns):
                m[i][j] = momentum * m[i][j] + (1 - momentum) * g[i][j]
                u[i][j] = (1 - momentum) * g[i][j] + momentum * m[i][j] if nesterov else m[i][j]
        o = newton_schulz(u, int(ns_steps), coefficients)
        before = math.sqrt(sum(x * x for row in o for x in row))
        for i in range(rows):
            v[i] = beta2 * v[i] + (1 - beta2) * sum(x * x for x in o[i]) / columns
            o[i] = [x / (math.sqrt(v[i]) + eps) for x in o[i]]
        after = math.sqrt(sum(x * x for row in o for x in row))
        if adjust_lr == "original":
            scale = math.sqrt(max(1.0, rows / columns)) * before / after
        else:
            scale = consistent_rms * math.sqrt(rows * columns) / after
        for i in range(rows):
            for j in range(columns):
                theta[i][j] = theta[i][j] - lr * weight_decay * theta[i][j] - lr * scale * o[i][j]
        path.append([list(row) for row in theta])
    return path, {"m": m, "v": v}
