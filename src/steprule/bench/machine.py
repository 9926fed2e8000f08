"""On which processor a figure was measured, how busy it was, and how much memory is free. Needs only llvmlite."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm

__all__ = ["available_bytes", "growth", "load", "plain", "processor", "resident_bytes"]


def processor() -> str:
    """Return the maker's name of the processor, LLVM's name of its kind, and how many cores this process may use.

    A virtual machine may know no more than "AMD EPYC"; its kind then tells two generations apart.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{plain(_model())} ({llvm.get_host_cpu_name()}), {cores} core{'s' * (cores > 1)}"


def plain(model: str) -> str:
    """Return a processor's name without trademark signs, frequency, and the number of cores of the whole chip."""
    return " ".join(
        re.sub(r"\((R|TM|C)\)|@.*|\bCPU\b|(\d+-Core )?Processor\b", " ", model, flags=re.IGNORECASE).split()
    )


def _model() -> str:
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return platform.processor() or platform.machine()


def load() -> float | None:
    """Return how many processes wanted a core in the last minute, on average; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def available_bytes() -> int | None:
    """Return the bytes that can be allocated without swapping, on Linux; None elsewhere."""
    return _kilobytes("/proc/meminfo", "MemAvailable") if sys.platform == "linux" else None


def resident_bytes() -> int:
    """Return the bytes of this process that are in memory now. Linux only."""
    return _kilobytes("/proc/self/status", "VmRSS")


def growth(step: Callable[[], object]) -> int | None:
    """Return by how many bytes this process grew at most during a call, on Linux; None elsewhere."""
    if sys.platform != "linux":
        return None
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew from what is in memory now
    before = resident_bytes()
    step()
    return max(0, _kilobytes("/proc/self/status", "VmHWM") - before)


def _kilobytes(file: str, name: str) -> int:
    lines = Path(file).read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
