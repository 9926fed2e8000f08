"""Keeping workers off the processor of the thread that wakes them, as LLVM IR.

Linux may wake a thread on the processor of the one that wakes it although another has nothing to do, and in a virtual
machine it does so after every pause. The worker then displaces the launching thread, takes all of its chunks and spins:
two threads took twice as long as one.

``@note(pool)`` notes where a launch runs that is about to wake workers, and ``@aside(pool, masks)``, of a worker that
was woken, leaves that processor to it. From then on the worker runs on the others that it may run on, until a launch
wakes it on one of those. It takes back only what the launching thread may run on as well: somebody may have restricted
the whole process meanwhile, to the very set that the worker had chosen. If it may run on no other processor, it stays.
No other thread's affinity is touched.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from steprule.runtime import offsets

__all__ = ["ASIDE", "MASKS_WORDS", "Placement", "placement"]

_NAMES = "sched_getcpu", "sched_getaffinity", "sched_setaffinity"
_WORDS = 128
"""Words of a set of processors: the largest that Linux can be built for has 8,192."""
MASKS_WORDS = 4 * _WORDS
"""What ``@aside`` remembers, at first zeros: the set that it chose last, of what set, and room for the present set and
the launching thread's."""

ASIDE = f"""
define internal void @note(ptr %pool) noinline {{
  %where.at = getelementptr i8, ptr %pool, i64 {offsets.PLACING}
  %where = load ptr, ptr %where.at
  %here = call i32 %where()
  %leader.at = getelementptr i8, ptr %pool, i64 {offsets.LEADER}
  store atomic i32 %here, ptr %leader.at monotonic, align 4
  %who.at = getelementptr i8, ptr %pool, i64 {offsets.PLACING + 24}
  %who = load ptr, ptr %who.at
  %thread = call i64 %who()
  %number = trunc i64 %thread to i32
  %thread.at = getelementptr i8, ptr %pool, i64 {offsets.LEADER + 4}
  store atomic i32 %number, ptr %thread.at monotonic, align 4
  ret void
}}

define void @aside(ptr %pool, ptr %chosen) noinline {{
entry:
  %where.at = getelementptr i8, ptr %pool, i64 {offsets.PLACING}
  %where = load ptr, ptr %where.at
  %here = call i32 %where()
  %leader.at = getelementptr i8, ptr %pool, i64 {offsets.LEADER}
  %leader = load atomic i32, ptr %leader.at monotonic, align 4
  %in.the.way = icmp eq i32 %here, %leader
  br i1 %in.the.way, label %ask, label %over
ask:
  %all = getelementptr i64, ptr %chosen, i64 {_WORDS}
  %now = getelementptr i64, ptr %chosen, i64 {2 * _WORDS}
  %get.at = getelementptr i8, ptr %pool, i64 {offsets.PLACING + 8}
  %get = load ptr, ptr %get.at
  %unknown = call i32 %get(i32 0, i64 {8 * _WORDS}, ptr %now)
  %known = icmp eq i32 %unknown, 0
  br i1 %known, label %compare, label %over

compare:
  %i = phi i64 [ 0, %ask ], [ %i.next, %compare ]
  %unlike = phi i64 [ 0, %ask ], [ %unlike.now, %compare ]
  %chosen.i = getelementptr i64, ptr %chosen, i64 %i
  %now.i = getelementptr i64, ptr %now, i64 %i
  %chosen.word = load i64, ptr %chosen.i
  %now.word = load i64, ptr %now.i
  %bits = xor i64 %chosen.word, %now.word
  %unlike.now = or i64 %unlike, %bits
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, {_WORDS}
  br i1 %more, label %compare, label %begin
begin:
  %changed = icmp ne i64 %unlike.now, 0
  %theirs = getelementptr i64, ptr %chosen, i64 {3 * _WORDS}
  %processor = zext i32 %here to i64
  %its.word = lshr i64 %processor, 6
  %its.place = and i64 %processor, 63
  %its.bit = shl i64 1, %its.place
  br i1 %changed, label %choices, label %take.back
take.back:
  %thread.at = getelementptr i8, ptr %pool, i64 {offsets.LEADER + 4}
  %thread = load atomic i32, ptr %thread.at monotonic, align 4
  %untold = call i32 %get(i32 %thread, i64 {8 * _WORDS}, ptr %theirs)
  %told = icmp eq i32 %untold, 0
  br label %choices
choices:
  %may = phi i1 [ false, %begin ], [ %told, %take.back ]
  br label %choose
choose:
  %j = phi i64 [ 0, %choices ], [ %j.next, %choose ]
  %any = phi i64 [ 0, %choices ], [ %any.now, %choose ]
  %now.j = getelementptr i64, ptr %now, i64 %j
  %all.j = getelementptr i64, ptr %all, i64 %j
  %theirs.j = getelementptr i64, ptr %theirs, i64 %j
  %chosen.j = getelementptr i64, ptr %chosen, i64 %j
  %now.own = load i64, ptr %now.j
  %all.own = load i64, ptr %all.j
  %known.all = select i1 %changed, i64 %now.own, i64 %all.own
  store i64 %known.all, ptr %all.j
  %theirs.own = load i64, ptr %theirs.j
  %their.word = select i1 %may, i64 %theirs.own, i64 0
  %back = and i64 %known.all, %their.word
  %word = or i64 %now.own, %back
  %is.its = icmp eq i64 %j, %its.word
  %bit = select i1 %is.its, i64 %its.bit, i64 0
  %without = xor i64 %bit, -1
  %left = and i64 %word, %without
  store i64 %left, ptr %chosen.j
  %any.now = or i64 %any, %left
  %j.next = add i64 %j, 1
  %goes.on = icmp slt i64 %j.next, {_WORDS}
  br i1 %goes.on, label %choose, label %chose
chose:
  %has.others = icmp ne i64 %any.now, 0
  br i1 %has.others, label %leave, label %stay
stay:
  %kept = call i32 %get(i32 0, i64 {8 * _WORDS}, ptr %chosen)
  br label %over
leave:
  %set.at = getelementptr i8, ptr %pool, i64 {offsets.PLACING + 16}
  %set = load ptr, ptr %set.at
  %failed = call i32 %set(i32 0, i64 {8 * _WORDS}, ptr %chosen)
  br label %over
over:
  ret void
}}"""
"""The functions, where Linux's are to be had."""
_NOWHERE = """
define internal void @note(ptr %pool) {
  ret void
}
define void @aside(ptr %pool, ptr %masks) {
  ret void
}"""


@dataclass(frozen=True)
class Placement:
    """How threads choose where they run.

    Attributes:
        ir: the definitions of ``@note`` and ``@aside``.
        functions: the addresses of the system's functions that they find in the pool, in this order.
    """

    ir: str
    functions: tuple[int, ...] = ()


def placement() -> Placement:
    """Return this system's way, which is to do nothing where the system has no such functions."""
    if sys.platform != "linux":
        return Placement(_NOWHERE)
    system, python = ctypes.CDLL(None), ctypes.pythonapi
    names = [*((system, name) for name in _NAMES), (python, "PyThread_get_thread_native_id")]
    if not all(hasattr(library, name) for library, name in names):
        return Placement(_NOWHERE)
    found = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value for library, name in names)
    return Placement(ASIDE, tuple(address for address in found if address is not None))
