"""The driver: machine code that runs a launch, on one thread or shared with others, and counts it.

The leading thread, which calls and waits, does the whole launch in one call: it offers the chunks (sharing.py), calls
workers or begins a parallel region (regions.py), takes chunks itself, and when all are done writes the numbers of the
job's commit (commit.py). A signal handler of Python runs between two calls, never within one: it finds all of a launch
done and counted, or nothing.

All threads compute in one floating-point mode, whatever the caller's (floating_point.py).
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

from steprule.runtime import offsets, regions, sharing
from steprule.runtime.floating_point import mode_of
from steprule.runtime.jit import build
from steprule.runtime.placement import placement
from steprule.runtime.waiting import Waiting, pause_of, waiting

__all__ = ["SLICED_ADDRESSES", "Driver", "driver", "ir", "yield_address"]

SLICED_ADDRESSES = 32
"""Addresses of a kernel that ``each_slice`` can call, at most."""


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


# A kernel for a row of which some slices are stepped, along a gradient of these alone: %start and %n count parts of
# them, so that chunks stay as they are however many slices there are. In the place of the scalars is a table: the
# kernel, the scalars, the number of its addresses, where each slice lies in the parameter, the elements of a slice,
# their bytes in the gradient, how many slices there are, and how many parts. The gradient's address is moved so that
# the kernel finds each slice's gradient where it would be in a dense one.
_EACH_SLICE = f"""
define void @each_slice(ptr %row, i64 %start, i64 %n, ptr %table) {{
entry:
  %own = alloca [{SLICED_ADDRESSES} x i64]
{sharing.word("kernel", "table", 0, "ptr")}
{sharing.word("scalars", "table", 1, "ptr")}
{sharing.word("count", "table", 2)}
{sharing.word("places", "table", 3, "ptr")}
{sharing.word("length", "table", 4)}
{sharing.word("bytes", "table", 5)}
{sharing.word("slices", "table", 6)}
{sharing.word("parts", "table", 7)}
  %start.many = mul i64 %start, %slices
  %first.slice = udiv i64 %start.many, %parts
  %end.part = add i64 %start, %n
  %end.many = mul i64 %end.part, %slices
  %end = udiv i64 %end.many, %parts
  %size = shl i64 %count, 3
  call void @llvm.memcpy.p0.p0.i64(ptr %own, ptr %row, i64 %size, i1 false)
{sharing.word("values", "row", 1)}
  %moved.at = getelementptr i64, ptr %own, i64 1
  %any = icmp slt i64 %first.slice, %end
  br i1 %any, label %loop, label %over
loop:
  %i = phi i64 [ %first.slice, %entry ], [ %next, %loop ]
  %place.at = getelementptr i64, ptr %places, i64 %i
  %place = load i64, ptr %place.at
  %off = sub i64 %i, %place
  %off.bytes = mul i64 %off, %bytes
  %moved = add i64 %values, %off.bytes
  store i64 %moved, ptr %moved.at
  %first = mul i64 %place, %length
  call void %kernel(ptr %own, i64 %first, i64 %length, ptr %scalars)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %over
over:
  ret void
}}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


def ir(way: Waiting, machine: str | None = None) -> str:
    """Return the driver as LLVM IR.

    Args:
        way: how workers wait.
        machine: the kind of processor that it is for; default: this one.
    """
    mode, (declared, pause) = mode_of(machine), pause_of(machine)
    shared = [sharing.share(mode), sharing.lead(mode, pause), sharing.work(pause)]
    parts = [mode.declared, declared, way.ir, placement().ir, *shared, regions.ir()]
    return (
        "\n".join(parts)
        + f"""
define void @call(ptr %kernel, ptr %addresses, i64 %start, i64 %n, ptr %scalars) {{
{mode.entered}
  call void %kernel(ptr %addresses, i64 %start, i64 %n, ptr %scalars)
{mode.left}
  ret void
}}
define void @nothing(ptr %addresses, i64 %start, i64 %n, ptr %scalars) {{
  ret void
}}
{_EACH_SLICE}
{_write("long", "i64")}
{_write("short", "i32")}
define void @write(ptr %commit) {{
  call void @write.long(ptr %commit)
  %shorts = getelementptr i64, ptr %commit, i64 3
  call void @write.short(ptr %shorts)
  ret void
}}
"""
    )


@dataclass(frozen=True)
class Driver:
    """The compiled driver. All but ``alone_held`` and ``write`` release the interpreter lock.

    Attributes:
        drive: a launch: the addresses of its job and of a pool, how many workers may join, and the address of a
            table of a region (0: the pool's workers join).
        alone: a launch on one thread: the address of its job.
        work: the life of a worker of the pool at this address; it never returns.
        call: one call of a kernel: its address, those of its addresses, start, n, and that of its scalars.
        write: writes the numbers of the commit at this address.
        nothing, each_slice: the addresses of kernels: of one that does nothing, and of one that calls another for some
            slices of a parameter.
        regions: where the functions are that begin a region, GNU's and LLVM's.
        functions, prepare: what the pool is told of the system (``Waiting``).
        placing: and of how threads are placed (``Placement``).
    """

    drive: Callable[[int, int, int, int], None]
    alone: Callable[[int], None]
    alone_held: Callable[[int], None]
    work: Callable[[int], None]
    call: Callable[[int, int, int, int, int], None]
    write: Callable[[int], None]
    nothing: int
    each_slice: int
    regions: tuple[int, int]
    functions: tuple[int, ...]
    prepare: tuple[int, ...]
    placing: tuple[int, ...]


@functools.cache
def driver() -> Driver:
    """Return the driver, compiled on first use."""
    return load(waiting(offsets.FUNCTIONS, offsets.LOCKS))


def load(way: Waiting) -> Driver:
    """Return a driver whose workers wait this way."""
    names = ("drive", "alone", "work", "call", "write", "nothing", "each_slice", "region.gnu", "region.llvm")
    drive, alone, work, call, write, nothing, each_slice, gnu, llvm = build(ir(way), *names)
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    return Driver(
        ctypes.CFUNCTYPE(None, pointer, pointer, word, pointer)(drive),
        ctypes.CFUNCTYPE(None, pointer)(alone),
        ctypes.PYFUNCTYPE(None, pointer)(alone),
        ctypes.CFUNCTYPE(None, pointer)(work),
        ctypes.CFUNCTYPE(None, pointer, pointer, word, word, pointer)(call),
        ctypes.PYFUNCTYPE(None, pointer)(write),
        nothing,
        each_slice,
        (gnu, llvm),
        way.functions,
        way.prepare,
        placement().functions,
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
