"""What a problem of the race is: four functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_EPOCHS", "DEFAULT_LRS", "Array", "Batch", "Params", "Problem"]

DEFAULT_EPOCHS = 20
DEFAULT_LRS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Half decades, so that gradient descent (often near 1) and Adam (often near 0.01) are both inside."""

Array: TypeAlias = NDArray[Any]
Params: TypeAlias = Any
"""An array of float16, float32 or float64, or nested lists, tuples and dicts of them."""
Batch: TypeAlias = Any
"""Whatever ``batches`` yields and ``loss_and_grad`` takes; the race only hands it on."""


@runtime_checkable
class Problem(Protocol):
    """What the optimizers minimise. A module with these four functions is a problem too.

    All randomness comes from the generators that are handed in, so that every rule starts from the
    same parameters and sees the same batches in the same order, and a race can be repeated.

    A problem may also have, as attributes or module globals:

    - ``epochs`` (int): how many epochs a run has. Default 20.
    - ``lrs`` (sequence of floats): learning rates; the lowest and the highest bound the range that the race draws
      from. Default: 3e-4 to 3.
    - ``schedule`` (str): how the learning rate falls: linear, cosine or constant. Default: linear.
    - ``description`` (str): one line for the report. Default: the first line of the docstring.
    - ``box`` (((x_low, x_high), (y_low, y_high))): for a problem whose parameters are one array of
      two numbers, the part of the plane on which the report draws the paths.
    - ``minima`` (sequence of (x, y)): for such a problem, the points that a film marks.
    """

    def init(self, rng: np.random.Generator) -> Params:
        """Return new parameters, which the race then updates in place."""

    def batches(self, rng: np.random.Generator) -> Iterable[Batch]:
        """Return the batches of one epoch, in an order drawn from ``rng``. Called once an epoch."""

    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[float, Params]:
        """Return the loss on a batch, and its gradient: arrays in the structure, shapes and types of ``params``."""

    def evaluate(self, params: Params) -> Mapping[str, float]:
        """Return at least ``train_loss``; ``validation_loss`` and ``test_accuracy`` (a share of 1) where there are.

        Called before the first epoch and after each. Settings are selected, and rules compared, by
        ``validation_loss``: the loss on samples that are not trained on. Without it, by ``train_loss``.
        """
