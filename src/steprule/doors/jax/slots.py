"""The slots of one parameter as arrays of JAX."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from steprule import engine
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import GROUP, Kept, shape_of

__all__ = ["EightBit", "check_kept", "made", "planes_of", "slot_of"]


class EightBit(NamedTuple):
    """A slot in 8 bits: ``uint8`` codes of the parameter's shape, and an exponent for up to 128 neighbours in a row."""

    codes: Array
    scale: Array


def planes_of(slot: Any) -> tuple[Any, ...]:
    """Return the planes of a slot in the order of its format's parts."""
    return tuple(slot) if isinstance(slot, EightBit) else (slot,)


def check_kept(value: Any, way: Kept, what: str) -> None:
    """Refuse a slot that is kept in another way.

    Raises:
        StructureError: naming both.
    """
    expected = [part.dtype for part in way.parts] if way.name != "bfloat16" else ["bfloat16"]
    found = [str(plane.dtype) for plane in planes_of(value)]
    if found != expected:
        raise StructureError(
            f"{what} is kept as {' and '.join(found)}, but these options keep it as {' and '.join(expected)}: the state "
            "is of other options (states=, min_elements=), or of parameters of another type. Call init again"
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
    if way.is_plain:
        return jnp.full_like(like, start, dtype=way.parts[0].dtype)
    if isinstance(start, jax.core.Tracer):
        raise HyperparameterError(
            f"slot {slot!r} is kept as {way.name} and starts at a traced number; give a Python number for it, or keep "
            f"this slot in float32 (states={{...}} names those of fewer bits)"
        )
    numbers = engine.encode(way, np.full((1, GROUP), start, np.float32))
    if way.name == "bfloat16":
        return jnp.full_like(like, float(numbers[""].view(jnp.bfloat16)[0, 0]), dtype=jnp.bfloat16)
    codes = jnp.full_like(like, int(numbers[""][0, 0]), dtype=np.uint8)
    shape = shape_of(way.parts[1], like.shape)
    sharding = _of_rows(like)
    scale = jnp.full(shape, int(numbers["scale"][0, 0]), np.uint8, **({"device": sharding} if sharding else {}))
    return EightBit(codes, scale)


def _of_rows(like: Any) -> NamedSharding | None:
    """Return how the exponents are sharded: by rows, as the parameter is. Groups never straddle rows."""
    sharding = None if isinstance(like, jax.core.Tracer) else getattr(like, "sharding", None)
    if not isinstance(sharding, NamedSharding) or like.ndim < 2 or not sharding.spec:
        return None
    return NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0], None))  # type: ignore[no-untyped-call]
