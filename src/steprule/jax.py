"""Rules for JAX, each as an optax transformation under its name: ``steprule.jax.adam(1e-3)``.

Each takes the arguments of optax's function of that name, in the same order and with the same defaults, and in addition
the rule's own names. They chain with optax's transformations, and work on what optax works on: plain pytrees, Flax NNX,
Equinox.
``transformation`` takes any rule, and ``step`` returns the new parameters instead of updates.

    import jax.numpy as jnp, optax, steprule.jax

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), steprule.jax.adamw(3e-4))
    state = optimizer.init({"w": jnp.zeros(3)})
"""

from collections.abc import Callable
from typing import Any

from steprule.errors import suggest
from steprule.install import how_to_install

try:
    import optax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"steprule.jax needs JAX and optax. Install: {how_to_install('jax', 'optax')}", name=error.name
    ) from None

from steprule.doors.jax.alias import NAMES, named
from steprule.doors.jax.convert import encode, from_optax, to_optax
from steprule.doors.jax.evaluated import EvaluatedState, evaluated, schedule_free_eval_params
from steprule.doors.jax.muon import muon
from steprule.doors.jax.scaled import centralize, scale_by_trust_ratio
from steprule.doors.jax.slots import Coded, EightBit, NonNegativeEightBit, decode
from steprule.doors.jax.training import Training
from steprule.doors.jax.transformation import State, Step, step, transformation

_MADE: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {name: named(name) for name in NAMES}

__all__ = [
    "Coded",
    "EightBit",
    "EvaluatedState",
    "NonNegativeEightBit",
    "State",
    "Step",
    "Training",
    "centralize",
    "decode",
    "encode",
    "evaluated",
    "from_optax",
    "muon",
    "schedule_free_eval_params",
    "scale_by_trust_ratio",
    "step",
    "to_optax",
    "transformation",
    *sorted(_MADE),
]


def __getattr__(name: str) -> Any:
    """Return the transformation of a rule of the catalogue."""
    if name in _MADE:
        return _MADE[name]
    raise AttributeError(f"steprule.jax has no {name!r}.{suggest(name, _MADE)}", name=name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
