"""Rprop."""

from typing import Annotated, Literal

from steprule.language import maximum, minimum, sign, where
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import NonNegative, Range, Rate


@rule(
    paper="Riedmiller & Braun 1993, doi:10.1109/ICNN.1993.298623; variants: Igel & Huesken 2000",
    init={"delta": "lr"},
)
def rprop(
    theta,
    g,
    g_prev,
    delta: NonNegative,
    step_prev,
    *,
    lr: Rate = 1e-2,
    eta_minus: Annotated[float, Range(0.0, 1.0, open_low=True)] = 0.5,
    eta_plus: Annotated[float, Range(1.0, open_low=True)] = 1.2,
    delta_min: NonNegative = 1e-6,
    delta_max: NonNegative = 50.0,
    variant: Literal["irprop-", "rprop-", "rprop+"] = "irprop-",
):
    """Each element has its own step size delta, which grows while the sign of g stays the same and shrinks otherwise.

    ``lr`` is delta before the first step; the bounds apply from that step on. Where the sign has
    changed, ``"irprop-"`` (torch.optim.Rprop) does not step and forgets the gradient, ``"rprop-"``
    steps with the smaller delta, and ``"rprop+"`` (the original of 1993) reverts its last step
    (slot step_prev) and forgets the gradient.
    """
    change = sign(g) * sign(g_prev)
    delta = where(change > 0, delta * eta_plus, where(change < 0, delta * eta_minus, delta))
    delta = minimum(maximum(delta, delta_min), delta_max)
    g_prev = where(change < 0, 0.0, g) if variant != "rprop-" else g
    step = -sign(g_prev) * delta
    if variant == "rprop+":
        step = where(change < 0, -step_prev, step)
    return theta + step, g_prev, delta, step if variant == "rprop+" else None
