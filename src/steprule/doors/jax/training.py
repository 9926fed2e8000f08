"""A run of the JAX door, as files keep it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from steprule.doors.guards import HasGuards
from steprule.doors.jax.evaluated import evaluated
from steprule.doors.jax.transformation import Step
from steprule.launch.guards import Guards

__all__ = ["Training"]


@dataclass(eq=False)
class Training(HasGuards):
    """A training run in JAX, for ``steprule.save`` and ``steprule.load``.

    JAX arrays are immutable: a load puts new ones into ``state``, and with ``params=True`` into ``params``, on
    the same devices and with the same sharding as the old ones.

    Attributes:
        transformation: the one made by ``steprule.jax``, even if ``state`` is that of an ``optax.chain`` or of
            another wrapper around it; or a ``Step``, with ``state=State(t, slots)``.
        params: the parameters.
        state: what ``init`` or ``update`` returned.

    Example:
        >>> import jax.numpy as jnp, steprule.jax
        >>> optimizer, params = steprule.jax.adam(1e-3), {"w": jnp.zeros(3)}
        >>> run = steprule.jax.Training(optimizer, params, optimizer.init(params))
        >>> steprule.save("run.safetensors", run, params=True)
        >>> steprule.load("run.safetensors", run, params=True).rule
        'adam'
    """

    transformation: Any
    params: Any
    state: Any
    guards: Guards = field(default_factory=Guards, init=False, repr=False)

    @property
    def evaluated(self) -> Any:
        """The parameters as they are to be evaluated, as ``steprule.jax.evaluated`` computes them."""
        if not isinstance(self.transformation, Step):
            return evaluated(self.state, self.params)
        if not int(self.state.count):
            return self.params
        return self.transformation.evaluated(self.params, self.state.slots, self.state.count)

    def _checkpoint_extra(self) -> dict[str, Any]:
        """Return nothing: guards are other transformations of optax here."""
        return {}
