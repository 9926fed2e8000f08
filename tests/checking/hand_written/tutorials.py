"""Twelve Adams of the kind that tutorials have, written anew, with what is wrong in theirs; nothing of steprule.

Each stands for a style, which its first line names. Several are wrong on purpose, as their originals are.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch


def layer_by_layer(weights, gradients, cache, learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Course notes on deep networks: a loop over layers, averages v and s, corrected ones beside them. Correct."""
    if len(cache) == 0:
        cache["v"] = {layer: np.zeros(w.shape) for layer, w in enumerate(weights)}
        cache["s"] = {layer: np.zeros(w.shape) for layer, w in enumerate(weights)}
        cache["t"] = 1
    v, s, t = cache["v"], cache["s"], cache["t"]
    v_corrected, s_corrected = {}, {}
    for layer in range(len(weights)):
        v[layer] = beta1 * v[layer] + (1 - beta1) * gradients[layer]
        v_corrected[layer] = v[layer] / (1 - np.power(beta1, t))
        s[layer] = beta2 * s[layer] + (1 - beta2) * np.power(gradients[layer], 2)
        s_corrected[layer] = s[layer] / (1 - np.power(beta2, t))
        weights[layer] = weights[layer] - learning_rate * v_corrected[layer] / (np.sqrt(s_corrected[layer]) + epsilon)
    cache["t"] = t + 1
    return weights, cache


class PerTensor:
    """A class from a blog, "Adam from scratch": one method steps one array, and counts t itself: once a tensor."""

    def __init__(self, lr=0.001, b1=0.9, b2=0.999, eps=1e-8):
        self.lr, self.b1, self.b2, self.eps = lr, b1, b2, eps
        self.m: dict[str, Any] = {}
        self.v: dict[str, Any] = {}
        self.t = 0

    def _update(self, key: str, w: Any, dw: Any) -> Any:
        self.t += 1
        self.m[key] = self.b1 * self.m.get(key, 0) + (1 - self.b1) * dw
        self.v[key] = self.b2 * self.v.get(key, 0) + (1 - self.b2) * dw**2
        m_hat = self.m[key] / (1 - self.b1**self.t)
        v_hat = self.v[key] / (1 - self.b2**self.t)
        return w - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)

    def step(self, params, grads):
        return {key: self._update(key, params[key], grads[key]) for key in params}


class AdamW(torch.optim.Optimizer):
    """A copy of an early torch.optim.Adam under the name of AdamW: decay in the gradient, epsilon not corrected."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                grad, state = p.grad.data, self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = grad.new().resize_as_(grad).zero_()
                    state["exp_avg_sq"] = grad.new().resize_as_(grad).zero_()
                exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
                beta1, beta2 = group["betas"]
                state["step"] += 1
                if group["weight_decay"] != 0:
                    grad = grad.add(p.data, alpha=group["weight_decay"])
                exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)
                exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                denom = exp_avg_sq.sqrt().add_(group["eps"])
                bias_correction1 = 1 - beta1 ** state["step"]
                bias_correction2 = 1 - beta2 ** state["step"]
                step_size = group["lr"] * math.sqrt(bias_correction2) / bias_correction1
                p.data.addcdiv_(exp_avg, denom, value=-step_size)


class Moments(NamedTuple):
    """The state of ``on_pytrees``."""

    count: Any
    mu: Any
    nu: Any


def on_pytrees(params, grads, state):
    """JAX, a NamedTuple of trees, nothing changed in place; epsilon has got under the root."""
    if state is None:
        state = Moments(0, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
    count = state.count + 1
    mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mu, grads)
    nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * jnp.square(g), state.nu, grads)

    def leaf(p, m, v):
        m_hat = m / (1 - 0.9**count)
        v_hat = v / (1 - 0.999**count)
        return p - 3e-4 * m_hat / jnp.sqrt(v_hat + 1e-8)

    return jax.tree.map(leaf, params, mu, nu), Moments(count, mu, nu)


class WithDecayOfTheRate:
    """An early Keras: the rate falls as 1 / (1 + decay * iterations), and holds both corrections."""

    def __init__(self, lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, decay=0.01):
        self.lr, self.beta_1, self.beta_2, self.epsilon, self.decay = lr, beta_1, beta_2, epsilon, decay
        self.iterations = 0
        self.ms: Any = None
        self.vs: Any = None

    def step(self, params, grads):
        lr = self.lr * (1.0 / (1.0 + self.decay * self.iterations))
        self.iterations += 1
        t = self.iterations
        lr_t = lr * (np.sqrt(1.0 - self.beta_2**t) / (1.0 - self.beta_1**t))
        if self.ms is None:
            self.ms = [np.zeros(p.shape) for p in params]
            self.vs = [np.zeros(p.shape) for p in params]
        updated = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            self.ms[i] = (self.beta_1 * self.ms[i]) + (1.0 - self.beta_1) * g
            self.vs[i] = (self.beta_2 * self.vs[i]) + (1.0 - self.beta_2) * np.square(g)
            updated.append(p - lr_t * self.ms[i] / (np.sqrt(self.vs[i]) + self.epsilon))
        return updated


def make_adam(alpha=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    """A closure with nonlocal averages, whose corrected values overwrite them; epsilon is under the root."""
    m, v, t = None, None, 0

    def update(params, grads):
        nonlocal m, v, t
        if m is None:
            m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
        t += 1
        for i in range(len(params)):
            m[i] = beta1 * m[i] + (1 - beta1) * grads[i]
            v[i] = beta2 * v[i] + (1 - beta2) * grads[i] ** 2
            m[i] = m[i] / (1 - beta1**t)
            v[i] = v[i] / (1 - beta2**t)
            params[i] = params[i] - alpha * m[i] / np.sqrt(v[i] + eps)
        return params

    return update


def without_correction(params, grads, state):
    """A functional one-liner style, zip of tuples: the averages are there, their correction was left out."""
    moments = [(0.0, 0.0)] * len(params) if state is None else state
    moments = [(0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g) for (m, v), g in zip(moments, grads, strict=True)]
    return [p - 0.01 * m / (np.sqrt(v) + 1e-8) for p, (m, v) in zip(params, moments, strict=True)], moments


@dataclasses.dataclass
class AmsGrad:
    """A dataclass with AMSGrad's maximum; the decay is added to the gradient in place."""

    lr: float = 0.001
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    decay: float = 0.1
    t: int = 0
    kept: dict[int, list[Any]] = dataclasses.field(default_factory=dict)

    def step(self, params, grads):
        self.t += 1
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            grad += self.decay * param
            first, second, largest = self.kept.setdefault(i, [np.zeros_like(param) for _ in range(3)])
            first[...] = self.betas[0] * first + (1 - self.betas[0]) * grad
            second[...] = self.betas[1] * second + (1 - self.betas[1]) * grad * grad
            np.maximum(largest, second, out=largest)
            root = np.sqrt(largest) / math.sqrt(1 - self.betas[1] ** self.t) + self.eps
            param -= self.lr / (1 - self.betas[0] ** self.t) * first / root


