"""Softmax regression and fully connected ReLU networks in NumPy, with their gradients by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs

from steprule.race.problem import Array, Params

__all__ = ["init_network", "logits", "loss_and_grad"]


def init_network(rng: np.random.Generator, sizes: Sequence[int], dtype: Any = np.float32) -> Params:
    """Return ``{"weights": [...], "biases": [...]}`` for layers of these sizes, inputs and classes included.

    Hidden weights are normal with variance 2 / inputs (He et al. 2015, arXiv:1502.01852). The last
    layer and the biases start at zero: every class is equally likely, and the loss is log(classes).
    """
    pairs = list(itertools.pairwise(sizes))
    weights = [rng.normal(0.0, (2 / n) ** 0.5, (n, m)).astype(dtype) for n, m in pairs[:-1]]
    weights.append(np.zeros(pairs[-1], dtype))
    return {"weights": weights, "biases": [np.zeros(m, dtype) for _, m in pairs]}


def logits(params: Params, x: Any) -> Array:
    """Return the class scores (samples, classes) of the inputs ``x`` (samples, features), dense or sparse."""
    scores: Array = _activations(params, x)[-1]
    return scores


def loss_and_grad(
    params: Params, x: Any, y: Array, l2: float = 0.0, masks: Sequence[Array] = ()
) -> tuple[float, Params]:
    """Return the mean cross entropy plus ``l2 / 2`` times the squared weights, and its gradient.

    Args:
        params: of ``init_network``.
        x: inputs (samples, features), a dense array or a SciPy sparse one.
        y: classes (samples,), integers from 0.
        l2: of the weights; biases are free.
        masks: that the units of each hidden layer are multiplied with, (samples, units): dropout.
    """
    *inputs, scores = _activations(params, x, masks)
    loss, delta = cross_entropy(scores, y)
    weights = params["weights"]
    grads: dict[str, list[Array]] = {"weights": [], "biases": []}
    for layer in reversed(range(len(weights))):
        grads["weights"].insert(0, inputs[layer].T @ delta)
        grads["biases"].insert(0, delta.sum(axis=0))
        if layer:
            # An activation of zero passes no gradient; at the kink itself the slope is taken as 0.
            delta = (delta @ weights[layer].T) * (inputs[layer] > 0)
            if masks:
                delta *= masks[layer - 1]
    if l2:
        loss += 0.5 * l2 * sum(float(np.vdot(w, w)) for w in weights)
        for grad, weight in zip(grads["weights"], weights, strict=True):
            # In place: an array of 2 MB made and freed at every step costs more in page faults than the rest of it.
            get_blas_funcs("axpy", (weight,))(weight.ravel(), grad.ravel(), a=l2)
    return loss, grads


def cross_entropy(scores: Array, y: Array) -> tuple[float, Array]:
    """Return the mean of -log softmax(scores)[y], and its gradient by the scores."""
    rows = np.arange(len(y))
    # Without this shift exp overflows at a score of 89 in float32.
    shifted = scores - scores.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) - shifted[rows, y]))
    delta = exp / total
    delta[rows, y] -= 1
    delta /= len(y)
    return loss, delta


def _activations(params: Params, x: Any, masks: Sequence[Array] = ()) -> list[Any]:
    """Return the input of every layer, then the scores."""
    values = [x]
    last = len(params["weights"]) - 1
    for layer, (weight, bias) in enumerate(zip(params["weights"], params["biases"], strict=True)):
        z = values[-1] @ weight + bias
        values.append(z if layer == last else np.maximum(z, 0))
        if masks and layer < last:
            values[-1] *= masks[layer]
    return values
