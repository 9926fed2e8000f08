"""What does the second thread bring in one array of the NumPy door, and how near is a step to the limits?

Where a cache holds the arrays the limit is what a second thread brings to a loop in C (bare_threads.py), elsewhere it
is the memory's.

python -m benchmarks.threads [ELEMENTS ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import steprule as sr
from benchmarks.bare_threads import bare_threads
from benchmarks.harness import Timing, measure, ratio, report
from benchmarks.streaming import beside_limit

SIZES = (200_000, 1_000_000, 5_000_000, 20_000_000)
BEYOND_CACHES = 5_000_000
"""Elements whose four arrays no cache holds, so that the memory is the limit."""
TURNS, ROUNDS = 15, 5
PAUSE = 0.002
"""Seconds after which workers have long been asleep."""
WAYS: dict[str, Callable[[], object] | None] = {"on end": None, "after pauses": partial(time.sleep, PAUSE)}


def _step(n: int, threads: int) -> tuple[sr.Optimizer, Callable[[], None]]:
    """Return an optimizer and its step by so many threads."""
    rng = np.random.default_rng(0)
    theta, g = (rng.standard_normal(n, np.float32) for _ in range(2))
    sr.set_num_threads(threads)
    optimizer = sr.Optimizer(theta, "adam")

    def step() -> None:
        if sr.get_num_threads() != threads:  # the contestant before had others
            sr.set_num_threads(threads)
        optimizer.step(g)

    step()  # its chunks are cut for so many threads
    return optimizer, step


def _beside_bare(
    n: int, steps: dict[str, Callable[[], None]], before: Callable[[], object] | None
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Time steps, and those in C, some turns of the ones and some of the others.

    A virtual machine has two whole cores in one second, and in the next two halves of one.
    """
    rounds: list[tuple[dict[str, Timing], dict[str, Timing]]] = []
    for _ in range(ROUNDS):
        ours = measure(steps, turns=TURNS // ROUNDS, before=before)
        with bare_threads(n) as bare:
            rounds.append((ours, measure(bare, turns=TURNS // ROUNDS, before=before)))
    own, other = (
        {name: _joined([part[name] for part in parts]) for name in parts[0]} for parts in zip(*rounds, strict=True)
    )
    return own, other


def _joined(parts: list[Timing]) -> Timing:
    return Timing(parts[0].name, [seconds for part in parts for seconds in part.seconds])


def _row(n: int, way: str, counts: list[int], processors: int) -> tuple[list[str], dict[str, Timing]]:
    optimizers, steps = zip(*(_step(n, threads) for threads in counts), strict=True)
    sr.set_num_threads(processors)
    found = dict(zip([f"{threads} threads" for threads in counts], steps, strict=True))
    limited, extra = ["", "", ""], dict[str, Timing]()
    if n < BEYOND_CACHES:
        timings, extra = _beside_bare(n, found, WAYS[way])
        limited[0] = f"{ratio(*extra.values()):.2f}" if extra else ""
    else:
        arrays = [optimizers[-1].params, np.ones(n, np.float32), *optimizers[-1].slots.values()]
        written = [True, False, True, True]
        limit, timings = beside_limit(found, arrays, written, turns=TURNS, before=WAYS[way])
        limited = ["", f"{1 / ratio(timings[f'{counts[-1]} threads'], limit.timing):.3f}", limit.name]
        extra = {"limit": limit.timing}
    one, *more = timings.values()
    gains = [f"{ratio(one, timing):.2f}" for timing in more]
    row = [f"{n:,}, {way}", *(f"{timing.median * 1e3:.3f}" for timing in (one, *more)), *gains, *limited]
    return row, {f"{n:,}, {way}, {name}": timing for name, timing in (timings | extra).items()}


def main() -> None:
    processors = sr.get_num_threads()
    counts = sorted({1, min(2, processors), processors})
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for n in [int(words) for words in sys.argv[1:]] or SIZES:
        for way in WAYS:
            row, measured = _row(n, way, counts, processors)
            rows.append(row)
            timings |= measured
    sr.set_num_threads(processors)
    names = ["1 thread", *(f"{threads} threads" for threads in counts[1:])]
    gains = [f"{name}, times as fast as one" for name in names[1:]]
    limits = "2 threads in C, times as fast as one", "share of the limit", "the limit"
    headings = ["elements, steps", *(f"{name}, ms" for name in names), *gains, *limits]
    report("One Adam step of one array, by number of threads", headings, rows, timings)


if __name__ == "__main__":
    main()
