"""The floating-point mode of a launch, as LLVM IR: set when a thread enters, and set back when it leaves.

The mode belongs to a thread. Libraries change that of the thread they are called in (``torch.set_flush_denormal``,
code linked with ``-ffast-math``), and workers know nothing of it: without this, bits would depend on which thread took
a chunk. A launch rounds to nearest, keeps subnormals and traps nothing.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

__all__ = ["Mode", "mode_of"]


@dataclass(frozen=True)
class Mode:
    """What a module declares, what a function does on entry, and what before it returns."""

    declared: str = ""
    entered: str = ""
    left: str = ""


_X86_DEFAULT = 0x1F80
"""MXCSR after a reset: rounding to nearest, all exceptions masked, subnormals kept."""
_X86 = Mode(
    "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)",
    f"""\
  %mode.before = alloca i32
  %mode.own = alloca i32
  store i32 {_X86_DEFAULT}, ptr %mode.own
  call void @llvm.x86.sse.stmxcsr(ptr %mode.before)
  call void @llvm.x86.sse.ldmxcsr(ptr %mode.own)""",
    "  call void @llvm.x86.sse.ldmxcsr(ptr %mode.before)",
)
_ARM = Mode(
    "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)",
    "  %mode.before = call i64 @llvm.aarch64.get.fpcr()\n  call void @llvm.aarch64.set.fpcr(i64 0)",
    "  call void @llvm.aarch64.set.fpcr(i64 %mode.before)",
)
_BY_MACHINE = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}


def mode_of(machine: str | None = None) -> Mode:
    """Return the instructions of a kind of processor; default: this one. They are empty where the kind is not known."""
    return _BY_MACHINE.get((machine or platform.machine()).lower(), Mode())
