"""ADAM-MINI: Zhang et al. 2024, Algorithm 1, of a matrix whose rows are the blocks (run_matrix), or of one block (run).

    theta_t = theta_{t-1} - lr lambda theta_{t-1}
    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) mean(g_t^2)        one number of each block
    theta_t = theta_t - lr (m_t / (1 - beta1^t)) / (sqrt(v_t / (1 - beta2^t)) + eps)

With blocks="tensor" a matrix is one block, too.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    blocks: str = "row",
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return the block after each step, and the final slots by name: a vector is one block in either way."""
    assert blocks in ("row", "tensor")
    theta, n = list(theta), len(theta)
    m = [0.0] * n
    v = 0.0
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        v = beta2 * v + (1 - beta2) * sum(x * x for x in g) / n
        for i in range(n):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            u = (m[i] / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
            theta[i] = theta[i] - lr * weight_decay * theta[i] - lr * u
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_matrix(
    theta: list[list[float]],
    gradients: list[list[list[float]]],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    blocks: str = "row",
) -> tuple[list[list[list[float]]], dict[str, list[float] | list[list[float]]]]:
    """Return the matrix after each step, and the final slots by name."""
    theta = [list(row) for row in theta]
    rows, columns = len(theta), len(theta[0])
    m = [[0.0] * columns for _ in range(rows)]
    v = [0.0] * rows
    path: list[list[list[float]]] = []
    for t, g in enumerate(gradients, start=1):
        whole = sum(x * x for row in g for x in row) / (rows * columns)
        for i in range(rows):
            block = whole if blocks == "tensor" else sum(x * x for x in g[i]) / columns
            v[i] = beta2 * v[i] + (1 - beta2) * block
            for j in range(columns):
                m[i][j] = beta1 * m[i][j] + (1 - beta1) * g[i][j]
                u = (m[i][j] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
                theta[i][j] = theta[i][j] - lr * weight_decay * theta[i][j] - lr * u
        path.append([list(row) for row in theta])
    return path, {"m": m, "v": v}