class CountsAtTheEnd:
    """The style of machine learning libraries in NumPy: list comprehensions, and t counted after it was read."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon = learning_rate, beta_1, beta_2, epsilon
        self.t = np.float64(0)
        self.ms: Any = []
        self.vs: Any = []

    def step(self, params, grads):
        self.ms = self.ms or [np.zeros_like(p) for p in params]
        self.vs = self.vs or [np.zeros_like(p) for p in params]
        self.ms = [self.beta_1 * m + (1 - self.beta_1) * g for m, g in zip(self.ms, grads, strict=True)]
        self.vs = [self.beta_2 * v + (1 - self.beta_2) * (g**2) for v, g in zip(self.vs, grads, strict=True)]
        m_hats = [m / (1 - self.beta_1**self.t) for m in self.ms]
        v_hats = [v / (1 - self.beta_2**self.t) for v in self.vs]
        self.t += 1
        updates = [
            -self.learning_rate_init * m / (np.sqrt(v) + self.epsilon) for m, v in zip(m_hats, v_hats, strict=True)
        ]
        return [p + update for p, update in zip(params, updates, strict=True)]


class OneAverage:
    """A short class whose m and v begin as numbers, so that all arrays share them; the rate is that of a video."""

    def __init__(self):
        self.m: Any = 0
        self.v: Any = 0
        self.t = 1

    def step(self, params, grads):
        for param, grad in zip(params, grads, strict=True):
            self.m = 0.9 * self.m + 0.1 * grad
            self.v = 0.999 * self.v + 0.001 * np.power(grad, 2)
            param -= 0.005 * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)
        self.t += 1


@torch.no_grad()
def fused(params, grads, state):
    """PyTorch without an optimizer: operations on whole lists, averages in bfloat16 to save memory."""
    if not state:
        state["avg"] = [torch.zeros_like(p, dtype=torch.bfloat16) for p in params]
        state["sq"] = [torch.zeros_like(p, dtype=torch.bfloat16) for p in params]
        state["t"] = 0
    state["t"] += 1
    for p, g, avg, sq in zip(params, grads, state["avg"], state["sq"], strict=True):
        avg.copy_(0.9 * avg.to(p.dtype) + 0.1 * g)
        sq.copy_(0.99 * sq.to(p.dtype) + 0.01 * g * g)
        root = (sq.to(p.dtype) / (1 - 0.99 ** state["t"])).sqrt() + 1e-8
        p -= 0.001 * avg.to(p.dtype) / (1 - 0.9 ** state["t"]) / root
    return params, state


def flattened(theta, grad, state):
    """A script for one vector, after the paper's section 4: the rate falls as 1 / sqrt(t). Correct."""
    state = state or {"m": np.zeros_like(theta), "v": np.zeros_like(theta), "t": 0}
    t = state["t"] = state["t"] + 1
    alpha = 0.1 / math.sqrt(t)
    state["m"] = state["m"] + 0.1 * (grad - state["m"])
    state["v"] = state["v"] + 0.001 * (grad * grad - state["v"])
    step = alpha * (state["m"] / (1 - 0.9**t)) / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-8)
    return theta - step, state
