"""The threads of torch's own OpenMP runtime, for steps of tensors on the processors."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch

from steprule.runtime import Team
from steprule.runtime.driver import driver
from steprule.runtime.regions import Region

__all__ = ["team"]


def team() -> Team:
    """Return torch's threads, as many as ``torch.get_num_threads`` says."""
    return _team(torch.get_num_threads())


@functools.lru_cache(maxsize=8)
def _team(threads: int) -> Team:
    return Team(threads, _region())


@functools.cache
def _region() -> Region | None:
    """Return the runtime that this process has loaded with torch. Nothing is loaded here."""
    if not torch.backends.openmp.is_available():
        return None
    try:
        return Region(_library(), driver().regions)
    except OSError:  # a torch that is laid out otherwise
        return None


def _library() -> ctypes.CDLL:
    """Return a library among whose symbols, and those of what it is linked with, the runtime's are looked for."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetModuleHandleW.restype = ctypes.c_void_p
        handle = kernel.GetModuleHandleW("libiomp5md.dll")
        if not handle:
            raise OSError("torch has loaded no libiomp5md.dll")
        return ctypes.CDLL("libiomp5md.dll", handle=handle)
    program = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(program, "omp_in_parallel"):
        # Where torch's own calls go, before its libraries are searched: to another runtime if one was preloaded.
        return program
    name = "libtorch_cpu.dylib" if sys.platform == "darwin" else "libtorch_cpu.so"
    return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
