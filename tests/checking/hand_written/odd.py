"""Right optimizers in rarer styles, and steps of fewer digits; nothing of steprule."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def yields(params, grads, state):
    """It returns a generator."""
    return (p - 0.1 * g for p, g in zip(params, grads, strict=True))


def _passed_on(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@_passed_on
def decorated(params, grads, state):
    """Its decorator does not say which arguments it takes."""
    return [p - 0.1 * g for p, g in zip(params, grads, strict=True)]


class Updates:
    """The style of a textbook: ``update`` with dicts by name."""

    def __init__(self, lr=0.01, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, None

    def update(self, params, grads):
        if self.v is None:
            self.v = {name: np.zeros_like(value) for name, value in params.items()}
        for name in params:
            self.v[name] = self.momentum * self.v[name] - self.lr * grads[name]
            params[name] += self.v[name]


class ReadsGrad:
    """For PyTorch, without deriving from its class."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params, self.lr, self.betas, self.eps, self.t = list(params), lr, betas, eps, 0
        self.m = [torch.zeros_like(p) for p in self.params]
        self.v = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for i, p in enumerate(self.params):
            self.m[i] = b1 * self.m[i] + (1 - b1) * p.grad
            self.v[i] = b2 * self.v[i] + (1 - b2) * p.grad**2
            p -= self.lr * (self.m[i] / (1 - b1**self.t)) / ((self.v[i] / (1 - b2**self.t)).sqrt() + self.eps)


def signs(params, grads, state):
    """Given one array, it returns a list of numbers."""
    lr = np.asarray(params[0]).dtype.type(0.1)
    return [p - lr * (g > 0) + lr * (g < 0) for p, g in zip(params, grads, strict=True)]


def nadam(params, grads, state):
    """Its momentum does not warm up, as in optax and in most texts."""
    t = state["t"] = state.get("t", 0) + 1
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        m, v = state.get(i, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        state[i] = m, v
        m_hat = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
        new.append(p - 0.002 * m_hat / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
    return new


def rmsprop_under_the_root(params, grads, state):
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        state[i] = 0.9 * state.get(i, 0.0) + 0.1 * g**2
        new.append(p - 0.001 * g / np.sqrt(state[i] + 1e-6))
    return new


def _adam_in(kind: Any, state: dict[Any, Any], params: Any, grads: Any) -> list[Any]:
    t = state["t"] = state.get("t", 0) + 1
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        m, v = state.get(i, (torch.zeros_like(p, dtype=kind), torch.zeros_like(p, dtype=kind)))
        m = m.mul_(0.9).add_(g.to(kind), alpha=0.1)
        v = v.mul_(0.999).addcmul_(g.to(kind), g.to(kind), value=0.001)
        state[i] = m, v
        new.append(p - 0.001 * (m.double() / (1 - 0.9**t)) / ((v.double() / (1 - 0.999**t)).sqrt() + 1e-8))
    return new


def adam_in_float32(params, grads, state):
    return _adam_in(torch.float32, state, params, grads), state


def adam_in_bfloat16(params, grads, state):
    """Its v cannot fall, for 0.999 v is v to the digits of bfloat16: so it is much like AMSGrad."""
    return _adam_in(torch.bfloat16, state, params, grads), state


def momentum_in_float32(params, grads, state):
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        state[i] = np.float32(0.9) * state.get(i, np.zeros(p.shape, np.float32)) + g.astype(np.float32)
        new.append(p - 0.1 * state[i])
    return new


def hidden_float32():
    """The same with a state that cannot be seen."""
    state: dict[Any, Any] = {}
    return lambda params, grads: momentum_in_float32(params, grads, state)  # type: ignore[no-untyped-call]


def betas_changed(params, grads, state):
    """The betas have changed places."""
    t = state["t"] = state.get("t", 0) + 1
    new = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        m, v = state.get(i, (0.0, 0.0))
        m, v = 0.999 * m + 0.001 * g, 0.9 * v + 0.1 * g**2
        state[i] = m, v
        new.append(p - 0.001 * m / (1 - 0.999**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8))
    return new


def returns_the_step(params, grads, state):
    """Epsilon is inside the root as well."""
    t = state["t"] = state.get("t", 0) + 1
    steps = []
    for i, g in enumerate(grads):
        m, v = state.get(i, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        state[i] = m, v
        steps.append(-0.001 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.999**t) + 1e-8))
    return steps, state
