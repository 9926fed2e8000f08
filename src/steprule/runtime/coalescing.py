"""Slices that are given as a list of indices, in machine code: where they lie, each once, and what equal ones sum to.

``torch.Tensor.coalesce`` does the same by half a dozen operations, which for some hundred slices take longer than their
step, and writes where indices say that lie outside.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass

from steprule.runtime.floating_point import mode_of
from steprule.runtime.jit import build

__all__ = ["IS_OUTSIDE", "IS_RISING", "RADIX", "Coalescing", "coalescing"]

IS_OUTSIDE, IS_RISING = -1, 1
RADIX = 256
"""How many counters ``order`` needs."""

_LOCATE = f"""
define i64 @locate(ptr %indices, i64 %axes, i64 %n, ptr %extents, ptr %places) {{
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %over
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %noted ]
  %last = phi i64 [ -1, %entry ], [ %place, %noted ]
  %rising = phi i1 [ true, %entry ], [ %still, %noted ]
  %has.axes = icmp sgt i64 %axes, 0
  br i1 %has.axes, label %axis, label %noted
axis:
  %a = phi i64 [ 0, %loop ], [ %a.next, %inside ]
  %before = phi i64 [ 0, %loop ], [ %with, %inside ]
  %row = mul i64 %a, %n
  %at = add i64 %row, %i
  %index.at = getelementptr i64, ptr %indices, i64 %at
  %index = load i64, ptr %index.at
  %extent.at = getelementptr i64, ptr %extents, i64 %a
  %extent = load i64, ptr %extent.at
  %fits = icmp ult i64 %index, %extent
  br i1 %fits, label %inside, label %outside
inside:
  %scaled = mul i64 %before, %extent
  %with = add i64 %scaled, %index
  %a.next = add i64 %a, 1
  %another = icmp slt i64 %a.next, %axes
  br i1 %another, label %axis, label %noted
noted:
  %place = phi i64 [ 0, %loop ], [ %with, %inside ]
  %place.at = getelementptr i64, ptr %places, i64 %i
  store i64 %place, ptr %place.at
  %rises = icmp sgt i64 %place, %last
  %still = and i1 %rising, %rises
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %over
over:
  %all = phi i1 [ true, %entry ], [ %still, %noted ]
  %result = select i1 %all, i64 {IS_RISING}, i64 0
  ret i64 %result
outside:
  ret i64 {IS_OUTSIDE}
}}"""

# Where a bit for every place has room, one look tells whether there is anything to sum; most often there is not.
_DISTINCT = """
define internal i1 @distinct(ptr %places, i64 %n, i64 %limit, ptr %room) {
entry:
  %more = add i64 %limit, 63
  %words = lshr i64 %more, 6
  %most = shl i64 %n, 2
  %fits = icmp ule i64 %words, %most
  br i1 %fits, label %clear, label %no
clear:
  %bytes = shl i64 %words, 3
  call void @llvm.memset.p0.i64(ptr %room, i8 0, i64 %bytes, i1 false)
  br label %loop
loop:
  %i = phi i64 [ 0, %clear ], [ %next, %new ]
  %place.at = getelementptr i64, ptr %places, i64 %i
  %place = load i64, ptr %place.at
  %word = lshr i64 %place, 6
  %word.at = getelementptr i64, ptr %room, i64 %word
  %bits = load i64, ptr %word.at
  %low = and i64 %place, 63
  %bit = shl i64 1, %low
  %both = and i64 %bits, %bit
  %is.new = icmp eq i64 %both, 0
  br i1 %is.new, label %new, label %no
new:
  %with = or i64 %bits, %bit
  store i64 %with, ptr %word.at
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %n
  br i1 %again, label %loop, label %yes
yes:
  ret i1 true
no:
  ret i1 false
}"""

# A stable sort by radix: each round sorts by eight bits, from the lowest on, from one pair of columns to the other. The
# first round reads the places and counts the entries; what is left of the room are the counters.
_ORDER = f"""
define i64 @order(ptr %places, i64 %n, i64 %limit, ptr %room) {{
look:
  %distinct = call i1 @distinct(ptr %places, i64 %n, i64 %limit, ptr %room)
  br i1 %distinct, label %all, label %entry
all:
  ret i64 %n
entry:
  %entries.a = getelementptr i64, ptr %room, i64 %n
  %twice = shl i64 %n, 1
  %keys.b = getelementptr i64, ptr %room, i64 %twice
  %thrice = add i64 %twice, %n
  %entries.b = getelementptr i64, ptr %room, i64 %thrice
  %fourfold = shl i64 %n, 2
  %counts = getelementptr i64, ptr %room, i64 %fourfold
  %largest = add i64 %limit, -1
  br label %round
round:
  %shift = phi i64 [ 0, %entry ], [ %shift.next, %sorted ]
  %first = phi i1 [ true, %entry ], [ false, %sorted ]
  %keys = phi ptr [ %places, %entry ], [ %to.keys, %sorted ]
  %entries = phi ptr [ %entries.b, %entry ], [ %to.entries, %sorted ]
  %to.keys = phi ptr [ %room, %entry ], [ %other.keys, %sorted ]
  %to.entries = phi ptr [ %entries.a, %entry ], [ %other.entries, %sorted ]
  %other.keys = phi ptr [ %keys.b, %entry ], [ %to.keys, %sorted ]
  %other.entries = phi ptr [ %entries.b, %entry ], [ %to.entries, %sorted ]
  call void @llvm.memset.p0.i64(ptr %counts, i8 0, i64 {8 * RADIX}, i1 false)
  br label %count
count:
  %c = phi i64 [ 0, %round ], [ %c.next, %count ]
  %c.key.at = getelementptr i64, ptr %keys, i64 %c
  %c.key = load i64, ptr %c.key.at
  %c.shifted = lshr i64 %c.key, %shift
  %c.digit = and i64 %c.shifted, {RADIX - 1}
  %c.at = getelementptr i64, ptr %counts, i64 %c.digit
  %c.old = load i64, ptr %c.at
  %c.new = add i64 %c.old, 1
  store i64 %c.new, ptr %c.at
  %c.next = add i64 %c, 1
  %c.more = icmp slt i64 %c.next, %n
  br i1 %c.more, label %count, label %sum
sum:
  %s = phi i64 [ 0, %count ], [ %s.next, %sum ]
  %below = phi i64 [ 0, %count ], [ %below.next, %sum ]
  %s.at = getelementptr i64, ptr %counts, i64 %s
  %s.count = load i64, ptr %s.at
  store i64 %below, ptr %s.at
  %below.next = add i64 %below, %s.count
  %s.next = add i64 %s, 1
  %s.more = icmp slt i64 %s.next, {RADIX}
  br i1 %s.more, label %sum, label %move
move:
  %m = phi i64 [ 0, %sum ], [ %m.next, %move ]
  %key.at = getelementptr i64, ptr %keys, i64 %m
  %key = load i64, ptr %key.at
  %shifted = lshr i64 %key, %shift
  %digit = and i64 %shifted, {RADIX - 1}
  %count.at = getelementptr i64, ptr %counts, i64 %digit
  %to = load i64, ptr %count.at
  %to.next = add i64 %to, 1
  store i64 %to.next, ptr %count.at
  %entry.at = getelementptr i64, ptr %entries, i64 %m
  %entry.there = load i64, ptr %entry.at
  %entry.own = select i1 %first, i64 %m, i64 %entry.there
  %to.key.at = getelementptr i64, ptr %to.keys, i64 %to
  store i64 %key, ptr %to.key.at
  %to.entry.at = getelementptr i64, ptr %to.entries, i64 %to
  store i64 %entry.own, ptr %to.entry.at
  %m.next = add i64 %m, 1
  %m.more = icmp slt i64 %m.next, %n
  br i1 %m.more, label %move, label %sorted
sorted:
  %shift.next = add i64 %shift, 8
  %left = lshr i64 %largest, %shift
  %rest = lshr i64 %left, 8
  %again = icmp ne i64 %rest, 0
  br i1 %again, label %round, label %copy
copy:
  %bytes = shl i64 %twice, 3
  call void @llvm.memmove.p0.p0.i64(ptr %room, ptr %to.keys, i64 %bytes, i1 false)
  br label %tell
tell:
  %i = phi i64 [ 0, %copy ], [ %i.next, %tell ]
  %last = phi i64 [ -1, %copy ], [ %own, %tell ]
  %found = phi i64 [ 0, %copy ], [ %found.next, %tell ]
  %own.at = getelementptr i64, ptr %room, i64 %i
  %own = load i64, ptr %own.at
  %is.new = icmp ne i64 %own, %last
  %added = zext i1 %is.new to i64
  %found.next = add i64 %found, %added
  %i.next = add i64 %i, 1
  %i.more = icmp slt i64 %i.next, %n
  br i1 %i.more, label %tell, label %over
over:
  ret i64 %found.next
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


def _merge(name: str, kind: str, size: int) -> str:
    """Sum the slices of equal places, in the order of their entries, into new ones; ``%length`` numbers each."""
    mode = mode_of()
    return f"""
define void @{name}(ptr %room, i64 %n, ptr %places, ptr %values, ptr %out, i64 %length) {{
entry:
{mode.entered}
  %entries = getelementptr i64, ptr %room, i64 %n
  %bytes = mul i64 %length, {size}
  %back = sub i64 0, %length
  %before = getelementptr {kind}, ptr %out, i64 %back
  %places.before = getelementptr i64, ptr %places, i64 -1
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %done ]
  %last = phi i64 [ -1, %entry ], [ %place, %done ]
  %to.last = phi ptr [ %before, %entry ], [ %to, %done ]
  %place.last = phi ptr [ %places.before, %entry ], [ %place.to, %done ]
  %place.at = getelementptr i64, ptr %room, i64 %i
  %place = load i64, ptr %place.at
  %entry.at = getelementptr i64, ptr %entries, i64 %i
  %from.entry = load i64, ptr %entry.at
  %from.first = mul i64 %from.entry, %length
  %from = getelementptr {kind}, ptr %values, i64 %from.first
  %is.new = icmp ne i64 %place, %last
  br i1 %is.new, label %copy, label %add
copy:
  %to.next = getelementptr {kind}, ptr %to.last, i64 %length
  %place.next = getelementptr i64, ptr %place.last, i64 1
  store i64 %place, ptr %place.next
  call void @llvm.memcpy.p0.p0.i64(ptr %to.next, ptr %from, i64 %bytes, i1 false)
  br label %done
add:
  %has.any = icmp sgt i64 %length, 0
  br i1 %has.any, label %each, label %done
each:
  %e = phi i64 [ 0, %add ], [ %e.next, %each ]
  %sum.at = getelementptr {kind}, ptr %to.last, i64 %e
  %sum = load {kind}, ptr %sum.at
  %more.at = getelementptr {kind}, ptr %from, i64 %e
  %more = load {kind}, ptr %more.at
  %new = fadd {kind} %sum, %more
  store {kind} %new, ptr %sum.at
  %e.next = add i64 %e, 1
  %e.more = icmp slt i64 %e.next, %length
  br i1 %e.more, label %each, label %done
done:
  %to = phi ptr [ %to.next, %copy ], [ %to.last, %add ], [ %to.last, %each ]
  %place.to = phi ptr [ %place.next, %copy ], [ %place.last, %add ], [ %place.last, %each ]
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %n
  br i1 %again, label %loop, label %over
over:
{mode.left}
  ret void
}}"""


@dataclass(frozen=True)
class Coalescing:
    """The compiled functions. All addresses are of words, but those of values; ``n`` entries, at least one to order.

    Attributes:
        locate: notes where entries lie: the address of their indices (axis by axis), the axes, n, the addresses of the
            extents of the axes and of the places to be written. Returns ``IS_OUTSIDE``, ``IS_RISING`` (each place is
            above the one before), or 0.
        order: sorts entries: the addresses of their places, n, a number that all places are below, the address of room
            for 4 n words and ``RADIX`` ones. Returns how many different places there are. If they are fewer than n, the
            room begins with the sorted places and the entries that they are of, as ``merge`` reads them.
        merge: by the size of a number: sums what lies in one place: the addresses of the room, n, the addresses of
            the places to be written, of the values, of those to be written, and how many numbers an entry has.
    """

    locate: Callable[[int, int, int, int, int], int]
    order: Callable[[int, int, int, int], int]
    merge: dict[int, Callable[[int, int, int, int, int, int], None]]


@functools.cache
def coalescing() -> Coalescing:
    """Return the functions, compiled on first use."""
    text = "\n".join(
        [mode_of().declared, _LOCATE, _DISTINCT, _ORDER, _merge("merge4", "float", 4), _merge("merge8", "double", 8)]
    )
    locate, order, *merges = build(text, "locate", "order", "merge4", "merge8")
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    merge = ctypes.CFUNCTYPE(None, pointer, word, pointer, pointer, pointer, word)
    return Coalescing(
        ctypes.CFUNCTYPE(word, pointer, word, word, pointer, pointer)(locate),
        ctypes.CFUNCTYPE(word, pointer, word, word, pointer)(order),
        {size: merge(at) for size, at in zip((4, 8), merges, strict=True)},
    )
