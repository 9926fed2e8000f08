"""How large should a chunk be? Each makes the processor's prefetchers start anew on every array.

python -m benchmarks.chunks
"""

from __future__ import annotations

from functools import partial

import numpy as np

import steprule as sr
from benchmarks.harness import Timing, ratio, report
from benchmarks.streaming import beside_limit
from steprule.runtime import launch

N = 10_000_000
CHUNKS = (8_192, 16_384, 65_536, 262_144, 1_048_576)


def main() -> None:
    rng = np.random.default_rng(0)
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for name in ("sgd", "adam"):
        theta, g = (rng.standard_normal(N, np.float32) for _ in range(2))
        steps = {}
        for chunk in CHUNKS:
            launch.CHUNK = chunk
            optimizer = sr.Optimizer(theta, name)
            optimizer.step(g)
            launch.CHUNK = None
            steps[f"{name} {chunk}"] = partial(optimizer.step, g)
        arrays = [theta, g, *optimizer.slots.values()]
        limit, measured = beside_limit(steps, arrays, [array is not g for array in arrays], turns=21)
        shares = [f"{1 / ratio(measured[key], limit.timing):.2f}" for key in steps]
        rows.append([name, *shares, limit.name])
        timings |= {f"{name} limit": limit.timing, **measured}
    headings = ["rule", *(f"{chunk:,}" for chunk in CHUNKS), "the limit"]
    report(f"Share of the streaming limit by elements a chunk, {N:,} float32", headings, rows, timings)


if __name__ == "__main__":
    main()
