"""One parameter of the NumPy door: its array, its kernel, and the planes of what is kept for it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steprule.coding import decode, encode, plane_name
from steprule.doors.group import GroupValues
from steprule.doors.layout import Array, check_start, is_dense, like
from steprule.engine import Kernel, Task, kernel
from steprule.formats import GROUP, Kept, Storage, rows_of, shape_of, stream
from steprule.rules import Rule

__all__ = ["Leaf", "constant_parts", "decoded", "make_kept", "task_kernel", "words_of"]


@dataclass
class Leaf:
    """One parameter.

    ``array`` is a plain view of the caller's ``given``: a subclass may change what `*` means. The weak
    reference keeps NumPy from moving the memory in ``given.resize``.

    Attributes:
        place: where it is in the caller's structure.
        number: its place among the parameters, which its random bits depend on.
        storage: the formats of its values.
        kept: the planes beside the parameter, as the kernel orders them.
        row: the row of scalars that its kernel reads: its group's, or its own.
    """

    place: str
    number: int
    given: Array
    kernel: Kernel
    storage: Storage
    group: GroupValues
    kept: list[Array]
    row: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.array: Array = self.given.view(np.ndarray)
        self._held = weakref.ref(self.given)

    @property
    def planes(self) -> dict[str, Array]:
        """The kept planes by name."""
        return {plane.name: array for plane, array in zip(self.kernel.kept, self.kept, strict=True)}

    def slot(self, name: str) -> Array | None:
        """Return a slot: where it lies if it is kept as it is, else decoded to a new float32 array."""
        way = self.kernel.slots.get(name)
        if way is None:
            return None
        return self.planes[name] if way.is_plain else decoded(way, name, self.planes)

    @property
    def origin(self) -> tuple[int, int]:
        """The index of the first element, and the stream of random bits."""
        row = rows_of(self.array.shape)[1] if self.array.ndim > 1 else 1
        return self.group.first_row * row, stream(self.number)


def task_kernel(rule: Rule, backend: str, leaf: Leaf, task: Task) -> Kernel:
    """Return the kernel of a task for a parameter."""
    return kernel(rule, leaf.group.variant, leaf.storage, backend, leaf.group.guard, task)


def decoded(way: Kept, name: str, planes: Mapping[str, Array]) -> Array:
    """Return the numbers of a value as float32."""
    return decode(way, {part.suffix: planes[plane_name(name, part.suffix)] for part in way.parts})


def words_of(kernel: Kernel, shape: Sequence[int], origin: tuple[int, int]) -> list[int]:
    """Return what follows the addresses of a kernel's row, if it needs that."""
    return [*rows_of(shape)[1:], *origin] if kernel.needs_order else []


def make_kept(array: Array, kernel: Kernel, group: GroupValues) -> list[Array]:
    """Return the planes of a parameter before the first step."""
    order: Literal["C", "K"] = "C" if kernel.needs_order or not is_dense(array) else "K"
    planes: dict[str, Array] = {}
    for name, way in kernel.ways.items():
        if name not in kernel.slots:
            fresh = {p.suffix: np.zeros(shape_of(p, array.shape), p.dtype) for p in way.parts if p.suffix}
        elif way.is_plain:
            fresh = {"": like(array, way.parts[0].dtype, group.start_of(name), f"{name}{group.place}", order)}
        else:
            constant = constant_parts(way, group.start_of(name), f"{name}{group.place}")
            fresh = {p.suffix: np.full(shape_of(p, array.shape), constant[p.suffix], p.dtype) for p in way.parts}
        planes |= {plane_name(name, suffix): plane for suffix, plane in fresh.items()}
    return [planes[plane.name] for plane in kernel.kept]


def constant_parts(way: Kept, value: float, what: str) -> dict[str, int]:
    """Return what each plane holds everywhere where a value is the same number everywhere.

    Raises:
        HyperparameterError: when float32 cannot hold the number.
    """
    check_start(value, "float32", what)
    return {suffix: int(plane.ravel()[0]) for suffix, plane in encode(way, np.full(GROUP, value, np.float32)).items()}
