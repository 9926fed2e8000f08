"""Whether this process may run machine code that it makes: where it may not, LLVM's first call ends the process."""

from __future__ import annotations

import ctypes
import mmap
import os

from steprule.errors import TargetError

__all__ = ["check_executable"]

_PAGE = mmap.PAGESIZE
_ANONYMOUS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


def check_executable() -> None:
    """Try what LLVM does with every module: write to a page of memory, and then make it executable.

    Each time, which takes some microseconds: a process may give up the right at any moment.

    Raises:
        TargetError: when that is forbidden.
    """
    if os.name != "posix":
        return
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t]
    system.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    page = system.mmap(None, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, _ANONYMOUS, -1, 0)
    if page == ctypes.c_void_p(-1).value:
        return  # no memory at all: LLVM will say so
    try:
        refused = system.mprotect(page, _PAGE, mmap.PROT_READ | mmap.PROT_EXEC)
        reason = os.strerror(ctypes.get_errno())
    finally:
        system.munmap(page, _PAGE)
    if refused:
        raise TargetError(
            f"this process may not make memory executable ({reason}), which machine code needs: lift the restriction "
            "(MemoryDenyWriteExecute of systemd, PR_SET_MDWE, execmem of SELinux), or use "
            'steprule.Optimizer(..., backend="numpy"), which needs none and gives the same bits, slowly'
        )
