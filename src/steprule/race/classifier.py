"""The classification problems: a table of samples, a network, batches in a random order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.race.network import init_network, logits, loss_and_grad
from steprule.race.problem import DEFAULT_LRS, Array, Params

__all__ = ["Classifier", "Split", "split"]

_ROWS = 8_192
"""Samples that ``evaluate`` takes at a time, so that its activations stay small."""


@dataclass(frozen=True)
class Split:
    """Inputs (samples, features), dense or sparse float32, and classes (samples,), for training and test."""

    train_x: Any
    train_y: Array
    test_x: Any
    test_y: Array


def split(x: Any, y: Array, test_share: float = 0.2) -> Split:
    """Return a split in which every class keeps its share of the test samples. Always the same one."""
    from sklearn.model_selection import train_test_split

    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=test_share, stratify=y, random_state=0)
    return Split(train_x, train_y, test_x, test_y)


@dataclass(frozen=True)
class Classifier:
    """A softmax network on a table of samples: logistic regression without ``hidden`` layers.

    Args:
        data: the samples.
        hidden: units of each hidden layer.
        epochs: of one run.
        l2: penalty ``l2 / 2 |weights|^2`` in the loss.
        batch_size: samples a batch; the last batch of an epoch holds what is left.
        lrs: the grid of learning rates.
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
        """Return the regularised training loss over all samples, and the share of test samples that are right."""
        loss, _ = self._score(params, self.data.train_x, self.data.train_y)
        penalty = 0.5 * self.l2 * sum(float(np.vdot(w, w)) for w in params["weights"])
        _, right = self._score(params, self.data.test_x, self.data.test_y)
        return {"train_loss": loss + penalty, "test_accuracy": right}

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
