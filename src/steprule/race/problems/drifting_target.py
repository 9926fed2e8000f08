"""Regression in a stream whose target never stands still: what counts is how closely it is followed at the end.

Non-stationary, as Kingma & Ba 2015, arXiv:1412.6980, claim Adam to be apt for (section 1): a rule that sums all squared
gradients up, as Adagrad does, has ever less of a step: at a learning rate of 1 it follows in the first turns, and is as
far away as at the start after ten (a rate of 10 lasts longer). A rate that falls to zero comes to rest anywhere. So it
stays constant here unless another schedule is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from steprule.race.problem import DEFAULT_LRS, Array

__all__ = ["Drift", "problem"]


@dataclass(frozen=True)
class Drift:
    """Inputs x with independent normal features, and y = x . w(phase) + noise, where w goes round once an epoch.

    Each coordinate of w is a cosine of the phase with an amplitude of 1, and a shift of its own.

    Args:
        scales: (features,), standard deviation of each feature.
        shifts: (features,), in turns.
        noise: standard deviation of y's noise.
        epochs: of one run, each of ``steps`` batches of ``batch_size`` samples.
        lrs: learning rates; the race draws from the lowest to the highest.
    """

    scales: Array
    shifts: Array
    noise: float = 0.5
    epochs: int = 20
    steps: int = 100
    batch_size: int = 8
    lrs: tuple[float, ...] = DEFAULT_LRS
    schedule: ClassVar[str] = "constant"

    def init(self, rng: np.random.Generator) -> Array:
        """Return weights of zero, float32: they are nowhere near the target, whatever its phase."""
        return np.zeros(len(self.scales), np.float32)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        """Yield (inputs, y) batch by batch, of the target as it is then."""
        for step in range(self.steps):
            x = rng.standard_normal((self.batch_size, len(self.scales))) * self.scales
            y = x @ self.target(step / self.steps) + self.noise * rng.standard_normal(self.batch_size)
            yield x.astype(np.float32), y.astype(np.float32)

    def loss_and_grad(self, params: Array, batch: tuple[Array, Array]) -> tuple[float, Array]:
        """Return half the mean square of the errors, and its gradient."""
        x, y = batch
        error = x @ params - y
        return 0.5 * float(error @ error) / len(y), x.T @ error / np.float32(len(y))

    def evaluate(self, params: Array) -> Mapping[str, float]:
        """Return the expected loss at the end of the epoch, but for the noise: there is nothing to validate."""
        away = self.scales * (params - self.target(1.0))
        return {"train_loss": 0.5 * float(away @ away)}

    def target(self, phase: float) -> Array:
        """Return the weights that y has at a phase in turns."""
        return np.cos(2 * np.pi * (phase + self.shifts))


def problem() -> Drift:
    """20 features whose deviations are from 0.1 to 1, evenly in their logarithm; 20 turns of 100 steps."""
    return Drift(np.geomspace(0.1, 1.0, 20), np.random.default_rng(0).random(20))
