"""Correct optimizers, written by hand in the styles that people write them in; nothing of steprule."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch


def on_dicts(params, grads, state, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """The style of lecture notes: dicts by name, a state that begins empty."""
    if not state:
        state["t"] = 0
        for name in params:
            state["m_" + name] = np.zeros_like(params[name])
            state["v_" + name] = np.zeros_like(params[name])
    state["t"] += 1
    for name in params:
        state["m_" + name] = beta1 * state["m_" + name] + (1 - beta1) * grads[name]
        state["v_" + name] = beta2 * state["v_" + name] + (1 - beta2) * np.square(grads[name])
        m_hat = state["m_" + name] / (1 - beta1 ** state["t"])
        v_hat = state["v_" + name] / (1 - beta2 ** state["t"])
        params[name] = params[name] - lr * m_hat / (np.sqrt(v_hat) + eps)
    return params


def on_one_array(theta, g, state):
    """A state that begins as None, and is a tuple."""
    m, v, t = (0 * theta, 0 * theta, 0) if state is None else state
    t = t + 1
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return theta - 0.001 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)


def on_lists(params, grads, state):
    """Plain Python: lists of numbers and the module math."""
    state = state or {"m": [0.0] * len(params), "v": [0.0] * len(params), "t": 0}
    state["t"] += 1
    for i in range(len(params)):
        state["m"][i] = 0.9 * state["m"][i] + 0.1 * grads[i]
        state["v"][i] = 0.999 * state["v"][i] + 0.001 * grads[i] ** 2
        m_hat = state["m"][i] / (1 - math.pow(0.9, state["t"]))
        v_hat = state["v"][i] / (1 - math.pow(0.999, state["t"]))
        params[i] = params[i] - 0.001 * m_hat / (math.sqrt(v_hat) + 1e-8)
    return params, state


def on_a_number(x, dx, state):
    """One number."""
    m, v, t = state or (0.0, 0.0, 0)
    m, v, t = 0.9 * m + 0.1 * dx, 0.999 * v + 0.001 * dx * dx, t + 1
    return float(x) - 0.001 * m / (1 - 0.9**t) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)


def closure(lr=0.001, b1=0.9, b2=0.999, eps=1e-8):
    """What it keeps lies in a closure."""
    m: dict[int, Any] = {}
    v: dict[int, Any] = {}
    t = 0

    def step(params, grads):
        nonlocal t
        t += 1
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            m[i] = b1 * m.get(i, 0) + (1 - b1) * g
            v[i] = b2 * v.get(i, 0) + (1 - b2) * g**2
            p -= lr * m[i] / (1 - b1**t) / (np.sqrt(v[i] / (1 - b2**t)) + eps)

    return step


class Bound:
    """An object that has the parameters, and steps them in place."""

    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8):
        self.params, self.lr, self.betas, self.eps = params, lr, betas, eps
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]
        self.steps = 0

    def step(self, grads):
        self.steps += 1
        b1, b2 = self.betas
        for p, g, m, v in zip(self.params, grads, self.m, self.v, strict=True):
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * g * g
            p -= self.lr * (m / (1 - b1**self.steps)) / (np.sqrt(v / (1 - b2**self.steps)) + self.eps)


class Free:
    """An object that is given parameters and gradients in every step."""

    def __init__(self):
        self.m: Any = None
        self.v: Any = None
        self.t = 0

    def step(self, params, grads):
        if self.m is None:
            self.m, self.v = [0 * p for p in params], [0 * p for p in params]
        self.t += 1
        self.m = [0.9 * m + 0.1 * g for m, g in zip(self.m, grads, strict=True)]
        self.v = [0.999 * v + 0.001 * g**2 for v, g in zip(self.v, grads, strict=True)]
        scale = [
            m / (1 - 0.9**self.t) / (np.sqrt(v / (1 - 0.999**self.t)) + 1e-8)
            for m, v in zip(self.m, self.v, strict=True)
        ]
        return [p - 0.001 * s for p, s in zip(params, scale, strict=True)]


def like_keras(variables, gradients, state):
    """The learning rate holds both corrections, so epsilon is added before the correction."""
    if "iterations" not in state:
        state.update(iterations=0, m=[np.zeros_like(x) for x in variables], v=[np.zeros_like(x) for x in variables])
    state["iterations"] += 1
    local = state["iterations"]
    alpha = 0.001 * np.sqrt(1 - 0.999**local) / (1 - 0.9**local)
    for x, g, m, v in zip(variables, gradients, state["m"], state["v"], strict=True):
        m += (g - m) * (1 - 0.9)
        v += (np.square(g) - v) * (1 - 0.999)
        x -= alpha * m / (np.sqrt(v) + 1e-7)
    return variables


def on_tensors(params, grads, state):
    """Tensors of PyTorch, in a function."""
    if not state:
        state = {"t": 0, "m": [torch.zeros_like(p) for p in params], "v": [torch.zeros_like(p) for p in params]}
    state["t"] += 1
    for p, g, m, v in zip(params, grads, state["m"], state["v"], strict=True):
        m.mul_(0.9).add_(g, alpha=0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        p.sub_(0.001 * (m / (1 - 0.9 ** state["t"])) / (torch.sqrt(v / (1 - 0.999 ** state["t"])) + 1e-8))
    return params, state


@jax.jit
def on_jax_arrays(params, grads, state):
    """A jitted function of trees."""
    t, m, v = state if state else (0, *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))
    t = t + 1
    m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
    v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g**2, v, grads)
    new = jax.tree.map(
        lambda p, a, b: p - 0.001 * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8), params, m, v
    )
    return new, (t, m, v)


class OfTorchsKind(torch.optim.Optimizer):
    """A subclass of torch.optim.Optimizer, as tutorials write it."""

    def __init__(self, params, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state: dict[str, Any] = self.state[p]
                if not state:
                    state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                state["step"] += 1
                state["exp_avg"].lerp_(p.grad, 1 - b1)
                state["exp_avg_sq"].mul_(b2).addcmul_(p.grad, p.grad.conj(), value=1 - b2)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = group["lr"] / (1 - b1 ** state["step"])
                root = (state["exp_avg_sq"].sqrt() / math.sqrt(1 - b2 ** state["step"])).add_(group["eps"])
                p.addcdiv_(state["exp_avg"], root, value=-size)


ADAMS = (
    *(on_dicts, on_one_array, on_lists, on_a_number, closure, Bound, Free, on_tensors),
)  # fmt: skip
