"""How near are rules that see more than one element to the streaming limit of their passes' reads and writes?

python -m benchmarks.sums_large [RULE ...]

A rule that sums over its tensor goes over it more than once. Passes before the last only read.
"""

from __future__ import annotations

import sys

import steprule as sr
from benchmarks.harness import report
from benchmarks.rules import HEADINGS, N, measured
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came

RULES = {rule.name: rule for rule in (*map(sr.rules.find, ("lamb", "lars", "mars")), adafactor, came, adam_mini)}


def main() -> None:
    rows, timings = measured([RULES[name] for name in sys.argv[1:] or RULES])
    report(f"One step of rules that see more than one element, {N:,} float32", HEADINGS, rows, timings)


if __name__ == "__main__":
    main()
