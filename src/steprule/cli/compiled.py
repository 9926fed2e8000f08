"""Plans as code of a machine, by the compilers that write it: LLVM for processors, Triton for GPUs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from steprule.backends import llvm, triton, triton_vectors
from steprule.compile import Plan
from steprule.errors import TargetError

__all__ = ["assembly_of", "code_of_gpu"]


def assembly_of(recipe: Plan, triple: str | None, cpu: str) -> str:
    """Return the assembly of a plan for this machine, or for another, in the words of ``--triple`` and ``--cpu``."""
    from steprule.runtime.jit import assembly

    with _without_remarks():
        return assembly(llvm.emit(recipe), triple, cpu)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep LLVM from writing to the terminal that a processor without vectors has no vector code; pass on all else."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            lines = [line for line in said.read().splitlines(keepends=True) if b"loop not vectorized" not in line]
            os.write(2, b"".join(lines))


def code_of_gpu(recipe: Plan, target: str, gpu: str) -> str:
    """Return the code of a plan for a GPU, by Triton.

    Args:
        recipe: what it does.
        target: ``ptx`` or ``amdgcn``.
        gpu: which, in the words of ``--cpu``.

    Raises:
        TargetError: without Triton.
    """
    if find_spec("triton") is None:
        raise TargetError(
            f"--target {target} is written by Triton, which is not installed; install it (pip install triton, on "
            "Linux), or take --target triton, the text that it would compile"
        )
    from steprule.runtime.gpu import compiled

    kernels = [(triton.emit(recipe), triton.threads_of(recipe))]
    kernels += [(text, triton_vectors.THREADS) for text in triton_vectors.texts(recipe)]
    found = [compiled(text, gpu, threads, {"GUARDED": False} if "GUARDED" in text else {}) for text, threads in kernels]
    return "\n".join(str(kernel.asm[target]) for kernel in found)
