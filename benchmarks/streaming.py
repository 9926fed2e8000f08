"""The streaming limit: loops in C, compiled here, that move the same bytes and compute next to nothing.

Each reads every array and writes back what it read, so it can run over the very arrays of an optimizer. No loop is the
fastest on every processor and for every number of arrays: ``beside_limit`` measures several, and takes the fastest. The
limit of a step of several passes is one such loop after the other.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import steprule as sr
from benchmarks.harness import Timing, measure
from steprule.runtime.launch import Table
from steprule.runtime.pool import Team

Arrays = Sequence[NDArray[np.floating[Any]]]
FINALISTS = 3
"""How many of the loops, by a short trial, are measured beside a step."""

_C = """
#include <stddef.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif
/* The body of each: elements [start, end) of all arrays. */
static inline void plain({parameters}, ptrdiff_t start, ptrdiff_t end, {real} zero) {{
    {real} all = 0;
#pragma omp simd {reduction}
    for (ptrdiff_t i = start; i < end; i++) {{
        {real} s = zero * ({sum});
        {writes}
    }}
    if (all) a0[start] = all; /* it is zero; otherwise a loop that only reads would not run */
}}
/* Lines that the next rounds need are fetched while this one computes. */
static inline void fetched({parameters}, ptrdiff_t start, ptrdiff_t end, {real} zero) {{
    ptrdiff_t line = 64 / sizeof({real}), i = start;
    for (; i + line <= end; i += line) {{
        {fetches}
        plain({names}, i, i + line, zero);
    }}
    plain({names}, i, end, zero);
}}
#ifdef __SSE2__
/* What is written goes past the caches. Only whole vectors at aligned addresses can. */
static inline void past({parameters}, ptrdiff_t start, ptrdiff_t end, {real} zero) {{
    ptrdiff_t width = 16 / sizeof({real}), i = start;
    if ({cannot_stream}) {{ plain({names}, start, end, zero); return; }}
    for (; i % width && i < end; i++) {{ plain({names}, i, i + 1, zero); }}
    {vector} z = _mm_set1_{suffix}(zero);
    for (; i + width <= end; i += width) {{
        {loads}
        {vector} s = _mm_mul_{suffix}(z, {vector_sum});
        {streams}
    }}
    _mm_sfence();
    plain({names}, i, end, zero);
}}
#endif
#define LOOPS(body) \\
void openmp_##body({parameters}, ptrdiff_t n, {real} zero) {{ \\
    _Pragma("omp parallel for schedule(static) num_threads({threads})") \\
    for (int part = 0; part < {threads}; part++) \\
        body({names}, n * part / {threads}, n * (part + 1) / {threads}, zero); \\
}} \\
void parts_##body({parameters}, ptrdiff_t n, {real} zero) {{ \\
    _Pragma("omp parallel for schedule(dynamic) num_threads({threads})") \\
    for (ptrdiff_t part = 0; part < n; part += 131072) \\
        body({names}, part, part + 131072 < n ? part + 131072 : n, zero); \\
}} \\
void kernel_##body({real} **all, ptrdiff_t start, ptrdiff_t n, {real} *zero) {{ \\
    body({all}, start, start + n, *zero); \\
}}
LOOPS(plain)
LOOPS(fetched)
#ifdef __SSE2__
LOOPS(past)
#endif
"""
SHARING = {
    "openmp": "OpenMP, an equal part for each thread",
    "parts": "OpenMP, small parts in turn",
    "kernel": "our own threads",
}
BODIES = {"plain": "", "fetched": ", prefetches"}
if platform.machine().lower() in ("x86_64", "amd64"):
    BODIES["past"] = ", writes past the caches"


@functools.cache
def _build(written: tuple[bool, ...], threads: int, real: str) -> ctypes.CDLL:
    names = [f"a{i}" for i in range(len(written))]
    stored = list(itertools.compress(names, written))
    suffix, vector = ("ps", "__m128") if real == "float" else ("pd", "__m128d")
    source = _C.format(
        parameters=", ".join(f"{real} *restrict {name}" for name in names),
        names=", ".join(names),
        all=", ".join(f"all[{i}]" for i in range(len(names))),
        threads=threads,
        real=real,
        sum=" + ".join(f"{name}[i]" for name in names),
        writes=" ".join(f"{name}[i] += s;" for name in stored) or "all += s;",
        reduction="" if stored else "reduction(+:all)",
        fetches=" ".join(f"__builtin_prefetch({name} + i + 16 * line);" for name in names),
        cannot_stream=" || ".join(f"(size_t){name} % 16" for name in stored) or "1",
        suffix=suffix,
        vector=vector,
        loads=" ".join(f"{vector} v{name} = _mm_loadu_{suffix}({name} + i);" for name in names),
        vector_sum=functools.reduce(lambda left, right: f"_mm_add_{suffix}({left}, {right})", [f"v{n}" for n in names]),
        streams=" ".join(f"_mm_stream_{suffix}({name} + i, _mm_add_{suffix}(v{name}, s));" for name in stored),
    )
    folder = Path(tempfile.mkdtemp())
    (folder / "stream.c").write_text(source)
    library = folder / "stream.so"
    flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(folder / "stream.c"), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def loops(arrays: Arrays, written: Sequence[bool], threads: int) -> dict[str, Callable[[], None]]:
    """Return loops that read all arrays once and write those that are ``written``, leaving them as they were."""
    real, number = ("float", ctypes.c_float) if arrays[0].dtype == np.float32 else ("double", ctypes.c_double)
    library = _build(tuple(written), threads, real)
    pointers = [array.ctypes.data for array in arrays]
    found: dict[str, Callable[[], None]] = {}
    for (sharing, who), (body, how) in itertools.product(SHARING.items(), BODIES.items()):
        function = getattr(library, f"{sharing}_{body}")
        if sharing == "kernel":
            found[who + how] = _driven(function, arrays, Team(threads))
        else:
            function.argtypes = [ctypes.c_void_p] * len(written) + [ctypes.c_ssize_t, number]
            function.restype = None
            found[who + how] = functools.partial(function, *pointers, arrays[0].size, 0.0)
    return found


@dataclass(frozen=True)
class _Kernel:
    address: int
    owner: object


def _driven(function: Any, arrays: Arrays, team: Team) -> Callable[[], None]:
    """Return a launch of a function over all arrays by our own driver, in threads of ours."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    zero = np.zeros(1, arrays[0].dtype)
    table = Table([arrays[0].size], len(arrays))
    table.set_row(0, _Kernel(address, zero), zero.ctypes.data)
    table.addresses[0] = [array.ctypes.data for array in arrays]

    def run() -> None:
        table.prepare(team)
        table.run()

    return run


