"""The two-dimensional problems: a surface over the plane, with its exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from steprule.race.problem import Array

__all__ = ["Box", "Surface"]

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Surface:
    """A function of the plane, stepped with exact gradients; the seeds differ in where they start.

    Args:
        value: f(x, y).
        slope: (df/dx, df/dy) at (x, y).
        start: around which runs start.
        spread: standard deviation of the start, in x and in y.
        box: the part of the plane that is drawn, ((x_low, x_high), (y_low, y_high)).
        epochs: of one run, each of ``steps`` steps.
        lrs: learning rates; the race draws from the lowest to the highest.
        minima: the points that a film marks.
    """

    value: Callable[[float, float], float]
    slope: Callable[[float, float], tuple[float, float]]
    start: tuple[float, float]
    spread: tuple[float, float]
    box: Box
    epochs: int = 40
    steps: int = 10
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
    minima: tuple[tuple[float, float], ...] = ()

    def init(self, rng: np.random.Generator) -> Array:
        """Return a point (x, y) in float64."""
        return np.array(self.start) + np.array(self.spread) * rng.standard_normal(2)

    def batches(self, rng: np.random.Generator) -> Iterator[None]:
        """Yield None ``steps`` times: the gradient is exact, there is nothing to draw."""
        yield from [None] * self.steps

    def loss_and_grad(self, params: Array, batch: None) -> tuple[float, Array]:
        """Return f and its gradient."""
        x, y = params.tolist()
        return self.value(x, y), np.array(self.slope(x, y))

    def evaluate(self, params: Array) -> Mapping[str, float]:
        """Return f as ``train_loss``; a surface has no test samples."""
        return {"train_loss": self.value(*params.tolist())}
