"""Triton: from text to kernels, and to the machine code of any GPU. Needs no GPU, but to run them."""

from __future__ import annotations

import functools
import hashlib
import linecache
import weakref
from typing import Any

__all__ = ["compiled", "launch", "load", "options", "prepare"]


@functools.lru_cache(maxsize=128)
def load(text: str) -> Any:
    """Return the function ``kernel`` of a module of Triton.

    Rules keep the kernels that are made of them. This keeps the last ones, so that what many rules share (the decision
    about a step, say) is one kernel, and a search over thousands of rules keeps few.
    """
    # Triton reads the source of its functions again, and asks the line cache for it, as tracebacks do.
    name = f"<steprule {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "steprule.kernels"}
    exec(compile(text, name, "exec"), namespace)
    kernel = namespace["kernel"]
    weakref.finalize(kernel, linecache.cache.pop, name, None).atexit = False
    return kernel


def options(threads: int, warp_size: int) -> dict[str, Any]:
    """Return what every kernel is compiled with: multiply-adds that round once would change the bits."""
    return {"num_warps": max(1, threads // warp_size), "enable_fp_fusion": False}


def launch(function: Any, programs: int, threads: int, *arguments: int, **constants: Any) -> None:
    """Run a kernel on the current device and stream; nothing where there are no programs."""
    if programs:
        function[(programs,)](*arguments, **constants, **options(threads, _warp_size()))


def prepare(function: Any, threads: int, *arguments: int, **constants: Any) -> None:
    """Compile and load a kernel for the current device, so that what can fail fails before anything is launched."""
    if not _is_interpreted():
        compiled = function.warmup(*arguments, grid=(1,), **constants, **options(threads, _warp_size()))
        compiled._init_handles()


def _is_interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


@functools.cache
def _warp_size() -> int:
    import triton

    if _is_interpreted():  # no device, no warps
        return 32
    size: int = triton.runtime.driver.active.get_current_target().warp_size
    return size


def compiled(text: str, target: str, threads: int, constants: dict[str, Any] | None = None) -> Any:
    """Return Triton's compiled kernel for a GPU that need not be there: ``.asm["ptx"]`` and the like.

    Args:
        text: a module that defines ``kernel``.
        target: ``sm_90``, or an AMD architecture such as ``gfx942``.
        threads: of a program.
        constants: those of the kernel's arguments that are constants; the others are addresses.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    gpu = GPUTarget("cuda", int(target[3:]), 32) if target.startswith("sm_") else GPUTarget("hip", target, 64)
    constants = constants or {}
    kernel = load(text)
    signature = {name: "constexpr" if name in constants else "i64" for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=gpu, options=options(threads, gpu.warp_size))
