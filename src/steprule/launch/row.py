"""One parameter of a launch, whatever the door: where its numbers lie, and whose scalars it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Kernel, Loader, PassKey, kernel
from steprule.formats import Storage, rows_of, stream
from steprule.launch.memory import Memory, array_memory, same_strides
from steprule.launch.values import GroupValues
from steprule.runtime.addresses import address

__all__ = ["WHOLE", "Row", "ScalarGroup", "Shard", "Share", "Touched"]


class Share(Protocol):
    """Adds up numbers over the processes that have parts of one array."""

    def __call__(self, numbers: Sequence[float], /) -> Sequence[float]:
        """Return the sums, the same bits on all processes."""
        ...

    def check(self) -> None:
        """Raise what adding up would raise."""
        ...


@dataclass(frozen=True)
class Shard:
    """Which part of a larger array a memory holds.

    Attributes:
        first_row: where the part begins in the whole, along the first axis.
        whole: the shape of the larger array; None: it matters to nobody.
        share: adds up numbers over the processes that have parts; None: sums are those of the part.
        counts: whether the part counts in these sums: of replicas one does.
        is_run: whether the part is a run of rows, so that its elements follow one another in the whole as they do here.
    """

    first_row: int = 0
    whole: tuple[int, ...] | None = None
    share: Share | None = None
    counts: bool = True
    is_run: bool = True

    def index(self, shape: Sequence[int]) -> int:
        """Return the index, in the whole, of the first element of a part of this shape."""
        return self.first_row * (rows_of(shape)[1] if len(shape) > 1 else 1)


WHOLE = Shard()


@dataclass(eq=False)
class ScalarGroup:
    """Rows with the same hyperparameters, step count and scalar slots: they read one row of scalars.

    Attributes:
        values: the hyperparameters.
        scalars: the scalar slots.
        t: the number of the step that is to be taken.
        scheduled: what the schedules say for it.
        wavers: whether their gradient comes and goes.
        rests: whether it is gone, so that the step is not theirs.
        numbers: the slots that are a number of each row: one line per slot, in the order of the rows.
        fresh: what these become with the step.
    """

    values: GroupValues
    scalars: Mapping[str, float]
    t: int = 1
    scheduled: Mapping[str, Any] = field(default_factory=dict)
    wavers: bool = False
    rests: bool = False
    numbers: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    fresh: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    _kernels: dict[Any, Any] = field(init=False, default_factory=dict)

    def kernel(self, storage: Storage, backend: Loader, which: PassKey) -> Kernel:
        """Return the kernel of a pass. Found by identity: to hash a variant and formats takes microseconds a row."""
        key, values = (id(storage), which), self.values
        found = self._kernels.get(key)
        if found is None or not (found[0] is storage and found[1] is backend and found[2] is values.variant):
            made = kernel(values.rule, values.variant, storage, backend, values.guard, which)
            found = self._kernels[key] = (storage, backend, values.variant, made)
        own: Kernel = found[3]
        return own

    @property
    def scale(self) -> float:
        """What the gradients are divided by before anything else: that of the loss."""
        return 1.0

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """All as they are in this step, to be told."""
        return {**self.values, **self.scheduled}


class Touched:
    """The slices of a parameter that are stepped, where its gradient has these alone: it is sparse.

    Args:
        places: of each slice, counted in slices of the parameter's own memory, in C order; each once.
        axes: the first axes of the parameter, that the slices are taken along.

    Attributes:
        places, axes: both.
        count, address: how many places there are, and where they lie.
    """

    __slots__ = ("address", "axes", "count", "places")

    def __init__(self, places: NDArray[np.int64], axes: int) -> None:
        self.places, self.axes = places, axes
        self.count, self.address = len(places), address(places)


@dataclass(eq=False)
class Row:
    """One parameter.

    Attributes:
        place: its place among all parameters of the optimizer, which its random bits depend on.
        group: whose scalars it reads.
        backend: what steps it.
        storage: the formats of its values.
        memories: of the parameter, the gradient and the planes that are kept, as the kernel orders them; then those of
            work planes, which a launch adds (``launch.products``).
        dtype: what the door calls the parameter's type.
        shape: the parameter's, as formats see it.
        shard: which part of a larger one it is.
        device: where it lies, for backends that serve several.
        touched: the slices that are stepped, in the order in which the gradient has them; None: all.
        is_apart: whether it is stepped by itself, after those before it: it shares memory with another, or its gradient
            is direct at some steps alone.
        found: on a device, where the numbers of its rows and columns lie that the passes of a step find, by name.
        is_direct: whether the memories are dense and element i of one is element i of all, so that a kernel takes them
            in place; an unaligned gradient is copied first.
        scratch: memory that the passes of a step have in common, by what it is for.
        library: what multiplies its matrices, a ``launch.products.Library``; None: NumPy.
    """

    place: int
    group: ScalarGroup
    backend: Loader
    storage: Storage
    memories: list[Memory]
    dtype: str
    shape: tuple[int, ...]
    shard: Shard = WHOLE
    device: Any = None
    touched: Touched | None = None
    library: Any = None
    is_apart: bool = field(init=False, default=False)
    is_direct: bool = field(init=False)
    scratch: dict[Any, NDArray[Any]] = field(init=False, default_factory=dict)
    found: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.kernel = self.kernel_of("step")
        self.is_direct = self._is_direct()

    def kernel_of(self, which: PassKey, backend: Loader | None = None) -> Kernel:
        """Return the kernel of a pass, over the same memories, of a backend; by default that of the row."""
        return self.group.kernel(self.storage, backend or self.backend, which)

    @property
    def whole(self) -> tuple[int, ...]:
        """The shape of all that is one parameter, of which this may be a part; complex numbers are pairs there."""
        shape = self.memories[0].shape
        whole = self.shard.whole
        return shape if whole is None else (*whole, *shape[len(whole) :])

    @property
    def origin(self) -> tuple[int, int]:
        """The index of the first element, and the stream of random bits."""
        return self.shard.index(self.shape), stream(self.place)

    @property
    def integers(self) -> list[int]:
        """The integer arguments that follow the addresses of its memories, if its kernel takes any."""
        return [*rows_of(self.shape)[1:], *self.origin] if self.kernel.needs_order else []

    def over(self, arrays: Sequence[NDArray[Any]]) -> Row:
        """Return the same row over other arrays, copies that a kernel can take in place."""
        return dataclasses.replace(self, memories=[array_memory(array) for array in arrays], touched=None)

    @property
    def is_sliced(self) -> bool:
        """Whether slices are stepped that lie in memory one after the other, so that a kernel takes them in place."""
        return self.touched is not None and all(memory.is_contiguous and memory.is_aligned for memory in self.memories)

    def place_gradient(self, memory: Memory, touched: Touched | None = None) -> None:
        """Let the gradient be this, and find out whether the row is direct."""
        self.memories[1], self.touched = memory, touched
        self.is_direct = self._is_direct()

    def align_gradient(self) -> bool:
        """Let a gradient that is not aligned be a copy that is, if the row is direct; return whether it is one now."""
        grad = self.memories[1]
        if grad.is_aligned or not self.is_direct:
            return False
        self.memories[1] = array_memory(grad.array().copy(order="K"))
        return True

    def _is_in_c_order(self) -> bool:
        """Whether all memories lie in C order with equal strides: the usual, found without looking at every axis."""
        own, grad = self.memories[:2]
        strides = own.strides
        if not own.is_contiguous or grad.strides != strides or grad.itemsize != own.itemsize:
            return False
        for memory in self.memories:
            if memory.strides != strides or (memory.address % memory.itemsize and memory is not grad):
                return False
        return True

    def _is_direct(self) -> bool:
        if self.touched is not None:
            return False
        if not self.kernel.plan.has_groups and self._is_in_c_order():
            return True
        own, planes = self.memories[0], self.kernel.plan.kept_planes[1:]
        if not own.size:
            return True  # whatever the strides: there are no elements
        # Planes of codes are not the parameter's shape; they are contiguous, and so must be whatever goes with them.
        # What is saved for an evaluation comes behind these, laid out as the parameter.
        alike = [other for other, plane in zip(self.memories[1:], planes, strict=False) if plane.is_elementwise]
        # An unaligned gradient is copied (see ``Aliasing``): the next one may be aligned, and sums keep their order.
        aligned = all(other.is_aligned for other in alike if other is not self.memories[1])
        walks = own.is_dense and aligned and all(same_strides(own, other) for other in alike)
        return walks and (own.is_contiguous or not self.kernel.needs_order)
