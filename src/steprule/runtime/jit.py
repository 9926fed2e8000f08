"""LLVM IR text to machine code, for this machine in memory or for another as assembly."""

from __future__ import annotations

import atexit
import functools
import os
import platform
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm

from steprule.errors import TargetError
from steprule.runtime.executable import check_executable
from steprule.runtime.interrupts import uninterrupted

__all__ = ["MachineCode", "assembly", "build", "has_half", "wide_vectors"]

# LLVM compiles for one thread at a time. A finalizer may compile where its own thread does: it comes between calls of
# LLVM, never within one, and has a module of its own.
#
# Signal handlers wait meanwhile: what llvmlite holds is freed line by line in Python, and a handler that raises between
# two of them (KeyboardInterrupt) has it freed once more, which ends the process; or it raises in a `__del__`, where
# Python drops what is raised.
_lock = threading.RLock()


def _hold() -> None:
    """Wait until no other thread compiles, before a fork (the child would have LLVM's lock held forever) or at exit."""
    with uninterrupted():  # what a handler raises here goes to nobody, and a fork would go on without the lock
        _lock.acquire()


# At exit LLVM takes itself down while daemon threads go on: one that were still compiling would end the process with a
# failed assertion. From here on the main thread alone compiles.
atexit.register(_hold)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_lock.release, after_in_child=_lock.release)


@functools.cache
def _host() -> Callable[[], Any]:
    """Return what makes a description of this machine. Each module has its own, which is freed with the code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return lambda: target.create_target_machine(cpu=cpu, features=features, opt=2, jit=True)


def _other(triple: str, cpu: str) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise TargetError(f"{error}; a triple is architecture-vendor-system, such as aarch64-linux-gnu") from None
    machine, said = _with_stderr(lambda: target.create_target_machine(cpu=cpu, opt=2, reloc="pic"))
    if "not a recognized processor" in said:
        raise TargetError(f"{cpu!r} is not a processor of {triple} that LLVM knows; leave it out for a generic one")
    return machine


def _with_stderr(make: Callable[[], Any]) -> tuple[Any, str]:
    """Return a result and what was written to standard error meanwhile: LLVM says there what it ignores."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            result = make()
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        return result, file.read().decode(errors="replace")


def _optimised(text: str, machine: Any, context: Any = None) -> Any:
    module = llvm.parse_assembly(text, context)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


@functools.cache
def has_half() -> bool:
    """Whether this machine converts float16 in hardware.

    Without, LLVM calls functions of a compiler's runtime library, which a JIT has not at hand.
    """
    with uninterrupted(), _lock:
        features = llvm.get_host_cpu_features()
    return bool(features.get("f16c", False)) or platform.machine().lower() in ("aarch64", "arm64")


@functools.cache
def wide_vectors() -> int | None:
    """Return how many float32 a vector holds, where that is 16 and there are as many registers as loops with sums take.

    They take four for 16 float32 and their float64. With half as many registers (AVX2) they would go to memory.
    """
    with uninterrupted(), _lock:
        features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f", False) else None


class MachineCode:
    """A function compiled for this machine, which stays in memory for as long as this object does.

    Whoever holds its address holds this object, too: a launch that is under way in another thread must find the code.

    Args:
        text: LLVM IR.
        name: of the function.
        more: further functions of the text.

    Attributes:
        address: where the function is.
        more: where the further ones are, by name.
    """

    def __init__(self, text: str, name: str, more: Sequence[str] = ()) -> None:
        with uninterrupted(), _lock:
            # Constants and types belong to a context, so the common one of all modules would grow with each.
            context = llvm.create_context()
            engine = _engine(text, context)
            self.address: int = engine.get_function_address(name)
            self.more: dict[str, int] = {other: engine.get_function_address(other) for other in more}
            # At the interpreter's exit nothing is freed: another thread may be inside.
            weakref.finalize(self, _free, engine, context).atexit = False
            _free_dropped()


_dropped: deque[tuple[Any, Any]] = deque()


def _free(engine: Any, context: Any) -> None:
    """Free code that nobody has, now or once the lock is free: this is called in the middle of anything."""
    _dropped.append((engine, context))
    with uninterrupted():
        if _lock.acquire(blocking=False):
            try:
                _free_dropped()
            finally:
                _lock.release()


def _free_dropped() -> None:
    while _dropped:
        engine, context = _dropped.popleft()
        engine.close()
        context.close()


def _engine(text: str, context: Any = None) -> Any:
    check_executable()
    machine = _host()()
    engine = llvm.create_mcjit_compiler(_optimised(text, machine, context), machine)
    engine.finalize_object()
    return engine


def build(text: str, *names: str) -> tuple[int, ...]:
    """Compile a module for this machine and return the addresses of the named functions.

    The code stays in memory until the process ends: a thread may still be inside it when the
    interpreter shuts down.

    Raises:
        TargetError: when this process may not make memory executable.
    """
    with uninterrupted(), _lock:
        engine = _engine(text)
        addresses = tuple(engine.get_function_address(name) for name in names)
        engine.detach()
    return addresses


def assembly(text: str, triple: str | None = None, cpu: str = "") -> str:
    """Return the assembly of a module, for this machine or for another target.

    Args:
        text: LLVM IR.
        triple: a target such as ``"aarch64-linux-gnu"``; default: this machine.
        cpu: a processor of that target, such as ``"x86-64-v2"``.

    Raises:
        TargetError: when LLVM knows no such target.
    """
    with uninterrupted(), _lock:
        machine = _other(triple, cpu) if triple else _host()()
        return str(machine.emit_assembly(_optimised(text, machine)))
