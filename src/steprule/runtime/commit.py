"""Numbers that a launch writes as its last act: what is counted of a step, when and only when the arrays have moved.

The driver writes them, in the machine code that moves the arrays (``driver.py``); ``Commit.write`` does for steps of
more than one call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from steprule.runtime.addresses import address
from steprule.runtime.driver import driver

__all__ = ["Commit"]


class Commit:
    """Numbers to be written to places of their own, by a launch in the same call of machine code that moves the arrays.

    Args:
        longs: the addresses of numbers of 64 bits.
        shorts: those of numbers of 32 bits.

    Attributes:
        longs, shorts: what is to be written, as bits; set by the owner before the launch.
        targets: where to: the addresses of the longs, and of the shorts.
        address: where a launch finds all this.
    """

    def __init__(self, longs: Sequence[int], shorts: Sequence[int] = ()) -> None:
        self.longs: NDArray[np.int64] = np.zeros(len(longs), np.int64)
        self.shorts: NDArray[np.int32] = np.zeros(len(shorts), np.int32)
        self.targets = np.array(longs, np.int64), np.array(shorts, np.int64)
        self._pairs: list[tuple[NDArray[np.int64], NDArray[Any]]] = [
            (self.targets[0], self.longs),
            (self.targets[1], self.shorts),
        ]
        words = [(len(targets), address(targets), address(values)) for targets, values in self._pairs]
        self._words = np.array(words, np.int64)
        self.address: int = address(self._words)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a commit holds addresses and cannot be copied; make a new one")

    def write(self) -> None:
        """Write the numbers now, where no launch does: within a block that no signal handler interrupts."""
        if driver.cache_info().currsize:
            driver().write(self.address)
            return
        # Nothing is compiled for this alone: a process that may not have machine code steps by the referee.
        for targets, values in self._pairs:
            at, size = address(values), values.itemsize
            for place, target in enumerate(targets.tolist()):
                ctypes.memmove(target, at + place * size, size)
