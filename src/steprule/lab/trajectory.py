"""What the page computes, in NumPy: the steps of a rule over a surface, by the referee."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.doors.numpy import Optimizer
from steprule.errors import ProblemError
from steprule.lab.noise import normal, uniform
from steprule.lab.surface import Array, Surface
from steprule.lab.surfaces import surface as named
from steprule.rules import Rule, find

__all__ = ["finite", "trajectory"]


def trajectory(
    rule: str | Rule,
    surface: str | Surface,
    steps: int,
    *,
    start: tuple[float, ...] | None = None,
    noise: float | None = None,
    scale: float = 1.0,
    seed: int = 1,
    evaluated: bool = False,
    **hyperparameters: Any,
) -> NDArray[np.float32]:
    """Return the points of a path, in float32: the start and one a step, as rows.

    They are those at which gradients are taken, or, if asked for, those at which the rule is evaluated, which are
    others for a rule like ``schedule_free_sgd`` alone.

    Args:
        rule: what steps, by NumPy's referee.
        surface: whose gradient it is given, computed in float64 and rounded to float32: what ``lab.surface`` returns,
            or the name or expression that it takes.
        steps: how many.
        start: where it begins; default: the surface's.
        noise: the standard deviation of what is added to each coordinate of the gradient; default: the surface's.
        scale: what the loss, and so the gradient without its noise, is multiplied by.
        seed: what the noise and the draws of the surface depend on, besides the step.
        evaluated: whether the evaluated points are asked for.
        hyperparameters: of the rule.

    Raises:
        ProblemError: when there is no such surface, or it has no gradient at the start.
    """
    if isinstance(surface, str):
        surface = named(surface)
    if not isinstance(surface, Surface):
        raise ProblemError(f"a surface is what lab.surface returns, its name or an expression, got {surface!r}")
    rule_of = find(rule)
    theta = np.array(surface.start if start is None else start, np.float32)
    surface.check_start(tuple(theta.tolist()))
    optimizer = Optimizer(theta, rule, backend="numpy", **hyperparameters)
    deviation = surface.noise if noise is None else noise
    points = [theta.copy()]
    for t in range(1, steps + 1):
        gradient = scale * surface.gradient(theta.astype(np.float64), t, uniform(seed, t, 0))
        if deviation:
            gradient += [deviation * normal(seed, t, coordinate) for coordinate in range(surface.dimensions)]
        with np.errstate(over="ignore"):
            optimizer.step(gradient.astype(np.float32))
        if surface.limits:
            np.clip(theta, *surface.limits, out=theta)
        point = optimizer.evaluated if evaluated and rule_of.evaluated else theta.copy()
        points.append(np.clip(point, *surface.limits) if surface.limits else point)
    return np.array(points)


def finite(surface: Surface, points: Array) -> int:
    """Return how many points of a path there are before a coordinate, or the loss there, is infinite or undefined."""
    lost = ~(np.isfinite(points).all(axis=1) & np.isfinite(surface.loss(points.T)))
    return int(np.argmax(lost)) if lost.any() else len(points)
