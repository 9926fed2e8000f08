"""Do 1,100 steps with zero gradients change the time of a step? (Moments decay into subnormals otherwise.)

python -m benchmarks.zero_gradients
"""

from __future__ import annotations

from functools import partial

import numpy as np

import steprule as sr
from benchmarks.harness import Timing, measure, ratio, report

N = 5_000_000
STEPS = 1_100


def main() -> None:
    rng = np.random.default_rng(0)
    zero = np.zeros(N, np.float32)
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for name in ("adam", "momentum", "rmsprop", "lion", "adan"):
        fresh = sr.Optimizer(rng.standard_normal(N, np.float32), name)
        dead = sr.Optimizer(rng.standard_normal(N, np.float32), name)
        g = rng.standard_normal(N, np.float32)
        dead.step(g)
        for _ in range(STEPS):
            dead.step(zero)
        measured = measure({"before": partial(fresh.step, g), "after": partial(dead.step, zero)}, turns=15)
        timings |= {f"{name} {key}": Timing(f"{name} {key}", t.seconds) for key, t in measured.items()}
        before, after = measured["before"], measured["after"]
        rows.append([name, f"{before.best * 1e3:.2f}", f"{after.best * 1e3:.2f}", f"{ratio(after, before):.2f}"])
    headings = ["rule", "random gradients, ms", f"after {STEPS:,} zero ones, ms", "after / before"]
    report(f"Steps of {N:,} float32 whose gradients stay zero", headings, rows, timings)


if __name__ == "__main__":
    main()
