"""How near is one Adam step over 20 million float32 to the limit of the memory?

python -m benchmarks.one_large
"""

from __future__ import annotations

import numpy as np

import steprule as sr
from benchmarks.harness import measure, ratio, report
from benchmarks.streaming import beside_limit

N = 20_000_000


def main() -> None:
    rng = np.random.default_rng(0)
    theta, g = (rng.standard_normal(N, np.float32) for _ in range(2))
    optimizer = sr.Optimizer(theta, "adam")
    optimizer.step(g)
    arrays = [theta, g, optimizer.slots["m"], optimizer.slots["v"]]
    m, v, x = (np.zeros(N, np.float32) for _ in range(3))

    def by_hand() -> None:
        nonlocal m, v, x
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        x = x - 1e-3 * (m / (1 - 0.9**5)) / (np.sqrt(v / (1 - 0.999**5)) + 1e-8)

    limit, steps = beside_limit({"steprule": lambda: optimizer.step(g)}, arrays, [True, False, True, True], turns=31)
    fast = {f"limit: {limit.name}": limit.timing, **steps}
    both = measure({"NumPy": by_hand, "steprule vs NumPy": lambda: optimizer.step(g)}, turns=5)
    timings = fast | both
    moved = 7 * 4 * N
    rows = [
        [name, f"{t.best * 1e3:.2f}", f"{t.median * 1e3:.2f}", f"{moved / t.median / 1e9:.1f}"]
        for name, t in fast.items()
    ]
    rows.append(["NumPy by hand", f"{both['NumPy'].best * 1e3:.1f}", f"{both['NumPy'].median * 1e3:.1f}", ""])
    rows.append(
        ["share of the limit (limit / steprule)", f"{1 / ratio(timings['steprule'], limit.timing):.3f}", "", ""]
    )
    rows.append(["times faster than NumPy", f"{ratio(both['NumPy'], both['steprule vs NumPy']):.1f}", "", ""])
    report(f"One Adam step, {N:,} float32", ["", "best ms", "median ms", "GB/s (4 reads, 3 writes)"], rows, timings)


if __name__ == "__main__":
    main()
