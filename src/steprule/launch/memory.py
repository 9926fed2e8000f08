"""Where the numbers of one array or tensor lie: NumPy's arrays and torch's tensors are described alike."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.runtime.addresses import address

__all__ = ["Memory", "Spans", "array_memory", "is_dense", "overlapping", "same_strides"]

Array = NDArray[Any]


class Memory:
    """Real numbers at some address: of this machine, or of a device.

    Args:
        address: of the first element.
        shape: of the numbers.
        strides: in bytes, as NumPy's are.
        kind: NumPy's name of an element's type, such as ``"<f4"``.
        owner: what keeps the memory alive, where nothing else does; an array is returned by ``array`` as it is.

    Attributes:
        size: how many numbers there are.
        nbytes: their bytes alone.
        is_contiguous: whether they fill one run of memory, from the first on, in C order.
    """

    __slots__ = ("_owner", "address", "is_contiguous", "itemsize", "kind", "nbytes", "shape", "size", "strides")

    def __init__(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: str, owner: object = None
    ) -> None:
        self.address, self.shape, self.strides = address, shape, strides
        self.kind, self._owner = kind, owner
        self.itemsize, self.size, self.nbytes, in_order = _extent(shape, kind)
        self.is_contiguous = strides == in_order or not self.size or _are_alike(shape, strides, in_order)

    @property
    def bounds(self) -> tuple[int, int]:
        """The addresses where it begins, and where it ends."""
        if self.is_contiguous:
            return self.address, self.address + self.nbytes
        low = high = self.address
        for stride, n in zip(self.strides, self.shape, strict=True):
            if stride < 0:
                low += stride * (n - 1)
            else:
                high += stride * (n - 1)
        return low, high + self.itemsize

    @property
    def is_aligned(self) -> bool:
        """Whether the first element lies at a multiple of its size, as kernels read it."""
        return self.address % self.itemsize == 0

    @property
    def is_dense(self) -> bool:
        """Whether the elements fill one run of aligned memory, from the first on, in any order of axes."""
        return not self.size or (self.is_aligned and is_dense(self.shape, self.strides, self.itemsize))

    def at(self, address: int) -> Memory:
        """Return numbers of the same shape, strides and type that lie elsewhere."""
        return Memory(int(address), self.shape, self.strides, self.kind)

    def array(self) -> Array:
        """Return the memory as an array, for as long as it lives.

        Not by ``tensor.numpy()``: it makes the storage one that cannot be resized, as sharding frees parameters.
        """
        return self._owner if isinstance(self._owner, np.ndarray) else np.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        data = (self.address, False)
        return {"data": data, "shape": self.shape, "strides": self.strides, "typestr": self.kind, "version": 3}


@functools.lru_cache(maxsize=4096)
def _extent(shape: tuple[int, ...], kind: str) -> tuple[int, int, int, tuple[int, ...]]:
    """Return an element's bytes, how many elements there are, the bytes of all, and the strides of C order.

    Remembered: to lay out a step, thousands of memories of a few shapes are described.
    """
    itemsize = int(kind[2:])
    strides = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return itemsize, math.prod(shape), itemsize * math.prod(shape), tuple(strides)


def _are_alike(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether strides lead to the same elements."""
    return all(x == y for n, x, y in zip(shape, a, b, strict=True) if n > 1)


def array_memory(array: Array) -> Memory:
    """Return where an array's numbers lie."""
    return Memory(address(array), array.shape, array.strides, array.dtype.str, array)


def is_dense(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether elements at these strides are dense: they fill one run of memory, in any order of axes."""
    expected = itemsize
    for stride, n in sorted((abs(stride), n) for stride, n in zip(strides, shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= n
    return all(stride >= 0 for stride, n in zip(strides, shape, strict=True) if n > 1)


def same_strides(a: Memory | Array, b: Memory | Array) -> bool:
    """Whether the strides, in elements, are the same on every axis: element i of one run is element i of the other."""
    return all(x * b.itemsize == y * a.itemsize for x, y, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1)


class Spans:
    """The memory of the parameters and slots, from the addresses where they begin and end, to find gradients in it.

    With ``f(x, y) = x * y`` the gradients are the parameters, crosswise: stepping x would change
    the gradient of y on the way.
    """

    def __init__(self, bounds: Iterable[tuple[int, int]]) -> None:
        lows, highs = np.array(sorted(bounds), np.int64).reshape(-1, 2).T
        reach = np.maximum.accumulate(highs)
        # Where one begins that none before it reaches, a run of them ends.
        is_first = np.concatenate([[True], lows[1:] >= reach[:-1]])[: len(lows)]
        begins = lows[is_first]
        self._ends = reach[np.append(is_first[1:], True)[: len(lows)]]
        self._begins = np.append(begins, np.iinfo(np.int64).max)  # nothing begins after the last
        self._low, self._high = begins.tolist(), self._ends.tolist()

    def overlaps(self, start: int, size: int) -> bool:
        """Whether the span ``[start, start + size)`` of bytes touches one of the arrays."""
        after = bisect.bisect_right(self._high, start)
        return after < len(self._low) and self._low[after] < start + size

    def overlaps_each(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return ``overlaps`` of many spans; a call costs as much as ``overlaps`` of some dozen."""
        after = np.searchsorted(self._ends, starts, side="right")
        found: NDArray[np.bool_] = self._begins[after] < starts + sizes
        return found


def overlapping(params: Sequence[tuple[int, int]]) -> set[int]:
    """Return which parameters may share memory with another, given where they begin and end.

    They are stepped one after the other, as by torch.
    """
    found: set[int] = set()
    reach, last = 0, -1
    for (low, high), index in sorted((bounds, index) for index, bounds in enumerate(params)):
        if low < reach:
            found |= {index, last}
        if high > reach:
            reach, last = high, index
    return found
