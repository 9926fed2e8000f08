"""Worker threads: ordinary Python threads that sleep on a queue and run the driver without the GIL."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

from steprule.errors import HyperparameterError
from steprule.runtime.addresses import address
from steprule.runtime.driver import driver

__all__ = ["Pool", "get_num_threads", "pool", "set_num_threads"]


class Pool:
    """Workers shared by all launches of the process. They start when first needed and end with it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workers = 0
        # Entered again by a signal handler that steps another optimizer while workers start.
        self._lock = threading.RLock()

    def wake(self, job: Any, workers: int) -> None:
        """Let up to ``workers`` workers join the job (an array of words; see driver)."""
        if self._workers < workers:
            self._start(workers)
        # A worker that could not run for a while leaves finished jobs behind; they are cheap, but
        # must not pile up.
        for _ in range(min(workers, 2 * self._workers - self._queue.qsize())):
            self._queue.put(job)

    def _start(self, workers: int) -> None:
        with self._lock:
            while self._workers < workers:
                name = f"steprule-{self._workers}"
                try:
                    threading.Thread(target=_work, args=(self._queue,), name=name, daemon=True).start()
                except RuntimeError:  # no more threads to be had: the caller does the work
                    return
                self._workers += 1


def _work(jobs: queue.SimpleQueue[Any]) -> None:
    drive = driver().drive
    while True:
        job = jobs.get()
        drive(address(job), 0)
        # Sleeping with the last job in hand would keep its memory alive.
        del job


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


_threads = _available()


def get_num_threads() -> int:
    """Return how many threads a step may use; at first, the processors this process may run on."""
    return _threads


def set_num_threads(threads: int) -> None:
    """Set how many threads a step may use, the calling one included. The bits do not depend on it.

    Raises:
        HyperparameterError: when ``threads`` is not an integer of at least 1.
    """
    global _threads
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise HyperparameterError(f"threads must be an integer of at least 1, got {threads!r}")
    _threads = threads
