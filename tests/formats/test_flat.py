"""Parameters of one dimension, as frameworks flatten them: large ones have the formats that were asked for."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.doors.checkpoint import content
from steprule.errors import HyperparameterError, StateError
from steprule.formats import SLOT_FORMATS
from tests.cases import Array

LARGE = 5_000  # no multiple of a group, above min_elements
SHAPES = [(64, 128), (LARGE,), (300,)]


def arrays(seed: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_an_array_of_one_dimension_is_one_row(states: str, backend: str) -> None:
    flat, row = arrays(0)[1], arrays(0)[1].reshape(1, LARGE)
    one, two = (sr.Optimizer(x, "adam", states=states, backend=backend, seed=3) for x in (flat, row))
    for t in range(4):
        g = arrays(1 + t)[1]
        one.step(g)
        two.step(g.reshape(1, LARGE))
    assert np.array_equal(flat, row[0])
    saved, other = one.state_dict(), two.state_dict()
    kept, expected = saved["slots"]["params"], other["slots"]["params"]
    assert {name: plane.ravel().tobytes() for name, plane in kept.items()} == {
        name: plane.ravel().tobytes() for name, plane in expected.items()
    }
    is_coded = SLOT_FORMATS[states].signed.is_coded
    assert kept["m"].dtype == (np.uint8 if is_coded else np.uint16)
    if is_coded:
        assert kept["m.scale"].shape == (1, -(-LARGE // 128))


@pytest.mark.parametrize("states", SLOT_FORMATS)
@pytest.mark.parametrize("least", [1, 6, 4096])
def test_slots_stay_float32_below_min_elements_and_not_at_it(states: str, least: int) -> None:
    shapes = [(least - 1,), (least,), (1, least), (least + 1,)]
    theta = [np.ones(shape, np.float32) for shape in shapes]
    params = [nn.Parameter(torch.from_numpy(x.copy())) for x in theta]
    tensors: Any = door.AdamW(params, states=states, min_elements=least)
    mine = sr.Optimizer(theta, "adamw", states=states, min_elements=least)
    for param, x in zip(params, theta, strict=True):
        param.grad = torch.from_numpy(x)
    mine.step(theta)
    tensors.step()
    low = [False, True, True, True]
    assert ["float32" not in own["m"] for own in mine.state_dict()["formats"].values()] == low
    for param, is_low in zip(params, low, strict=True):
        kept = tensors.state[param].get("exp_avg")
        assert (kept is None or kept.dtype != torch.float32) == is_low


def test_tensors_have_the_arrays_bits_and_small_ones_stay_float32() -> None:
    theta = arrays(0)
    params = [nn.Parameter(torch.from_numpy(x.copy())) for x in theta]
    mine: Any = door.AdamW(params, lr=0.1, states="8bit", weight_decay=0.1)
    other = sr.Optimizer(theta, "adamw", lr=0.1, states="8bit", weight_decay=0.1)
    for t in range(4):
        for param, g in zip(params, grads := arrays(1 + t), strict=True):
            param.grad = torch.from_numpy(g)
        mine.step()
        other.step(grads)
    for param, x, kinds in zip(params, theta, ("8bit", "8bit", "(small)"), strict=True):
        assert np.array_equal(param.detach().numpy(), x)
        assert ("exp_avg_8bit" in mine.state[param]) == (kinds == "8bit")
    for table in (mine.describe(), other.describe()):
        assert [bool(re.search("m: 8bit, v: 8bit", line)) for line in table.splitlines()[2:]] == [True, True, False]
        assert table.splitlines()[-1].rstrip().endswith("12")
        assert "(small)" in table.splitlines()[-1]


def test_a_flattened_model_takes_a_quarter_of_the_memory() -> None:
    """As FSDP and DeepSpeed lay it out: one tensor of all parameters, whose gradient is one as well."""
    flat = nn.Parameter(torch.zeros(100_000))
    optimizer = door.AdamW([flat], states="8bit")
    flat.grad = torch.ones(100_000)
    optimizer.step()
    nbytes = sum(slot.numel() * slot.element_size() for slot in optimizer.state[flat].values())
    assert nbytes < 2.02 * 100_000


Make = Callable[..., Any]


def make_arrays(shapes: list[tuple[int, ...]], **options: Any) -> Any:
    return sr.Optimizer([np.zeros(shape, np.float32) for shape in shapes], "adam", **options)


def make_tensors(shapes: list[tuple[int, ...]], **options: Any) -> Any:
    return door.Adam([nn.Parameter(torch.zeros(shape)) for shape in shapes], **options)


@pytest.mark.parametrize("make", [make_arrays, make_tensors], ids=["numpy", "torch"])
@pytest.mark.parametrize("states", ["8bit", {"v": "bfloat16"}], ids=str)
def test_states_without_any_effect_are_an_error(make: Make, states: Any) -> None:
    name = states if isinstance(states, str) else "bfloat16"
    words = f"states='{name}' has no effect: the largest parameter has 1,000 elements.*min_elements=4096.*lower"
    with pytest.raises(HyperparameterError, match=words):
        make([(1000,), (10, 10), ()], states=states)
    make([(1000,), (10, 10), ()], states=states, min_elements=1000)
    make([(1000,), (10, 10), (LARGE,)], states=states)
    make([(0,)], states=states)  # the part of a process that has none


def test_a_group_of_biases_is_no_error() -> None:
    x, b = np.zeros(LARGE, np.float32), np.zeros(10, np.float32)
    sr.Optimizer([sr.Group(x), sr.Group(b, lr=0.1)], "adam", states="8bit")
    tensors = [nn.Parameter(torch.zeros(LARGE)), nn.Parameter(torch.zeros(10))]
    groups: list[dict[str, Any]] = [{"params": tensors[:1]}, {"params": tensors[1:], "weight_decay": 0.0}]
    optimizer = door.AdamW(groups, states="8bit")
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})


def test_the_size_that_is_named_is_of_those_that_ask_for_states() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(LARGE))]}, {"params": [nn.Parameter(torch.zeros(10))]}]
    for asks in (groups, groups[::-1]):
        small = next(group for group in asks if len(group["params"][0]) == 10)
        asking = [{**group, "states": "8bit"} if group is small else group for group in asks]
        with pytest.raises(HyperparameterError, match="the largest parameter that asks for it has 10 elements"):
            door.AdamW(asking)


@pytest.mark.parametrize(
    "make",
    [
        lambda: door.SGD([nn.Parameter(torch.zeros(LARGE))], states="8bit"),
        lambda: door.Adam([nn.Parameter(torch.zeros(LARGE, dtype=torch.complex64))], states="8bit"),
    ],
    ids=["no slots", "complex"],
)
def test_states_that_no_slot_can_have_are_an_error(make: Make) -> None:
    with pytest.raises(HyperparameterError, match="states='8bit' has no effect: no parameter has a slot"):
        make()


# What was saved when tensors of one dimension stayed float32 under every option: as now with a larger min_elements.


def numbers_of(optimizer: Any) -> list[Array]:
    """Return all slots as float32."""
    if isinstance(optimizer, sr.Optimizer):
        slots = optimizer.state_dict(decode=True)["slots"]
        return [slots[place][name] for place in sorted(slots) for name in sorted(slots[place])]
    state = optimizer.float32_state_dict()["state"]
    return [state[i][key].numpy() for i in sorted(state) for key in sorted(state[i]) if key != "step"]


def stepped(make: Make, **options: Any) -> Any:
    optimizer = make(SHAPES, states="8bit", seed=5, **options)
    take(optimizer, 0)
    return optimizer


def take(optimizer: Any, seed: int) -> None:
    """Take three steps."""
    for t in range(3):
        grads = arrays(10 * seed + t)
        if isinstance(optimizer, sr.Optimizer):
            optimizer.step(grads)
            continue
        for param, g in zip(optimizer.param_groups[0]["params"], grads, strict=True):
            param.grad = torch.from_numpy(g)
        optimizer.step()


def as_before(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict as it was when tensors of one dimension were float32."""
    saved = copy.deepcopy(saved)
    if "version" in saved:
        saved["version"] = 2
    else:
        saved["param_groups"][0] |= {"coding": "groups of 128, 1", "min_elements": 4096}
    return saved


