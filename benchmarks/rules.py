"""How near is every rule that sees an element alone to the streaming limit of its own reads and writes?

python -m benchmarks.rules [RULE ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import steprule as sr
from benchmarks.harness import Timing, ratio, report
from benchmarks.streaming import beside_limit
from steprule.compile import Plan
from steprule.engine import plan
from steprule.formats import FORMATS

SHAPE = (4_000, 5_000)
N = SHAPE[0] * SHAPE[1]
HEADINGS = ["rule", "reads + writes", "best ms", "limit ms", "GB/s", "share of the limit", "the limit"]


def _recipe(rule: sr.Rule) -> Plan:
    return plan(rule, rule.variant(rule.resolve({})), FORMATS["float32"])


def beside(rule: sr.Rule) -> tuple[list[str], dict[str, Timing]]:
    """Return a row, and the timings of a step and of its limit: a loop for each pass, with its reads and writes."""
    name, recipe = rule.name, _recipe(rule)
    written = {store.plane for store in recipe.stores}
    rng = np.random.default_rng(0)
    theta, g = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
    optimizer = sr.Optimizer(theta, rule)
    optimizer.step(g)
    of_elements = [place for place, plane in enumerate(recipe.planes) if plane.per == "element"]
    arrays = {0: theta, 1: g, **{place: optimizer.slots[recipe.planes[place].name] for place in of_elements[2:]}}
    read_first = [[arrays[place] for place in own.loads if place in arrays] for own in recipe.before]
    writes = [place in written for place in arrays]
    limit, steps = beside_limit(
        {name: lambda: optimizer.step(g)}, [*arrays.values()], writes, turns=15, read_first=read_first
    )
    timings = {**steps, f"{name} limit": limit.timing}
    moved = sum(map(len, read_first)) + len(writes) + sum(writes)
    best = [f"{timings[key].best * 1e3:.2f}" for key in (name, f"{name} limit")]
    bandwidth = f"{4 * moved * N / timings[name].best / 1e9:.1f}"
    share = f"{1 / ratio(timings[name], limit.timing):.3f}"
    passes = [*(str(len(own)) for own in read_first), f"{len(writes)} + {sum(writes)}"]
    return [name, ", ".join(passes), *best, bandwidth, share, limit.name], timings


def main() -> None:
    alone = [name for name, rule in sr.rules.CATALOGUE.items() if _recipe(rule).sees_elements_alone]
    rows, timings = measured([sr.rules.CATALOGUE[name] for name in sys.argv[1:] or alone])
    report(f"One step of every rule, {N:,} float32", HEADINGS, rows, timings)


def measured(rules: Sequence[sr.Rule]) -> tuple[list[list[str]], dict[str, Timing]]:
    """Return a row for each rule, and all timings."""
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for rule in rules:
        row, found = beside(rule)
        rows.append(row)
        timings |= found
    return rows, timings


if __name__ == "__main__":
    main()
