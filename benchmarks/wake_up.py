"""How long does it take to wake a worker, beside a bare futex of Linux?

python -m benchmarks.wake_up

A launch of two chunks: the launching thread's waits until a worker has begun the other one, which notes the time.
Beside it, a C thread that does nothing but wait on a futex and note the time. Both are called from Python, in turns,
after the same idle time, from one processor; what they wake runs on the others. (Otherwise Linux would wake now the
one, now the other on the processor of the thread that waits for it, which ends the wait soon and halves the work.)
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import Timing, ratio, report
from steprule.runtime.launch import SHORT_ELEMENTS, WAKE_ELEMENTS, Table
from steprule.runtime.pool import Team

IDLE = (50e-6, 1e-3, 20e-3, 200e-3)
"""Seconds that nothing happens before a wake-up."""
TURNS, WAKES, MOST_SECONDS = 15, 9, 1.2
"""Turns; wake-ups a turn of each, of which the median counts; fewer where a turn would take longer than so."""
LATE = 1.0
"""Seconds after which the launching thread waits no longer."""

_C = """
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t begun;
static _Atomic uint32_t word;
static pthread_t leader;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void prepare(void) { leader = pthread_self(); begun = 0; }
int64_t when(void) { return begun; }

/* A kernel: a worker notes when it began, the leader waits for that. */
void kernel(void **addresses, int64_t start, int64_t n, int64_t *late) {
    if (!pthread_equal(pthread_self(), leader)) {
        int64_t none = 0;
        atomic_compare_exchange_strong(&begun, &none, now());
        return;
    }
    for (int64_t end = now() + *late; !begun && now() < end;) ;
}

static void *sleeper(void *nothing) {
    for (uint32_t seen = word;;) {
        while (word == seen) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        seen = word;
        begun = now();
    }
    return nothing;
}

void start(void) { pthread_t thread; pthread_create(&thread, NULL, sleeper, NULL); }

void wake(int64_t late) {
    word++;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    for (int64_t end = now() + late; !begun && now() < end;) ;
}
"""


def _build() -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp())
    (folder / "wake.c").write_text(_C)
    command = ["cc", "-O2", "-shared", "-fPIC", "-pthread", str(folder / "wake.c"), "-o", str(folder / "wake.so")]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(folder / "wake.so"))
    library.when.restype = ctypes.c_int64
    return library


@dataclass(frozen=True)
class _Kernel:
    address: int


def _launch(library: ctypes.CDLL, late: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Callable[[], None]:
    """Return a launch of two chunks, whose kernels are the library's, by this thread and one worker."""
    half = SHORT_ELEMENTS * WAKE_ELEMENTS  # so many are worth a wake-up however long the launch before took
    table = Table([2 * half], 1, multiple=[half])
    address = ctypes.cast(library.kernel, ctypes.c_void_p).value
    assert address is not None
    table.set_row(0, _Kernel(address), late.ctypes.data)
    table.prepare(Team(2))  # starts the worker

    def run() -> None:
        table.prepare(Team(2))
        table.run()

    return run


def _seconds(library: ctypes.CDLL, call: Callable[[], object], idle: float) -> float:
    """Return how long after the call its other thread began, as seen by the clock that both read."""
    library.prepare()
    time.sleep(idle)
    start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    call()
    begun: int = library.when()
    return (begun - start) / 1e9 if begun else LATE


def main() -> None:
    if sys.platform != "linux":
        raise SystemExit("a bare futex is compared, which only Linux has")
    own, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("threads on two processors are compared, and this process may use one")
    library, late = _build(), np.array([int(LATE * 1e9)])
    os.sched_setaffinity(0, others)  # where the threads that are started now may run
    library.start()
    contestants = {
        "worker": _launch(library, late),
        "futex": lambda: library.wake(ctypes.c_int64(int(LATE * 1e9))),
    }
    os.sched_setaffinity(0, {own})
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for idle in IDLE:
        wakes = max(1, min(WAKES, int(MOST_SECONDS / idle / len(contestants))))
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(TURNS):
            for name, call in contestants.items():
                turn = [_seconds(library, call, idle) for _ in range(wakes + 1)]
                seconds[name].append(statistics.median(turn[1:]))  # the first follows the other contestant
        found = {name: Timing(name, values) for name, values in seconds.items()}
        times = [f"{t.median * 1e6:.1f}" for t in found.values()]
        rows.append([f"{idle * 1e3:g} ms", *times, f"{ratio(found['worker'], found['futex']):.2f}"])
        timings |= {f"{idle:g} s, {name}": timing for name, timing in found.items()}
    os.sched_setaffinity(0, [own, *others])  # as it was: the report says how many processors there are
    headings = ["idle before", "a worker, median us", "a bare futex, median us", "times the futex's"]
    report("How long does it take to wake a thread on another processor?", headings, rows, timings)


if __name__ == "__main__":
    main()
