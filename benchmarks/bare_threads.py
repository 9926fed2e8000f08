"""What a second thread can bring at most: Adam in C, shared by two threads of which a bare futex wakes the second.

They stay on a processor each. The second takes parts of the array as long as there are any, and spins for some ten
microseconds before it sleeps, as workers of steprule do. There is no Python on the way, and no step is too short.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_C = """
#define _GNU_SOURCE
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PART = 16384, SPINS = 2000 };
static float *theta, *g, *m, *v;
static int64_t size, parts;
static _Atomic int64_t taken, done;
static _Atomic uint32_t word, asleep;

static inline void look_again(void) {
#ifdef __SSE2__
    __builtin_ia32_pause();
#endif
}

static void part(int64_t start, int64_t end) {
    float *restrict p = theta, *restrict x = g, *restrict first = m, *restrict second = v;
    float beta1 = 0.9f, beta2 = 0.999f, lr = 1e-3f, bias1 = 0.5f, bias2 = 0.6f;
#pragma omp simd
    for (int64_t i = start; i < end; i++) {
        first[i] = beta1 * first[i] + (1 - beta1) * x[i];
        second[i] = beta2 * second[i] + (1 - beta2) * x[i] * x[i];
        p[i] -= lr * (first[i] / bias1) / (sqrtf(second[i] / bias2) + 1e-8f);
    }
}

static void take(void) {
    for (int64_t k; (k = taken++) < parts; done++)
        part(k * PART, (k + 1) * PART < size ? (k + 1) * PART : size);
}

static void *other(void *nothing) {
    for (uint32_t seen = 0;; seen++) {
        for (int spins = 0; word == seen && spins < SPINS; spins++) look_again();
        asleep = 1;
        while (word == seen) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        asleep = 0;
        take();
    }
    return nothing;
}

void start(void) { pthread_t thread; pthread_create(&thread, NULL, other, NULL); }

void step(float *restrict a, float *restrict b, float *restrict c, float *restrict d, int64_t n, int64_t threads) {
    theta = a; g = b; m = c; v = d; size = n;
    if (threads == 1) { part(0, n); return; }
    parts = (n + PART - 1) / PART;
    done = 0;
    taken = 0;
    word++;
    if (asleep) syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    take();
    while (done < parts) look_again();
}
"""


@functools.cache
def _build() -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp())
    (folder / "bare.c").write_text(_C)
    flags = ["-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-ffp-contract=off", "-pthread"]
    command = ["cc", *flags, "-shared", "-fPIC", str(folder / "bare.c"), "-o", str(folder / "bare.so"), "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "bare.so"))


@contextlib.contextmanager
def bare_threads(n: int) -> Iterator[dict[str, Callable[[], None]]]:
    """Yield steps of so many elements by one thread and by two, for a block in which this thread keeps its processor.

    There are none where threads cannot be kept on two processors.
    """
    allowed: set[int] = getattr(os, "sched_getaffinity", lambda _: set[int]())(0)
    own, *others = sorted(allowed) or [0]
    if not others:
        yield {}
        return
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n, np.float32) for _ in range(2)] + [np.zeros(n, np.float32) for _ in range(2)]
    library = _started(tuple(others))
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    os.sched_setaffinity(0, {own})
    try:
        yield {f"bare, {k}": functools.partial(_step, library, arrays, pointers, n, k) for k in (1, 2)}
    finally:
        os.sched_setaffinity(0, allowed)


@functools.cache
def _started(others: tuple[int, ...]) -> ctypes.CDLL:
    """Return the library, with a second thread that runs on these processors."""
    library = _build()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, others)
    try:
        library.start()
    finally:
        os.sched_setaffinity(0, before)
    return library


def _step(library: ctypes.CDLL, owners: Sequence[NDArray[Any]], pointers: Sequence[Any], n: int, threads: int) -> None:
    library.step(*pointers, ctypes.c_int64(n), ctypes.c_int64(threads))
