"""One parameter of the NumPy door: its array, its kernel, and the planes of its state."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from steprule.coding import encode, plane_name
from steprule.doors.layout import Array, check_start, like
from steprule.doors.planes import Target
from steprule.doors.state import TRAINED, numbers_of
from steprule.engine import Kernel
from steprule.formats import GROUP, Codec, RoundToNearest, Storage, shape_of
from steprule.launch.evaluate import Scalars
from steprule.launch.memory import array_memory
from steprule.launch.values import GroupValues

__all__ = ["Leaf", "constant_planes", "copied", "make_numbers", "make_state"]


@dataclass
class Leaf:
    """One parameter.

    ``array`` is a plain view of the caller's ``base``: a subclass may change what `*` means. The weak
    reference keeps NumPy from moving the memory in ``base.resize``.

    Attributes:
        place: where it is in the caller's structure.
        number: its place among the parameters, which its random bits depend on.
        storage: the formats of its values.
        state: the planes beside the parameter, as the kernel orders them.
        numbers: the slots that are one number of it.
    """

    place: str
    number: int
    base: Array
    kernel: Kernel
    storage: Storage
    group: GroupValues
    state: list[Array]
    numbers: Scalars

    def __post_init__(self) -> None:
        self.array: Array = self.base.view(np.ndarray)
        self._no_resize = weakref.ref(self.base)

    @property
    def planes(self) -> dict[str, Array]:
        """The state planes by name."""
        return {plane.name: array for plane, array in zip(self.kernel.state_planes, self.state, strict=True)}

    @property
    def target(self) -> Target:
        """What a state of it must fit."""
        own = self.kernel.codecs
        return Target(self.place, self.array.shape, self.storage.parameter, own, self.group.rule.parameter)

    @property
    def beside(self) -> list[Array]:
        """The planes of the parameter beside its array, which come first in the state."""
        return self.state[: len(self.kernel.codecs[self.group.rule.parameter].planes) - 1]

    def room(self) -> list[Array]:
        """Return memory for all planes of the parameter, laid out as it is where it is dense."""
        order: Literal["C", "K"] = "C" if self.kernel.needs_order or not array_memory(self.array).is_dense else "K"
        beside = [np.empty(plane.shape, plane.dtype) for plane in self.beside]
        return [np.empty_like(self.array, order=order, subok=False), *beside]

    def begin(self) -> None:
        """Let slots that begin as the parameter be what it is now: weights may have been loaded since."""
        fresh = self.fresh() if self.group.rule.points else {}
        for name, plane in self.planes.items():
            if name.partition(".")[0] in self.group.rule.points:
                plane[...] = fresh[name]

    def trained(self, kept: Sequence[Array]) -> tuple[dict[str, str], dict[str, Array]]:
        """Return the format and the planes of what is trained, as a state has them beside the evaluated point."""
        codec = self.kernel.codecs[self.group.rule.parameter]
        if not kept:
            return {}, {}
        names = [plane_name(TRAINED, spec.suffix) for spec in codec.planes]
        # bfloat16 arrays are upper halves of float32, as the planes of slots are.
        planes = [array.view(spec.dtype) for spec, array in zip(codec.planes, kept, strict=True)]
        return {TRAINED: codec.id}, dict(zip(names, planes, strict=True))

    def fresh(self) -> dict[str, Array]:
        """Return the planes before the first step, by name."""
        state = make_state(self.array, self.kernel, self.group)
        return {plane.name: array for plane, array in zip(self.kernel.state_planes, state, strict=True)}

    def slot(self, name: str) -> Array | None:
        """Return a slot: where it lies if it is kept as it is, else decoded to a new float32 array."""
        codec = self.kernel.slots.get(name)
        if codec is None:
            return None
        return self.planes[name] if codec.is_plain else numbers_of(codec, name, self.planes, self.array.shape)


def make_numbers(group: GroupValues) -> Scalars:
    """Return the slots that are one number of a parameter, before the first step."""
    return Scalars({name: group.start_of(name) for name in group.per_tensor})


def make_state(array: Array, kernel: Kernel, group: GroupValues) -> list[Array]:
    """Return the planes of a parameter before the first step."""
    order: Literal["C", "K"] = "C" if kernel.needs_order or not array_memory(array).is_dense else "K"
    planes: dict[str, Array] = {}
    for name, codec in kernel.codecs.items():
        if name not in kernel.slots:
            fresh = {p.suffix: np.zeros(shape_of(p, array.shape), p.dtype) for p in codec.planes if p.suffix}
        elif name in group.rule.points:
            fresh = copied(codec, array, order)
        elif not codec.is_elementwise:
            (spec,) = codec.planes
            start = check_start(group.start_of(name), spec.dtype, f"{name}{group.place}")
            fresh = {"": np.full(shape_of(spec, array.shape), start, spec.dtype)}
        elif codec.is_plain:
            fresh = {"": like(array, codec.planes[0].dtype, group.start_of(name), f"{name}{group.place}", order)}
        else:
            constant = constant_planes(codec, group.start_of(name), f"{name}{group.place}")
            fresh = {p.suffix: np.full(shape_of(p, array.shape), constant[p.suffix], p.dtype) for p in codec.planes}
        planes |= {plane_name(name, suffix): plane for suffix, plane in fresh.items()}
    return [planes[plane.name] for plane in kernel.state_planes]


def copied(codec: Codec, array: Array, order: Literal["C", "K"] = "C") -> dict[str, Array]:
    """Return the planes, by suffix, of a slot that begins as a parameter, as a step would store its numbers."""
    if not codec.is_plain:
        return encode(codec, np.ascontiguousarray(array, np.float32).reshape(array.shape))
    dtype = codec.planes[0].dtype
    slot: Array = np.empty_like(array, dtype=dtype, order=order, subok=False)
    slot[...] = codec.encode(array.astype(dtype), RoundToNearest())[""]
    return {"": slot}


def constant_planes(codec: Codec, value: float, what: str) -> dict[str, int]:
    """Return what each plane holds everywhere where a value is the same number everywhere.

    Raises:
        HyperparameterError: when float32 cannot hold the number.
    """
    check_start(value, "float32", what)
    return {suffix: int(plane.ravel()[0]) for suffix, plane in encode(codec, np.full(GROUP, value, np.float32)).items()}
