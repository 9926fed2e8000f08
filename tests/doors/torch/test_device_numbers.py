"""Numbers of a tensor and sums over all, where a device computes the scalars of a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import steprule as sr
import steprule.torch as door
from tests.doors.torch.device import (
    BRAIN,
    DOUBLE,
    FLOAT,
    Spec,
    Spy,
    assert_same,
    check_both,
    give,
    history,
    is_decided,
    parameters,
    placed,
    spying,
)
from tests.launch.number_rules import RULES

pytestmark = pytest.mark.apart

SPECS: list[Spec] = [((0,), FLOAT), ((1025,), FLOAT), ((9, 130), BRAIN), ((3, 5), DOUBLE), ((), FLOAT)]


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


SKIPPING = {"clip_norm": 0.5, "nonfinite": "skip"}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in RULES),
    ("distance", SKIPPING),
    ("mixed", {"capturable": True}),
    pytest.param("mixed", SKIPPING, marks=pytest.mark.slow),  # type: ignore[list-item]
    pytest.param("distance", {"capturable": True}, marks=pytest.mark.slow),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("name", "guards"), CASES, ids=str)
@pytest.mark.dear
def test_a_device_has_the_bits_of_this_machine(name: str, guards: dict[str, Any], spy: Spy) -> None:
    def steps() -> Iterator[Any]:
        params = parameters(SPECS)
        optimizer = door.Optimizer(params, RULES[name], **guards)
        for t in range(3):
            give(params, t, without=[2] if t == 1 else [])
            if guards.get("nonfinite") == "skip" and t == 1:
                params[1].grad[3] = float("nan")  # type: ignore[index]
            optimizer.step()
            yield optimizer

    check_both(steps)
    assert spy.launches


def test_passes_that_sum_know_the_numbers_that_are_kept() -> None:
    @sr.rule
    def remembering(theta: Any, g: Any, v: sr.PerTensor, d: sr.Scalar, *, lr: float = 0.1) -> Any:
        kept = sr.mean(g / (1.0 + v + d))
        return theta - lr * g / (1.0 + abs(kept)), v + 1.0, d + 0.5

    def steps() -> Iterator[Any]:
        params = parameters([((40,), FLOAT), ((3, 5), DOUBLE)])
        optimizer = door.Optimizer(params, remembering)
        for t in range(3):
            give(params, t)
            optimizer.step()
            yield optimizer

    check_both(steps)


def test_nothing_waits_for_the_device() -> None:
    with placed():
        params = parameters([((40,), FLOAT), ((3, 5), DOUBLE)])
        optimizer = door.Optimizer(params, RULES["mixed"])
        for t in range(2):
            give(params, t, moves=False)
            optimizer.step()
        assert is_decided(optimizer)


def test_what_is_read_of_a_step_has_the_same_bits() -> None:
    def steps(is_read: bool) -> Iterator[Any]:
        params = parameters([((40,), FLOAT), ((3, 5), DOUBLE)])
        optimizer = door.Optimizer(params, RULES["distance"])
        if is_read:
            sr.Monitor(optimizer, every=1)
        for t in range(2):
            give(params, t)
            optimizer.step()
            yield optimizer

    expected = history(steps, False)
    with placed():
        found = history(steps, True)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
