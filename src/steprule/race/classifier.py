"""The classification problems: a table of samples, a network, batches in a random order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.race.network import init_network, logits, loss_and_grad
from steprule.race.problem import DEFAULT_LRS, Array, Params

__all__ = ["Classifier", "Split", "held_out", "split"]

_ROWS = 8_192
"""Samples that ``evaluate`` takes at a time, so that its activations stay small."""


@dataclass(frozen=True)
class Split:
    """Inputs (samples, features), dense or sparse float32, and classes (samples,): to train, to select, to test."""

    train_x: Any
    train_y: Array
    validation_x: Any
    validation_y: Array
    test_x: Any
    test_y: Array


def split(x: Any, y: Array) -> Split:
    """Return a split in which every class keeps its share: 64 % for training, 16 % for validation, 20 % for the test.

    Always the same one.
    """
    rest_x, test_x, rest_y, test_y = _parted(x, y, 0.2)
    return Split(*held_out(rest_x, rest_y, 0.2), test_x, test_y)


def held_out(x: Any, y: Array, share: float) -> tuple[Any, Array, Any, Array]:
    """Return samples and classes for training, and those that are held out for validation."""
    train_x, held_x, train_y, held_y = _parted(x, y, share)
    return train_x, train_y, held_x, held_y


def _parted(x: Any, y: Array, share: float) -> tuple[Any, Any, Array, Array]:
    from sklearn.model_selection import train_test_split

    train_x, other_x, train_y, other_y = train_test_split(x, y, test_size=share, stratify=y, random_state=0)
    return train_x, other_x, train_y, other_y


@dataclass(frozen=True)
class Classifier:
    """A softmax network on a table of samples: logistic regression without ``hidden`` layers.

    Args:
        data: the samples.
        hidden: units of each hidden layer.
        epochs: of one run.
        l2: penalty ``l2 / 2 |weights|^2`` in the loss.
        batch_size: samples a batch; the last batch of an epoch holds what is left.
        lrs: learning rates; the race draws from the lowest to the highest.
    """

    data: Split
    hidden: tuple[int, ...] = ()
    epochs: int = 20
    l2: float = 0.0
    batch_size: int = 128
    lrs: tuple[float, ...] = DEFAULT_LRS

    def init(self, rng: np.random.Generator) -> Params:
        """Return new weights and biases."""
        classes = int(self.data.train_y.max()) + 1
        return init_network(rng, (self.data.train_x.shape[1], *self.hidden, classes))

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Any, Array]]:
        """Yield (inputs, classes) batch by batch, every sample once."""
        order = rng.permutation(len(self.data.train_y))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.data.train_x[rows], self.data.train_y[rows]

    def loss_and_grad(self, params: Params, batch: tuple[Any, Array]) -> tuple[float, Params]:
        """Return the regularised cross entropy of a batch, and its gradient."""
        return loss_and_grad(params, *batch, self.l2)

    def evaluate(self, params: Params) -> Mapping[str, float]:
        """Return the training loss with the penalty, the validation loss without it, and the test accuracy."""
        loss, _ = self._score(params, self.data.train_x, self.data.train_y)
        penalty = 0.5 * self.l2 * sum(float(np.vdot(w, w)) for w in params["weights"])
        validation, _ = self._score(params, self.data.validation_x, self.data.validation_y)
        _, right = self._score(params, self.data.test_x, self.data.test_y)
        return {"train_loss": loss + penalty, "validation_loss": validation, "test_accuracy": right}

    def _score(self, params: Params, x: Any, y: Array) -> tuple[float, float]:
        """Return the mean cross entropy and the share of samples that are right."""
        loss, right = 0.0, 0
        for start in range(0, len(y), _ROWS):
            part = slice(start, start + _ROWS)
            scores = logits(params, x[part]).astype(np.float64)
            own = scores[np.arange(len(scores)), y[part]]
            top = scores.max(axis=1)
            loss += float(np.sum(np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - own))
            right += int(np.count_nonzero(scores.argmax(axis=1) == y[part]))
        return loss / len(y), right / len(y)
