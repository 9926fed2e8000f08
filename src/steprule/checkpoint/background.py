"""Writing in a thread, with errors that surface at the next call for the same file."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["Pending", "settle", "start"]


class Pending:
    """A checkpoint on its way to the disk."""

    def __init__(self, path: Path, work: Callable[[], None]) -> None:
        self.path = path
        self._work = work
        self._error: BaseException | None = None
        self._asked = False
        # Not a daemon: the interpreter waits for it before it exits.
        self._thread = threading.Thread(target=self._run, name=f"steprule save {path.name}")

    def __repr__(self) -> str:
        return f"Pending({str(self.path)!r}, {'done' if self.done() else 'writing'})"

    def done(self) -> bool:
        """Whether it is written, or has failed."""
        return not self._thread.is_alive()

    def result(self, timeout: float | None = None) -> None:
        """Wait until it is written.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: when it is still being written.
            OSError, CheckpointError: why it failed.
        """
        self._thread.join(timeout)
        if not self.done():
            raise TimeoutError(f"{self.path} is still being written after {timeout} seconds")
        self._asked = True
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        del self._work  # with the copies of the arrays


_last: dict[Path, Pending] = {}
_lock = threading.Lock()


def settle(path: Path) -> None:
    """Wait for a save of this file that is under way, and raise its error if nobody has asked for it.

    Raises:
        OSError, CheckpointError: why it failed.
    """
    with _lock:
        pending = _last.pop(_key(path), None)
    if pending is None or (pending.done() and pending._asked):
        return
    try:
        pending.result()
    except BaseException as error:
        error.add_note("This was raised by an earlier save(..., background=True) to the same file.")
        raise


def start(path: Path, work: Callable[[], None]) -> Pending:
    """Begin to write, and return at once."""
    pending = Pending(path, work)
    with _lock:
        _last[_key(path)] = pending
        pending._thread.start()
    return pending


def _key(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _tell_lost() -> None:
    """Tell at exit of what failed and nobody asked for."""
    for path, pending in _last.items():
        if pending._error is not None and not pending._asked:
            print(f"steprule: {path} was not saved: {pending._error}", file=sys.stderr)


def _forget() -> None:
    """In the child of a fork: the threads stayed with the parent."""
    global _lock
    _lock = threading.Lock()
    _last.clear()


atexit.register(_tell_lost)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