@pytest.mark.parametrize("make", [make_arrays, make_tensors], ids=["numpy", "torch"])
def test_earlier_state_dicts_are_rounded_to_the_format_asked_for(make: Make) -> None:
    earlier = stepped(make, min_elements=6_000)
    saved = as_before(earlier.state_dict())
    optimizer, converted = make(SHAPES, states="8bit", seed=5), make(SHAPES, states="8bit", seed=5)
    optimizer.load_state_dict(saved)
    converted.load_state_dict(earlier.state_dict(), convert=True)
    for one, two, three in zip(*map(numbers_of, (optimizer, converted, earlier)), strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three) == (one.shape != (LARGE,))
    again = make(SHAPES, states="8bit", seed=5)
    again.load_state_dict(optimizer.state_dict())  # it is a state dict of today
    for own in (optimizer, again):
        take(own, 1)
    assert all(map(np.array_equal, numbers_of(optimizer), numbers_of(again)))


@pytest.mark.parametrize("make", [make_arrays, make_tensors], ids=["numpy", "torch"])
def test_state_dicts_of_today_in_other_formats_are_refused(make: Make) -> None:
    saved = stepped(make, min_elements=6_000).state_dict()
    if "param_groups" in saved:
        saved["param_groups"][0]["min_elements"] = 4096
    optimizer = make(SHAPES, states="8bit", seed=5)
    with pytest.raises(StateError, match="convert=True"):
        optimizer.load_state_dict(saved)


