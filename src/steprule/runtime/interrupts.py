"""Keeping signal handlers out of the middle of what must be done whole."""

from __future__ import annotations

# signal.getsignal makes an enum of each answer, and there are 64 of them to ask.
import _signal  # type: ignore[import-not-found]
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["uninterrupted"]

_NUMBERS = sorted(map(int, signal.valid_signals()))


class uninterrupted:  # noqa: N801  (a context manager, read as a word of the sentence)
    """Put off every handler of a signal that Python would run, until the end of the block.

    They run then, one call for each kind of signal that came, in the order in which they came first. Handlers run in
    the main thread alone, so in other threads there is nothing to do.
    """

    def __init__(self) -> None:
        self._late: dict[int, FrameType | None] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        found = {number: handler for number in _NUMBERS if callable(handler := _signal.getsignal(number))}
        try:
            for number, handler in found.items():
                self._handlers[number] = handler
                signal.signal(number, self._note)
        except BaseException:  # a handler that was not yet put off
            self._put_back()
            raise

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        handlers = dict(self._handlers)
        try:
            self._put_back()
        finally:
            self._deliver(handlers)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._late.setdefault(number, frame)

    def _put_back(self) -> None:
        """Set all handlers back, also where one that is back already runs and raises."""
        try:
            while self._handlers:
                number = next(iter(self._handlers))
                if _signal.getsignal(number) == self._note:  # nobody has set another one in the block
                    signal.signal(number, self._handlers[number])
                del self._handlers[number]
        finally:
            if self._handlers:
                self._put_back()

    def _deliver(self, handlers: dict[int, Any]) -> None:
        """Call the handlers of the signals that came, each of them, also where one raises."""
        try:
            while self._late:
                number = next(iter(self._late))
                handlers[number](number, self._late.pop(number))
        finally:
            if self._late:
                self._deliver(handlers)
