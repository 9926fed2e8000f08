"""The half of many cases that a plain run leaves to the long sweep, and parts of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

HALVED = ("doors", "backends", "formats", "launch", "lab")
"""Folders of tests whose functions with many cases are products: of rules, formats, types, doors, widths."""
WHOLE = {"test_remedies.py", "test_errors.py"}
"""Of these each case is a thing of its own."""
MANY = 8
GOLDEN = (5**0.5 - 1) / 2


def left_to_the_sweep(count: int) -> list[bool]:
    """Return which of so many cases of one function the long sweep takes: half, if they are many.

    Not every second: in products that would be one and the same value of the last part. Multiples of the golden ratio
    have no period, and those of any step among them are spread as evenly.
    """
    return [count >= MANY and place * GOLDEN % 1 >= 0.5 for place in range(count)]


def halve(items: Iterable[pytest.Item], root: Path) -> None:
    """Mark half of the cases of functions that have many as slow."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        folder, *rest = item.path.relative_to(root / "tests").parts
        is_one_of_many = folder in HALVED and rest and rest[-1] not in WHOLE and hasattr(item, "callspec")
        if is_one_of_many and item.get_closest_marker("slow") is None:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for own in cases.values():
        for item, is_left in zip(own, left_to_the_sweep(len(own)), strict=True):
            if is_left:
                item.add_marker(pytest.mark.slow)


def is_whole(config: pytest.Config) -> bool:
    """Whether a run takes all cases: it says so, or names tests."""
    is_named = bool(config.option.keyword) or any("::" in argument for argument in config.args)
    return is_named or bool(config.getoption("whole"))


def part_of(items: list[pytest.Item], part: str) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests of a part, ``"1/3"`` of three, and those of the others."""
    number, parts = map(int, part.split("/"))
    own = items[number - 1 :: parts]
    taken = set(map(id, own))
    return own, [item for item in items if id(item) not in taken]
