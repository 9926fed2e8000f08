"""How near are rules that see more than one element to the streaming limit of their passes' reads and writes?

python -m benchmarks.sums_large [RULE ...]

A rule that sums over its tensor goes over it more than once. Passes before the last only read.
"""

from __future__ import annotations

import sys

import steprule as sr
from benchmarks.rules import table
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came

RULES = {rule.name: rule for rule in (*map(sr.rules.find, ("lamb", "lars", "mars")), adafactor, came, adam_mini)}


def main() -> None:
    chosen = [RULES[name] for name in sys.argv[1:] or RULES]
    table("One step of rules that see more than one element", chosen)


if __name__ == "__main__":
    main()
