"""Walking arrays of any strides with a kernel: NumPy's iterator copies runs of elements to buffers and back."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from steprule.doors.layout import Array
from steprule.runtime.addresses import address

__all__ = ["step_strided"]

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
