"""Arrays of a run of the JAX door in files: how they are stored, and the places that new ones are put into."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steprule.checkpoint import Stored, stored, type_of
from steprule.doors.jax.leaves import is_complex
from steprule.doors.jax.slots import with_sharding_of
from steprule.doors.jax.training import Training
from steprule.errors import CheckpointError, StateError

__all__ = ["Place", "fill", "like", "look", "stored_array"]


def stored_array(array: Any, what: str) -> Stored:
    """Return how a file holds an array of JAX, or a number.

    Raises:
        CheckpointError: for one that is traced, or of a type that a file cannot hold.
    """
    array = array.array if isinstance(array, Place) else array
    if isinstance(array, jax.core.Tracer):
        raise CheckpointError(f"{what} is traced: save outside of what is traced; nothing was written")
    if not isinstance(array, jax.Array):
        return stored(np.asarray(array), what)
    kind = None if jnp.issubdtype(array.dtype, jax.dtypes.extended) else type_of(np.dtype(array.dtype))
    if kind is None:
        raise CheckpointError(
            f"{what} is of type {array.dtype}, which a checkpoint cannot hold; nothing was written. Of keys save "
            "jax.random.key_data(key)"
        )
    complex_axis = (2,) if is_complex(array) else ()
    return Stored(
        kind, (*array.shape, *complex_axis), lambda: stored(np.asarray(array), what).get(), bool(complex_axis)
    )


def like(name: str, array: Any, old: Any) -> Any:
    """Return stored numbers in the place of an array, where that is.

    Raises:
        StateError: when they have another type or shape.
    """
    if not isinstance(old, jax.Array | np.ndarray):
        return type(old)(array.item()) if array.ndim == 0 else array
    if old.dtype == jnp.bfloat16 and array.dtype == np.uint16:
        array = array.view(jnp.bfloat16)
    if array.shape != old.shape or array.dtype != old.dtype:
        raise StateError(f"{name} is {old.dtype} of shape {old.shape}, in the checkpoint {array.dtype} {array.shape}")
    return with_sharding_of(jnp.asarray(array), old) if isinstance(old, jax.Array) else array


class Place:
    """A parameter of a run, and where it is."""

    def __init__(self, run: Training, number: int, array: Any) -> None:
        self.run, self.number, self.array = run, number, array

    def put(self, new: Any) -> None:
        """Put an array there."""
        places = iter(range(self.number + 1))
        self.run.params = jax.tree.map(
            lambda old: new if next(places, None) == self.number else old, self.run.params, is_leaf=lambda x: x is None
        )


def look(target: Any, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the type in the format's words that a parameter of a run has, and its shape.

    Raises:
        StateError: for another array, which cannot be filled.
    """
    if not isinstance(target, Place):
        raise StateError(
            f"{name} is a JAX array, which cannot be filled. Load with params=True into a steprule.jax.Training, "
            "which gets new ones"
        )
    own = stored_array(target.array, name)
    return [own.dtype], own.shape


def fill(target: Place, one: Stored) -> None:
    """Put stored numbers in the place of a parameter."""
    target.put(like("a parameter", one.array(), target.array))
