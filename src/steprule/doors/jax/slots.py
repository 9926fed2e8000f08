"""The slots of one parameter as arrays of JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from steprule import coding
from steprule.backends import jax as backend
from steprule.doors.jax.leaves import format_of, is_complex, type_of
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import FORMATS, GROUP, Codec, PlaneSpec, RoundToNearest, rows_of, saved_codec, shape_of
from steprule.formats.bfloat16 import BFLOAT16
from steprule.formats.codec import plain
from steprule.formats.eight_bit import EIGHT_BIT

__all__ = [
    "Coded",
    "EightBit",
    "NonNegativeEightBit",
    "check_codec",
    "check_pair",
    "codec_of",
    "decode",
    "encoded",
    "is_coded",
    "is_plain",
    "made",
    "planes_of",
    "slot_of",
    "with_sharding_of",
]


class EightBit(NamedTuple):
    """A slot in 8 bits: ``uint8`` codes of the parameter's shape, and an exponent for up to 128 neighbours in a row.

    Neither holds the slot's values; ``decode`` returns those.
    """

    codes: Array
    scale: Array

    @property
    def codec(self) -> Codec:
        """How the numbers are kept."""
        return EIGHT_BIT.signed

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's."""
        return self.codes.shape

    def decode(self) -> Array:
        """Return the numbers that the slot holds, in float32."""
        return _decoded(self.codec, self, self.shape)


class NonNegativeEightBit(EightBit):
    """An ``EightBit`` of numbers that are never negative, such as second moments: its codes have no sign."""

    __slots__ = ()

    @property
    def codec(self) -> Codec:
        """How the numbers are kept."""
        return EIGHT_BIT.non_negative


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coded:
    """A slot in codes, of any format but 8 bits: several may share an item, so their shape is not the parameter's.

    Attributes:
        planes: in the format's order; codes in rows of the parameter's first axis, and last what neighbours share.
        shape: the parameter's.
        format: what tells how the numbers are kept.
    """

    planes: tuple[Array, ...]
    shape: tuple[int, ...] = field(metadata={"static": True})
    format: str = field(metadata={"static": True})

    @property
    def codec(self) -> Codec:
        """How the numbers are kept."""
        codec = saved_codec(self.format, FORMATS["float32"], is_slot=True)
        assert codec is not None  # only this file makes such slots
        return codec

    @property
    def codes(self) -> Array:
        """The codes, or the first plane of them."""
        return self.planes[0]

    @property
    def scale(self) -> Array:
        """What neighbours in a row share."""
        return self.planes[-1]

    def decode(self) -> Array:
        """Return the numbers that the slot holds, in float32."""
        return _decoded(self.codec, self.planes, self.shape)


_CLASSES: dict[Codec, type[EightBit]] = {
    EIGHT_BIT.signed: EightBit,
    EIGHT_BIT.non_negative: NonNegativeEightBit,
}


def is_coded(x: Any) -> bool:
    """Whether a subtree is a slot in codes."""
    return isinstance(x, EightBit | Coded)


def decode(state: Any) -> Any:
    """Return a state, or any tree, with float32 arrays in the place of its slots in codes, for what reads numbers."""
    return jax.tree.map(lambda x: x.decode() if is_coded(x) else x, state, is_leaf=is_coded)


def encoded(numbers: Any, like: Any) -> Any:
    """Return an array, or a slot in codes, in the format of another slot of its shape, rounded to nearest.

    What is in that format stays as it is: codes that are rounded again may become other ones.
    """
    same = is_coded(numbers) and is_coded(like) and numbers.codec.id == like.codec.id
    if not same:
        numbers = numbers.decode() if is_coded(numbers) else jnp.asarray(numbers)
    if same:
        new: Any = numbers
    elif is_coded(like):
        new = slot_of(list(converter(like.codec, True)(numbers.astype(np.float32))), like.codec, numbers.shape)
    elif like.dtype == jnp.bfloat16:
        planes = list(converter(BFLOAT16.signed, True)(numbers.astype(np.float32)))
        new = slot_of(planes, BFLOAT16.signed, numbers.shape)
    else:
        new = numbers.astype(like.dtype)
    return jax.tree.map(with_sharding_of, new, like)


def with_sharding_of(new: Array, like: Any) -> Array:
    """Return an array on the devices and in the sharding of another, where these are known."""
    is_known = isinstance(like, jax.Array) and not isinstance(like, jax.core.Tracer)
    return jax.device_put(new, like.sharding) if is_known else new


@functools.cache
def converter(codec: Codec, encodes: bool) -> Callable[..., tuple[Array, ...]]:
    """Return what makes planes of numbers, or numbers of planes."""
    kernel = backend.load(coding.plan_of(codec, encodes)).kernel
    return jax.jit(lambda *arrays: kernel(*arrays, np.float32(-0.0)))


def _decoded(codec: Codec, planes: tuple[Array, ...], shape: tuple[int, ...]) -> Array:
    run = converter(codec, False)
    # Where no plane has the parameter's shape, the kernel is told it by an array that is not read.
    like = () if any(s.per == "element" and s.packing == 1 for s in codec.planes) else (jnp.zeros(shape, bool),)
    numbers: Array = run(*like, *planes)[0]
    return numbers


def planes_of(slot: Any) -> tuple[Any, ...]:
    """Return the planes of a slot in the order of its format's parts."""
    # Whatever a slot is made of: nnx.Optimizer keeps named tuples and dataclasses as mappings of their fields.
    return tuple(jax.tree.leaves(slot))


