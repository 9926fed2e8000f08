"""Writing in a thread, one file at a time, with errors that surface at the next call.

A signal handler may ask for a save while its own thread is anywhere in here, waiting included. So nothing is held while
somebody waits; who writes is decided by single operations of dicts, lists and locks, which no handler can split.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["Pending", "settle", "start"]

_NOW = "now"
_under_way: dict[str, Pending] = {}
"""The save that is under way, by ``_NOW``; there are never two, so that there is never more than one copy."""
_failed: list[Pending] = []
"""Those that have failed, and whose error nobody has been told."""


class Pending:
    """A checkpoint on its way to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._asked = self._is_done = False
        self._turn = threading.Lock()
        """Taken once: by the thread that writes, or by who asked for it and could not begin."""
        self._preparer: int | None = threading.get_ident()
        self._waiting: list[threading.Lock] = []

    def __repr__(self) -> str:
        return f"Pending({str(self.path)!r}, {'done' if self.done() else 'writing'})"

    def done(self) -> bool:
        """Whether it is written, or has failed."""
        return self._is_done

    def result(self, timeout: float | None = None) -> None:
        """Wait until it is written.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: when it is still being written.
            OSError, CheckpointError: why it failed.
        """
        self._wait(timeout)
        if not self.done():
            raise TimeoutError(f"{self.path} is still being written after {timeout} seconds")
        self._asked = True
        if self._error is not None:
            raise self._error

    def _wait(self, timeout: float | None = None) -> None:
        # A lock for each who waits: one that all share would be held for a moment, in which a handler may come.
        own = threading.Lock()
        own.acquire()
        self._waiting.append(own)
        if not self._is_done:
            own.acquire(timeout=-1 if timeout is None else max(0.0, timeout))

    def _is_mine(self) -> bool:
        """Whether this thread is about to begin it: to wait for it, from a handler, would be for ever."""
        return self._preparer == threading.get_ident()

    def _takes_turn(self) -> bool:
        return self._turn.acquire(blocking=False)

    def _run(self) -> None:
        """Write, in a thread of its own."""
        if not self._takes_turn():
            return  # an exception came to who asked for it
        self._preparer = None
        try:
            assert self._work is not None
            self._work()
        except BaseException as error:
            _forget_frames(error)
            self._error = error
            _failed.append(self)
        self._end()

    def _end(self) -> None:
        """Let go of the copies of the arrays, and let others begin."""
        self._work = self._preparer = None
        if _under_way.get(_NOW) is self:
            del _under_way[_NOW]
        self._is_done = True
        for other in self._waiting:
            other.release()


def _forget_frames(error: BaseException | None) -> None:
    """Let an error hold no copies of arrays: it may be kept for long."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def settle() -> None:
    """Wait for the save that is under way, and raise its error if nobody has asked for it.

    Raises:
        OSError, CheckpointError: why it failed.
    """
    now = _under_way.get(_NOW)
    if now is not None and not now._is_mine():
        now._wait()
    for pending in list(_failed):
        with suppress(ValueError):  # another thread tells it
            _failed.remove(pending)
            if not pending._asked and pending._error is not None:
                pending._asked = True
                pending._error.add_note(
                    f"This was raised by an earlier save({str(pending.path)!r}, ..., background=True)."
                )
                raise pending._error


def start(path: Path, prepare: Callable[[], Callable[[], None]], write: Callable[[], None]) -> Pending:
    """Begin to write, and return at once; or write now, where no thread can do it.

    That is at the end of the program, where nobody waits for threads, where there are none to be had, and in a signal
    handler that came while its own thread was making the copy of another save.

    Args:
        path: what is written.
        prepare: copies everything and returns what writes it; called when no other copy is there.
        write: writes it without a copy.

    Raises:
        OSError, CheckpointError: why the save before failed, if nobody has asked for it; then nothing is begun. Or why
            this one has, where it was written now.
    """
    pending = Pending(path)
    try:
        while (now := _under_way.setdefault(_NOW, pending)) is not pending and not now._is_mine():
            settle()
        # Once the main thread has ended, functions that run at exit are called, and nobody waits for threads.
        if now is not pending or not threading.main_thread().is_alive():
            write()
        else:
            pending._work = prepare()
            _begin(pending)
    finally:
        # Still waiting to be begun: it was written now, or an exception has come.
        if pending._preparer is not None and pending._takes_turn():
            pending._end()
    return pending


def _begin(pending: Pending) -> None:
    """Write in a thread, or now if there is none to be had."""
    # Not a daemon: the interpreter waits for it before it exits.
    thread = threading.Thread(target=pending._run, name=f"steprule save {pending.path.name}")
    try:
        thread.start()
    except RuntimeError:
        assert pending._work is not None
        pending._work()
    else:
        pending._preparer = None


def _tell_lost() -> None:
    """Tell at exit of what failed and nobody asked for."""
    for pending in _failed:
        if not pending._asked:
            print(f"steprule: {pending.path} was not saved: {pending._error}", file=sys.stderr)


def _forget() -> None:
    """In the child of a fork: the thread stayed with the parent."""
    _under_way.clear()
    _failed.clear()


atexit.register(_tell_lost)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
