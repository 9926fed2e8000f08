"""How workers wait in machine code, as LLVM IR: on a word in memory (Linux), or on a condition variable.

``@wait(pool, seen)`` returns when the word at the pool's address is no longer ``seen``, or for no reason at all, and
``@wake(pool, n)`` lets at least ``n`` of those that wait look again; the caller has changed the word before.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from dataclasses import dataclass

__all__ = ["Waiting", "pause_of", "waiting", "with_condition"]

_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221, "s390x": 238}
"""The number of Linux's system call, by the kind of processor."""
_X86 = "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
# The hint "yield" takes no time at all on most of them: workers would sleep after few microseconds.
_ARM = "declare void @llvm.aarch64.isb(i32)", "call void @llvm.aarch64.isb(i32 15)"
_PAUSE = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}
LOCK_BYTES = 128
"""Room for a lock, or for a condition variable, on any system: pthreads' take up to 64 bytes."""


@dataclass(frozen=True)
class Waiting:
    """A way to wait.

    Attributes:
        ir: the definitions of ``@wait`` and ``@wake``.
        functions: the addresses of the system's functions that it finds in the pool (``Pool``), in this order.
        prepare: the addresses of what makes a lock and a condition variable, given where each lies.
    """

    ir: str
    functions: tuple[int, ...]
    prepare: tuple[int, ...] = ()


def pause_of(machine: str | None = None) -> tuple[str, str]:
    """Return what declares, and is, the instruction that tells a processor that its thread only looks at something.

    They are empty where the kind of processor is not known.
    """
    return _PAUSE.get((machine or platform.machine()).lower(), ("", ""))


def waiting(functions: int, locks: int) -> Waiting:
    """Return how this system waits.

    Args:
        functions, locks: where in the pool the functions' addresses lie, and the lock with its condition variable.
    """
    number = _FUTEX.get(platform.machine()) if sys.platform == "linux" else None
    return with_condition(functions, locks) if number is None else _with_futex(number, functions)


def _with_futex(number: int, functions: int) -> Waiting:
    # 128: for threads of this process alone; 0 waits, 1 wakes.
    ir = f"""
define internal void @wait(ptr %pool, i32 %seen) noinline {{
  %at = getelementptr i8, ptr %pool, i64 {functions}
  %syscall = load ptr, ptr %at
  %ended = call i64 (i64, ...) %syscall(i64 {number}, ptr %pool, i64 128, i32 %seen, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @wake(ptr %pool, i64 %n) noinline {{
  %at = getelementptr i8, ptr %pool, i64 {functions}
  %syscall = load ptr, ptr %at
  %woken = call i64 (i64, ...) %syscall(i64 {number}, ptr %pool, i64 129, i64 %n, ptr null, ptr null, i64 0)
  ret void
}}"""
    return Waiting(ir, (_address(ctypes.CDLL(None), "syscall"),))


def with_condition(functions: int, locks: int) -> Waiting:
    """Return the way of systems without a futex; arguments as ``waiting`` has them."""
    names = [f"%{name}" for name in ("enter", "leave", "sleep", "rouse")]
    found = "\n".join(
        f"  {name}.at = getelementptr i8, ptr %pool, i64 {functions + 8 * place}\n  {name} = load ptr, ptr {name}.at"
        for place, name in enumerate(names)
    )
    found += f"""
  %lock = getelementptr i8, ptr %pool, i64 {locks}
  %condition = getelementptr i8, ptr %pool, i64 {locks + LOCK_BYTES}"""
    # Windows' way to sleep has two arguments more, for how long (for ever) and a flag; pthreads' does not look at them.
    ir = f"""
define internal void @wait(ptr %pool, i32 %seen) noinline {{
entry:
{found}
  %entered = call i32 %enter(ptr %lock)
  br label %look
look:
  %now = load atomic i32, ptr %pool seq_cst, align 8
  %same = icmp eq i32 %now, %seen
  br i1 %same, label %doze, label %over
doze:
  %slept = call i32 %sleep(ptr %condition, ptr %lock, i32 -1, i32 0)
  br label %look
over:
  %left = call i32 %leave(ptr %lock)
  ret void
}}
define internal void @wake(ptr %pool, i64 %n) noinline {{
{found}
  %entered = call i32 %enter(ptr %lock)
  %left = call i32 %leave(ptr %lock)
  %roused = call i32 %rouse(ptr %condition)
  ret void
}}"""
    return Waiting(ir, *_condition_functions())


@functools.cache
def _condition_functions() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the functions that enter and leave a lock, sleep and rouse, and those that make lock and condition."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        names = ("AcquireSRWLockExclusive", "ReleaseSRWLockExclusive", "SleepConditionVariableSRW")
        return tuple(_address(kernel, name) for name in (*names, "WakeAllConditionVariable")), ()
    system = ctypes.CDLL(None)
    names = ("pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait")
    made = _address(system, "pthread_mutex_init"), _address(system, "pthread_cond_init")
    return tuple(_address(system, name) for name in (*names, "pthread_cond_broadcast")), made


def _address(library: ctypes.CDLL, name: str) -> int:
    found = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert found is not None
    return found
