"""RPROP: Riedmiller & Braun 1993 (Rprop+); Rprop- and iRprop- as listed by Igel & Huesken 2000.

    g_{t-1} g_t > 0:  delta = min(eta_plus delta, delta_max),   dw = -sign(g_t) delta
    g_{t-1} g_t < 0:  delta = max(eta_minus delta, delta_min),  then
        irprop-:  g_t = 0, so that dw = -sign(0) delta = 0
        rprop-:   dw = -sign(g_t) delta
        rprop+:   dw = -dw_{t-1} and g_t = 0
    g_{t-1} g_t = 0:  dw = -sign(g_t) delta
    w_{t+1} = w_t + dw

step_prev is dw, what was added to theta. delta_0 = lr is brought within the bounds as well.
"""


def sign(x: float) -> int:
    """Return -1, 0 or 1."""
    return (x > 0) - (x < 0)


def run(
    theta: list[float],
    gradients: list[list[float]],
    *,
    lr: float = 0.01,
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    delta_min: float = 1e-6,
    delta_max: float = 50.0,
    variant: str = "irprop-",
) -> tuple[list[list[float]], dict[str, list[float] | float]]:
    """Return theta after each step, and the final slots by name."""
    if variant not in ("irprop-", "rprop-", "rprop+"):
        raise ValueError(variant)
    theta = list(theta)
    g_prev = [0.0] * len(theta)
    delta = [lr] * len(theta)
    step_prev = [0.0] * len(theta)
    path: list[list[float]] = []
    for g in gradients:
        for i in range(len(theta)):
            g_i = g[i]
            delta[i] = min(max(delta[i], delta_min), delta_max)
            agreement = sign(g_prev[i]) * sign(g_i)
            if agreement > 0:
                delta[i] = min(eta_plus * delta[i], delta_max)
                dw = -sign(g_i) * delta[i]
            elif agreement < 0:
                delta[i] = max(eta_minus * delta[i], delta_min)
                if variant == "rprop-":
                    dw = -sign(g_i) * delta[i]
                elif variant == "rprop+":
                    dw = -step_prev[i]
                    g_i = 0.0
                else:
                    dw = 0.0
                    g_i = 0.0
            else:
                dw = -sign(g_i) * delta[i]
            theta[i] = theta[i] + dw
            g_prev[i] = g_i
            step_prev[i] = dw
        path.append(list(theta))
    slots: dict[str, list[float] | float] = {"g_prev": g_prev, "delta": delta}
    if variant == "rprop+":
        slots["step_prev"] = step_prev
    return path, slots
