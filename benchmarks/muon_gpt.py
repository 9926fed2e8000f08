"""How long is a step of Muon on the matrices of a GPT-2, how much of it are products, and what do the passes take?

python -m benchmarks.muon_gpt [WIDTH [LAYERS]]

Usual are 384 and 12: GPT-2 small at half its width, a quarter of its matrices' elements. A width of 768 is GPT-2 small.
The passes over the elements are what a step takes without its matrix products. Their limit are loops over the same
arrays: one that reads gradient and momentum and writes what is multiplied, and one that reads all four and writes
parameter and momentum. Torch's optimizer multiplies in bfloat16 on every processor.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import steprule as sr
import steprule.torch
from benchmarks.harness import Timing, ratio, report
from benchmarks.streaming import loops
from steprule.launch.products import Work

WIDTH, LAYERS = 384, 12
OPTIONS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.95, "weight_decay": 0.1}
TURNS = 3
OURS = "steprule, PyTorch"
HEADINGS = ["", "best ms", "median ms", "times steprule's through PyTorch", "products, share", "the rest, ms",
            "share of the limit", "a step adds, MB"]  # fmt: skip
Array = NDArray[np.float32]


def shapes(width: int, layers: int) -> list[tuple[int, int]]:
    """Return the matrices of the blocks: of queries, keys and values, of their mixture, and of the two layers."""
    return [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)] * layers


class Clock:
    """Seconds spent in matrix products since they were last asked for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let products of steprule be timed."""
        usual = Work._multiply

        @functools.wraps(usual)
        def timed(*args: Any) -> None:
            start = time.perf_counter()
            usual(*args)
            self.seconds += time.perf_counter() - start

        Work._multiply = timed  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Work._multiply = usual  # type: ignore[method-assign]

    def take(self) -> float:
        """Return the seconds, and begin anew."""
        taken, self.seconds = self.seconds, 0.0
        return taken


def _arrays(sizes: Sequence[tuple[int, int]]) -> tuple[list[Array], list[Array]]:
    rng = np.random.default_rng(0)
    thetas, gradients = ([rng.standard_normal(size, np.float32) for size in sizes] for _ in range(2))
    return thetas, gradients


def _params(sizes: Sequence[tuple[int, int]]) -> list[torch.nn.Parameter]:
    thetas, gradients = _arrays(sizes)
    params = [torch.nn.Parameter(torch.from_numpy(theta)) for theta in thetas]
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = torch.from_numpy(gradient)
    return params


def _numpy(sizes: Sequence[tuple[int, int]]) -> Callable[[], object]:
    thetas, gradients = _arrays(sizes)
    optimizer = sr.Optimizer(thetas, "muon", **OPTIONS)
    return lambda: optimizer.step(gradients)


MADE: dict[str, Callable[[Sequence[tuple[int, int]]], Callable[[], object]]] = {
    OURS: lambda sizes: steprule.torch.Muon(_params(sizes), **OPTIONS).step,
    "steprule, NumPy": _numpy,
    "torch.optim.Muon": lambda sizes: torch.optim.Muon(_params(sizes), **OPTIONS).step,
}


def measured(sizes: Sequence[tuple[int, int]]) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Return the times of steps, turn by turn, and those of their products. A call is long enough to be a turn."""
    steps = {name: make(sizes) for name, make in MADE.items()}
    whole: dict[str, list[float]] = {name: [] for name in steps}
    products: dict[str, list[float]] = {name: [] for name in steps}
    clock = Clock()
    with clock.watching():
        for turn in range(TURNS + 1):
            for name, step in steps.items():
                seconds = _once(step)
                taken = clock.take()
                if turn:  # the first call makes state, and compiles
                    whole[name].append(seconds)
                    products[name].append(taken)
    return tuple({name: Timing(name, values) for name, values in found.items()} for found in (whole, products))  # type: ignore[return-value]


def _once(step: Callable[[], object]) -> float:
    time.sleep(0.02)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def limit(elements: int) -> Timing:
    """Return the fastest loops of the two passes over as many elements."""
    theta, g, m, work = (np.zeros(elements, np.float32) for _ in range(4))
    threads = sr.get_num_threads()
    first, last = (
        loops([g, m, work], [False, False, True], threads),
        loops([theta, g, m, work], [True, False, True, False], threads),
    )
    found: dict[str, list[float]] = {}
    for _ in range(9):
        for name in first:
            found.setdefault(name, []).append(_once(functools.partial(_both, first[name], last[name])))
    return min((Timing(name, seconds) for name, seconds in found.items()), key=lambda own: own.median)


def _both(first: Callable[[], object], last: Callable[[], object]) -> None:
    first()
    last()


_PEAK = """
import json, sys
from benchmarks.muon_gpt import MADE, shapes
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
name, sizes = sys.argv[1], shapes(int(sys.argv[2]), int(sys.argv[3]))
MADE[name](sizes[:1])()  # what is loaded or compiled at the first step is no memory of a step
step = MADE[name](sizes)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
step()
print(peak() - before)
"""
"""The first step, which makes the momentum as well: all memory that a step needs, and keeps."""


def _added(name: str, width: int, layers: int) -> int:
    command = [sys.executable, "-c", _PEAK, name, str(width), str(layers)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def row(name: str, timing: Timing, ours: Timing, products: Timing, streaming: Timing) -> list[str]:
    """Return a row, but for its memory. Of torch's optimizer the products are not known apart."""
    rest = [whole - part for whole, part in zip(timing.seconds, products.seconds, strict=True)]
    start = [name, f"{timing.best * 1e3:.0f}", f"{timing.median * 1e3:.0f}", f"{ratio(timing, ours):.2f}"]
    if not any(products.seconds):
        return [*start, "", "", ""]
    return [*start, f"{ratio(products, timing):.3f}", f"{min(rest) * 1e3:.1f}", f"{streaming.best / min(rest):.3f}"]


def main() -> None:
    width, layers = (*map(int, sys.argv[1:]), *(WIDTH, LAYERS)[len(sys.argv) - 1 :])
    sizes = shapes(width, layers)
    elements = sum(rows * columns for rows, columns in sizes)
    (whole, products), streaming = measured(sizes), limit(elements)
    rows = [
        [*row(name, timing, whole[OURS], products[name], streaming), f"{_added(name, width, layers) / 1e6:.1f}"]
        for name, timing in whole.items()
    ]
    times = [f"{streaming.best * 1e3:.1f}", f"{streaming.median * 1e3:.1f}"]
    rows.append([f"limit of the passes: {streaming.name}", *times, *[""] * 5])
    title = f"A step of Muon on {len(sizes)} matrices of a GPT {width} wide, {elements:,} float32"
    timings = {**whole, **{f"products, {name}": own for name, own in products.items()}, "limit": streaming}
    report(title, HEADINGS, rows, timings)


if __name__ == "__main__":
    main()
