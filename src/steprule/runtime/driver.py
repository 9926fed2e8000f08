"""The driver: threads take the next chunks of a launch from an atomic counter until none is left.

A job is a block of 64-bit words, which workers may still look at after the launch is over: a worker
that wakes late finds the counter past the end and touches nothing else. So every launch that wakes
workers has a block of its own, which lives as long as anyone holds it.

The leading thread, which calls and waits, does the whole launch in one call: workers that wake before it
begins wait for it, and when all chunks are done it writes the numbers of the job's commit (commit.py). A
signal handler of Python runs between two calls, never within one: it finds all of a launch done and
counted, or nothing.

All threads compute in one floating-point mode, whatever the caller's (floating_point.py).
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

from steprule.runtime.floating_point import mode_of
from steprule.runtime.jit import build

__all__ = [
    "CHUNKS",
    "COMMIT",
    "COUNT",
    "DONE",
    "GO",
    "GRAIN",
    "JOB_WORDS",
    "NEXT",
    "ROWS",
    "WIDTH",
    "YIELD",
    "Driver",
    "driver",
    "ir",
    "yield_address",
]

# Words of a job. `next` and `done` lie on cache lines of their own.
NEXT, DONE = 0, 8
COUNT, CHUNKS, ROWS, WIDTH, GRAIN, YIELD, COMMIT, GO, JOB_WORDS = 16, 17, 18, 19, 20, 21, 22, 23, 24
_PATIENCE = 20_000
"""How often a worker that woke early looks whether the launch has begun, before it leaves it to the others: where a
signal handler runs in between, it may take long."""


def _write(name: str, kind: str) -> str:
    """Write numbers of one width: how many there are, where the addresses lie that they go to, and where they lie."""
    return f"""
define internal void @write.{name}(ptr %numbers) {{
entry:
  %n = load i64, ptr %numbers
  %targets.at = getelementptr ptr, ptr %numbers, i64 1
  %targets = load ptr, ptr %targets.at
  %values.at = getelementptr ptr, ptr %numbers, i64 2
  %values = load ptr, ptr %values.at
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %over
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %from = getelementptr {kind}, ptr %values, i64 %i
  %value = load {kind}, ptr %from
  %at = getelementptr ptr, ptr %targets, i64 %i
  %to = load ptr, ptr %at
  store {kind} %value, ptr %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %over
over:
  ret void
}}"""


def ir(machine: str | None = None) -> str:
    """Return the driver as LLVM IR.

    Args:
        machine: the kind of processor that it is for; default: this one.
    """
    mode = mode_of(machine)
    return f"""
{mode.declared}
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

define void @call(ptr %kernel, ptr %addresses, i64 %start, i64 %n, ptr %scalars) {{
{mode.entered}
  call void %kernel(ptr %addresses, i64 %start, i64 %n, ptr %scalars)
{mode.left}
  ret void
}}

define void @drive(ptr %job, i64 %leads) {{
entry:
  %go.at = getelementptr i64, ptr %job, i64 {GO}
  %is.leader = icmp ne i64 %leads, 0
  br i1 %is.leader, label %lead, label %early

lead:
  store atomic i64 1, ptr %go.at release, align 8
  br label %begin

early:
  %looks = phi i64 [ 0, %entry ], [ %looks.next, %patient ]
  %go = load atomic i64, ptr %go.at acquire, align 8
  %begun = icmp ne i64 %go, 0
  br i1 %begun, label %begin, label %doze

doze:
  %looks.next = add i64 %looks, 1
  %enough = icmp eq i64 %looks.next, {_PATIENCE}
  br i1 %enough, label %leave, label %patient

patient:
  %yield.early.at = getelementptr i64, ptr %job, i64 {YIELD}
  %yield.early = load ptr, ptr %yield.early.at
  %nothing.early = call i32 %yield.early()
  br label %early

leave:
  ret void

begin:
{mode.entered}
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
  %mine = phi i64 [ 0, %begin ], [ %mine.next, %taken ]
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
  br i1 %is.leader, label %look, label %over

look:
  %spins = phi i64 [ 0, %finish ], [ %spins.next, %spin ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %complete = icmp eq i64 %done, %count
  br i1 %complete, label %commit, label %rest

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

commit:
  %commit.at = getelementptr i64, ptr %job, i64 {COMMIT}
  %numbers = load ptr, ptr %commit.at
  %counts = icmp ne ptr %numbers, null
  br i1 %counts, label %write, label %over

write:
  call void @write(ptr %numbers)
  br label %over

over:
{mode.left}
  ret void
}}

{_write("long", "i64")}
{_write("short", "i32")}
define internal void @write(ptr %commit) {{
  call void @write.long(ptr %commit)
  %shorts = getelementptr i64, ptr %commit, i64 3
  call void @write.short(ptr %shorts)
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
    """The compiled driver. ``drive`` and ``call`` release the interpreter lock, ``drive_held`` and ``gather`` hold it.

    Attributes:
        drive: takes part in a job, of which the address is given; 1 leads it, 0 is a worker.
        call: one call of a kernel: its address, those of its addresses, start, n, and that of its scalars.
        gather: copies a word of many objects.
    """

    drive: Callable[[int, int], None]
    drive_held: Callable[[int, int], None]
    call: Callable[[int, int, int, int, int], None]
    gather: Callable[[int, int, int, int], None]


@functools.cache
def driver() -> Driver:
    """Return the driver, compiled on first use."""
    drive, call, gather = build(ir(), "drive", "call", "gather")
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    return Driver(
        ctypes.CFUNCTYPE(None, pointer, word)(drive),
        ctypes.PYFUNCTYPE(None, pointer, word)(drive),
        ctypes.CFUNCTYPE(None, pointer, pointer, word, word, pointer)(call),
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
