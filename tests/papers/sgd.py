"""SGD: Robbins & Monro 1951, the stochastic approximation step along the gradient."""


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    theta = list(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            theta[i] = theta[i] - lr * g[i]
        path.append(list(theta))
    return path, {}
