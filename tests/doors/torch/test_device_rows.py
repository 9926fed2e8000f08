"""Rules that see rows and columns, where a device steps: their numbers are computed there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import steprule.torch as door
from tests.doors.torch.device import (
    BRAIN,
    DOUBLE,
    FLOAT,
    Spec,
    Spy,
    check_both,
    give,
    is_decided,
    parameters,
    spying,
)
from tests.launch.row_rules import RULES

pytestmark = pytest.mark.apart

# More rows than a tile has, stacks, one row, one column, no dimension, no elements.
SPECS: list[Spec] = [
    ((150, 20), FLOAT),
    ((2, 3, 7), BRAIN),
    ((1, 140), DOUBLE),
    ((9, 1), FLOAT),
    ((7,), FLOAT),
    ((), FLOAT),
    ((0, 3), FLOAT),
    ((3, 0), FLOAT),
]


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


HOST: dict[str, Any] = {"nonfinite": "raise"}
"""With it, this machine decides."""
CASES = [(name, guards) for name in RULES for guards in ({}, HOST)]


@pytest.mark.parametrize(("name", "guards"), CASES, ids=str)
def test_a_device_has_the_bits_of_this_machine(name: str, guards: dict[str, Any], spy: Spy) -> None:
    def steps() -> Iterator[Any]:
        params = parameters(SPECS)
        optimizer = door.Optimizer(params, RULES[name], **guards)
        for t in range(3):
            give(params, t, without=[2] if t == 1 else [])
            optimizer.step()
            yield optimizer

    check_both(steps)
    assert spy.launches
