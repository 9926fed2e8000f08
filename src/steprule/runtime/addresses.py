"""Where arrays lie in memory, fast: many thousands of arrays may move between two steps.

``array.__array_interface__`` takes a microsecond an array, and ``array.ctypes`` imports a module, which
Python refuses when it is being torn down. The address is the first field of the array object after
Python's object header (NumPy's stable ABI), so it is read there, once a trial on a fresh array has
shown that this holds in this interpreter.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.runtime.driver import driver

__all__ = ["address", "addresses"]

_HEADER = object.__basicsize__


@functools.cache
def _header_holds() -> bool:
    probe = np.zeros(3)
    field = ctypes.c_size_t.from_address(id(probe) + _HEADER).value
    return bool(field == probe.__array_interface__["data"][0])


def address(array: NDArray[np.generic]) -> int:
    """Return the address of the first element."""
    if _header_holds():
        return ctypes.c_size_t.from_address(id(array) + _HEADER).value
    return int(array.__array_interface__["data"][0])


def addresses(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    """Return the addresses of the first elements of many arrays."""
    # Nothing is compiled for this alone: a process that may not have machine code steps by the referee.
    if not _header_holds() or len(arrays) < 4 or not driver.cache_info().currsize:
        return np.fromiter(map(address, arrays), np.int64, len(arrays))
    objects = np.fromiter(map(id, arrays), np.int64, len(arrays))
    found = np.empty(len(arrays), np.int64)
    driver().gather(address(objects), len(arrays), _HEADER, address(found))
    return found
