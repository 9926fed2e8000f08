"""CAME: Luo et al. 2023, Algorithm 2 of a matrix (run_matrix), and as its authors' code steps a vector (run).

    r_t = beta2 r_{t-1} + (1 - beta2) rows(G_t^2 + eps1),  c_t the same with columns
    U_t = G_t / sqrt(r_t c_t / sum(r_t)),  Uc_t = U_t / max(1, RMS(U_t) / d)
    M_t = beta1 M_{t-1} + (1 - beta1) Uc_t
    R_t = beta3 R_{t-1} + (1 - beta3) rows((Uc_t - M_t)^2 + eps2),  C_t the same with columns
    theta_t = theta_{t-1} - lr M_t / sqrt(R_t C_t / sum(R_t))

Rows and columns are summed; the slots hold means. A vector has all of its squares in place of r_t and c_t, and no R_t
and C_t: it steps by M_t. The slots that the rule keeps for it nevertheless are written out. The code's weight decay
is decoupled and times lr.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 2e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.9999,
    eps1: float = 1e-30,
    eps2: float = 1e-16,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return the vector after each step, and the final slots by name."""
    theta, n = list(theta), len(theta)
    v, m, s = [0.0] * n, [0.0] * n, [0.0] * n
    path: list[list[float]] = []
    for g in gradients:
        for i in range(n):
            v[i] = beta2 * v[i] + (1 - beta2) * (g[i] ** 2 + eps1)
        u = [g[i] / math.sqrt(v[i]) for i in range(n)]
        clip = max(1.0, math.sqrt(sum(x * x for x in u) / n) / clip_threshold)
        for i in range(n):
            m[i] = beta1 * m[i] + (1 - beta1) * u[i] / clip
            s[i] = beta3 * s[i] + (1 - beta3) * ((u[i] / clip - m[i]) ** 2 + eps2)
            theta[i] = theta[i] - lr * weight_decay * theta[i] - lr * m[i]
        path.append(list(theta))
    return path, {"m": m, "r": sum(v) / n, "c": v, "r_s": sum(s) / n, "c_s": s}


def run_matrix(
    theta: list[list[float]],
    gradients: list[list[list[float]]],
    *,
    lr: float = 2e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.9999,
    eps1: float = 1e-30,
    eps2: float = 1e-16,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
) -> tuple[list[list[list[float]]], dict[str, list[float] | list[list[float]]]]:
    """Return the matrix after each step, and the final slots by name."""
    theta = [list(row) for row in theta]
    rows, columns = len(theta), len(theta[0])
    r, c, r_s, c_s = [0.0] * rows, [0.0] * columns, [0.0] * rows, [0.0] * columns
    m = [[0.0] * columns for _ in range(rows)]
    path: list[list[list[float]]] = []
    for g in gradients:
        for i in range(rows):
            r[i] = beta2 * r[i] + (1 - beta2) * sum(g[i][j] ** 2 + eps1 for j in range(columns))
        for j in range(columns):
            c[j] = beta2 * c[j] + (1 - beta2) * sum(g[i][j] ** 2 + eps1 for i in range(rows))
        u = [[g[i][j] / math.sqrt(r[i] * c[j] / sum(r)) for j in range(columns)] for i in range(rows)]
        clip = max(1.0, math.sqrt(sum(x * x for row in u for x in row) / (rows * columns)) / clip_threshold)
        far = [[0.0] * columns for _ in range(rows)]
        for i in range(rows):
            for j in range(columns):
                m[i][j] = beta1 * m[i][j] + (1 - beta1) * u[i][j] / clip
                far[i][j] = (u[i][j] / clip - m[i][j]) ** 2 + eps2
        for i in range(rows):
            r_s[i] = beta3 * r_s[i] + (1 - beta3) * sum(far[i])
        for j in range(columns):
            c_s[j] = beta3 * c_s[j] + (1 - beta3) * sum(far[i][j] for i in range(rows))
        for i in range(rows):
            for j in range(columns):
                s = r_s[i] * c_s[j] / sum(r_s)
                theta[i][j] = theta[i][j] - lr * weight_decay * theta[i][j] - lr * m[i][j] / math.sqrt(s)
        path.append([list(row) for row in theta])
    means = {"r": [x / columns for x in r], "c": [x / rows for x in c]}
    return path, {"m": m, **means, "r_s": [x / columns for x in r_s], "c_s": [x / rows for x in c_s]}
