"""A transformation of optax's kind, ours and others', and Keras on JAX: jitted, with donated buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from steprule.bench.contestant import BETAS, DECAY, EPS, LR
from steprule.bench.work import Array

__all__ = ["OnJax", "keras", "optax", "steprule"]

Advance = Callable[[Any, Any, Any], Any]
"""From parameters, gradients and state to new parameters and state."""


class OnJax:
    """A pure step, jitted; parameters and state are donated, so that it works in place.

    Args:
        thetas: the parameters.
        state: at the beginning.
        advance: from parameters, gradients and state to parameters and state.
    """

    def __init__(self, thetas: Sequence[Array], state: Any, advance: Advance) -> None:
        self._advance = jax.jit(advance, donate_argnums=(0, 2))
        self._params, self._state = [jnp.array(theta) for theta in thetas], state

    def step(self) -> None:
        """Take a step."""
        made = self._advance(self._params, self._gradients, self._state)
        self._params, self._state = jax.block_until_ready(made)  # type: ignore[no-untyped-call]

    def give(self, gradients: Sequence[Array]) -> None:
        """Take these gradients from now on."""
        self._gradients = [jnp.array(gradient) for gradient in gradients]

    def parameters(self) -> list[NDArray[np.float64]]:
        """Return a copy of the parameters."""
        return [np.asarray(param, np.float64) for param in self._params]

    def kept(self) -> object:
        """Return parameters and state."""
        return self._params, jax.tree.leaves(self._state)


def _of(thetas: Sequence[Array], transformation: Any) -> OnJax:
    from optax import apply_updates

    def advance(params: Any, gradients: Any, state: Any) -> Any:
        updates, state = transformation.update(gradients, state, params)
        return apply_updates(params, updates), state

    return OnJax(thetas, transformation.init([jnp.array(theta) for theta in thetas]), advance)


def optax(thetas: Sequence[Array]) -> OnJax:
    """Return optax's AdamW."""
    import optax

    return _of(thetas, optax.adamw(LR, *BETAS, eps=EPS, weight_decay=DECAY))


def steprule(thetas: Sequence[Array]) -> OnJax:
    """Return steprule's AdamW for JAX."""
    from steprule.jax import transformation

    beta1, beta2 = BETAS
    return _of(thetas, transformation("adamw", lr=LR, beta1=beta1, beta2=beta2, eps=EPS, weight_decay=DECAY))


def keras(thetas: Sequence[Array]) -> OnJax:
    """Return Keras' AdamW, by its stateless step."""
    from importlib import import_module

    library = import_module("keras")
    optimizer = library.optimizers.AdamW(LR, DECAY, *BETAS, EPS)
    optimizer.build([library.Variable(theta) for theta in thetas])

    def advance(params: Any, gradients: Any, state: Any) -> Any:
        return optimizer.stateless_apply(state, gradients, params)

    return OnJax(thetas, [jnp.array(variable.value) for variable in optimizer.variables], advance)
