"""The few of many cases that a plain run takes, while the long sweep takes the others, and parts of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest

THINNED = ("backends", "checkpoint", "doors", "formats", "lab", "language", "launch", "monitor", "rules")
"""Folders of tests whose functions with many cases are products: of rules, formats, types, doors, widths."""
WHOLE = {"test_papers.py", "test_remedies.py", "test_errors.py"}
"""Of these each case is a thing of its own."""
MANY = 8
GOLDEN = (5**0.5 - 1) / 2


def kept(count: int, *, is_dear: bool = False) -> int:
    """Return how many of the cases of one function a plain run takes: of a product of two about one of its sides.

    Of ``dear`` ones, which take many seconds each, as many as the square root says, of others half as many again where
    they are many.
    """
    if is_dear:
        return round(math.sqrt(count))
    return round(1.5 * math.sqrt(count)) if count >= MANY else count


def left_to_the_sweep(count: int, kept: int) -> list[bool]:
    """Return which of so many cases of one function the long sweep takes, when so many are kept.

    Not by a step: in products that would be one and the same value of the last part. Multiples of the golden ratio have
    no period, and those of any step among them are spread as evenly.
    """
    order = sorted(range(count), key=lambda place: place * GOLDEN % 1)
    taken = set(order[:kept])
    return [place not in taken for place in range(count)]


def thin(items: Iterable[pytest.Item], root: Path) -> None:
    """Mark most of the cases of functions that have many as slow."""
    tests = root / "tests"
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not item.path.is_relative_to(tests):
            continue  # another package's own tests, as optax's
        folder, *rest = item.path.relative_to(tests).parts
        is_one_of_many = folder in THINNED and rest and rest[-1] not in WHOLE
        is_thinned = hasattr(item, "callspec") and (is_one_of_many or item.get_closest_marker("dear"))
        if is_thinned and item.get_closest_marker("slow") is None:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for own in cases.values():
        count = kept(len(own), is_dear=own[0].get_closest_marker("dear") is not None)
        for item, is_left in zip(own, left_to_the_sweep(len(own), count), strict=True):
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
