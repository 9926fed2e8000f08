"""Parallel regions of an OpenMP runtime that a program has loaded, as LLVM IR and as an address for launches.

The runtime's threads spin for a while after every loop, on the very processors that workers of this package would need.
So a launch by a program that computes with it joins them: the runtime begins a region, whose threads share its chunks.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from steprule.runtime.sharing import SEAT, word

__all__ = ["Region", "ir"]

_BEGINS = "GOMP_parallel", "__kmpc_fork_call"
"""What begins a region, in GNU's runtime and in LLVM's, which is Intel's as well."""


def ir() -> str:
    """Return ``@region.gnu`` and ``@region.llvm``: share a slot among a region's threads, if none is open already.

    Each is given the table of addresses of a ``Region``, and returns whether it began a region.
    """
    begin = {
        "gnu": "call void %begins(ptr @member, ptr %data, i32 0, i32 0)",
        "llvm": "call void (ptr, i32, ptr, ...) %begins(ptr @place, i32 1, ptr @member.llvm, ptr %data)",
    }
    return f"""
@source = private constant [23 x i8] c";unknown;unknown;0;0;;\\00"
@place = private constant {{ i32, i32, i32, i32, ptr }} {{ i32 0, i32 2, i32 0, i32 0, ptr @source }}

define internal void @member(ptr %data) {{
  %slot = load ptr, ptr %data
{word("who", "data", 1, "ptr")}
  %number = call i32 %who()
  %is.leader = icmp eq i32 %number, 0
  %seat = select i1 %is.leader, i64 0, i64 {SEAT}
  call void @share(ptr %slot, i64 %seat)
  ret void
}}
define internal void @member.llvm(ptr %global, ptr %bound, ptr %data) {{
  call void @member(ptr %data)
  ret void
}}
""" + "".join(
        f"""
define i1 @region.{kind}(ptr %table, ptr %slot) {{
  %data = alloca [2 x ptr]
  store ptr %slot, ptr %data
{word("inside", "table", 1, "ptr")}
{word("who", "table", 2, "ptr")}
{word("begins", "table", 3, "ptr")}
  %data.who = getelementptr ptr, ptr %data, i64 1
  store ptr %who, ptr %data.who
  %level = call i32 %inside()
  %nested = icmp ne i32 %level, 0
  br i1 %nested, label %refuse, label %begin
refuse:
  ret i1 false
begin:
  {call}
  ret i1 true
}}"""
        for kind, call in begin.items()
    )


_FORKED_WITHOUT_EXEC = 0x40
"""Linux's ``PF_FORKNOEXEC``, of the flags in a process's ``stat``: forked, and still running the same program."""


def _is_forked() -> bool:
    try:
        status = Path("/proc/self/stat").read_text(errors="replace")
        return bool(int(status.rpartition(")")[2].split()[6]) & _FORKED_WITHOUT_EXEC)
    except (OSError, ValueError, IndexError):  # no Linux, or a sandbox
        return False


_forked = _is_forked()
"""Whether this process is a forked child. A region would wait for ever there for threads that the parent's runtime had;
and a child that imports this package only now cannot know what its parent did."""


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Region:
    """How launches begin a region of a runtime.

    Args:
        library: what has the runtime's functions, or is linked with it.
        functions: where ``@region.gnu`` and ``@region.llvm`` are.
    """

    def __init__(self, library: ctypes.CDLL, functions: tuple[int, int]) -> None:
        found = _find(library, functions)
        self._table = (ctypes.c_void_p * len(found))(*found)
        self._address = ctypes.addressof(self._table) if found else 0

    @property
    def address(self) -> int:
        """The address of the table for the driver.

        It is 0 where the library has no such functions, and in a forked child, where the runtime's threads are no more.
        """
        return 0 if _forked else self._address


def _find(library: ctypes.CDLL, functions: tuple[int, int]) -> list[int | None]:
    for begins, own in zip(_BEGINS, functions, strict=True):
        names = ("omp_in_parallel", "omp_get_thread_num", begins)
        if all(hasattr(library, name) for name in names):
            return [own, *(ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names)]
    return []
