"""What does a step cost where arrays are small: 1,000 arrays of 1,000, and one of 10?

python -m benchmarks.small
"""

from __future__ import annotations

import numpy as np

import steprule as sr
from benchmarks.harness import measure, ratio, report


def main() -> None:
    rng = np.random.default_rng(0)
    many = [rng.standard_normal(1000, np.float32) for _ in range(1000)]
    grads = [[rng.standard_normal(1000, np.float32) for _ in range(1000)] for _ in range(2)]
    optimizer = sr.Optimizer(many, "adam")
    turn = iter(range(10**9))
    one, g = np.zeros(1_000_000, np.float32), np.ones(1_000_000, np.float32)
    flat = sr.Optimizer(one, "adam")
    ten, g10 = np.zeros(10, np.float32), np.ones(10, np.float32)
    tiny = sr.Optimizer(ten, "adam")
    scheduled = sr.Optimizer(np.zeros(10, np.float32), "adam", lr=sr.schedules.inverse_sqrt(1e-3))
    m, v, x = (np.zeros(10, np.float32) for _ in range(3))

    def by_hand() -> None:
        nonlocal m, v, x
        m = 0.9 * m + (1 - 0.9) * g10
        v = 0.999 * v + (1 - 0.999) * g10**2
        x = x - 1e-3 * (m / (1 - 0.9**5)) / (np.sqrt(v / (1 - 0.999**5)) + 1e-8)

    timings = measure(
        {
            "1,000 x 1,000, the same gradients": lambda: optimizer.step(grads[0]),
            "1,000 x 1,000, gradients elsewhere each step": lambda: optimizer.step(grads[next(turn) % 2]),
            "1 x 1,000,000": lambda: flat.step(g),
            "1 x 10": lambda: tiny.step(g10),
            "1 x 10, lr a schedule": lambda: scheduled.step(g10),
            "1 x 10, NumPy by hand": by_hand,
        }
    )
    whole = timings["1 x 1,000,000"]
    rows = [
        [name, f"{t.best * 1e6:.2f}", f"{t.median * 1e6:.2f}", f"{ratio(t, whole):.2f}" if "1,000" in name else ""]
        for name, t in timings.items()
    ]
    report(
        "One Adam step of small arrays", ["arrays", "best us", "median us", "times one array of as many"], rows, timings
    )


if __name__ == "__main__":
    main()