def test_of_an_earlier_state_dict_only_what_had_one_dimension_is_rounded_unasked() -> None:
    optimizer = stepped(make_tensors)
    saved = as_before(optimizer.state_dict())
    decoded = optimizer.float32_state_dict()["state"]
    at = next(i for i, shape in enumerate(SHAPES) if len(shape) == 2 and np.prod(shape) >= 4096)
    saved["state"][at] = copy.deepcopy(decoded[at])
    with pytest.raises(StateError, match="convert=True"):
        make_tensors(SHAPES, states="8bit", seed=5).load_state_dict(saved)


@pytest.mark.parametrize("hyperparameters", [True, False])
@pytest.mark.parametrize("target", [make_arrays, make_tensors], ids=["to numpy", "to torch"])
@pytest.mark.parametrize("make", [make_arrays, make_tensors], ids=["numpy", "torch"])
def test_earlier_checkpoints(
    make: Make, target: Make, hyperparameters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = stepped(make, min_elements=6_000)
    sr.save(tmp_path / "today", earlier)
    write = content._group_json
    with monkeypatch.context() as patch:
        patch.setattr(content, "_group_json", lambda *args: {k: v for k, v in write(*args).items() if k != "coding"})
        sr.save(tmp_path / "before", earlier)
    optimizer = target(SHAPES, states="8bit", seed=5)
    with pytest.raises(StateError, match="convert=True"):
        sr.load(tmp_path / "today", optimizer, hyperparameters=hyperparameters)
    sr.load(tmp_path / "before", optimizer, hyperparameters=hyperparameters)
    converted = make(SHAPES, states="8bit", seed=5)
    converted.load_state_dict(earlier.state_dict(), convert=True)
    assert all(map(np.array_equal, numbers_of(optimizer), numbers_of(converted)))


def test_tensors_of_one_dimension_need_not_be_contiguous() -> None:
    wide = torch.zeros(LARGE, 2)
    params: list[Tensor] = [wide[:, 0], torch.zeros(LARGE)]
    optimizers = [door.AdamW([param], states="8bit", lr=0.1) for param in params]
    for t in range(3):
        for param, optimizer in zip(params, optimizers, strict=True):
            param.grad = torch.from_numpy(arrays(t)[1])
            optimizer.step()
    assert params[0].equal(params[1])
    assert wide[:, 1].equal(torch.zeros(LARGE))
