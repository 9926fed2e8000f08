"""ADAMW: Adam (Kingma & Ba 2015, Algorithm 1) with the decay of Loshchilov & Hutter 2019, Algorithm 2.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t
    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
    m_hat = m_t / (1 - beta1^t),  v_hat = v_t / (1 - beta2^t)
    theta_t = theta_{t-1} - eta_t (alpha m_hat / (sqrt(v_hat) + eps) + lambda theta_{t-1})

The paper's lambda is not multiplied by alpha (scale_by_lr=False, eta_t = 1); torch.optim.AdamW multiplies it by
the learning rate (scale_by_lr=True). The decay is written first here; it sees theta_{t-1} either way.
With eps_hat as in the end of Kingma & Ba's section 2: eps is added to sqrt(v) before its correction.
optax adds its eps_root to v_hat, under the root, besides.
"""

import math


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    bias_correction: bool = True,
    eps_inside: bool = False,
    eps_hat: bool = False,
    eps_root: float | None = None,
    weight_decay: float = 0.01,
    scale_by_lr: bool = True,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    m = [0.0] * len(theta)
    v = [0.0] * len(theta)
    path: list[list[float]] = []
    for t, g in enumerate(gradients, start=1):
        for i in range(len(theta)):
            if scale_by_lr:
                theta[i] = theta[i] * (1 - lr * weight_decay)
            else:
                theta[i] = theta[i] * (1 - weight_decay)
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            v_hat += eps_root or 0.0
            root = math.sqrt(v_hat + eps) if eps_inside else math.sqrt(v_hat) + eps
            if eps_hat and bias_correction:
                alpha_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
                theta[i] = theta[i] - alpha_t * m[i] / (math.sqrt(v[i] + eps) if eps_inside else math.sqrt(v[i]) + eps)
            else:
                theta[i] = theta[i] - lr * m_hat / root
        path.append(list(theta))
    return path, {"m": m, "v": v}
