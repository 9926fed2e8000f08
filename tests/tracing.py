"""Doing something at any line of ours: a signal may come there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def at_line(rooms: Sequence[str], line: int, act: Callable[[], object]) -> Iterator[list[None]]:
    """Call ``act`` once, at that line of what runs within the block; lines are counted from 1.

    Args:
        rooms: parts of the names of the files whose lines are counted.
        line: where; one that is not reached does nothing.
        act: may raise.

    Yields:
        One item for each line that was counted: none after ``act``.
    """
    lines: list[None] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not any(room in frame.f_code.co_filename for room in rooms):
            return None
        if event == "line":
            lines.append(None)
            if len(lines) == line:
                sys.settrace(before)
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)
