"""Rules that see rows and columns, where a device steps: their numbers are computed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steprule as sr
import steprule.torch as door
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.doors.torch.device import (
    BRAIN,
    DOUBLE,
    FLOAT,
    HALF,
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
from tests.launch.row_rules import RULES

pytestmark = pytest.mark.apart

# More rows than a tile has, stacks, one row, one column, no dimension, no elements.
SPECS: list[Spec] = [
    ((131, 3), FLOAT),
    ((2, 3, 7), BRAIN),
    ((1, 140), DOUBLE),
    ((9, 1), FLOAT),
    ((), FLOAT),
    ((0, 3), FLOAT),
    ((3, 0), FLOAT),
]
FEW: list[Spec] = [((5, 3), FLOAT), ((2, 3, 2), BRAIN), ((7,), DOUBLE)]
HOST: dict[str, Any] = {"nonfinite": "raise"}
"""With it, this machine decides."""
PAPERS = {rule.name: rule for rule in (adafactor, came, adam_mini)}
QUICK = ("factored_last", "mixed", "in_pairs", "outer")
"""Both views, all words, and sums that read no element."""


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


def slow_but(name: str, quick: Sequence[str], *more: Any) -> Any:
    return pytest.param(name, *more, marks=[] if name in quick else pytest.mark.slow)


def run(rule: Any, specs: Sequence[Spec], steps: int = 2, without: int = 1, **options: Any) -> Iterator[Any]:
    params = parameters(specs)
    optimizer = door.Optimizer(params, rule, **options)
    for t in range(steps):
        give(params, t, without=[without] if t == 1 else [])
        optimizer.step()
        yield optimizer


@pytest.mark.parametrize("name", [slow_but(name, QUICK) for name in RULES])
@pytest.mark.dear
def test_a_device_decides_with_the_bits_of_this_machine(name: str, spy: Spy) -> None:
    check_both(run, RULES[name], SPECS)
    assert spy.launches


@pytest.mark.parametrize("name", [slow_but(name, ["mixed"]) for name in RULES])
def test_this_machine_decides_with_the_same_bits(name: str) -> None:
    def steps() -> Iterator[Any]:
        yield from run(RULES[name], SPECS, **HOST)

    check_both(steps)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adafactor", {}),
        ("came", {"weight_decay": 0.1}),
        ("adam_mini", {"blocks": "tensor"}),
        pytest.param("adafactor", {"clamp": True, "beta1": 0.9, "weight_decay": 0.1}, marks=pytest.mark.slow),
        pytest.param("adafactor", {"eps2": None, "relative_step": False}, marks=pytest.mark.slow),
        pytest.param("adam_mini", {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.dear
def test_rules_of_papers_have_the_same_bits(name: str, options: dict[str, Any]) -> None:
    def steps() -> Iterator[Any]:
        yield from run(PAPERS[name], FEW, 3, **options)

    check_both(steps)


@pytest.mark.parametrize("name", ["in_pairs", "mixed"])
@pytest.mark.dear
def test_sums_go_on_in_the_next_block_of_columns(name: str) -> None:
    check_both(run, RULES[name], [((1, 16_384 + 130), FLOAT)], 2, 5)


@pytest.mark.parametrize("decides", ["a device", "this machine"])
@pytest.mark.dear
def test_steps_are_skipped_and_clipped(decides: str) -> None:
    guards = {"clip_norm": 0.5, "nonfinite": "skip"} if decides == "a device" else {"clip_norm": 0.5, **HOST}

    def steps() -> Iterator[Any]:
        params = parameters(FEW)
        optimizer = door.Optimizer(params, RULES["mixed"], **guards)
        for t in range(3):
            give(params, t)
            if decides == "a device" and t == 1:
                params[0].grad[1, 1] = float("nan")  # type: ignore[index]
            optimizer.step()
            yield optimizer

    check_both(steps)


def test_a_step_that_is_not_taken_leaves_the_slots_of_rows() -> None:
    with placed():
        params = parameters([((5, 3), FLOAT)])
        optimizer = door.Optimizer(params, RULES["factored"], nonfinite="skip")
        give(params, 0)
        optimizer.step()
        kept = {name: optimizer.state[params[0]][name].clone() for name in ("r", "c")}
        give(params, 1)
        params[0].grad[0, 0] = float("inf")  # type: ignore[index]
        optimizer.step()
        assert is_decided(optimizer)
        for name, slot in kept.items():
            assert torch.equal(optimizer.state[params[0]][name], slot)


@pytest.mark.slow
def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with placed():
        params = parameters(FEW)
        optimizer = door.Optimizer(params, RULES["mixed"])
        for t in range(2):
            give(params, t, moves=False)
            if t == 1:
                # What reads numbers of a device.
                for name in ("item", "cpu", "numpy"):
                    monkeypatch.setattr(torch.Tensor, name, _refuse)
            optimizer.step()
        assert is_decided(optimizer)


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("the host waits for the device")


@pytest.mark.slow
def test_what_is_read_of_a_step_has_the_same_bits() -> None:
    def steps(is_read: bool) -> Iterator[Any]:
        params = parameters(FEW)
        optimizer = door.Optimizer(params, RULES["by_neuron"])
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


@pytest.mark.parametrize("options", [{"weights": "stochastic", "seed": 5}, {"weights": "split32"}], ids=str)
def test_16_bit_parameters_have_the_same_bits(options: dict[str, Any]) -> None:
    def steps() -> Iterator[Any]:
        yield from run(RULES["by_neuron"], [((2, 5, 3), BRAIN), ((6,), HALF)], without=2, **options)

    check_both(steps)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30, 1e-42, -0.0])
def test_special_values_have_the_same_bits(bad: float) -> None:
    def steps() -> Iterator[Any]:
        params = parameters([((5, 3), FLOAT), ((4, 2), DOUBLE)])
        optimizer = door.Optimizer(params, RULES["in_pairs"])
        for t in range(2):
            give(params, t)
            for param in params if t else ():
                param.grad[1] = bad  # type: ignore[index]
                param.grad[2, 0] = -0.0  # type: ignore[index]
            optimizer.step()
            yield optimizer

    check_both(steps)


def test_strided_tensors_have_the_same_bits() -> None:
    def steps() -> Iterator[Any]:
        values = np.random.default_rng(0).standard_normal((2, 3, 6, 5)).astype(np.float32)
        base = torch.from_numpy(values[0].copy())
        params = [nn.Parameter(base.permute(2, 0, 1)), nn.Parameter(torch.from_numpy(values[1].copy())[:, ::2])]
        optimizer = door.Optimizer(params, RULES["factored_last"])
        for t in range(2):
            give(params, t)
            optimizer.step()
            yield optimizer

    check_both(steps)


def test_slots_in_groups_are_refused_and_nothing_is_stepped() -> None:
    with placed():
        params = parameters([((64, 128), FLOAT)])
        before = params[0].detach().clone()
        optimizer = door.Optimizer(params, RULES["by_neuron"], states="8bit")
        give(params, 0)
        with pytest.raises(sr.errors.TargetError, match="use states='float32' or 'bfloat16'"):
            optimizer.step()
        assert torch.equal(params[0], before)
        assert not optimizer.state
