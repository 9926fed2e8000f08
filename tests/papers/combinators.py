"""COMBINATORS: what may stand around a rule, written out for one rule each."""

import math


def run_l2_sgd_momentum(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float,
    mu: float,
    weight_decay: float,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """L2 penalty, weight_decay / 2 |theta|^2, in the gradient, then Polyak's heavy ball."""
    theta = list(theta)
    b = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            penalized = g[i] + weight_decay * theta[i]
            b[i] = mu * b[i] + penalized
            theta[i] = theta[i] - lr * b[i]
        path.append(list(theta))
    return path, {"b": b}


def run_maximize_adam(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Adam (Kingma & Ba 2015, Algorithm 1) that climbs: it descends on -f, whose gradient is -g."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * -g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t)
            v_hat = v[i] / (1 - beta2**t)
            theta[i] = theta[i] - lr * m_hat / (math.sqrt(v_hat) + eps)
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_cautious_adam(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Adam masked as in Liang et al. 2024 (arXiv:2411.16085), without the rescaling by the share that moves.

    An element moves only where its step, theta_old - theta_new, has the sign of its gradient; m and v always move.
    """
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t)
            v_hat = v[i] / (1 - beta2**t)
            theta_new = theta[i] - lr * m_hat / (math.sqrt(v_hat) + eps)
            falls, rises = theta[i] > theta_new, theta[i] < theta_new
            if (falls and g[i] > 0) or (rises and g[i] < 0):
                theta[i] = theta_new
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_cautious_adamw(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """C-AdamW as in its authors' code, without the rescaling: every weight decays, and the mask is the step's alone."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            theta[i] -= lr * weight_decay * theta[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            if m[i] * g[i] > 0:
                theta[i] -= lr * (m[i] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_rescaled_cautious_adamw(
    theta: list[float],
    gradients: list[list[float]],
    *,
    rescale: str,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """C-AdamW (Liang et al. 2024, arXiv:2411.16085) with its rescaling, of one tensor.

    "paper", Algorithm 1: lr is multiplied by n / (k + 1), where k of the n elements move; "clamped", the authors' code:
    it is divided by the share k / n, or by 0.001 if that is larger.
    """
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        mask = [1 if x * y > 0 else 0 for x, y in zip(m, g, strict=True)]
        factor = len(mask) / (sum(mask) + 1) if rescale == "paper" else 1 / max(sum(mask) / len(mask), 1e-3)
        for i in range(len(theta)):
            theta[i] -= lr * weight_decay * theta[i]
            u = (m[i] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            theta[i] -= lr * factor * mask[i] * u
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_cautious_decay_adam(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    scale_by_lr: bool = True,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Adam with the decay of Chen et al. 2025, Algorithm 1 (arXiv:2510.12402).

    theta_t = theta_{t-1} - lr (u_t + lambda 1[u_t theta_{t-1} >= 0] theta_{t-1}), where u_t is Adam's
    m_hat / (sqrt(v_hat) + eps).
    """
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            u = (m[i] / (1 - beta1**t)) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            decay = (lr if scale_by_lr else 1.0) * weight_decay * theta[i] if u * theta[i] >= 0 else 0.0
            theta[i] = theta[i] - lr * u - decay
        path.append(list(theta))
    return path, {"m": m, "v": v}


def run_unscaled_sgd(
    theta: list[float], gradients: list[list[float]], *, lr: float, grad_scale: float
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Gradient descent (Robbins & Monro 1951) along gradients of a loss times grad_scale."""
    theta = list(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            theta[i] = theta[i] - lr * (g[i] / grad_scale)
        path.append(list(theta))
    return path, {}


def run_centralized_momentum(
    theta: list[list[float]],
    gradients: list[list[list[float]]],
    *,
    lr: float,
    mu: float,
) -> tuple[list[list[list[float]]], dict[str, list[list[float]]]]:
    """Heavy ball along centralized gradients (Yong et al. 2020, Equation 1): each row of a matrix minus its mean."""
    theta = [list(row) for row in theta]
    b = [[0.0] * len(row) for row in theta]
    path: list[list[list[float]]] = []
    for g in gradients:
        for i in range(len(theta)):
            centre = sum(g[i]) / len(g[i])
            for j in range(len(theta[i])):
                b[i][j] = mu * b[i][j] + (g[i][j] - centre)
                theta[i][j] = theta[i][j] - lr * b[i][j]
        path.append([list(row) for row in theta])
    return path, {"b": b}
