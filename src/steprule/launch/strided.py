"""Stepping arrays of any strides by a kernel, some thousand elements at a time, by way of buffers.

The buffers' memory, which may not be there, is taken before anything is stepped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.engine import Kernel
from steprule.formats import GROUP
from steprule.runtime.addresses import address
from steprule.runtime.driver import driver

__all__ = ["strided_step"]

_BUFFER = 8_192
Array = NDArray[Any]
_Index = tuple[Any, ...]


def strided_step(kernel: Kernel, scalars: int, arrays: Sequence[Array], integers: Sequence[int]) -> Callable[[], None]:
    """Return what steps a parameter, once.

    Args:
        kernel: machine code.
        scalars: the address of its row of scalars.
        arrays: the parameter, its gradient and the planes, of any strides where they have the parameter's shape.
        integers: the integer arguments that follow the addresses.
    """
    shape, groups = arrays[0].shape, integers[1] if kernel.plan.has_groups else 0
    table = np.array([*map(address, arrays), *integers], np.int64)
    call, at = driver().call, address(table)
    largest = max(size for _, _, size in _blocks(shape, bool(groups)))
    # What lies in C order is stepped in place.
    scattered = [place for place, array in enumerate(arrays) if not (array.flags.c_contiguous and array.flags.aligned)]
    buffers = {place: np.empty(largest, arrays[place].dtype) for place in scattered}

    def step() -> None:
        for index, first, size in _blocks(shape, bool(groups)):
            parts = {place: buffer[:size].reshape(arrays[place][index].shape) for place, buffer in buffers.items()}
            for place, part in parts.items():
                part[...] = arrays[place][index]
                table[place] = address(part) - first * part.itemsize
            call(kernel.code.address, at, *_counted(shape, groups, first, size), scalars)
            for place, part in parts.items():
                if place != 1:  # gradients are only read
                    arrays[place][index] = part

    return step


def _blocks(shape: Sequence[int], has_groups: bool) -> Iterator[tuple[_Index, int, int]]:
    """Cut an array, in C order, into parts: each one's index, its first element's place, and how many it has.

    Groups run along all axes but the first: where there are groups a part has whole rows; of one dimension, whole
    groups.
    """
    if not shape:
        yield (), 0, 1
        return
    axis, length = 0, math.prod(shape[1:])
    while not has_groups and length > _BUFFER:
        axis, length = axis + 1, length // shape[axis + 1]
    step = max(1, _BUFFER // GROUP * GROUP // length)
    for number, before in enumerate(np.ndindex(*shape[:axis])):
        for start in range(0, shape[axis], step):
            end = min(start + step, shape[axis])
            yield (*before, slice(start, end)), (number * shape[axis] + start) * length, (end - start) * length


def _counted(shape: Sequence[int], groups: int, first: int, size: int) -> tuple[int, int]:
    """Return where a kernel begins in what it counts, and how far it goes: elements, or groups of them."""
    if not groups:
        return first, size
    if len(shape) < 2:
        return first // GROUP, -(-size // GROUP)
    length = math.prod(shape[1:])
    return first // length * groups, size // length * groups
