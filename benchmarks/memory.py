"""How much memory does a step of 20 million float32 need beyond parameter, gradient and slots?

python -m benchmarks.memory
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import report

N = 20_000_000

_PEAK = """
import resource, sys
import numpy as np, steprule as sr
n, how = int(sys.argv[1]), sys.argv[2]
theta, g = np.ones(n, np.float32), np.ones(n, np.float32)
if how == "steprule":
    opt = sr.Optimizer(theta, "adam")
    sr.Optimizer(np.zeros(1, np.float32), "adam").step(np.zeros(1, np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        opt.step(g)
else:
    m, v = np.zeros(n, np.float32), np.zeros(n, np.float32)
    m += 0; v += 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for t in (1, 2, 3):
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        theta = theta - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _growth(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _PEAK, str(N), how], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def main() -> None:
    grown = {how: _growth(how) for how in ("steprule", "NumPy by hand")}
    rows = [[how, f"{bytes_ / 1e6:.1f}", f"{bytes_ / (4 * N):.3f}"] for how, bytes_ in grown.items()]
    headings = ["", "peak memory grows by, MB", "in sizes of the parameter"]
    report(f"Peak memory of three Adam steps, {N:,} float32", headings, rows, grown)


if __name__ == "__main__":
    main()
