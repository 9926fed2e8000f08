"""Worker threads: started by Python, they live in the machine code of the driver, without the interpreter lock."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steprule.errors import HyperparameterError
from steprule.runtime import offsets
from steprule.runtime.addresses import address
from steprule.runtime.driver import driver
from steprule.runtime.interrupts import uninterrupted
from steprule.runtime.regions import Region
from steprule.runtime.waiting import LOCK_BYTES

__all__ = ["Pool", "Team", "get_num_threads", "own_team", "pool", "set_num_threads"]


ON_END = 30_000
"""Nanoseconds after a launch within which workers do not fall asleep, on any processor that was measured."""
ON_END_LAUNCHES = 4
"""So many launches on end are more than the passes of one step: others will follow, and waking workers pays."""


class Pool:
    """Workers shared by all launches of the process. They start when first needed and end with it.

    Attributes:
        ended: when the last launch that may be short ended, by ``time.perf_counter_ns``.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._on_end = 0
        self._workers = 0
        self._memory: NDArray[np.int64] | None = None
        self._address = 0
        # Entered again by a finalizer that steps another optimizer while workers start.
        self._lock = threading.RLock()

    def start(self, workers: int) -> None:
        """Let there be so many workers, if threads are to be had; otherwise the caller does their part."""
        if self._workers >= workers:
            return
        # A handler that forked here would leave its child waiting for a thread that only the parent has.
        with uninterrupted(), self._lock:
            while self._workers < workers:
                name = f"steprule-{self._workers}"
                try:
                    threading.Thread(target=_work, args=(self.memory,), name=name, daemon=True).start()
                except RuntimeError:  # no more threads to be had
                    return
                self._workers += 1

    def is_busy(self, now: int) -> bool:
        """Count one that begins now, and return whether it is one of many on end, between which workers spin."""
        self._on_end = self._on_end + 1 if now - self.ended < ON_END else 0
        return self._on_end >= ON_END_LAUNCHES

    @property
    def memory(self) -> NDArray[np.int64]:
        """Where launches offer their chunks, and workers wait: it stays for as long as a worker may look at it."""
        if self._memory is None:
            with self._lock:
                made = _memory()
                # A signal handler that stepped meanwhile has workers that wait there.
                self._memory = made if self._memory is None else self._memory
        return self._memory

    @property
    def address(self) -> int:
        """The address of the memory, found once: every launch asks for it."""
        if not self._address:
            self._address = address(self.memory)
        return self._address


def _memory() -> NDArray[np.int64]:
    """Make a pool's memory, whose words lie on the cache lines that they have to themselves."""
    line = 128
    whole = np.zeros((offsets.POOL_BYTES + line) // 8, np.int64)
    memory = whole[-address(whole) % line // 8 :][: offsets.POOL_BYTES // 8]
    own, at = driver(), address(memory)
    memory[offsets.FUNCTIONS // 8 :][: len(own.functions)] = own.functions
    memory[offsets.PLACING // 8 :][: len(own.placing)] = own.placing
    memory[offsets.LEADER // 8] = -1  # no processor: a worker may return from waiting before any launch has woken one
    for number, function in enumerate(own.prepare):
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(function)(
            at + offsets.LOCKS + number * LOCK_BYTES, None
        )
    return memory


def _work(memory: NDArray[np.int64]) -> None:
    driver().work(address(memory))


_pool = Pool()


def _after_fork() -> None:
    """Give the child a pool of its own: threads do not survive a fork, and locks may be held."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def pool() -> Pool:
    """Return the pool of this process."""
    return _pool


def _available() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Team:
    """Who takes part in a launch, at most.

    Attributes:
        threads: how many, the calling one included.
        region: in whose parallel regions; None: workers of the pool.
    """

    threads: int
    region: Region | None = None


_team = Team(_available())


def own_team() -> Team:
    """Return ``get_num_threads`` threads: the caller and workers of the pool."""
    return _team


def get_num_threads() -> int:
    """Return how many threads a step may use; at first, the processors this process may run on."""
    return _team.threads


def set_num_threads(threads: int) -> None:
    """Set how many threads a step may use, the calling one included. The bits do not depend on it.

    Raises:
        HyperparameterError: when ``threads`` is not an integer of at least 1.
    """
    global _team
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise HyperparameterError(f"threads must be an integer of at least 1, got {threads!r}")
    _team = Team(threads)
