"""Where an array lies in memory, fast: it may be another in every step.

``array.__array_interface__`` takes a microsecond, and ``array.ctypes`` imports a module, which Python refuses when it
is being torn down. The address is the first field of the array object after Python's object header (NumPy's stable
ABI), so it is read there, once a trial on a fresh array has shown that this holds in this interpreter.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER", "address"]

HEADER = object.__basicsize__
"""Where the fields of an array object begin: after Python's object header."""


@functools.cache
def _header_holds() -> bool:
    probe = np.zeros(3)
    field = ctypes.c_size_t.from_address(id(probe) + HEADER).value
    return bool(field == probe.__array_interface__["data"][0])


def address(array: NDArray[np.generic]) -> int:
    """Return the address of the first element."""
    if _header_holds():
        return ctypes.c_size_t.from_address(id(array) + HEADER).value
    return int(array.__array_interface__["data"][0])
