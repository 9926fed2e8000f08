"""Writing in a thread, one file at a time, with errors that surface at the next call."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
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
            _forget_frames(error)
            self._error = error
        del self._work  # with the copies of the arrays


def _forget_frames(error: BaseException | None) -> None:
    """Let an error hold no copies of arrays: it may be kept for long."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


_last: Pending | None = None
"""The save that is under way, or the last one; there are never two, so that there is never more than one copy."""
_lock = threading.Lock()


def settle() -> None:
    """Wait for the save that is under way, and raise its error if nobody has asked for it.

    Raises:
        OSError, CheckpointError: why it failed.
    """
    with _lock:
        _settle()


def _settle() -> None:
    global _last
    pending = _last
    if pending is None or (pending.done() and pending._asked):
        return
    try:
        pending.result()
    except BaseException as error:
        if pending.done():
            error.add_note(f"This was raised by an earlier save({str(pending.path)!r}, ..., background=True).")
        raise
    finally:
        if pending.done():
            _last = None


def start(path: Path, prepare: Callable[[], Callable[[], None]]) -> Pending:
    """Begin to write, and return at once.

    Args:
        path: what is written.
        prepare: copies everything and returns what writes it; called when no other copy is there.

    Raises:
        OSError, CheckpointError: why the save before failed, if nobody has asked for it; then nothing is begun.
    """
    global _last
    with _lock:
        _settle()
        pending = Pending(path, prepare())
        pending._thread.start()
        _last = pending
    return pending


def _tell_lost() -> None:
    """Tell at exit of what failed and nobody asked for."""
    if _last is not None and _last._error is not None and not _last._asked:
        print(f"steprule: {_last.path} was not saved: {_last._error}", file=sys.stderr)


def _forget() -> None:
    """In the child of a fork: the thread stayed with the parent."""
    global _lock, _last
    _lock, _last = threading.Lock(), None


atexit.register(_tell_lost)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
