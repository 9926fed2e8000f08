"""A linear associative memory of 512 random pairs in 64 dimensions, whose keys come up by Zipf's law.

The memory is one matrix W; the scores of a key k are V W k for the values V, under a softmax. The i-th key is drawn
with probability proportional to 1/i, so the rare ones are the hard part. Wang et al. 2025, arXiv:2509.26030, find that
rules which step along a polar factor learn them sooner than Adam. At this size, with batches of 128, muon and adamw
without weight decay end alike (0.299 and 0.305, six fresh seeds): the problem is for trying, not a proof of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from steprule.race.network import cross_entropy
from steprule.race.problem import Array

__all__ = ["Memory", "problem"]


@dataclass(frozen=True)
class Memory:
    """Pairs of unit vectors, and how often each key comes up.

    Args:
        keys: (pairs, dimensions), float32.
        values: the same.
        shares: (pairs,), their sum is 1.
        epochs: of one run, each of ``steps`` batches of ``batch_size`` keys.
        lrs: learning rates; the race draws from the lowest to the highest.
    """

    keys: Array
    values: Array
    shares: Array
    epochs: int = 20
    steps: int = 20
    batch_size: int = 128
    lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)

    def init(self, rng: np.random.Generator) -> Array:
        """Return a memory with little in it: normal numbers with standard deviation 0.01, float32."""
        size = self.keys.shape[1]
        return (0.01 * rng.standard_normal((size, size))).astype(np.float32)

    def batches(self, rng: np.random.Generator) -> Iterator[Array]:
        """Yield the numbers of the pairs that come up."""
        for _ in range(self.steps):
            yield rng.choice(len(self.shares), self.batch_size, p=self.shares)

    def loss_and_grad(self, params: Array, batch: Array) -> tuple[float, Array]:
        """Return the mean cross entropy of the values that belong to the keys, and its gradient."""
        keys = self.keys[batch]
        loss, delta = cross_entropy(keys @ params.T @ self.values.T, batch)
        return loss, (delta @ self.values).T @ keys

    def evaluate(self, params: Array) -> Mapping[str, float]:
        """Return the loss over all pairs, each by its share, and the share of keys whose value is found.

        The first is the expected loss itself, so there is nothing to validate; rare keys count in the second alike.
        """
        scores = (self.keys @ params.T @ self.values.T).astype(np.float64)
        top = scores.max(axis=1)
        losses = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - np.diag(scores)
        found = np.mean(scores.argmax(axis=1) == np.arange(len(scores)))
        return {"train_loss": float(self.shares @ losses), "test_accuracy": float(found)}


def problem() -> Memory:
    """512 pairs in 64 dimensions; 20 epochs of 20 batches of 128 keys."""
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((2, 512, 64))
    keys, values = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (keys, values))
    shares = 1 / np.arange(1, 513)
    return Memory(keys.astype(np.float32), values.astype(np.float32), shares / shares.sum())
