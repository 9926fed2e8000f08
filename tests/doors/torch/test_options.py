"""Options of the PyTorch door in every form that torch takes, and schedules that change them."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

import steprule as sr
import steprule.torch as door
from steprule.errors import HyperparameterError
from tests.doors.torch.cases import (
    CLASSES,
    TORCH_NAMES,
    assert_agree,
    case_id,
    frozen,
    one_thread,
    ours,
    parameter,
    reference,
    step,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


PAIRS: dict[str, Callable[[float, float], Any]] = {
    "list": lambda a, b: [a, b],
    "array": lambda a, b: np.array([a, b]),
    "array of float32": lambda a, b: np.array([a, b], np.float32),
    "tensor": lambda a, b: torch.tensor([a, b]),
    "tensor of float64": lambda a, b: torch.tensor([a, b], dtype=torch.float64),
    "tensors": lambda a, b: (torch.tensor(a), torch.tensor(b)),
    "scalars of NumPy": lambda a, b: (np.float64(a), np.float32(b)),
    "arrays of no dimension": lambda a, b: (np.array(a), np.array(b)),
}
WITH_PAIRS = [
    (name, option, pair)
    for name in CLASSES
    for option, pair in (("betas", (0.75, 0.875)), ("etas", (0.5, 1.25)), ("step_sizes", (0.0625, 8.0)))
    if isinstance(
        default := getattr(inspect.signature(getattr(door, name)).parameters.get(option), "default", 0), tuple
    )
    and len(default) == 2
]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("name", "option", "pair"), WITH_PAIRS, ids=case_id)
def test_options_of_several_numbers_are_taken_in_any_form(name: str, option: str, pair: Any, kind: str) -> None:
    """The numbers have few digits: float32 holds them."""
    p, q, r = (parameter() for _ in range(3))
    given, plain = ours(name, [p], **{option: PAIRS[kind](*pair)}), ours(name, [q], **{option: pair})
    later = ours(name, [{"params": [r], option: PAIRS[kind](*pair)}])
    for optimizer in (given, plain, later):
        step(optimizer, name, steps=1)
    later.param_groups[0][option] = PAIRS[kind](*pair)
    for optimizer in (given, plain, later):
        step(optimizer, name, steps=1, start=1)
    assert torch.equal(p, q)
    assert torch.equal(r, q)
    file = io.BytesIO()
    torch.save(given.state_dict(), file)
    file.seek(0)
    again = ours(name, [parameter()])
    again.load_state_dict(torch.load(file, weights_only=kind not in ("scalars of NumPy", "arrays of no dimension")))
    assert tuple(map(float, again.param_groups[0][option])) == pair


@pytest.mark.parametrize("kind", PAIRS)
def test_options_of_several_numbers_can_be_saved_in_any_form(kind: str, tmp_path: Any) -> None:
    optimizer, again = ours("NAdam", [parameter()]), ours("NAdam", [parameter()])
    optimizer.param_groups[0]["betas"] = PAIRS[kind](0.75, 0.875)
    optimizer.param_groups[0]["lr"] = np.array(0.5)
    step(optimizer)
    sr.save(tmp_path / "run.st", optimizer)
    sr.load(tmp_path / "run.st", again)
    assert tuple(map(float, again.param_groups[0]["betas"])) == (0.75, 0.875)
    assert float(again.param_groups[0]["lr"]) == 0.5


@pytest.mark.parametrize(
    "wrong", [np.array([0.9]), torch.tensor([0.9] * 3), torch.tensor([[0.9, 0.9]]), 0.9, {0.8, 0.9}]
)
def test_arrays_of_other_shapes_are_refused(wrong: Any) -> None:
    with pytest.raises(HyperparameterError, match="betas must be 2 numbers"):
        ours("NAdam", [parameter()], betas=wrong)


def test_betas_in_an_array_become_a_tuple_as_in_torch() -> None:
    for name in ("Adam", "AdamW"):
        groups = [
            make(name, [parameter()], betas=np.array([0.75, 0.875])).param_groups[0] for make in (reference, ours)
        ]
        assert groups[0]["betas"] == groups[1]["betas"] == (0.75, 0.875)


def test_a_tensor_of_an_optimizer_of_any_rule_is_followed() -> None:
    lr = torch.tensor(0.5)
    p = nn.Parameter(torch.zeros(3))
    optimizer = door.Optimizer([p], "sgd", lr=lr)
    p.grad = torch.ones(3)
    optimizer.step()
    lr.fill_(0.25)
    optimizer.step()
    assert torch.equal(p.detach(), torch.full((3,), -0.75))


# Schedules that cycle momentum

CYCLES: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda own: lr_scheduler.OneCycleLR(own, 0.1, total_steps=9),
    "OneCycleLR in three phases": lambda own: lr_scheduler.OneCycleLR(own, [0.1], total_steps=9, three_phase=True),
    "CyclicLR": lambda own: lr_scheduler.CyclicLR(own, 0.001, 0.1, step_size_up=3),
    "CyclicLR with bounds": lambda own: lr_scheduler.CyclicLR(
        own, 0.001, 0.1, 3, mode="exp_range", gamma=0.9, base_momentum=0.7, max_momentum=0.95
    ),
}
CYCLED: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TORCH_NAMES),
    ("SGD", {"momentum": 0.9}),
    ("RMSprop", {"momentum": 0.5}),
    ("Adam", {"betas": (torch.tensor(0.75), torch.tensor(0.875))}),
    ("AdamW", {"betas": [0.75, 0.875], "lr": torch.tensor(0.1)}),
    ("NAdam", {"betas": torch.tensor([0.75, 0.875])}),
]


def cycled(make: Any, name: str, options: dict[str, Any], cycle: str) -> tuple[Tensor, Any]:
    p = parameter()
    optimizer = make(name, [p], **copy.deepcopy(options))
    schedule = CYCLES[cycle](optimizer)
    for t in range(8):
        step(optimizer, name, 1, t)
        schedule.step()
    group = optimizer.param_groups[0]
    return p, {key: frozen(group.get(key)) for key in ("lr", "momentum", "betas", "max_momentum", "base_momentum")}


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize(("name", "options"), CYCLED, ids=case_id)
def test_schedules_that_cycle_momentum_are_taken_where_torch_takes_them(
    name: str, options: dict[str, Any], cycle: str
) -> None:
    try:
        expected = cycled(reference, name, options, cycle)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            cycled(ours, name, options, cycle)
        return
    actual = cycled(ours, name, options, cycle)
    assert actual[1] == expected[1]
    assert_agree([actual[0]], [expected[0]], name)


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in (*TORCH_NAMES, "Optimizer")])
def test_the_other_classes_cycle_their_momentum(name: str, cycle: str) -> None:
    """Against groups that are set by hand."""
    _, told = cycled(ours, name, {}, cycle)
    p, q = parameter(), parameter()
    optimizer, by_hand = ours(name, [p]), ours(name, [q])
    schedule = CYCLES[cycle](optimizer)
    for t in range(8):
        group = optimizer.param_groups[0]
        by_hand.param_groups[0].update({key: group[key] for key in ("lr", "betas", "momentum") if key in group})
        for own in (optimizer, by_hand):
            step(own, name, 1, t)
        schedule.step()
    assert torch.equal(p, q)
    first = told["betas"][1][0] if told["betas"][1] is not None else told["momentum"]
    assert first[1] != inspect.signature(getattr(door, name)).parameters.get("momentum", 0)
