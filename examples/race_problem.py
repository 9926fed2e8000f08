"""Matrix factorisation: predict how 200 people rate 100 films from a tenth of their ratings.

Run it with

    steprule race examples/race_problem.py

A problem is four functions. Parameters may be an array, or lists, tuples and dicts of arrays, as
here; the race updates them in place. Every random number that differs between seeds comes from
``rng``, so that all rules start alike and see the same batches. The data are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PEOPLE, FILMS, TASTES = 200, 100, 5
BATCH = 128

# Optional: how many epochs a run has, and learning rates, whose lowest and highest the race draws between.
epochs = 30
lrs = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0]

Params = dict[str, np.ndarray]
Ratings = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ratings() -> tuple[Ratings, Ratings]:
    """Return (person, film, rating) for training, and for a test."""
    rng = np.random.default_rng(2026)
    truth = rng.normal(size=(PEOPLE, TASTES)) @ rng.normal(size=(TASTES, FILMS)) / TASTES**0.5
    # A few films are rated by nearly everyone, most by few: their gradients are rare.
    popular = 1 / np.arange(1, FILMS + 1)
    chance = 0.1 * FILMS * popular / popular.sum()
    person, film = np.nonzero(rng.random((PEOPLE, FILMS)) < chance)
    rating = (truth[person, film] + 0.1 * rng.normal(size=len(person))).astype(np.float32)
    in_test = rng.random(len(person)) < 0.2
    train, test = ((person[part], film[part], rating[part]) for part in (~in_test, in_test))
    return train, test


TRAIN, TEST = _ratings()


def init(rng: np.random.Generator) -> Params:
    """Return new parameters: the tastes of people, and those of films."""
    return {
        "people": (0.3 * rng.normal(size=(PEOPLE, TASTES))).astype(np.float32),
        "films": (0.3 * rng.normal(size=(FILMS, TASTES))).astype(np.float32),
    }


def batches(rng: np.random.Generator) -> Iterator[Ratings]:
    """Yield the batches of one epoch, in a new order each time."""
    order = rng.permutation(len(TRAIN[0]))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield TRAIN[0][rows], TRAIN[1][rows], TRAIN[2][rows]


def loss_and_grad(params: Params, batch: Ratings) -> tuple[float, Params]:
    """Return half the mean squared error on a batch, and its gradient in the structure of the parameters."""
    person, film, rating = batch
    u, v = params["people"][person], params["films"][film]
    error = (u * v).sum(axis=1) - rating
    scaled = (error / len(error))[:, None]
    grads = {name: np.zeros_like(array) for name, array in params.items()}
    np.add.at(grads["people"], person, scaled * v)
    np.add.at(grads["films"], film, scaled * u)
    return 0.5 * float(np.mean(error**2)), grads


def evaluate(params: Params) -> dict[str, float]:
    """Return ``train_loss``, and ``validation_loss``, which the race compares; anything else is kept."""
    return {"train_loss": loss_and_grad(params, TRAIN)[0], "validation_loss": loss_and_grad(params, TEST)[0]}