def codec_of(slot: Any) -> Codec:
    """Return how a slot is kept."""
    if is_coded(slot):
        codec: Codec = slot.codec
        return codec
    return BFLOAT16.signed if slot.dtype == jnp.bfloat16 else plain(format_of(slot, "", "slot").name, flushes=True)


def is_plain(slot: Any, dtype: str) -> bool:
    """Whether a slot is kept as numbers of that type."""
    return [type_of(plane) for plane in planes_of(slot)] == [dtype]


def check_planes(value: Any, codec: Codec, shape: tuple[int, ...], what: str) -> None:
    """Refuse a slot of another shape, where its planes have none of their own that says so.

    Raises:
        StructureError: naming both.
    """
    for spec, plane in zip(codec.planes, planes_of(value), strict=True):
        if spec.per in ("row", "column") and plane.shape != shape_of(spec, shape):
            raise StructureError(
                f"{what}, which has a number of each {spec.per}, has shape {plane.shape}, but its gradient {shape}: "
                f"expected {shape_of(spec, shape)}. Both must be of the parameters that init was called with"
            )
        if spec.packing > 1 and plane.shape != shape_of(spec, shape):
            raise StructureError(
                f"{what} has {codec.name} codes of shape {plane.shape}, expected {shape_of(spec, shape)} beside its "
                f"gradient of shape {shape}. Both must be of the parameters that init was called with"
            )


def check_codec(value: Any, codec: Codec, what: str) -> None:
    """Refuse a slot that is kept in another way.

    Raises:
        StructureError: naming both.
    """
    expected = " and ".join(spec.kind for spec in codec.planes)
    found = " and ".join(type_of(plane) for plane in planes_of(value))
    if found != expected:
        raise StructureError(
            f"{what} is kept as {found}, but these options keep it as {expected}: the state is for other options "
            "(states=, min_elements=), or of parameters of another type. Call init again"
        )


def check_pair(value: Any, what: str) -> None:
    """Refuse what is not one number, as states keep it.

    Raises:
        StructureError: with what it is.
    """
    if getattr(value, "shape", None) != (2,) or not type_of(value).startswith("float"):
        found = f"{type_of(value)}{list(value.shape)}" if hasattr(value, "dtype") else repr(value)
        raise StructureError(
            f"{what} is {found}, expected an array of two numbers, whose sum is the slot: the state is of another rule "
            "or of other options. Call init again"
        )


def slot_of(planes: list[Any], codec: Codec, shape: tuple[int, ...]) -> Any:
    """Return a slot, of a parameter of this shape, made of new planes."""
    if codec.is_coded:
        return _CLASSES[codec](*planes) if codec in _CLASSES else Coded(tuple(planes), shape, codec.id)
    return jax.lax.bitcast_convert_type(planes[0], jnp.bfloat16) if not codec.is_plain else planes[0]


def made(like: Any, codec: Codec, start: Any, slot: str) -> Any:
    """Return a slot before the first step, on the devices and in the sharding of its parameter.

    Args:
        like: the parameter.
        codec: how the slot is kept.
        start: what it holds everywhere; None: the parameter's own numbers.
        slot: its name.

    Raises:
        HyperparameterError: when it is to start at a traced number in a low-precision format.
    """
    if start is None:
        return _copy(like, codec)
    if is_complex(like):
        return jnp.full_like(like, start * (1 + 1j), dtype=type_of(like))
    if codec.is_plain:
        return jnp.full_like(_part(like, codec.planes[0]), start, dtype=codec.planes[0].dtype)
    if isinstance(start, jax.core.Tracer):
        raise HyperparameterError(
            f"slot {slot!r} is kept as {codec.name} and starts at a traced number; give a Python number, or keep "
            f"this slot in float32 (states={{...}} names the low-precision ones)"
        )
    numbers = coding.encode(codec, np.full((1, GROUP), start, np.float32))
    planes = [_full(like, spec, numbers[spec.suffix]) for spec in codec.planes]
    return slot_of(planes, codec, like.shape) if codec.is_coded else planes[0]


def _copy(like: Any, codec: Codec) -> Any:
    """Return a slot that begins as a parameter, as a step would store its numbers."""
    if is_complex(like):
        real, imaginary = (_copy(part, codec) for part in (jnp.real(like), jnp.imag(like)))
        return jax.lax.complex(real, imaginary)
    if codec.is_plain:
        # An array of its own, also where nothing changes: both may be donated.
        return jnp.copy(codec.encode(jnp.asarray(like).astype(codec.planes[0].dtype), RoundToNearest())[""])
    return slot_of(list(converter(codec, True)(jnp.asarray(like).astype(np.float32))), codec, like.shape)


def _part(like: Any, spec: PlaneSpec) -> Any:
    """Return what has the shape of a plane: of rows or columns a part of the parameter, on the same devices."""
    shape = shape_of(spec, like.shape)
    if shape == like.shape:
        return like
    if not like.size:  # no part of an axis of length 0 has length 1
        return jnp.zeros(shape, like.dtype)
    return jax.lax.slice(jnp.asarray(like), (0,) * len(shape), shape)


def _full(like: Any, spec: PlaneSpec, items: NDArray[Any]) -> Array:
    """Return a plane whose items are all the first of these.

    It is made of the parameter, whatever its shape is: on its devices, in its sharding, and varying where it does.
    """
    kind = jnp.dtype(spec.kind)
    first = items.view(kind).ravel()[0].item()
    every = GROUP if spec.per == "group" else spec.packing
    if every > 1:
        rows, length, _ = rows_of(like.shape)
        like = jax.lax.slice(jnp.asarray(like).reshape(rows, length), (0, 0), (rows, length), (1, every))
    return jnp.full_like(like, first, dtype=kind)
