"""ADAFACTOR: Shazeer & Stern 2018, Algorithm 5 (a vector, run) and Algorithm 4 (a matrix, run_matrix).

    alpha_t = max(eps2, RMS(theta_{t-1})) rho_t,  rho_t = min(lr, 1 / sqrt(t))
    V_t = b_t V_{t-1} + (1 - b_t) (G_t^2 + eps1),  b_t = 1 - t^-decay_rate
    U_t = G_t / sqrt(V_t)
    theta_t = theta_{t-1} - alpha_t U_t / max(1, RMS(U_t) / d)

Of a matrix only the sums R_t of the rows of V_t and C_t of its columns are kept, and R_t C_t / sum(R_t) stands for V_t.
The slots hold means in place of sums. beta2 is Adam's, whose average is divided by 1 - beta2^t (Section 7.1). beta1
averages the steps alpha_t U_t (Mesh TensorFlow, optax); eps2 None leaves RMS(theta) away, relative_step False the
1 / sqrt(t) (optax). weight_decay is decoupled, and times lr (torch). With clamp eps1 is added to no square: sqrt(V_t)
is at least eps1, and so is the mean of R_t of a matrix (torch).
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 1e-2,
    beta1: float | None = None,
    beta2: float | None = None,
    decay_rate: float = 0.8,
    eps1: float = 1e-30,
    eps2: float | None = 1e-3,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
    relative_step: bool = True,
    clamp: bool = False,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return the vector after each step, and the final slots by name."""
    theta, n = list(theta), len(theta)
    average = [0.0] * n
    v = [0.0] * n
    m = [0.0] * n
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        b = 1 - t**-decay_rate if beta2 is None else beta2
        u = [0.0] * n
        for i in range(n):
            average[i] = b * average[i] + (1 - b) * (g[i] ** 2 + (0.0 if clamp else eps1))
            v[i] = average[i] if beta2 is None else average[i] / (1 - beta2**t)
            u[i] = g[i] / (max(math.sqrt(v[i]), eps1) if clamp else math.sqrt(v[i]))
        size = math.sqrt(sum(x * x for x in theta) / n)
        length = math.sqrt(sum(x * x for x in u) / n)
        rho = min(lr, 1 / math.sqrt(t)) if relative_step else lr
        alpha = rho if eps2 is None else max(eps2, size) * rho
        for i in range(n):
            step = alpha * u[i] / max(1.0, length / clip_threshold)
            if beta1 is not None:
                m[i] = beta1 * m[i] + (1 - beta1) * step
                step = m[i]
            theta[i] = theta[i] - lr * weight_decay * theta[i] - step
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"r": sum(v) / n, "c": v}
    return path, slots if beta1 is None else {**slots, "m": m}


def run_matrix(
    theta: list[list[float]],
    gradients: list[list[list[float]]],
    *,
    lr: float = 1e-2,
    beta1: float | None = None,
    beta2: float | None = None,
    decay_rate: float = 0.8,
    eps1: float = 1e-30,
    eps2: float | None = 1e-3,
    clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
    relative_step: bool = True,
    clamp: bool = False,
) -> tuple[list[list[list[float]]], dict[str, list[float] | list[list[float]]]]:
    """Return the matrix after each step, and the final slots by name."""
    theta = [list(row) for row in theta]
    rows, columns = len(theta), len(theta[0])
    r_sum, c_sum = [0.0] * rows, [0.0] * columns
    m = [[0.0] * columns for _ in range(rows)]
    correction = 1.0
    path: list[list[list[float]]] = []
    for t, g in enumerate(gradients, start=1):
        b = 1 - t**-decay_rate if beta2 is None else beta2
        correction = 1.0 if beta2 is None else 1 - beta2**t
        square = [[x * x + (0.0 if clamp else eps1) for x in row] for row in g]
        for i in range(rows):
            r_sum[i] = b * r_sum[i] + (1 - b) * sum(square[i])
        for j in range(columns):
            c_sum[j] = b * c_sum[j] + (1 - b) * sum(square[i][j] for i in range(rows))
        u = [[0.0] * columns for _ in range(rows)]
        for i in range(rows):
            for j in range(columns):
                r, c = r_sum[i] / correction, c_sum[j] / correction
                if clamp:
                    mean = sum(r_sum) / correction / columns / rows
                    v = (r / columns) * (c / rows) / max(mean, eps1)
                    u[i][j] = g[i][j] / max(math.sqrt(v), eps1)
                else:
                    u[i][j] = g[i][j] / math.sqrt(r * c / (sum(r_sum) / correction))
        size = math.sqrt(sum(x * x for row in theta for x in row) / (rows * columns))
        length = math.sqrt(sum(x * x for row in u for x in row) / (rows * columns))
        rho = min(lr, 1 / math.sqrt(t)) if relative_step else lr
        alpha = rho if eps2 is None else max(eps2, size) * rho
        for i in range(rows):
            for j in range(columns):
                step = alpha * u[i][j] / max(1.0, length / clip_threshold)
                if beta1 is not None:
                    m[i][j] = beta1 * m[i][j] + (1 - beta1) * step
                    step = m[i][j]
                theta[i][j] = theta[i][j] - lr * weight_decay * theta[i][j] - step
        path.append([list(row) for row in theta])
    r_mean = [x / columns / correction for x in r_sum]
    c_mean = [x / rows / correction for x in c_sum]
    slots: dict[str, list[float] | list[list[float]]] = {"r": r_mean, "c": c_mean}
    return path, slots if beta1 is None else {**slots, "m": m}
