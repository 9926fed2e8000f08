"""The driver: threads take the next chunks of a launch from an atomic counter until none is left.

A job is a block of 64-bit words, which workers may still look at after the launch is over: a worker
that wakes late finds the counter past the end and touches nothing else. So every launch that wakes
workers has a block of its own, which lives as long as anyone holds it.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

from steprule.runtime.jit import build

__all__ = [
    "CHUNKS",
    "COUNT",
    "DONE",
    "GRAIN",
    "JOB_WORDS",
    "NEXT",
    "ROWS",
    "WIDTH",
    "YIELD",
    "Driver",
    "driver",
    "yield_address",
]

# Words of a job. `next` and `done` lie on cache lines of their own.
NEXT, DONE = 0, 8
COUNT, CHUNKS, ROWS, WIDTH, GRAIN, YIELD, JOB_WORDS = 16, 17, 18, 19, 20, 21, 24

_IR = f"""
define internal void @run(ptr %chunk, ptr %rows, i64 %width) {{
  %row = load i64, ptr %chunk
  %start.at = getelementptr i64, ptr %chunk, i64 1
  %start = load i64, ptr %start.at
  %n.at = getelementptr i64, ptr %chunk, i64 2
  %n = load i64, ptr %n.at
  %offset = mul i64 %row, %width
  %base = getelementptr i64, ptr %rows, i64 %offset
  %kernel = load ptr, ptr %base
  %scalars.at = getelementptr i64, ptr %base, i64 1
  %scalars = load ptr, ptr %scalars.at
  %addresses = getelementptr i64, ptr %base, i64 2
  call void %kernel(ptr %addresses, i64 %start, i64 %n, ptr %scalars)
  ret void
}}

define void @drive(ptr %job, i64 %wait) {{
entry:
  %done.at = getelementptr i64, ptr %job, i64 {DONE}
  %count.at = getelementptr i64, ptr %job, i64 {COUNT}
  %count = load i64, ptr %count.at
  %chunks.at = getelementptr i64, ptr %job, i64 {CHUNKS}
  %chunks = load ptr, ptr %chunks.at
  %rows.at = getelementptr i64, ptr %job, i64 {ROWS}
  %rows = load ptr, ptr %rows.at
  %width.at = getelementptr i64, ptr %job, i64 {WIDTH}
  %width = load i64, ptr %width.at
  %grain.at = getelementptr i64, ptr %job, i64 {GRAIN}
  %grain = load i64, ptr %grain.at
  %yield.at = getelementptr i64, ptr %job, i64 {YIELD}
  %yield = load ptr, ptr %yield.at
  br label %take

take:
  %mine = phi i64 [ 0, %entry ], [ %mine.next, %taken ]
  %first = atomicrmw add ptr %job, i64 %grain acq_rel
  %left = sub i64 %count, %first
  %any = icmp sgt i64 %left, 0
  br i1 %any, label %some, label %finish

some:
  %short = icmp slt i64 %left, %grain
  %k = select i1 %short, i64 %left, i64 %grain
  %last = add i64 %first, %k
  br label %chunk

chunk:
  %c = phi i64 [ %first, %some ], [ %c.next, %chunk ]
  %word = mul i64 %c, 3
  %at = getelementptr i64, ptr %chunks, i64 %word
  call void @run(ptr %at, ptr %rows, i64 %width)
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %last
  br i1 %again, label %chunk, label %taken

taken:
  %mine.next = add i64 %mine, %k
  br label %take

finish:
  %before = atomicrmw add ptr %done.at, i64 %mine acq_rel
  %waits = icmp ne i64 %wait, 0
  br i1 %waits, label %look, label %over

look:
  %spins = phi i64 [ 0, %finish ], [ %spins.next, %spin ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %complete = icmp eq i64 %done, %count
  br i1 %complete, label %over, label %rest

rest:
  %low = and i64 %spins, 255
  %tired = icmp eq i64 %low, 255
  br i1 %tired, label %give, label %spin

give:
  %nothing = call i32 %yield()
  br label %spin

spin:
  %spins.next = add i64 %spins, 1
  br label %look

over:
  ret void
}}

define void @gather(ptr %objects, i64 %n, i64 %offset, ptr %out) {{
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %over
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %object.at = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %object.at
  %field = getelementptr i8, ptr %object, i64 %offset
  %word = load i64, ptr %field
  %to = getelementptr i64, ptr %out, i64 %i
  store i64 %word, ptr %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %over
over:
  ret void
}}
"""


@dataclass(frozen=True)
class Driver:
    """The compiled driver. ``drive`` releases the interpreter lock, ``drive_held`` and ``gather`` hold it."""

    drive: Callable[[int, int], None]
    drive_held: Callable[[int, int], None]
    gather: Callable[[int, int, int, int], None]


@functools.cache
def driver() -> Driver:
    """Return the driver, compiled on first use."""
    drive, gather = build(_IR, "drive", "gather")
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    return Driver(
        ctypes.CFUNCTYPE(None, pointer, word)(drive),
        ctypes.PYFUNCTYPE(None, pointer, word)(drive),
        ctypes.PYFUNCTYPE(None, pointer, word, word, pointer)(gather),
    )


@functools.cache
def yield_address() -> int:
    """Return the address of the system's ``int yield(void)``: give the processor to another thread."""
    if sys.platform == "win32":
        function = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
