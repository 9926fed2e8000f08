"""How long until the first step: import, cold compilation of each rule, first step?

python -m benchmarks.start_up
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.harness import report

RUNS = 9

_FIRST = """
import time; t = time.perf_counter()
import steprule as sr; imported = time.perf_counter() - t
import numpy as np
theta, g = np.zeros(1000, np.float32), np.ones(1000, np.float32)
t = time.perf_counter()
sr.Optimizer(theta, "adam").step(g)
print(imported, time.perf_counter() - t)
"""

_NUMPY = "import time; t = time.perf_counter(); import numpy; print(time.perf_counter() - t)"

_COLD = """
import time
import numpy as np, steprule as sr
sr.Optimizer(np.zeros(3)).step(np.zeros(3))  # the compiler and the driver are up
for name, rule in sr.rules.CATALOGUE.items():
    theta, g = np.zeros((20, 50), np.float32), np.ones((20, 50), np.float32)
    t = time.perf_counter()
    sr.Optimizer(theta, rule).step(g)
    print(name, time.perf_counter() - t)
"""


def _run(script: str) -> list[list[str]]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def main() -> None:
    firsts = [[float(x) for x in _run(_FIRST)[0]] for _ in range(RUNS)]
    numpy = [float(_run(_NUMPY)[0][0]) for _ in range(RUNS)]
    cold: dict[str, list[float]] = {}
    for _ in range(3):
        for name, seconds in _run(_COLD):
            cold.setdefault(name, []).append(float(seconds))
    slowest = max(cold, key=lambda name: min(cold[name]))
    imports, steps = zip(*firsts, strict=True)
    rows = [
        ["import numpy", f"{min(numpy):.3f}", f"{statistics.median(numpy):.3f}"],
        ["import steprule (numpy included)", f"{min(imports):.3f}", f"{statistics.median(imports):.3f}"],
        ["first Adam step after it, compilation included", f"{min(steps):.3f}", f"{statistics.median(steps):.3f}"],
        [
            f"first step of the slowest further rule ({slowest})",
            f"{min(cold[slowest]):.3f}",
            f"{statistics.median(cold[slowest]):.3f}",
        ],
    ]
    raw = {"import": imports, "first step": steps, "numpy": numpy, "cold": cold}
    report("Seconds until the first step", ["", "best s", "median s"], rows, raw)


if __name__ == "__main__":
    main()
