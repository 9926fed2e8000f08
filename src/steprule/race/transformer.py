"""A decoder-only transformer in NumPy, with its gradient by hand: attention, ReLU networks, no biases, no gains.

Vaswani et al. 2017, arXiv:1706.03762, with the norm before each part (Xiong et al. 2020, arXiv:2002.04745), which is
the root mean square alone (Zhang & Sennrich 2019, arXiv:1910.07467). Every parameter is a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from steprule.race.network import cross_entropy
from steprule.race.problem import Array, Params

__all__ = ["init_transformer", "logits", "loss_and_grad"]

_EPS = 1e-5


def init_transformer(
    rng: np.random.Generator, letters: int, context: int, width: int, blocks: int, dtype: Any = np.float32
) -> Params:
    """Return the parameters: ``embedding``, ``positions``, ``head`` and for each of the ``blocks`` six matrices.

    What is multiplied by its input is normal with variance 1 / inputs, embeddings have standard deviation 0.1. The
    head starts at zero: every letter is equally likely, and the loss is log(letters).
    """

    def normal(rows: int, columns: int) -> Array:
        return rng.normal(0.0, rows**-0.5, (rows, columns)).astype(dtype)

    wide = 4 * width
    shapes = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width)}
    shapes |= {"up": (width, wide), "down": (wide, width)}
    return {
        "embedding": rng.normal(0.0, 0.1, (letters, width)).astype(dtype),
        "positions": rng.normal(0.0, 0.1, (context, width)).astype(dtype),
        "blocks": [{name: normal(*shape) for name, shape in shapes.items()} for _ in range(blocks)],
        "head": np.zeros((width, letters), dtype),
    }


def logits(params: Params, letters: Array, heads: int) -> Array:
    """Return the scores (batch, time, letters) of the letter after each of ``letters`` (batch, time)."""
    scores: Array = _forward(params, letters, heads)[0]
    return scores


def loss_and_grad(params: Params, letters: Array, following: Array, heads: int) -> tuple[float, Params]:
    """Return the mean cross entropy of the ``following`` letters (batch, time), and its gradient."""
    scores, x, kept = _forward(params, letters, heads)
    count, time = letters.shape
    loss, delta = cross_entropy(scores.reshape(count * time, -1), following.ravel())
    y, r = _normed(x)
    head = _product(y, delta)
    d = _norm_back(y, r, (delta @ params["head"].T).reshape(x.shape))
    blocks: list[Params] = []
    for block, (attended, widened) in zip(reversed(params["blocks"]), reversed(kept), strict=True):
        d, wide = _widened_back(block, widened, d)
        d, narrow = _attended_back(block, attended, d, heads)
        blocks.insert(0, {**narrow, **wide})
    embedding, positions = np.zeros_like(params["embedding"]), np.zeros_like(params["positions"])
    np.add.at(embedding, letters, d)
    positions[:time] = d.sum(axis=0)
    return loss, {"embedding": embedding, "positions": positions, "blocks": blocks, "head": head}


def _forward(params: Params, letters: Array, heads: int) -> tuple[Array, Array, list[Any]]:
    """Return the scores, what goes into the last norm, and of each block what its gradient needs."""
    x = params["embedding"][letters] + params["positions"][: letters.shape[1]]
    kept = []
    for block in params["blocks"]:
        x, attended = _attended(block, x, heads)
        x, widened = _widened(block, x)
        kept.append((attended, widened))
    return _normed(x)[0] @ params["head"], x, kept


def _attended(block: Params, x: Array, heads: int) -> tuple[Array, Any]:
    """Return x plus causal attention over its norm."""
    y, r = _normed(x)
    q, k, v = (_parted(y @ block[name], heads) for name in "qkv")
    scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5
    # No letter sees those after it.
    scores += np.triu(np.full(scores.shape[2:], -np.inf, scores.dtype), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = _joined(weights @ v)
    return x + mixed @ block["o"], (y, r, q, k, v, weights, mixed)


def _attended_back(block: Params, kept: Any, d: Array, heads: int) -> tuple[Array, Params]:
    y, r, q, k, v, weights, mixed = kept
    grads = {"o": _product(mixed, d)}
    d_mixed = _parted(d @ block["o"].T, heads)
    d_weights = d_mixed @ v.swapaxes(2, 3)
    d_scores = weights * (d_weights - np.sum(d_weights * weights, axis=-1, keepdims=True)) * q.shape[-1] ** -0.5
    of = {"q": d_scores @ k, "k": d_scores.swapaxes(2, 3) @ q, "v": weights.swapaxes(2, 3) @ d_mixed}
    d_y = np.zeros_like(d)
    for name, part in of.items():
        joined = _joined(part)
        grads[name] = _product(y, joined)
        d_y += joined @ block[name].T
    return d + _norm_back(y, r, d_y), grads


def _widened(block: Params, x: Array) -> tuple[Array, Any]:
    """Return x plus a ReLU network on its norm."""
    y, r = _normed(x)
    wide = np.maximum(y @ block["up"], 0)
    return x + wide @ block["down"], (y, r, wide)


def _widened_back(block: Params, kept: Any, d: Array) -> tuple[Array, Params]:
    y, r, wide = kept
    d_wide = (d @ block["down"].T) * (wide > 0)
    grads = {"up": _product(y, d_wide), "down": _product(wide, d)}
    return d + _norm_back(y, r, d_wide @ block["up"].T), grads


def _normed(x: Array) -> tuple[Array, Array]:
    """Return x by its root mean square over the last axis, and that."""
    r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(_EPS))
    return x / r, r


def _norm_back(y: Array, r: Array, d: Array) -> Array:
    return np.asarray((d - y * np.mean(d * y, axis=-1, keepdims=True)) / r)


def _product(x: Array, d: Array) -> Array:
    """Return the gradient of the matrix between x and what has the gradient d."""
    return np.asarray(x.reshape(-1, x.shape[-1]).T @ d.reshape(-1, d.shape[-1]))


def _parted(x: Array, heads: int) -> Array:
    count, time, width = x.shape
    return x.reshape(count, time, heads, width // heads).swapaxes(1, 2)


def _joined(x: Array) -> Array:
    count, heads, time, width = x.shape
    return x.swapaxes(1, 2).reshape(count, time, heads * width)
