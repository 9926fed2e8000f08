"""CRC-32 of tensors, by a thread beside the one that reads or writes: zlib computes it without the GIL."""

from __future__ import annotations

import sys
import threading
import zlib
from queue import SimpleQueue
from types import TracebackType

__all__ = ["Checksums"]

_SMALL = 1 << 18
"""Bytes of a tensor below which handing it to another thread takes longer than the sum."""
_AHEAD = 2
"""Copied blocks that may wait; of blocks that lie in an array any number may, since they take no memory."""


class Checksums:
    """The checksums of tensors, whose blocks come in order; known after the ``with`` block.

    CRC-32 finds every error within any 32 neighbouring bits, so every flipped bit, and takes less time than writing
    (docs/decisions/checkpoints.md has the measurement).
    """

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._queue: SimpleQueue[tuple[str, memoryview, bool] | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._thread: threading.Thread | None = None

    @property
    def is_beside(self) -> bool:
        """Whether there is a thread at work."""
        return self._thread is not None

    def add(self, name: str, block: memoryview, size: int, is_copy: bool) -> None:
        """Take the next block of a tensor of ``size`` bytes; it must not change until the ``with`` block ends.

        Where ``is_copy`` says that the block takes memory of its own, this waits until there is room.
        """
        if size < _SMALL:
            self._sum(name, block)
            return
        if self._thread is None and not self._begin():
            self._sum(name, block)
            return
        if is_copy:
            self._room.acquire()
        self._queue.put((name, block, is_copy))

    def _begin(self) -> bool:
        """Start the thread; return whether there is one to be had. Where the interpreter ends it would never begin."""
        if sys.is_finalizing():
            return False
        thread = threading.Thread(target=self._work, name="steprule checksums", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def __enter__(self) -> Checksums:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            name, block, is_copy = item
            self._sum(name, block)
            del item, block
            if is_copy:
                self._room.release()

    def _sum(self, name: str, block: memoryview) -> None:
        self.found[name] = zlib.crc32(block, self.found.get(name, 0))
