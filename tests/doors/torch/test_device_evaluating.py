"""The evaluated point on a device has the bits of that on the CPU, in whatever formats, and whoever decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import steprule as sr
import steprule.torch as door
from tests.doors.torch.device import (
    BRAIN,
    DOUBLE,
    FLOAT,
    HALF,
    MIXED,
    Spy,
    capturable,
    check_both,
    give,
    parameters,
    placed,
    spying,
)
from tests.doors.torch.tensors import numbers

pytestmark = pytest.mark.apart

LOW: dict[str, Any] = {"min_elements": 0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("AdamWScheduleFree", {"lr": 0.02, "weight_decay": 0.1, "warmup_steps": 3}),
    ("SGDScheduleFree", {"lr": 0.1}),
    ("averaged", {"lr": 0.02, "decay": 0.7}),
]
FORMATS: list[dict[str, Any]] = [
    {"weights": "split24", "states": "8bit", **LOW},
    {"weights": "stochastic", "states": {"z": "bfloat16"}, **LOW},
]


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


def made(kind: str, params: Any, options: dict[str, Any]) -> Any:
    if kind == "averaged":
        return door.Optimizer(params, rule=sr.averaged(sr.rules.adam), **options)
    return getattr(door, kind)(params, **options)


def loop(kind: str, options: dict[str, Any], specs: Any) -> Iterator[Any]:
    params = parameters(specs)
    optimizer = made(kind, params, options)
    for t in range(3):
        give(params, t, without=[2] if t == 1 else [])
        optimizer.step()
        optimizer.eval()
        yield optimizer
        optimizer.train()
        yield optimizer


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=[kind for kind, _ in CASES])
def test_both_points(kind: str, options: dict[str, Any], decided: bool, spy: Spy) -> None:
    own = capturable("AdamWScheduleFree", decided)
    check_both(loop, kind, {**options, **own}, MIXED)
    assert spy.launches


@pytest.mark.parametrize("options", FORMATS, ids=["split24", "stochastic"])
def test_formats(options: dict[str, Any]) -> None:
    specs = [((5, 260), FLOAT), ((9, 130), BRAIN), ((300,), BRAIN), ((4, 129), HALF)]
    check_both(loop, "AdamWScheduleFree", {"lr": 0.02, **options}, specs)


def strided(options: dict[str, Any]) -> Iterator[Any]:
    apart = [numbers((6, 8), FLOAT, 1)[:, ::2], numbers((6, 8), HALF, 2)[::2], numbers((3, 4), DOUBLE, 3).t()]
    params = [nn.Parameter(tensor) for tensor in apart]
    optimizer = door.AdamWScheduleFree(params, lr=0.02, **options)
    for t in range(2):
        give(params, t)
        optimizer.step()
        with optimizer.evaluating():
            yield optimizer
        yield optimizer


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
def test_elements_that_lie_apart(decided: bool) -> None:
    check_both(strided, capturable("AdamWScheduleFree", decided))


def test_an_evaluation_is_one_launch_of_each_kind_of_rows(spy: Spy) -> None:
    with placed():
        params = parameters([((7, 150), FLOAT), ((33,), FLOAT), ((3,), FLOAT)])
        optimizer = door.AdamWScheduleFree(params)
        for t in range(2):
            give(params, t)
            optimizer.step()
        spy.clear()
        optimizer.eval()
        assert len(spy.launches) == 1
        optimizer.train()
        assert len(spy.launches) == 1


def test_there_and_back_between_steps_that_the_device_decides() -> None:
    with placed():
        params = parameters([((7, 150), FLOAT), ((1100,), BRAIN)])
        optimizer = door.AdamWScheduleFree(params, lr=0.02, capturable=True, nonfinite="skip")
        for t in range(3):
            give(params, t)
            optimizer.step()
            with optimizer.evaluating():
                pass
        assert optimizer.param_groups[0]["k"] == 0, "a device that decides is not asked in every step"
        assert optimizer.state_dict()["param_groups"][0]["k"] == 3
        assert all(torch.isfinite(param.float()).all() for param in params)
