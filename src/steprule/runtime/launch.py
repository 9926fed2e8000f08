"""One launch: a table of rows, each a kernel with its scalars and addresses, cut into chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.runtime import offsets
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit
from steprule.runtime.driver import driver, yield_address
from steprule.runtime.pool import Team, get_num_threads, pool
from steprule.runtime.regions import Region

__all__ = ["Table", "parts_of"]

CHUNK: int | None = None
"""Elements a chunk, at most; None: as many as ``_chunk`` finds. The bits do not depend on it."""
SMALL_CHUNK, LARGE_CHUNK = 16_384, 262_144
"""Every chunk makes the processor's prefetchers start anew on each array: over ten million elements ``sgd``
reaches 0.92 of the streaming limit with chunks of 16,384, and 0.97 with 262,144 (benchmarks/chunks.py).
Smaller ones share evenly."""
CHUNKS_A_THREAD = 8
"""Chunks that a launch has for each thread, at least, where they stay above ``SMALL_CHUNK``."""
GRAIN_ELEMENTS = 8_192
"""Elements that a thread takes at a time, at least, where arrays are small."""
WAKE_ELEMENTS = 32_768
"""Elements a launch below which waking a worker costs more than it saves."""
SHORT_ELEMENTS = 32
"""Times ``WAKE_ELEMENTS``: larger launches never do without workers that sleep."""
SHORT = 100_000
"""Nanoseconds: to a launch that takes less, a worker that sleeps comes too late, and calling it costs some ten thousand
(benchmarks/wake_up.py)."""
HOLD_ELEMENTS = 4_096
"""Elements below which releasing the interpreter lock costs more than it gives others."""


class Kernel(Protocol):
    """What owns machine code, for a table."""

    @property
    def address(self) -> int: ...


class Table:
    """Rows of ``(kernel, scalars, addresses...)``, and the chunks ``(row, start, n)`` that cover them.

    Args:
        sizes: what a row's kernel counts: its elements, or groups of them.
        width: the largest number of addresses, and words after them, of a row.
        units: the elements that each row's kernel counts as one.
        multiple: what is counted of a row starts a chunk at multiples of this alone.
        commit: what a launch writes when all its chunks are done.
        backwards: whether the last chunk is taken first: after a pass that has ended there, caches still have it.

    Attributes:
        addresses: the address columns, to be written by the owner.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        units: Sequence[int] | None = None,
        multiple: Sequence[int] | None = None,
        commit: Commit | None = None,
        *,
        backwards: bool = False,
    ) -> None:
        self._commit = commit
        self._rows = np.zeros((len(sizes), 2 + width), np.int64)
        self.addresses: NDArray[np.int64] = self._rows[:, 2:]
        self._kernels: list[Kernel | None] = [None] * len(sizes)
        self._codes = np.zeros(len(sizes), np.int64)
        self._resting: list[int] | None = []
        units = units or [1] * len(sizes)
        elements = sum(size * unit for size, unit in zip(sizes, units, strict=True))
        self._job: NDArray[np.int64] = np.zeros(offsets.JOB_WORDS, np.int64)
        self._words = memoryview(self._job.data)
        self._address = address(self._job)
        chunks = _cut(sizes, units, CHUNK or _chunk(elements), multiple or [1] * len(sizes))
        self._chunks = np.ascontiguousarray(chunks[::-1]) if backwards else chunks
        self._alone: Callable[[], None]
        self._may_be_short = self._is_short = False
        self._fill_job()
        self._elements = -1
        self.expect(elements)
        self._seats = 0
        self._region: Region | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a table holds addresses of arrays and cannot be copied; make a new one")

    def set_rows(self, kernels: Sequence[Kernel], scalars: Sequence[int]) -> None:
        """Bind all rows, as ``set_row`` does one."""
        self._kernels = list(kernels)
        codes: dict[int, int] = {}
        for kernel in kernels:
            if id(kernel) not in codes:
                codes[id(kernel)] = kernel.address
        self._codes[:] = [codes[id(kernel)] for kernel in kernels]
        self._rows[:, 0], self._rows[:, 1] = self._codes, scalars

    def set_row(self, row: int, kernel: Kernel, scalars: int, code: int | None = None) -> None:
        """Bind a row to its kernel, which the table holds, and to the address of its scalars.

        Args:
            row, kernel, scalars: all three.
            code: the address of what is called, if not the kernel's own.
        """
        self._kernels[row] = kernel
        self._codes[row] = kernel.address if code is None else code
        self._rows[row, :2] = self._codes[row], scalars

    def expect(self, elements: int) -> None:
        """Let launches from now on be of so many elements: of some rows they may be fewer than there are."""
        if elements == self._elements:
            return
        count, job = len(self._chunks), self._words
        self._workers = min(count, elements // WAKE_ELEMENTS + 1) - 1
        self._may_be_short, self._is_short = elements < SHORT_ELEMENTS * WAKE_ELEMENTS, False
        job[offsets.GRAIN] = max(1, GRAIN_ELEMENTS // max(1, elements // max(1, count)))
        self._alone = functools.partial(
            driver().alone_held if elements < HOLD_ELEMENTS else driver().alone, self._address
        )
        self._elements = elements  # last: a signal handler may raise

    def let_rest(self, rows: Sequence[int]) -> None:
        """Let these rows be left out of launches, and all others take part."""
        if rows != self._resting:
            self._resting = None  # not known while codes are written: a signal handler may raise
            self._rows[:, 0] = self._codes
            self._rows[rows, 0] = driver().nothing
            self._resting = list(rows)

    def prepare(self, team: Team) -> None:
        """Make a launch ready, by this team at most; from now on it is not done."""
        self._words[offsets.DONE] = 0
        self._seats = min(team.threads - 1, self._workers)
        if self._seats > 0:
            self._region = team.region if team.region and team.region.address else None
            if not self._region:
                pool().start(self._seats)

    def run(self) -> None:
        """Run every chunk once, and return when all are done."""
        if self._seats <= 0:
            self._alone()
        elif self._region or not self._may_be_short:
            self._drive()
        else:
            own, begun = pool(), perf_counter_ns()
            if own.is_busy(begun) or not self._is_short:
                self._drive()
            else:
                self._alone()
            own.ended = ended = perf_counter_ns()
            self._is_short = ended - begun < SHORT

    @property
    def is_done(self) -> bool:
        """Whether the launch that was prepared has run."""
        return bool(self._words[offsets.DONE] == len(self._chunks))

    def _drive(self) -> None:
        # Last the region: it is none in a child that a signal handler has forked meanwhile.
        place = self._address, pool().address, self._seats
        driver().drive(*place, self._region.address if self._region else 0)

    def _fill_job(self) -> None:
        job = self._words
        job[offsets.COUNT] = len(self._chunks)
        job[offsets.CHUNKS] = address(self._chunks)
        job[offsets.ROWS] = address(self._rows)
        job[offsets.WIDTH] = self._rows.shape[1]
        job[offsets.YIELD] = yield_address()
        job[offsets.COMMIT] = self._commit.address if self._commit else 0


def parts_of(elements: int, most: int) -> int:
    """Return into how many parts a row is cut, at most so many, of whose elements a launch may step any number."""
    return max(1, min(most, elements // (CHUNK or SMALL_CHUNK), CHUNKS_A_THREAD * get_num_threads()))


def _chunk(elements: int) -> int:
    even = elements // (CHUNKS_A_THREAD * get_num_threads())
    return min(max(even, SMALL_CHUNK), LARGE_CHUNK)


def _cut(sizes: Sequence[int], units: Sequence[int], chunk: int, multiple: Sequence[int]) -> NDArray[np.int64]:
    steps = (max(chunk // unit // least, 1) * least for unit, least in zip(units, multiple, strict=True))
    chunks = [
        (row, start, min(step, size - start))
        for row, (size, step) in enumerate(zip(sizes, steps, strict=True))
        for start in range(0, size, step)
    ]
    return np.array(chunks, np.int64).reshape(-1, 3)
