"""MUON: Jordan et al. 2024, kellerjordan.github.io/posts/muon, of a matrix (run_matrix).

    m_t = mu m_{t-1} + (1 - mu) g_t
    u_t = (1 - mu) g_t + mu m_t            with Nesterov's form; else m_t
    X_0 = u_t / ||u_t||_F,  X_k = a X + b (X X^T) X + c (X X^T)^2 X
    theta_t = theta_{t-1} - lr lambda theta_{t-1} - lr scale X_n

scale is sqrt(max(1, rows / columns)), that of the transposed matrix, or rho sqrt(max(rows, columns)) (Liu et al. 2025).
Polar Express (Amsel et al. 2025, arXiv:2505.16932, the authors' table and safety factor) has a, b, c of each step.
With bias_correction m_t is divided by 1 - mu^t, and in Nesterov's form g_t by that and m_t by 1 - mu^(t+1) (optax).
parts cuts the matrix along its rows.
"""

import math

Matrix = list[list[float]]

EXPRESS = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
]
LAST = (1.875, -1.25, 0.375)


def product(x: Matrix, y: Matrix) -> Matrix:
    columns = list(zip(*y, strict=True))
    return [[math.fsum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in x]


def transposed(x: Matrix) -> Matrix:
    return [list(column) for column in zip(*x, strict=True)]


def coefficients_of(name: str, step: int, quintic: tuple[float, float, float]) -> tuple[float, float, float]:
    if name == "jordan":
        return quintic
    if step >= len(EXPRESS):
        return LAST
    a, b, c = EXPRESS[step]
    return a / 1.01, b / 1.01**3, c / 1.01**5


def newton_schulz(
    x: Matrix, steps: int, name: str, quintic: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7
) -> Matrix:
    norm = math.sqrt(math.fsum(e * e for row in x for e in row))
    norm = max(norm * (1.01 if name == "polar_express" else 1.0), eps)
    x = [[e / norm for e in row] for row in x]
    for step in range(steps):
        a, b, c = coefficients_of(name, step, quintic)
        cubed = product(product(x, transposed(x)), x)
        fifth = product(product(x, transposed(x)), cubed)
        x = [
            [a * p + b * q + c * r for p, q, r in zip(*rows, strict=True)] for rows in zip(x, cubed, fifth, strict=True)
        ]
    return x


def run_matrix(
    theta: Matrix,
    gradients: list[Matrix],
    *,
    lr: float = 1e-3,
    momentum: float = 0.95,
    weight_decay: float = 0.1,
    nesterov: bool = True,
    bias_correction: bool = False,
    ns_steps: float = 5.0,
    coefficients: str = "jordan",
    a: float = 3.4445,
    b: float = -4.7750,
    c: float = 2.0315,
    eps: float = 1e-7,
    adjust_lr: str = "original",
    consistent_rms: float = 0.2,
    parts: float = 1.0,
) -> tuple[list[Matrix], dict[str, Matrix]]:
    """Return the matrix after each step, and the final slots by name."""
    theta, cut = [list(row) for row in theta], int(parts)
    rows, columns = len(theta) // cut, len(theta[0])
    m = [[0.0] * columns for _ in theta]
    path: list[Matrix] = []
    if adjust_lr == "match_rms_adamw":
        scale = consistent_rms * math.sqrt(max(rows, columns))
    else:
        scale = math.sqrt(max(1.0, columns / rows if adjust_lr == "transposed" else rows / columns))
    for t, g in enumerate(gradients, start=1):
        u = [[0.0] * columns for _ in theta]
        now = 1 - momentum**t if bias_correction else 1.0
        ahead = 1 - momentum ** (t + 1) if bias_correction else 1.0
        for i in range(len(theta)):
            for j in range(columns):
                m[i][j] = momentum * m[i][j] + (1 - momentum) * g[i][j]
                u[i][j] = m[i][j] / now
                if nesterov:
                    u[i][j] = (1 - momentum) * g[i][j] / now + momentum * m[i][j] / ahead
        o = [
            row
            for part in range(cut)
            for row in newton_schulz(u[part * rows : (part + 1) * rows], int(ns_steps), coefficients, (a, b, c), eps)
        ]
        for i in range(len(theta)):
            for j in range(columns):
                theta[i][j] = theta[i][j] - lr * weight_decay * theta[i][j] - lr * scale * o[i][j]
        path.append([list(row) for row in theta])
    return path, {"m": m}
