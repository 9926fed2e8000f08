"""Walking arrays of any strides with a kernel, some thousand elements at a time, by way of buffers."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from steprule.doors.layout import Array
from steprule.engine import Kernel
from steprule.formats import GROUP
from steprule.runtime.addresses import address

__all__ = ["step_in_blocks", "step_strided"]

_BUFFER = 8_192
_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def step_strided(kernel: int, scalars: int, arrays: Sequence[Array]) -> None:
    """Step a parameter, its gradient and its slots, given in this order, by the kernel at that address."""
    writes = [["readwrite", "contig", "aligned"]] * len(arrays)
    writes[1] = ["readonly", "contig", "aligned"]
    flags = ["external_loop", "buffered", "zerosize_ok"]
    call = _CALL(kernel)
    row = np.empty(len(arrays), np.int64)
    with np.nditer(arrays, flags, writes, order="C", buffersize=_BUFFER) as walk:  # type: ignore[call-overload]
        for buffers in walk:
            row[:] = [address(buffer) for buffer in buffers]
            call(row.ctypes.data, 0, buffers[0].size, scalars)


def step_in_blocks(kernel: Kernel, scalars: int, arrays: Sequence[Array], words: Sequence[int]) -> None:
    """Step a parameter by a kernel that must know the place of every element, by copies of some rows.

    Args:
        kernel: machine code.
        scalars: the address of its row of scalars.
        arrays: the parameter and the gradient, of any strides, then the kept planes, in C order.
        words: what follows the addresses.
    """
    param, grad, *kept = arrays
    length, groups = words[0], words[1]
    call = _CALL(kernel.address)
    table = np.array([0, 0, *map(address, kept), *words], np.int64)
    whole = param.ndim < 2
    # A row of an array of one dimension is one element here; blocks of them begin where groups do.
    step = _BUFFER // GROUP * GROUP if whole else max(1, _BUFFER // max(1, length))
    for start in range(0, len(param) if param.ndim else 1, step):
        part = slice(start, start + step) if param.ndim else ()
        own, along = np.array(param[part], order="C"), np.require(grad[part], requirements=["C", "A"])
        before = start if whole else start * length
        for place, block in enumerate((own, along)):
            table[place] = address(block) - before * block.itemsize
        if not kernel.plan.has_groups:
            call(table.ctypes.data, before, own.size, scalars)
        elif whole:
            call(table.ctypes.data, start // GROUP, -(-own.size // GROUP), scalars)
        else:
            call(table.ctypes.data, start * groups, len(own) * groups, scalars)
        param[part] = own
