"""The one timing harness: contestants take turns in one run, and ratios are taken turn by turn.

These machines are shared and noisy: a figure in milliseconds says little, the ratio of two loops
that ran within the same tenth of a second says much more.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import steprule as sr
from benchmarks.machine import RESULTS, processor, slug


@dataclass(frozen=True)
class Timing:
    """Seconds a call, turn by turn."""

    name: str
    seconds: list[float]

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(
    contestants: Mapping[str, Callable[[], object]],
    *,
    turns: int = 15,
    turn: float = 0.06,
    before: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time the contestants in turns of about ``turn`` seconds each, after one call to warm up.

    ``before`` runs before every call, and takes no part of its time: a backward pass, whose threads still spin when the
    call begins, or a pause, in which all fall asleep.
    """
    calls: dict[str, int] = {}
    for name, function in contestants.items():
        function()
        start = time.perf_counter()
        if before:
            before()
        function()
        calls[name] = max(1, int(turn / max(time.perf_counter() - start, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, function in contestants.items():
            # OpenMP's threads still spin for some milliseconds after a loop, on the processors that the
            # next contestant needs; without the pause sgd showed 0.80 of the limit instead of 0.95.
            time.sleep(0.02)
            function()
            seconds[name].append(_mean(function, calls[name], before))
    return {name: Timing(name, values) for name, values in seconds.items()}


def _mean(function: Callable[[], object], calls: int, before: Callable[[], object] | None) -> float:
    """Return the mean seconds of a call."""
    start = time.perf_counter()
    if before is None:
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls
    spent = 0.0
    for _ in range(calls):
        before()
        start = time.perf_counter()
        function()
        spent += time.perf_counter() - start
    return spent / calls


def ratio(numerator: Timing, denominator: Timing) -> float:
    """Return the median, over turns, of the ratio of two contestants."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "threads": sr.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: sys.modules[name].__version__ for name in ("torch", "jax", "optax") if name in sys.modules},
        "steprule": sr.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def report(question: str, headings: list[str], rows: list[list[str]], timings: Mapping[str, Any]) -> None:
    """Print the table and, of a whole run, keep the raw figures as JSON in ``results/PROCESSOR/``."""
    table = Table(*headings, title=question)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    if sys.argv[1:]:
        print("A run of a part, or of other numbers than usual, is not kept.")
        return
    raw: dict[str, Any] = {
        "question": question,
        "machine": machine(),
        "headings": headings,
        "rows": rows,
        "timings": {name: asdict(value) if isinstance(value, Timing) else value for name, value in timings.items()},
    }
    path = RESULTS / slug(raw["machine"]["processor"]) / f"{Path(sys.argv[0]).stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw, indent=1) + "\n")
