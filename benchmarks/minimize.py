"""What does a step of ``minimize`` cost beside a loop by hand, in two dimensions and in a thousand?

python -m benchmarks.minimize
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import steprule as sr
from benchmarks.harness import measure, ratio, report

STEPS = 2000


def bowl(x: Any) -> tuple[float, Any]:
    return float(x @ x), 2 * x


def by_hand(x0: Any) -> Any:
    """Adam as one writes it, with nothing but the loss of the best point kept."""
    x, m, v, best = x0.copy(), np.zeros_like(x0), np.zeros_like(x0), np.inf
    for t in range(1, STEPS + 1):
        loss, g = bowl(x)
        best = min(best, loss)
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        x = x - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return best


def with_steps(x0: Any) -> Any:
    """The same with the steps of an Optimizer."""
    x, best = x0.copy(), np.inf
    optimizer = sr.Optimizer(x, "adam")
    for _ in range(STEPS):
        loss, g = bowl(x)
        best = min(best, loss)
        optimizer.step(g)
    return best


def minimized(x0: Any) -> Any:
    return sr.minimize(bowl, x0, jac=True, maxiter=STEPS)


def main() -> None:
    loops: dict[str, Callable[[Any], Any]] = {"by hand": by_hand, "Optimizer": with_steps, "minimize": minimized}
    rows: list[list[str]] = []
    timings: dict[str, Any] = {}
    for n in (2, 1000):
        found = measure({f"{name}, {n}": partial(loop, np.ones(n)) for name, loop in loops.items()})
        whole = found[f"by hand, {n}"]
        rows += [[name, f"{t.best / STEPS * 1e6:.2f}", f"{ratio(t, whole):.2f}"] for name, t in found.items()]
        timings |= found
    report(f"A step of Adam, of a run of {STEPS}", ["loop, variables", "us a step", "times by hand"], rows, timings)


if __name__ == "__main__":
    main()
