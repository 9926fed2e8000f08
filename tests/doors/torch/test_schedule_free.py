"""AdamWScheduleFree and SGDScheduleFree are drop-ins for the schedulefree package's: numbers, modes, state dicts."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import schedulefree
import torch
from torch import nn

import steprule.torch as door
from steprule.errors import HyperparameterError, StateError
from tests.doors.torch.cases import everything, one_thread
from tests.doors.torch.tensors import numbers

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("AdamWScheduleFree", {}),
    ("AdamWScheduleFree", {"lr": 0.01, "weight_decay": 0.1, "warmup_steps": 20, "betas": (0.95, 0.98)}),
    ("AdamWScheduleFree", {"lr": 0.01, "r": 1.0, "weight_lr_power": 1.0, "warmup_steps": 5, "foreach": False}),
    ("SGDScheduleFree", {}),
    ("SGDScheduleFree", {"lr": 0.2, "weight_decay": 0.05, "warmup_steps": 20, "momentum": 0.8}),
    ("SGDScheduleFree", {"lr": 0.2, "r": 2.0, "weight_lr_power": 0.0, "foreach": False}),
]
cases = pytest.mark.parametrize(("kind", "options"), CASES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(CASES)])
NOTES = ("k", "lr_max", "weight_sum", "scheduled_lr", "train_mode")


def _ours(kind: str, params: Any, **options: Any) -> Any:
    return getattr(door, kind)(params, **options)


def _theirs(kind: str, params: Any, **options: Any) -> Any:
    return getattr(schedulefree, kind)(params, **options)


def _params(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(numbers((4, 6), dtype, 1)), nn.Parameter(numbers((5,), dtype, 2))]


def _train(optimizer: Any, start: int, end: int, evaluate: int = 0) -> None:
    """Take steps towards a valley, with a visit to the evaluated point after every ``evaluate`` of them."""
    optimizer.train()
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for t in range(start, end):
        for i, param in enumerate(params):
            param.grad = (param.detach() - 0.3) * torch.linspace(0.2, 1.5, param.numel()).to(param).reshape(param.shape)
            param.grad += 0.1 * numbers(param.shape, param.dtype, 100 * t + i)
        optimizer.step()
        if evaluate and t % evaluate == 0:
            optimizer.eval()
            optimizer.train()


def _close(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
        for note in NOTES:
            assert a[note] == pytest.approx(b[note], rel=1e-13), note
        for p, q in zip(a["params"], b["params"], strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=tolerance, atol=tolerance)
            for key, value in theirs.state[q].items():
                torch.testing.assert_close(ours.state[p][key], value, rtol=tolerance, atol=tolerance)


@cases
def test_trajectories_agree_in_both_modes(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = _ours(kind, _params(), **options), _theirs(kind, _params(), **options)
    start = ours.param_groups[0]["params"][0].detach().clone()
    for t in range(0, 60, 10):
        for one in (ours, theirs):
            _train(one, t, t + 10, evaluate=4)
        _close(ours, theirs)
        for one in (ours, theirs):
            one.eval()
        _close(ours, theirs)
    assert (ours.param_groups[0]["params"][0].detach() - start).abs().min() > 1e-3


def test_arguments_and_defaults_are_those_of_the_package() -> None:
    for kind in ("AdamWScheduleFree", "SGDScheduleFree"):
        theirs = inspect.signature(getattr(schedulefree, kind)).parameters
        ours = inspect.signature(getattr(door, kind)).parameters
        assert list(ours)[: len(theirs)] == list(theirs)
        assert all(ours[name].default == one.default for name, one in theirs.items())
        assert all(
            one.kind is one.KEYWORD_ONLY or one.kind is one.VAR_KEYWORD for one in list(ours.values())[len(theirs) :]
        )
        mine, made = _ours(kind, _params()).param_groups[0], _theirs(kind, _params()).param_groups[0]
        assert made.keys() <= mine.keys()
        # Training is where ours begins, and theirs demands train() before.
        assert {name: mine[name] for name in made if name not in ("params", "train_mode")} == {
            name: value for name, value in made.items() if name not in ("params", "train_mode")
        }
        assert mine["train_mode"]
        assert not made["train_mode"]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("way", ["ours to theirs", "theirs to ours"])
@cases
def test_state_dicts_go_both_ways(kind: str, options: dict[str, Any], way: str, mode: str) -> None:
    makes = [_ours, _theirs] if way == "ours to theirs" else [_theirs, _ours]
    first, straight = makes[0](kind, _params(), **options), _theirs(kind, _params(), **options)
    _train(first, 0, 25)
    getattr(first, mode)()
    saved = copy.deepcopy([[param.detach() for param in first.param_groups[0]["params"]], first.state_dict()])
    second = makes[1](kind, _params())  # the options are in the state dict
    for param, value in zip(second.param_groups[0]["params"], saved[0], strict=True):
        param.data.copy_(value)
    second.load_state_dict(saved[1])
    assert second.param_groups[0]["train_mode"] == (mode == "train")
    _train(second, 25, 60)
    _train(straight, 0, 60)
    for p, q in zip(second.param_groups[0]["params"], straight.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-11, atol=1e-11)


@cases
def test_state_dicts_are_laid_out_alike(kind: str, options: dict[str, Any]) -> None:
    ours, theirs = _ours(kind, _params(), **options), _theirs(kind, _params(), **options)
    for one in (ours, theirs):
        _train(one, 0, 5)
    mine, made = ours.state_dict(), theirs.state_dict()
    assert {key: entry.keys() for key, entry in mine["state"].items()} == {
        key: entry.keys() for key, entry in made["state"].items()
    }
    for a, b in zip(mine["param_groups"], made["param_groups"], strict=True):
        assert b.keys() <= a.keys()
        assert {name: value for name, value in a.items() if name in b and name not in NOTES} == {
            name: value for name, value in b.items() if name not in NOTES
        }
        assert [a[name] for name in NOTES] == pytest.approx([b[name] for name in NOTES])


def test_there_and_back_by_way_of_the_package() -> None:
    """What of a dict of ours the package leaves as it was is not followed when it has gone on."""
    kind, options = CASES[1]
    straight = _theirs(kind, _params(), **options)
    first, second, third = _ours(kind, _params(), **options), _theirs(kind, _params()), _ours(kind, _params())
    _train(first, 0, 10)
    for before, after, start in [(first, second, 10), (second, third, 20)]:
        before.eval()
        for p, q in zip(before.param_groups[0]["params"], after.param_groups[0]["params"], strict=True):
            q.data.copy_(p.data)
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        _train(after, start, start + 10)
    assert "trained" in second.state_dict()["state"][0]
    _train(straight, 0, 30)
    _close(third, straight, 1e-11)


def test_a_parameter_that_lags_behind_keeps_its_own_count() -> None:
    ours, again = _ours(*_first()), _ours(*_first())
    late = ours.param_groups[0]["params"][1]
    for t in range(6):
        for param in ours.param_groups[0]["params"]:
            param.grad = None if param is late and t < 3 else numbers(param.shape, param.dtype, t)
        ours.step()
    told = ours.state_dict()
    assert (told["param_groups"][0]["k"], float(told["state"][1]["step"])) == (6, 3)
    assert "step" not in told["state"][0]
    for p, q in zip(again.param_groups[0]["params"], ours.param_groups[0]["params"], strict=True):
        p.data.copy_(q.data)
    again.load_state_dict(copy.deepcopy(told))
    assert everything(again) == everything(ours)
    for one in (ours, again):
        _train(one, 6, 9)
    assert everything(again) == everything(ours)
    assert float(again.state[again.param_groups[0]["params"][1]]["step"]) == 6


def _first() -> tuple[str, list[nn.Parameter]]:
    return "AdamWScheduleFree", _params(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_of_the_package_in_evaluation_mode_is_continued_in_other_formats(dtype: torch.dtype) -> None:
    params = [nn.Parameter(numbers((6, 260), dtype, 1))]
    theirs = schedulefree.AdamWScheduleFree(params, lr=0.01)
    _train(theirs, 0, 5)
    y = params[0].detach().clone()
    theirs.eval()
    formats: dict[str, Any] = {"states": "8bit", "min_elements": 0}
    formats |= {} if dtype is torch.float32 else {"weights": "split24"}
    ours = door.AdamWScheduleFree([nn.Parameter(params[0].detach().clone())], **formats)
    ours.load_state_dict(theirs.state_dict(), convert=True)
    with pytest.raises(StateError, match="evaluation mode"):
        ours.step()
    ours.train()
    (param,) = ours.param_groups[0]["params"]
    torch.testing.assert_close(
        param.detach(),
        y,
        rtol=0.02 if dtype is torch.bfloat16 else 1e-5,
        atol=1e-2 if dtype is torch.bfloat16 else 1e-6,
    )
    _train(ours, 5, 6)
    assert ours.param_groups[0]["k"] == 6


def test_what_the_package_refuses() -> None:
    for momentum in (0.0, 1.0):
        with pytest.raises(ValueError, match="Momentum must be between 0 and 1 exclusive"):
            schedulefree.SGDScheduleFree(_params(), momentum=momentum)
        with pytest.raises(HyperparameterError, match="Invalid momentum value"):
            door.SGDScheduleFree(_params(), momentum=momentum)
    with pytest.raises(HyperparameterError, match="Invalid beta parameter at index 0: 0"):
        door.AdamWScheduleFree(_params(), betas=(0.0, 0.9))  # its eval() would divide by it
    optimizer = torch.optim.AdamW(params := _params())
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    with pytest.raises(StateError, match="expected"):
        door.AdamWScheduleFree(params).load_state_dict(optimizer.state_dict())


def test_groups_say_what_was_counted() -> None:
    optimizer = door.AdamWScheduleFree([{"params": [p]} for p in _params()], lr=0.1, warmup_steps=4)
    told = []
    for t in range(6):
        _train(optimizer, t, t + 1)
        group = optimizer.param_groups[1]
        told.append((group["k"], group["scheduled_lr"]))
    assert told == [(1, 0.025), (2, 0.05), (3, pytest.approx(0.075)), (4, 0.1), (5, 0.1), (6, 0.1)]
