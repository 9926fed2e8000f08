"""The streaming limit: a loop in C, compiled here, that moves the same bytes and computes next to nothing.

It reads every array and writes back what it read, so it can run over the very arrays of an optimizer.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_C = """
#include <stddef.h>
void stream({parameters}, ptrdiff_t n, {real} zero) {{
#pragma omp parallel for simd schedule(static) num_threads({threads})
    for (ptrdiff_t i = 0; i < n; i++) {{
        {real} s = zero * ({sum});
        {writes}
    }}
}}
"""


@functools.cache
def _build(written: tuple[bool, ...], threads: int, real: str) -> Callable[..., None]:
    names = [f"a{i}" for i in range(len(written))]
    source = _C.format(
        parameters=", ".join(f"{real} *restrict {name}" for name in names),
        threads=threads,
        real=real,
        sum=" + ".join(f"{name}[i]" for name in names),
        writes=" ".join(f"{name}[i] += s;" for name, w in zip(names, written, strict=True) if w),
    )
    folder = Path(tempfile.mkdtemp())
    (folder / "stream.c").write_text(source)
    library = folder / "stream.so"
    flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(folder / "stream.c"), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).stream
    number = ctypes.c_float if real == "float" else ctypes.c_double
    function.argtypes = [ctypes.c_void_p] * len(written) + [ctypes.c_ssize_t, number]
    function.restype = None
    return function


def limit(arrays: Sequence[NDArray[np.floating]], written: Sequence[bool], threads: int) -> Callable[[], None]:
    """Return a loop that reads all arrays once and writes those that are ``written``, leaving them as they were."""
    real = "float" if arrays[0].dtype == np.float32 else "double"
    function = _build(tuple(written), threads, real)
    pointers = [array.ctypes.data for array in arrays]
    return lambda: function(*pointers, arrays[0].size, 0.0)
