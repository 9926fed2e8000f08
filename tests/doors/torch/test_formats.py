"""Memory formats in the PyTorch door: the NumPy door's bits in any layout, resumed, converted, refused."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

import steprule as sr
import steprule.torch as door
from steprule.errors import StateError
from steprule.formats import SLOT_FORMATS
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array
from tests.covering import rotated
from tests.doors.numpy.test_formats import (
    COMBINATIONS,
    SMALLEST,
    SPLIT24_EIGHT_BIT,
    arrays,
    assert_same_plane,
    combination_id,
    fitting,
)
from tests.doors.torch.cases import (
    DENSE_ALL,
    case_id,
    everything,
    one_thread,
    ours,
    random_gradients,
    reference,
    with_slots,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

BF16 = torch.bfloat16
EIGHT: dict[str, Any] = {"states": "8bit", "min_elements": 0}
SHAPES: list[tuple[int, ...]] = [(), (0,), (300,), (7, 128), (3, 2, 70)]
IN_NUMPY = {BF16: np.uint16, torch.uint8: np.uint8, torch.int8: np.int8, torch.int16: np.int16}


def tensor(array: Array) -> Tensor:
    """Return a copy of an array."""
    bits = array.view(np.int16).copy() if array.dtype == ml_dtypes.bfloat16 else array.copy()
    made = torch.from_numpy(bits.reshape(array.shape))
    return made.view(BF16) if array.dtype == ml_dtypes.bfloat16 else made


def numbers(value: Tensor) -> Array:
    """Return a tensor as an array, bfloat16 as its bits."""
    plain = value.detach().contiguous()
    array: Array = plain.view(torch.int16).numpy().view(np.uint16) if plain.dtype == BF16 else plain.numpy()
    return array


def key_of(entry: dict[str, Any], plane: str) -> str:
    """Return the key of a state that holds a plane of the NumPy door, in an optimizer of any rule."""
    value, _, suffix = plane.partition(".")
    names = {
        "low": ["param_low"],
        "": [*(f"{value}_{name}" for name in SLOT_FORMATS), value],
    }.get(suffix, [f"{value}_{suffix}"])
    return next(name for name in names if name in entry)


def assert_same_as_numpy(params: list[Tensor], optimizer: Any, other: sr.Optimizer, what: str) -> None:
    """Assert that parameters and planes are those of the NumPy door, in every bit."""
    saved = other.state_dict()
    for index, param in enumerate(params):
        place = f"params[{index}]"
        theta = other.params[index]
        kept = theta.view(np.uint16) if theta.dtype == ml_dtypes.bfloat16 else theta
        assert_same_plane(numbers(param).copy(), kept.copy(), "bfloat16" if kept.dtype.kind == "u" else "", what)
        for name, plane in saved["slots"][place].items():
            own = numbers(optimizer.state[param][key_of(optimizer.state[param], name)]).copy()
            assert_same_plane(own, plane.copy(), saved["formats"][place].get(name, ""), f"{what} {place} {name}")


SAME = [("adam", *case) for case in COMBINATIONS] + [(name, *SPLIT24_EIGHT_BIT) for name in CATALOGUE if name != "adam"]


@pytest.mark.parametrize(("name", "dtype", "formats"), SAME, ids=combination_id)
def test_it_equals_the_numpy_door(name: str, dtype: str, formats: dict[str, Any]) -> None:
    formats = fitting(CATALOGUE[name], formats)
    theta = arrays(dtype, SHAPES)
    params = [tensor(array) for array in theta]
    mine, other = door.Optimizer(params, rule=name, **formats), sr.Optimizer(theta, name, **formats)
    for t in range(5):
        grads = arrays(dtype, SHAPES, 10 + t)
        for param, g in zip(params, grads, strict=True):
            param.grad = tensor(g)
        mine.step()
        other.step(grads)
        assert_same_as_numpy(params, mine, other, f"{name} t={t}")


LAID_OUT: list[tuple[torch.dtype, dict[str, Any]]] = [
    (BF16, {"weights": "split24"}),
    (BF16, {"weights": "split32"}),
    (BF16, {"weights": "stochastic"}),
    (BF16, {"states": {"exp_avg": "8bit"}, "min_elements": 0}),
    (BF16, SMALLEST),
    (BF16, {**SMALLEST, "states": "4bit"}),
    (torch.float32, {"states": {"exp_avg_sq": "bfloat16"}, "min_elements": 0}),
    (torch.float32, EIGHT),
]


@pytest.mark.parametrize(("dtype", "formats"), LAID_OUT, ids=combination_id)
def test_channels_last_and_strides_have_the_bits_of_c_order(dtype: torch.dtype, formats: dict[str, Any]) -> None:
    start = torch.randn(6, 5, 4, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    wide = torch.zeros(6, 5, 4, 14, dtype=dtype)[..., ::2]
    params = [start.clone(), start.clone(memory_format=torch.channels_last), wide.copy_(start)]
    optimizers: list[Any] = [door.AdamW([p], **formats) for p in params]
    for t in range(6):
        g = torch.randn(6, 5, 4, 7, generator=torch.Generator().manual_seed(t)).to(dtype)
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = g.contiguous(memory_format=[torch.channels_last, torch.contiguous_format][t % 2])
            optimizer.step()
            if t == 2:  # what was saved loads again
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, optimizer in zip(params[1:], optimizers[1:], strict=True):
        assert torch.equal(p, params[0])
        assert everything(optimizer) == everything(optimizers[0])
        planes = {key: plane for key, plane in optimizer.state[p].items() if key != "step"}
        assert all(plane.is_contiguous() for plane in planes.values()), "they lie in C order"


def test_groups_types_and_absent_gradients_ride_in_one_step() -> None:
    def params() -> list[Tensor]:
        random = torch.Generator().manual_seed(0)
        kinds = [torch.complex64, torch.float64, BF16, torch.float32, torch.float16]
        return [torch.randn(8, 130, generator=random).to(kind) for kind in kinds]

    formats: list[dict[str, Any]] = [
        {},
        {"states": "float32"},
        {"states": "8bit", "seed": 0},
        {"states": "bfloat16"},
        {"weights": "split32"},
    ]
    together = params()
    groups: Any = [{"params": [p], **own} for p, own in zip(together, formats, strict=True)]
    mine = door.AdamW(groups, **SMALLEST)
    absent = {3: 2, 4: 4}
    for t in range(6):
        random_gradients(together, t)
        for step, place in absent.items():
            together[place].grad = None if t == step else together[place].grad
        mine.step()
    assert [int(mine.state[p]["step"]) for p in together] == [6, 6, 5, 6, 5]
    assert "exp_avg" in mine.state[together[0]]
    assert "exp_avg_8bit" in mine.state[together[2]]
    assert mine.state[together[3]]["exp_avg"].dtype == BF16
    assert "exp_avg_8bit" in mine.state[together[4]]
    alone, plain = params(), params()
    other: Any = door.AdamW([alone[1]])
    complex_alone: Any = door.AdamW([plain[0]])
    for t in range(6):
        random_gradients(alone, t)
        random_gradients(plain, t)
        other.step()
        complex_alone.step()
    assert torch.equal(alone[1], together[1]), "float64 beside formats steps as it does alone"
    assert torch.equal(plain[0], together[0]), "and complex numbers"


# SGD, which counts no steps but where rounding by chance needs them.


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("strided", [False, True])
def test_sgd_counts_steps_where_it_rounds_by_chance(strided: bool, momentum: float) -> None:
    def param() -> Tensor:
        return torch.zeros(64, 200, dtype=BF16)[:, ::2] if strided else torch.zeros(64, 100, dtype=BF16)

    start = arrays("bfloat16", [(64, 100)])
    grads = [arrays("bfloat16", [(64, 100)], 1 + t)[0] for t in range(20)]
    straight, half = (param().copy_(tensor(start[0])) for _ in range(2))
    options: dict[str, Any] = {"lr": 0.01, "momentum": momentum, "weights": "stochastic"}
    first: Any = door.SGD([straight], **options)
    second: Any = door.SGD([half], **options)
    rule = "momentum" if momentum else "sgd"
    own: dict[str, Any] = {"mu": momentum} if momentum else {}
    other = sr.Optimizer(start, rule, lr=0.01, weights="stochastic", **own)
    for t, g in enumerate(grads):
        straight.grad, half.grad = tensor(g), tensor(g)
        first.step()
        second.step()
        other.step([g])
        if t == 9:
            saved = second.state_dict()
            second = door.SGD([half], **options)
            second.load_state_dict(saved)
    assert int(first.state[straight]["step"]) == 20
    assert np.array_equal(numbers(straight), other.params[0].view(np.uint16))
    assert everything(first) == everything(second)


def test_sgd_rounds_by_another_chance_each_step() -> None:
    # The same bits each step would round an element up always or never: a standard deviation of hundreds of steps.
    w = torch.ones(64, 200, dtype=BF16)[:, ::2]
    optimizer = door.SGD([w], lr=1.0, weights="stochastic")
    for _ in range(200):
        w.grad = torch.full((64, 100), 2.0**-16, dtype=BF16)
        optimizer.step()
    moved = (1 - w.float()) / (200 * 2.0**-16)
    assert abs(moved.mean().item() - 1) < 0.1  # 6,400 elements with a deviation of about 1.1
    assert 0.9 < moved.std().item() < 1.4


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize("make", [reference, ours], ids=["torch", "ours"])
def test_sgd_goes_on_from_states_that_counted_no_steps(make: Any, convert: bool) -> None:
    w = torch.zeros(64, 128, dtype=BF16)
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    saved = make("SGD", [w], **options)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        saved.step()
    other: Any = door.SGD([w], **options, weights="stochastic")
    other.load_state_dict(saved.state_dict(), convert=convert)
    other.step()
    expected = 0.9 * saved.state[w]["momentum_buffer"].float() + 0.5
    assert torch.allclose(other.state[w]["momentum_buffer"], expected), "dampened: it is not the first step"


# State dicts.


def _by_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("case", "way"), rotated(DENSE_ALL, ["file", "pickle", "deepcopy", "pickled optimizer"], DENSE_ALL[:1]), ids=case_id
)
def test_a_resumed_run_has_the_bits_of_a_straight_one(case: tuple[str, dict[str, Any]], way: str) -> None:
    name, options = case

    def made() -> Any:
        params = [tensor(array) for array in arrays("bfloat16", [(6, 200), (300,), ()])]
        return ours(name, params, **copy.deepcopy(options), **with_slots(name, {**SMALLEST, "seed": 5}))

    def train(optimizer: Any, *steps: int) -> None:
        for t in range(*steps):
            random_gradients(optimizer.param_groups[0]["params"], t)
            optimizer.step()

    straight, half = made(), made()
    train(straight, 20)
    train(half, 10)
    if way in ("deepcopy", "pickled optimizer"):
        other = copy.deepcopy(half) if way == "deepcopy" else pickle.loads(pickle.dumps(half))
    else:
        params = [p.clone() for p in half.param_groups[0]["params"]]
        other = ours(
            name, params, **copy.deepcopy(options), **with_slots(name, SMALLEST)
        )  # the seed comes with the state
        saved = half.state_dict()
        other.load_state_dict(_by_file(saved) if way == "file" else pickle.loads(pickle.dumps(saved)))
    train(other, 10, 20)
    assert everything(other) == everything(straight)


@pytest.mark.parametrize("convert", [False, True])
def test_the_seed_is_that_of_the_state_and_where_formats_are_converted_that_of_the_optimizer(convert: bool) -> None:
    param = torch.ones(4, 40, requires_grad=True)
    saved, mine = (door.AdamW([param], states="8bit", min_elements=0, seed=seed) for seed in (5, 6))
    random_gradients([param], 0)
    saved.step()
    mine.load_state_dict(saved.state_dict(), convert=convert)
    assert mine.param_groups[0]["seed"] == (6 if convert else 5)


@pytest.mark.parametrize("states", ["8bit", "4bit", "bfloat16"])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "Adagrad", "Adamax", "RAdam"])
def test_states_go_to_torch_and_come_back(name: str, states: str) -> None:
    params = [p.requires_grad_() for p in (torch.ones(12, 200), torch.ones(()))]
    options: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    mine: Any = ours(name, params, **options, states=states, min_elements=0)
    for t in range(3):
        random_gradients(params, t)
        mine.step()
    plain = mine.float32_state_dict()
    assert not {"states", "weights", "seed", "coding", "min_elements"} & set(plain["param_groups"][0])
    others = [p.detach().clone().requires_grad_() for p in params]
    torchs, fresh = (reference(name, others, **options) for _ in range(2))
    random_gradients(others, 3)
    fresh.step()
    for place, entry in fresh.state_dict()["state"].items():  # nothing that torch's class does not keep
        assert {key for key, value in entry.items() if value is not None} == set(plain["state"][place])
    torchs.load_state_dict(copy.deepcopy(plain))
    torchs.step()
    again: Any = ours(name, params, **options, states=states, min_elements=0)
    before = everything(again)
    with pytest.raises(StateError, match=r"convert=True"):
        again.load_state_dict(plain)
    assert everything(again) == before
    again.load_state_dict(torchs.state_dict(), convert=True)
    random_gradients(params, 4)
    again.step()
    assert all(torch.isfinite(p).all() for p in params)
    assert again.param_groups[0]["states"] == states
