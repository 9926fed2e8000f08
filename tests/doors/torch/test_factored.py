"""Adafactor of torch.optim: its state dicts both ways, its epsilon by type, and states of rows and columns."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.errors import HyperparameterError, StateError
from tests.doors.torch.cases import ROWS, assert_agree, everything, one_thread, ours, random_gradients, reference

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SHAPES: list[tuple[int, ...]] = [(4, 3), (5,), (2, 3, 4), (), (1, 7), (7, 1), (1, 1), (1,), (2, 1, 3, 2)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.5, "beta2_decay": -0.6, "eps": (1e-3, 0.1), "d": 2.0, "weight_decay": 0.05, "maximize": True},
]


def params_of(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def stepped(optimizer: Any, start: int, stop: int) -> list[Tensor]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for t in range(start, stop):
        random_gradients(params, t)
        optimizer.step()
    return params


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_each_goes_on_from_the_others_state_dict(dtype: torch.dtype, options: dict[str, Any]) -> None:
    theirs, mine = (make("Adafactor", params_of(dtype), **options) for make in (reference, ours))
    assert_agree(stepped(mine, 0, 5), stepped(theirs, 0, 5))
    from_them, from_me = copy.deepcopy(theirs.state_dict()), copy.deepcopy(mine.state_dict())
    assert [{k: v.shape for k, v in one.items()} for one in from_them["state"].values()] == [
        {k: v.shape for k, v in one.items()} for one in from_me["state"].values()
    ]
    theirs.load_state_dict(from_me)
    mine.load_state_dict(from_them)
    assert_agree(stepped(mine, 5, 9), stepped(theirs, 5, 9))
    entries = [list(optimizer.state_dict()["state"].values()) for optimizer in (mine, theirs)]
    for place, (one, other) in enumerate(zip(*entries, strict=True)):
        assert set(one) == set(other)
        assert_agree(
            [one[key] for key in other if key != "step"], [other[key] for key in other if key != "step"], f"{place}"
        )


def test_a_state_without_steps_goes_both_ways() -> None:
    theirs, mine = reference("Adafactor", params_of()), ours("Adafactor", params_of())
    mine.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    assert_agree(stepped(mine, 0, 2), stepped(theirs, 0, 2))


@pytest.mark.parametrize("name", sorted(ROWS))
def test_numbers_of_rows_are_copied_and_not_shared(name: str) -> None:
    mine, other = ours(name, params_of()), ours(name, params_of())
    stepped(mine, 0, 2)
    saved = mine.state_dict()
    other.load_state_dict(saved)
    before = everything(mine)
    stepped(other, 2, 4)
    assert everything(mine) == before


def test_epsilon_is_that_of_the_parameters_type() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        params = [nn.Parameter(torch.full((3, 2), 0.5, dtype=dtype)) for _ in range(2)]
        for param in params:
            param.grad = torch.full_like(param, 1e-9)  # smaller than the limit: the step shows it
        one, other = door.Adafactor(params[:1]), door.Adafactor(params[1:], eps=(torch.finfo(dtype).eps, 1e-3))
        one.step()
        other.step()
        assert torch.equal(*params)
        assert not torch.equal(params[0], torch.full_like(params[0], 0.5)) or dtype is torch.bfloat16


def test_parameters_of_several_types_need_an_epsilon() -> None:
    mixed = [nn.Parameter(torch.ones(3, 2, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)]
    with pytest.raises(HyperparameterError, match=r"a group has torch\.bfloat16, torch\.float32; give it as a number"):
        stepped(door.Adafactor(mixed), 0, 1)
    assert all(torch.equal(param, torch.ones_like(param)) for param in mixed)
    stepped(door.Adafactor(mixed, eps=(1e-8, 1e-3)), 0, 1)
    stepped(door.Adafactor([{"params": [param]} for param in mixed]), 0, 1)


@pytest.mark.parametrize("eps", [(1e-3,), 1e-3, (None, None), ("a", 1e-3), (-1.0, 1e-3), (None, -1.0)], ids=str)
def test_what_is_no_pair_of_epsilons_is_refused(eps: Any) -> None:
    with pytest.raises(HyperparameterError, match=r"eps must be 2 numbers|epsilon[12] should be >= 0 but is: "):
        door.Adafactor(params_of(), eps=eps)


def test_files_go_to_arrays_and_back(tmp_path: Path) -> None:
    mine = door.Adafactor(params_of(torch.float32), lr=0.1)
    stepped(mine, 0, 3)
    sr.save(tmp_path / "x", mine, True)
    arrays = sr.Optimizer([np.zeros(shape, np.float32) for shape in SHAPES], "adafactor", clamp=True)
    sr.load(tmp_path / "x", arrays, True)
    twin = door.Adafactor([nn.Parameter(torch.zeros(shape)) for shape in SHAPES])
    sr.save(tmp_path / "y", arrays, True)
    sr.load(tmp_path / "y", twin, True)
    assert twin.param_groups[0]["beta2_decay"] == -0.8
    for param, array in zip(stepped(twin, 3, 6), stepped(mine, 3, 6), strict=True):
        assert torch.equal(param, array)
    for t in range(3, 6):
        params = [torch.zeros(shape) for shape in SHAPES]
        random_gradients(params, t)
        arrays.step([param.grad.numpy() for param in params if param.grad is not None])
    for param, array in zip(stepped(mine, 6, 6), arrays.params, strict=True):
        assert param.detach().numpy().tobytes() == array.tobytes()


def test_only_the_variant_of_torch_is_taken_for_torchs(tmp_path: Path) -> None:
    arrays = sr.Optimizer([np.zeros(shape) for shape in SHAPES], "adafactor")
    theirs = reference("Adafactor", params_of())
    stepped(theirs, 0, 1)
    with pytest.raises(StateError, match="Make it with clamp=True"):
        sr.convert.from_torch(theirs.state_dict(), arrays)
    sr.save(tmp_path / "x", arrays, True)
    with pytest.raises(StateError, match="with clamp=False, which Adafactor cannot be"):
        sr.load(tmp_path / "x", door.Adafactor(params_of()), True)
