"""The slots of one parameter as arrays of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from steprule import coding
from steprule.doors.jax.leaves import is_complex, type_of
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import GROUP, Kept, rows_of

__all__ = ["EightBit", "check_kept", "is_plain", "made", "planes_of", "slot_of"]


class EightBit(NamedTuple):
    """A slot in 8 bits: ``uint8`` codes of the parameter's shape, and an exponent for up to 128 neighbours in a row."""

    codes: Array
    scale: Array


def planes_of(slot: Any) -> tuple[Any, ...]:
    """Return the planes of a slot in the order of its format's parts."""
    if isinstance(slot, EightBit):
        return tuple(slot)
    # nnx.Optimizer keeps a named tuple as a mapping of its fields.
    return (slot["codes"], slot["scale"]) if isinstance(slot, Mapping) else (slot,)


def is_plain(slot: Any, dtype: str) -> bool:
    """Whether a slot is kept as numbers of that type."""
    return [type_of(plane) for plane in planes_of(slot)] == [dtype]


def check_kept(value: Any, way: Kept, what: str) -> None:
    """Refuse a slot that is kept in another way.

    Raises:
        StructureError: naming both.
    """
    expected = " and ".join(part.dtype for part in way.parts) if way.name != "bfloat16" else "bfloat16"
    found = " and ".join(type_of(plane) for plane in planes_of(value))
    if found != expected:
        raise StructureError(
            f"{what} is kept as {found}, but these options keep it as {expected}: the state is of other options "
            "(states=, min_elements=), or of parameters of another type. Call init again"
        )


def slot_of(planes: list[Any], way: Kept) -> Any:
    """Return a slot made of new planes."""
    if len(planes) > 1:
        return EightBit(*planes)
    return jax.lax.bitcast_convert_type(planes[0], jnp.bfloat16) if way.name == "bfloat16" else planes[0]


def made(like: Any, way: Kept, start: Any, slot: str) -> Any:
    """Return a slot before the first step, on the devices and in the sharding of its parameter.

    Raises:
        HyperparameterError: when it is to start at a traced number in a format of few bits.
    """
    if is_complex(like):
        return jnp.full_like(like, start * (1 + 1j), dtype=type_of(like))
    if way.is_plain:
        return jnp.full_like(like, start, dtype=way.parts[0].dtype)
    if isinstance(start, jax.core.Tracer):
        raise HyperparameterError(
            f"slot {slot!r} is kept as {way.name} and starts at a traced number; give a Python number for it, or keep "
            f"this slot in float32 (states={{...}} names those of fewer bits)"
        )
    numbers = coding.encode(way, np.full((1, GROUP), start, np.float32))
    if way.name == "bfloat16":
        return jnp.full_like(like, float(numbers[""].view(jnp.bfloat16)[0, 0]), dtype=jnp.bfloat16)
    codes = jnp.full_like(like, int(numbers[""][0, 0]), dtype=np.uint8)
    # Made of the parameter, as the codes are: on its devices, in its sharding, and varying where it does.
    rows, length, _ = rows_of(like.shape)
    firsts = jnp.asarray(like).reshape(rows, length)[:, ::GROUP]
    return EightBit(codes, jnp.full_like(firsts, int(numbers["scale"][0, 0]), dtype=np.uint8))
