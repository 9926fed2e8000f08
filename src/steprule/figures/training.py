"""Training a network on a table of samples, as the papers do: dropout, and a rate that may fall with 1 / sqrt(t)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.figures.samples import samples
from steprule.race.classifier import Classifier
from steprule.race.entrant import load_rule
from steprule.race.network import loss_and_grad
from steprule.race.problem import Array, Params
from steprule.schedules import cosine, inverse_sqrt, step_drop

__all__ = ["SCHEDULES", "train"]

_BOUND = 100.0
"""A loss so many times that at the start has diverged."""
_INIT, _BATCHES = 0, 1


def _drops(lr: float, steps: int) -> Callable[[int], float]:
    return step_drop(lr, {round(part * steps): 0.1 for part in (0.5, 0.75)})


SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda lr, steps: lr,
    "inverse_sqrt": lambda lr, steps: inverse_sqrt(lr),
    "step_drop": _drops,
    "cosine": cosine,
}
"""How the rate goes on, from the highest one and the number of steps."""


@dataclass(frozen=True)
class _Setup:
    """What is trained, but for the rule."""

    data: str
    hidden: tuple[int, ...]
    l2: float
    dropout: tuple[float, ...]
    """The share of zeros in the inputs, then in each hidden layer; () for none."""


def train(
    data: str,
    rule: str,
    lr: float,
    seed: int,
    epochs: int,
    hidden: tuple[int, ...] = (),
    l2: float = 0.0,
    dropout: tuple[float, ...] = (),
    schedule: str = "constant",
    hyperparameters: tuple[tuple[str, Any], ...] = (),
) -> dict[str, Any]:
    """Return what one training run gives.

    Args:
        data: the samples: a name, or a name and a folder (``samples``).
        rule: of the catalogue, or with combinators, as on the command line.
        lr: the highest learning rate.
        seed: of the start and of the batches, the same for every rule.
        epochs: passes over the samples.
        hidden: units of each hidden layer.
        l2: of the penalty in the loss.
        dropout: shares.
        schedule: of the rate.
        hyperparameters: of the rule, the others have their defaults.

    Returns:
        ``batch``: the mean loss over the batches of each epoch, with dropout, as the papers draw it; ``train``,
        ``test``: the losses without dropout at the end; ``accuracy`` on the test samples. All None where it diverged.
    """
    setup = _Setup(data, tuple(hidden), l2, tuple(dropout))
    problem = _problem(setup)
    params = problem.init(np.random.default_rng([seed, _INIT]))
    steps = epochs * math.ceil(len(problem.data.train_y) / problem.batch_size)
    rate = SCHEDULES[schedule](lr, steps)
    optimizer = Optimizer(params, load_rule(rule, ""), lr=rate, **dict(hyperparameters))
    curve: list[float] = []
    with np.errstate(all="ignore"):
        for epoch in range(epochs):
            loss = _epoch(setup, problem, params, optimizer, np.random.default_rng([seed, _BATCHES, epoch]))
            if not loss <= _BOUND * math.log(problem_classes(problem)):
                return {"batch": None, "train": None, "test": None, "accuracy": None}
            curve.append(loss)
        ends = problem.evaluate(params)
    return {"batch": curve, "train": ends["train_loss"], "test": ends["test_loss"], "accuracy": ends["test_accuracy"]}


def problem_classes(problem: Classifier) -> int:
    """Return how many classes there are."""
    return int(problem.data.train_y.max()) + 1


class _Scored(Classifier):
    """A classifier of which the test loss is asked for; nothing is selected by samples that are held out."""

    def evaluate(self, params: Params) -> dict[str, float]:
        train, _ = self._score(params, self.data.train_x, self.data.train_y)
        penalty = 0.5 * self.l2 * sum(float(np.vdot(w, w)) for w in params["weights"])
        test, right = self._score(params, self.data.test_x, self.data.test_y)
        return {"train_loss": train + penalty, "test_loss": test, "test_accuracy": right}


@functools.lru_cache(2)
def _problem(setup: _Setup) -> _Scored:
    return _Scored(samples(setup.data), hidden=setup.hidden, l2=setup.l2)


def _epoch(setup: _Setup, problem: Classifier, params: Params, optimizer: Optimizer, rng: np.random.Generator) -> float:
    """Train for an epoch, and return the mean loss over its batches."""
    total, count = 0.0, 0
    for x, y in problem.batches(rng):
        masks = _masks(setup, len(y), rng)
        loss, grads = loss_and_grad(params, _dropped(x, setup, rng), y, setup.l2, masks)
        if not math.isfinite(loss):
            return math.inf
        optimizer.step(grads)
        total, count = total + loss * len(y), count + len(y)
    return total / count


def _masks(setup: _Setup, rows: int, rng: np.random.Generator) -> list[Array]:
    """Return what the units of each hidden layer are multiplied with: 0, or what keeps their mean."""
    shares = setup.dropout[1:] or (0.0,) * len(setup.hidden)
    return [_mask((rows, units), share, rng) for units, share in zip(setup.hidden, shares, strict=True)]


def _mask(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> Array:
    return (rng.random(shape, np.float32) >= share).astype(np.float32) / np.float32(1 - share)


def _dropped(x: Any, setup: _Setup, rng: np.random.Generator) -> Any:
    """Return inputs of which a share is zero: of sparse ones, of those that are not zero already."""
    share = setup.dropout[0] if setup.dropout else 0.0
    if not share:
        return x
    if isinstance(x, np.ndarray):
        return x * _mask(x.shape, share, rng)
    dropped = x.copy()
    dropped.data *= _mask(x.data.shape, share, rng)
    return dropped
