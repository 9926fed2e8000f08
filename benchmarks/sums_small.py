"""What does a step cost over 1,000 small tensors, of rules that see more than one element, beside Adam's?

python -m benchmarks.sums_small [RULE ...]

A vector of Adafactor and CAME keeps numbers of each element in the place of those of columns.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import numpy as np

import steprule as sr
from benchmarks.harness import Timing, measure, ratio, report
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came

COUNT = 1_000
SHAPES = ((1_000,), (10, 100))
RULES: dict[str, str | sr.Rule] = {"lamb": "lamb", "lars": "lars"}
RULES |= {rule.name: rule for rule in (adafactor, came, adam_mini)}


def _step(rule: str | sr.Rule, shape: tuple[int, ...]) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    arrays, grads = ([rng.standard_normal(shape, np.float32) for _ in range(COUNT)] for _ in range(2))
    optimizer = sr.Optimizer(arrays, rule)
    return lambda: optimizer.step(grads)


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    usual = sr.get_num_threads()
    for name, shape in itertools.product(sys.argv[1:] or RULES, SHAPES):
        steps = {"adam": _step("adam", shape), name: _step(RULES[name], shape)}
        shown = " x ".join(f"{n:,}" for n in shape)
        for threads in (usual, 1):
            sr.set_num_threads(threads)
            both = measure(steps, turns=11)
            best = [f"{both[key].best * 1e6:.0f}" for key in (name, "adam")]
            rows.append([name, shown, str(threads), *best, f"{ratio(both[name], both['adam']):.2f}"])
            timings |= {f"{name}, {shown}, {threads} threads, {key}": timing for key, timing in both.items()}
        sr.set_num_threads(usual)
    headings = ["rule", f"{COUNT:,} tensors of", "threads", "best us", "adam, best us", "times adam (median of turns)"]
    report("One step of small tensors, of rules that see more than one element", headings, rows, timings)


if __name__ == "__main__":
    main()
