"""Which processor figures are of: its name, and the folder of its results. Needs nothing but llvmlite."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm

RESULTS = Path(__file__).parent / "results"


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


def slug(name: str) -> str:
    """Return a name in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _model() -> str:
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return platform.processor() or platform.machine()