def _in_turn(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


@dataclass(frozen=True)
class Limit:
    """The fastest loop, and how fast it was.

    Attributes:
        name: which loop it was.
        timing: its seconds, turn by turn, beside the steps'.
    """

    name: str
    timing: Timing


def beside_limit(
    steps: Mapping[str, Callable[[], object]],
    arrays: Arrays,
    written: Sequence[bool],
    *,
    turns: int,
    before: Callable[[], object] | None = None,
    read_first: Sequence[Arrays] = (),
) -> tuple[Limit, dict[str, Timing]]:
    """Time steps in turns with the loops that a short trial found fastest; the fastest by its median is the limit.

    ``read_first`` has the arrays that each pass before the last reads. They write none.
    """
    threads = sr.get_num_threads()
    passes = [loops(own, [False] * len(own), threads) for own in read_first] + [loops(arrays, written, threads)]
    every = {name: functools.partial(_in_turn, [own[name] for own in passes]) for name in passes[-1]}
    trial = measure(every, turns=3, turn=0.01, before=before)
    finalists = sorted(every, key=lambda name: trial[name].best)[:FINALISTS]
    found = measure({**{name: every[name] for name in finalists}, **steps}, turns=turns, before=before)
    fastest = min(finalists, key=lambda name: found[name].median)
    return Limit(fastest, found[fastest]), {name: found[name] for name in steps}
