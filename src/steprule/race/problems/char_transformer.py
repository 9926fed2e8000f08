"""A small transformer that learns to write docstrings of Python's standard library, letter by letter.

One block of width 32 with 2 heads, 32 letters of context: 16,000 parameters, all in matrices. In larger transformers
the curvature differs from layer to layer, so that one learning rate for all of them does not do (Zhang et al. 2024,
arXiv:2402.16788). Here it does: in 240 steps momentum ends as low as Adam, or lower (docs/race/suite.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from steprule.race.corpus import letters_of
from steprule.race.network import cross_entropy
from steprule.race.problem import DEFAULT_LRS, Array, Params
from steprule.race.transformer import init_transformer, logits, loss_and_grad

__all__ = ["Letters", "problem"]

_MODULES = ("argparse", "asyncio", "datetime", "decimal", "email", "logging", "statistics", "typing", "unittest")


@dataclass(frozen=True)
class Letters:
    """A text to train on, and one to select by.

    Args:
        train: numbers of letters, in order.
        validation: the same, of another part of the text.
        alphabet: how many letters there are.
        epochs: of one run, each of ``steps`` batches of ``batch_size`` windows, drawn with replacement.
        context: letters a window.
        width, blocks, heads: of the transformer.
        checked: windows that ``evaluate`` takes of either text, evenly spread; always the same.
        lrs: learning rates; the race draws from the lowest to the highest.
    """

    train: Array
    validation: Array
    alphabet: int
    epochs: int = 12
    steps: int = 20
    batch_size: int = 16
    context: int = 32
    width: int = 32
    blocks: int = 1
    heads: int = 2
    checked: int = 32
    lrs: tuple[float, ...] = DEFAULT_LRS

    def init(self, rng: np.random.Generator) -> Params:
        """Return new parameters, float32."""
        return init_transformer(rng, self.alphabet, self.context, self.width, self.blocks)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        """Yield (letters, the letters after them), each (batch_size, context)."""
        for _ in range(self.steps):
            yield self._windows(self.train, rng.integers(0, len(self.train) - self.context, self.batch_size))

    def loss_and_grad(self, params: Params, batch: tuple[Array, Array]) -> tuple[float, Params]:
        """Return the mean cross entropy of the letters that follow, in nats, and its gradient."""
        return loss_and_grad(params, *batch, self.heads)

    def evaluate(self, params: Params) -> Mapping[str, float]:
        """Return the cross entropy in nats a letter on windows of both texts."""
        return {"train_loss": self._score(params, self.train), "validation_loss": self._score(params, self.validation)}

    def _score(self, params: Params, text: Array) -> float:
        begins = np.linspace(0, len(text) - self.context - 1, self.checked).astype(np.int64)
        letters, following = self._windows(text, begins)
        scores = logits(params, letters, self.heads).astype(np.float64)
        return cross_entropy(scores.reshape(-1, self.alphabet), following.ravel())[0]

    def _windows(self, text: Array, begins: Array) -> tuple[Array, Array]:
        places = begins[:, None] + np.arange(self.context)
        return text[places], text[places + 1]


def problem() -> Letters:
    """12 epochs of 20 batches of 16 windows; the last tenth of the text is for validation."""
    text, alphabet = letters_of(_MODULES)
    cut = len(text) * 9 // 10
    return Letters(text[:cut], text[cut:], alphabet)
