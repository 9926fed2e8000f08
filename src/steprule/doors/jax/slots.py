"""The slots of one parameter as arrays of JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from steprule import coding
from steprule.backends import jax as backend
from steprule.doors.jax.leaves import is_complex, type_of
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import GROUP, Kept, Part, rows_of
from steprule.formats.bfloat16 import BFLOAT16
from steprule.formats.eight_bit import EIGHT_BIT

__all__ = [
    "EightBit",
    "NonNegativeEightBit",
    "check_kept",
    "decode",
    "encoded",
    "is_coded",
    "is_plain",
    "made",
    "planes_of",
    "slot_of",
]


class EightBit(NamedTuple):
    """A slot in 8 bits: ``uint8`` codes of the parameter's shape, and an exponent for up to 128 neighbours in a row.

    Neither is a number that the slot holds; ``decode`` has these.
    """

    codes: Array
    scale: Array

    @property
    def kept(self) -> Kept:
        """How the numbers are kept."""
        return EIGHT_BIT.signed

    def decode(self) -> Array:
        """Return the numbers that the slot holds, in float32."""
        numbers: Array = converter(self.kept, False)(self.codes, self.scale)[0]
        return numbers


class NonNegativeEightBit(EightBit):
    """An ``EightBit`` of numbers that are never negative, such as second moments: its codes have no sign."""

    __slots__ = ()

    @property
    def kept(self) -> Kept:
        """How the numbers are kept."""
        return EIGHT_BIT.non_negative


Coded: TypeAlias = EightBit
"""A slot in codes."""
_CLASSES: dict[Kept, type[EightBit]] = {
    EIGHT_BIT.signed: EightBit,
    EIGHT_BIT.non_negative: NonNegativeEightBit,
}


def is_coded(x: Any) -> bool:
    """Whether a subtree is a slot in codes."""
    return isinstance(x, EightBit)


def decode(state: Any) -> Any:
    """Return a state, or any tree, with float32 arrays in the place of its slots in codes, for what reads numbers."""
    return jax.tree.map(lambda x: x.decode() if is_coded(x) else x, state, is_leaf=is_coded)


def encoded(numbers: Any, like: Any) -> Any:
    """Return an array, or a slot in codes, in the format of another slot of its shape, rounded to nearest.

    What is in that format stays as it is: codes that are rounded again may become other ones.
    """
    same = is_coded(numbers) and type(numbers) is type(like)
    if not same:
        numbers = numbers.decode() if is_coded(numbers) else jnp.asarray(numbers)
    if same:
        new: Any = numbers
    elif is_coded(like):
        new = slot_of(list(converter(like.kept, True)(numbers.astype(np.float32))), like.kept)
    elif like.dtype == jnp.bfloat16:
        new = slot_of(list(converter(BFLOAT16.signed, True)(numbers.astype(np.float32))), BFLOAT16.signed)
    else:
        new = numbers.astype(like.dtype)
    return jax.tree.map(_placed, new, like)


def _placed(new: Array, like: Any) -> Array:
    """Return an array on the devices and in the sharding of another, where these are known."""
    is_known = isinstance(like, jax.Array) and not isinstance(like, jax.core.Tracer)
    return jax.device_put(new, like.sharding) if is_known else new


@functools.cache
def converter(way: Kept, encodes: bool) -> Callable[..., tuple[Array, ...]]:
    """Return what makes planes of numbers, or numbers of planes."""
    _, kernel = backend.load(coding.plan_of(way, encodes))
    return jax.jit(lambda *arrays: kernel(*arrays, np.float32(-0.0)))


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
    expected = " and ".join(part.kind for part in way.parts)
    found = " and ".join(type_of(plane) for plane in planes_of(value))
    if found != expected:
        raise StructureError(
            f"{what} is kept as {found}, but these options keep it as {expected}: the state is of other options "
            "(states=, min_elements=), or of parameters of another type. Call init again"
        )


def slot_of(planes: list[Any], way: Kept) -> Any:
    """Return a slot made of new planes."""
    if way.is_coded:
        return _CLASSES[way](*planes)
    return jax.lax.bitcast_convert_type(planes[0], jnp.bfloat16) if not way.is_plain else planes[0]


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
    planes = [_full(like, part, numbers[part.suffix]) for part in way.parts]
    return slot_of(planes, way) if way.is_coded else planes[0]


def _full(like: Any, part: Part, items: NDArray[Any]) -> Array:
    """Return a plane whose items are all the first of these.

    It is made of the parameter, whatever its shape is: on its devices, in its sharding, and varying where it does.
    """
    kind = jnp.dtype(part.kind)
    first = items.view(kind).ravel()[0].item()
    every = GROUP if part.per == "group" else part.holds
    if every > 1:
        rows, length, _ = rows_of(like.shape)
        like = jax.lax.slice(jnp.asarray(like).reshape(rows, length), (0, 0), (rows, length), (1, every))
    return jnp.full_like(like, first, dtype=kind)
