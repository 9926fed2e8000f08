"""States of torch.optim, optax and bitsandbytes: read, and made."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steprule as sr
import steprule.torch as door
from steprule.doors.foreign.names import NAMES, innermost, slot_names
from steprule.doors.foreign.states import states_of
from steprule.doors.state import compute_of
from steprule.errors import StateError
from steprule.formats import SLOT_FORMATS
from steprule.rules import CATALOGUE as EVERY
from steprule.rules.papers.dadapt_adam import dadapt_adam
from steprule.rules.papers.novograd import novograd
from steprule.rules.papers.prodigy import prodigy
from tests.cases import Array, assert_same_bits
from tests.doors.torch.cases import CLASSES, DENSE_RICH, MATRICES, OWN, case_id, ours, random_gradients, reference

SHAPES = ((6, 5), (4,))


def tensors() -> list[nn.Parameter]:
    """Return parameters whose numbers depend on nothing."""
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]


def train(optimizer: Any, start: int, stop: int) -> None:
    """Step along gradients that depend on t alone."""
    for t in range(start, stop):
        random_gradients(optimizer.param_groups[0]["params"], t)
        optimizer.step()


def stepped_alike(optimizer: Any, other: sr.Optimizer, start: int, stop: int) -> None:
    """Step a torch optimizer and one of arrays along the same gradients, and compare the parameters."""
    params = optimizer.param_groups[0]["params"]
    for t in range(start, stop):
        random_gradients(params, t)
        optimizer.step()
        other.step([param.grad.numpy() for param in params])
    for array, param in zip(other.params, params, strict=True):
        assert_same_bits(array, param.detach().numpy())


# torch.optim.


def test_the_table_has_the_names_of_the_classes() -> None:
    seen = set()
    for name in {*CLASSES, *MATRICES} - {"Optimizer"}:
        optimizer: Any = getattr(door, name)([torch.ones(2, 3)], **({"momentum": 0.5} if name == "SGD" else {}))
        for switch in ({}, {"amsgrad": True}) if "amsgrad" in optimizer.defaults else ({},):
            rule = optimizer._rule({**optimizer.defaults, **switch, "weight_decay": 0})[0]
            assert name in (*OWN, *MATRICES) or NAMES[innermost(rule).name].torch is not None
            table = slot_names(rule, "torch")
            for slot in rule.slots:
                assert table.get(slot, slot) == optimizer._naming.slots.get(slot, slot), f"{name} {slot}"
            seen.add(rule.name)
    assert {name for name, names in NAMES.items() if names.torch} <= seen


OF_NUMBERS = {own.name: own for own in (novograd, prodigy, dadapt_adam)}
BY_ROLE = {"FirstMoment": ("exp_avg", "mu", "state1"), "SecondMoment": ("exp_avg_sq", "nu", "state2")}


def test_the_table_names_slots_that_exist_and_roles_do_not_name() -> None:
    for rule, names in NAMES.items():
        own = {**EVERY, **OF_NUMBERS}[rule]
        for library in (names.torch, names.optax, names.bitsandbytes):
            assert set(library or {}) <= set(own.slots)
        for slot, role in own.roles.items():
            told = (names.torch or {}, names.optax or {}, names.bitsandbytes or {})
            by_role = BY_ROLE[role.value]
            assert all(table.get(slot) != name for table, name in zip(told, by_role, strict=True)), (
                f"{rule}: {role} says so"
            )
        for options in names.options.values():
            assert set(options) <= set(own.hyperparameters)


def test_states_have_the_names_of_the_authors_code() -> None:
    def keys(name: str) -> set[str]:
        optimizer: Any = getattr(door, name)(tensors())
        train(optimizer, 0, 1)
        return set(optimizer.state_dict()["state"][0]) - {"step"}

    assert keys("CAME") == {
        "exp_avg",
        *(f"exp_avg_{kind}_{along}" for kind in ("sq", "res") for along in ("row", "col")),
    }
    assert keys("Prodigy") >= {"exp_avg", "exp_avg_sq", "s", "p0"}
    assert keys("DAdaptAdam") >= {"exp_avg", "exp_avg_sq", "s"}
    assert keys("NovoGrad") == {"exp_avg", "exp_avg_sq"}
    assert keys("Lamb") == {"exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize(("name", "options"), DENSE_RICH, ids=case_id)
def test_torch_to_arrays_and_back(name: str, options: dict[str, Any]) -> None:
    torchs = reference(name, tensors(), **options)
    train(torchs, 0, 5)
    state = torchs.state_dict()
    # The class of the PyTorch door loads it by itself; what it makes of it has the bits of the NumPy door.
    mine: Any = ours(name, tensors(), **options)
    mine.load_state_dict(state)
    own = mine._options_of(mine.param_groups)[0]
    arrays = sr.Optimizer([param.detach().numpy().copy() for param in tensors()], own.rule, **dict(own.values))
    arrays.load_state_dict(sr.convert.from_torch(state, arrays))
    stepped_alike(mine, arrays, 5, 9)

    back = reference(name, tensors(), **options)
    back.load_state_dict(sr.convert.to_torch(arrays, back.state_dict()))
    again = back.state_dict()["state"]
    for place, entry in mine.float32_state_dict()["state"].items():
        assert set(again[place]) == set(state["state"][place])
        for key, value in entry.items():
            found = torch.as_tensor(again[place][key])  # torch rounds all but steps to the type of the parameter
            assert torch.equal(found, value.to(found.dtype)), f"{place} {key}"
    train(back, 9, 10)


@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_classes_of_the_torch_door_take_and_give_their_own(states: str) -> None:
    optimizer = door.Adam(tensors(), states=states, min_elements=0)
    train(optimizer, 0, 2)
    state = sr.convert.to_torch(optimizer)
    assert state["state"][0]["exp_avg"].dtype == torch.float32
    assert sr.convert.from_torch(state, optimizer) == state


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"])
def test_states_are_read_in_the_type_that_they_are_computed_in(kind: str) -> None:
    param = torch.nn.Parameter(torch.ones(3, dtype=getattr(torch, kind)))
    optimizer = door.Adam([param])
    param.grad = torch.full_like(param, 1 / 3)
    optimizer.step()
    (own,), entry = states_of(optimizer).parameters, optimizer.state[param]
    assert set(own.planes) == {"m", "v"}
    for slot, key in (("m", "exp_avg"), ("v", "exp_avg_sq")):
        parts = torch.view_as_real(entry[key]) if entry[key].is_complex() else entry[key]
        assert str(parts.dtype) == f"torch.{compute_of(own.dtype)}"
        assert own.planes[slot].tobytes() == entry[key].numpy().tobytes()


def adam_arrays(**options: Any) -> sr.Optimizer:
    """Return an optimizer of two arrays."""
    return sr.Optimizer([np.ones(shape, np.float32) for shape in SHAPES], "adam", **options)


@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_formats_are_rounded_on_request(states: str) -> None:
    torchs = torch.optim.Adam(tensors())
    train(torchs, 0, 3)
    coded = adam_arrays(states=states, min_elements=0)
    state = sr.convert.from_torch(torchs.state_dict(), coded)
    with pytest.raises(StateError, match="convert=True"):
        coded.load_state_dict(state)
    coded.load_state_dict(state, convert=True)
    assert coded.t == 3
    back = sr.convert.to_torch(coded, torchs.state_dict())["state"]
    for place, own in enumerate(coded.slots["v"]):
        assert_same_bits(back[place]["exp_avg_sq"].numpy(), own)


def test_a_state_of_torch_that_does_not_fit() -> None:
    torchs = torch.optim.Adam(tensors())
    train(torchs, 0, 1)
    state = torchs.state_dict()
    zeros = [np.zeros(shape, np.float32) for shape in SHAPES]
    cases: list[tuple[Any, sr.Optimizer, str]] = [
        (state, sr.Optimizer(zeros, "adadelta"), r"has the slots \['exp_avg', .*, expected \['acc_delta'"),
        (state, sr.Optimizer(zeros[:1], "adam"), "of 2 parameters, this optimizer has 1"),
        (state, sr.Optimizer([z.T for z in zeros], "adam"), r"has shape \(5, 6\), but its m in the state \(6, 5\)"),
        (state, sr.Optimizer(zeros, "amsgrad"), "means correction='after_max', and this optimizer has .*'none'"),
        (state, sr.Optimizer(zeros, "momentum_ema"), "torch has no state that means the same"),
        ({}, sr.Optimizer(zeros, "adam"), "not a state dict of a torch optimizer"),
    ]
    for given, optimizer, words in cases:
        with pytest.raises(StateError, match=words):
            sr.convert.from_torch(given, optimizer)
    with pytest.raises(TypeError, match="give like="):
        sr.convert.to_torch(adam_arrays())
    with pytest.raises(TypeError, match=r"torch.optim.adam.Adam; pass a steprule.Optimizer"):
        sr.convert.from_torch(state, torchs)


# optax: named tuples of the same fields as its own.

ScaleByAdamState = namedtuple("ScaleByAdamState", ["count", "mu", "nu"])
ScaleByLionState = namedtuple("ScaleByLionState", ["count", "mu"])
ScaleByAmsgradState = namedtuple("ScaleByAmsgradState", ["count", "mu", "nu", "nu_max"])
ScaleByAdaDeltaState = namedtuple("ScaleByAdaDeltaState", ["e_g", "e_x"])
ScaleByRssState = namedtuple("ScaleByRssState", ["sum_of_squares"])
ScaleByRmsState = namedtuple("ScaleByRmsState", ["nu"])
ScaleByRmsWithCountState = namedtuple("ScaleByRmsWithCountState", ["count", "nu"])
ScaleByRStdDevState = namedtuple("ScaleByRStdDevState", ["mu", "nu"])
ScaleByBeliefState = namedtuple("ScaleByBeliefState", ["count", "mu", "nu"])
EmaState = namedtuple("EmaState", ["count", "ema"])
TraceState = namedtuple("TraceState", ["trace"])
EmptyState = namedtuple("EmptyState", [])
ScaleByScheduleState = namedtuple("ScaleByScheduleState", ["count"])

OPTAX: list[tuple[str, Any, dict[str, str], dict[str, Any]]] = [
    ("adam", ScaleByAdamState, {"m": "mu", "v": "nu"}, {}),
    ("adamw", ScaleByAdamState, {"m": "mu", "v": "nu"}, {}),
    ("adamax", ScaleByAdamState, {"m": "mu", "u": "nu"}, {}),
    ("radam", ScaleByAdamState, {"m": "mu", "v": "nu"}, {}),
    ("yogi", ScaleByAdamState, {"m": "mu", "v": "nu"}, {}),
    ("amsgrad", ScaleByAmsgradState, {"m": "mu", "v": "nu", "v_max": "nu_max"}, {"correction": "before_max"}),
    ("lion", ScaleByLionState, {"m": "mu"}, {}),
    ("momentum", TraceState, {"b": "trace"}, {}),
    ("adagrad", ScaleByRssState, {"G": "sum_of_squares"}, {}),
    ("rmsprop", ScaleByRmsState, {"v": "nu"}, {}),
    ("rmsprop", ScaleByRmsWithCountState, {"v": "nu"}, {}),
    ("rmsprop", ScaleByRStdDevState, {"g_avg": "mu", "v": "nu"}, {"centered": True}),
    ("nadam", ScaleByAdamState, {"m": "mu", "v": "nu"}, {"psi": None}),
    ("adabelief", ScaleByBeliefState, {"m": "mu", "s": "nu"}, {}),
    ("signum", EmaState, {"m": "ema"}, {}),
    ("adadelta", ScaleByAdaDeltaState, {"E_g2": "e_g", "E_dx2": "e_x"}, {}),
]


def tree(value: float) -> dict[str, Any]:
    """Return a tree of arrays; the keys of a dict come sorted from JAX."""
    return {"a": np.full(4, value, np.float32), "layers": [np.full((2, 3), -value, np.float32)]}


def swapped(value: float) -> dict[str, Any]:
    """Return the same tree with its keys in another order."""
    whole = tree(value)
    return {"layers": whole["layers"], "a": whole["a"]}


@pytest.mark.parametrize(
    ("rule", "kind", "names", "options"), OPTAX, ids=lambda value: getattr(value, "__name__", None)
)
def test_optax_to_arrays_and_back(rule: str, kind: Any, names: dict[str, str], options: dict[str, Any]) -> None:
    trees = {name: tree(0.5 + place) for place, name in enumerate(names.values())}
    counts = {"count": np.array(7, np.int32)} if "count" in kind._fields else {}
    state = (EmptyState(), (kind(**trees, **counts), ScaleByScheduleState(np.array(7, np.int32))))
    optimizer = sr.Optimizer(swapped(1.0), rule, **options)
    optimizer.load_state_dict(sr.convert.from_optax(state, optimizer, **({} if counts else {"t": 7})))
    assert optimizer.t == 7
    for slot, name in names.items():
        assert_same_bits(optimizer.slots[slot]["a"], trees[name]["a"])
        assert_same_bits(optimizer.slots[slot]["layers"][0], trees[name]["layers"][0])

    optimizer.step(swapped(0.25))
    empty = (EmptyState(), (kind(**{n: tree(0.0) for n in names.values()}, **counts), ScaleByScheduleState(0)))
    made = sr.convert.to_optax(optimizer, empty)
    assert type(made[1][0]) is kind
    assert made[1][1] == ScaleByScheduleState(0)
    if counts:
        assert (made[1][0].count, made[1][0].count.dtype) == (8, np.int32)
    for slot, name in names.items():
        assert_same_bits(getattr(made[1][0], name)["a"], optimizer.slots[slot]["a"])


def test_states_of_optax_that_do_not_fit() -> None:
    optimizer = sr.Optimizer(tree(1.0), "adam")
    state = ScaleByAdamState(np.array(3), tree(1.0), tree(1.0))
    cases: list[tuple[Any, sr.Optimizer, dict[str, Any], str]] = [
        (EmptyState(), optimizer, {}, r"has 0 named tuples with the fields \['mu', 'nu'\]"),
        ((state, state), optimizer, {}, "has 2 named tuples"),
        (state, optimizer, {"t": 4}, "has counted 3 steps, and t=4 was given"),
        (state._replace(mu={"a": 1}), optimizer, {}, "for other parameters: mu differs"),
        (state._replace(mu={**tree(1.0), "a": np.zeros(5)}), optimizer, {}, r"a has shape \(4,\), .* state \(5,\)"),
        (ScaleByRmsState(tree(1.0)), sr.Optimizer(tree(1.0), "rmsprop"), {}, "does not count steps; give t="),
        (state, sr.Optimizer(tree(1.0), "adan"), {}, "optax has no state that means the same as that of rule 'adan'"),
        (state, sr.Optimizer(tree(1.0), "nadam"), {}, "psi=None"),
        (state, sr.Optimizer(tree(1.0), "amsgrad"), {}, "correction='before_max'"),
    ]
    for given, other, options, words in cases:
        with pytest.raises(StateError, match=words):
            sr.convert.from_optax(given, other, **options)
    with pytest.raises(TypeError, match="without groups"):
        sr.convert.from_optax(state, door.Adam(tensors()))  # type: ignore[arg-type]


# bitsandbytes.


def quantised(values: Array, block: int, *, signed: bool) -> tuple[Array, Array, Array, Array]:
    """Return codes, the map of codes, the scale of each block, and the numbers that they stand for; all by loops."""
    qmap = np.linspace(-1 if signed else 0, 1, 256).astype(np.float32) ** 3
    flat = values.reshape(-1)
    codes, absmax = np.zeros(flat.size, np.uint8), []
    numbers = np.zeros(flat.size, np.float32)
    for start in range(0, flat.size, block):
        scale = np.float32(max(abs(float(x)) for x in flat[start : start + block]))
        absmax.append(scale)
        for at in range(start, min(start + block, flat.size)):
            codes[at] = int(np.argmin([abs(float(q) - float(flat[at]) / float(scale)) for q in qmap]))
            numbers[at] = np.float32(qmap[codes[at]]) * scale
    return codes.reshape(values.shape), qmap, np.array(absmax, np.float32), numbers.reshape(values.shape)


@pytest.mark.parametrize("block", [256, 2048])
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_eight_bit_states_are_decoded(block: int, is_wrapped: bool) -> None:
    shape = (9, 300)
    rng = np.random.default_rng(0)
    codes1, qmap1, absmax1, m = quantised(rng.standard_normal(shape), block, signed=True)
    codes2, qmap2, absmax2, v = quantised(rng.random(shape), block, signed=False)
    coded = {"state1": codes1, "qmap1": qmap1, "absmax1": absmax1, "state2": codes2, "qmap2": qmap2, "absmax2": absmax2}
    quantities = {name: torch.from_numpy(array) for name, array in coded.items()}
    small = {"step": 12, "state1": torch.full((4,), 2.0), "state2": torch.full((4,), 3.0)}
    entry = {"step": 12, **({"__bnb_optimizer_quant_state__": quantities} if is_wrapped else quantities)}
    state = {"state": {0: entry, 1: small}, "param_groups": [{"params": [0, 1], "lr": 0.5}]}

    arrays = sr.Optimizer([np.zeros(shape, np.float32), np.zeros(4, np.float32)], "adamw", lr=0.25)
    arrays.load_state_dict(sr.convert.from_bitsandbytes(state, arrays))
    assert (arrays.t, arrays.groups[0]["lr"]) == (12, 0.25)
    assert_same_bits(arrays.slots["m"][0], m)
    assert_same_bits(arrays.slots["v"][0], v)
    assert arrays.slots["v"][1].tolist() == [3.0] * 4

    tensors_ = [nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(4))]
    optimizer = door.AdamW(tensors_, lr=0.25)
    optimizer.load_state_dict(sr.convert.from_bitsandbytes(state, optimizer))
    assert_same_bits(optimizer.state[tensors_[0]]["exp_avg"].numpy(), m)
    assert optimizer.state[tensors_[0]]["step"] == 12

    for one in (arrays, optimizer):
        back = sr.convert.to_bitsandbytes(one, state)
        assert back["param_groups"] == state["param_groups"]
        assert set(back["state"][0]) == {"step", "state1", "state2"}
        assert back["state"][0]["step"] == 12
        assert_same_bits(back["state"][0]["state2"].numpy(), v)


def test_stacked_states() -> None:
    shape = (20, 30)
    rng = np.random.default_rng(1)
    parts = [quantised(rng.standard_normal(shape), 256, signed=True) for _ in range(2)]
    codes2, qmap2, absmax2, v = quantised(rng.random(shape), 256, signed=False)
    entry = {
        "step": 3,
        "state1": torch.from_numpy(np.stack([part[0] for part in parts])),
        "absmax1": torch.from_numpy(np.stack([part[2] for part in parts])),
        "qmap1": torch.from_numpy(parts[0][1]),
        "state2": torch.from_numpy(codes2),
        "absmax2": torch.from_numpy(absmax2),
        "qmap2": torch.from_numpy(qmap2),
    }
    state = {"state": {0: entry}, "param_groups": [{"params": [0]}]}
    arrays = sr.Optimizer([np.zeros(shape, np.float32)], "ademamix")
    arrays.load_state_dict(sr.convert.from_bitsandbytes(state, arrays))
    for slot, expected in {"m1": parts[0][3], "m2": parts[1][3], "v": v}.items():
        assert_same_bits(arrays.slots[slot][0], expected)
    back = sr.convert.to_bitsandbytes(arrays, state)["state"][0]
    assert back["state1"].shape == (2, *shape)
    assert_same_bits(back["state1"][1].numpy(), parts[1][3])


@pytest.mark.parametrize(("rule", "slot"), [("momentum", "b"), ("lion", "m"), ("rmsprop", "v"), ("adagrad", "G")])
def test_states_of_one_slot(rule: str, slot: str) -> None:
    entry = {"step": 5, "state1": torch.arange(4, dtype=torch.float32)}
    state = {"state": {0: entry}, "param_groups": [{"params": [0]}]}
    arrays = sr.Optimizer([np.zeros(4, np.float32)], rule)
    arrays.load_state_dict(sr.convert.from_bitsandbytes(state, arrays))
    assert arrays.slots[slot][0].tolist() == [0, 1, 2, 3]
    assert sr.convert.to_bitsandbytes(arrays, state)["state"][0]["state1"].tolist() == [0, 1, 2, 3]


def test_states_of_bitsandbytes_that_do_not_fit() -> None:
    codes = torch.zeros(5000, dtype=torch.uint8)
    arrays = sr.Optimizer([np.zeros(5000, np.float32)], "lion")

    def state(**entry: Any) -> dict[str, Any]:
        return {"state": {0: {"step": 1, **entry}}, "param_groups": [{"params": [0]}]}

    blocks = math.ceil(5000 / 256)
    cases: list[tuple[dict[str, Any], str]] = [
        (state(state1=codes, max1=torch.ones(1)), "not quantised by blocks"),
        (state(state1=codes, absmax1=torch.ones(7), qmap1=torch.ones(256)), "has 7 blocks and 256 codes for 5000"),
        (state(state1=codes, absmax1=torch.ones(blocks), qmap1=torch.ones(16)), "16 codes"),
        (state(exp_avg=codes), r"has \['exp_avg', 'step'\], and no state1"),
        (state(state1=torch.ones(3)), r"shape \(5000,\), but its m in the state \(3,\)"),
    ]
    for given, words in cases:
        with pytest.raises(StateError, match=words):
            sr.convert.from_bitsandbytes(given, arrays)
    with pytest.raises(StateError, match="bitsandbytes has no state that means the same as that of rule 'adan'"):
        sr.convert.from_bitsandbytes(state(), sr.Optimizer([np.zeros(3)], "adan"))


def test_parameters_that_were_not_stepped() -> None:
    state = {"state": {}, "param_groups": [{"params": [0, 1]}]}
    arrays = adam_arrays()
    arrays.load_state_dict(sr.convert.from_bitsandbytes(state, arrays))
    assert arrays.t == 0
    optimizer = door.Adam(tensors())
    assert sr.convert.from_bitsandbytes(state, optimizer)["state"] == {}
    assert sr.convert.to_bitsandbytes(optimizer, state)["state"] == {}


# Step counts.

_AdamState = namedtuple("_AdamState", ["count", "mu", "nu"])
_TraceState = namedtuple("_TraceState", ["trace"])
NO_COUNTS = [2.5, -1, math.nan, math.inf, "3", True, np.array([1, 2]), 2**63]


@pytest.mark.parametrize("count", NO_COUNTS, ids=repr)
def test_what_is_no_step_count_is_refused(count: Any) -> None:
    theta = np.ones(3, np.float32)
    adam, momentum = sr.Optimizer(theta, "adam"), sr.Optimizer(theta.copy(), "momentum")
    moments, of_adam = np.zeros(3, np.float32), _AdamState
    of_torch = {"step": count, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    of_bitsandbytes = {"step": count, "state1": torch.zeros(3), "state2": torch.zeros(3)}
    with pytest.raises(StateError, match=r"the count of _AdamState must be an integer from 0 to \d+, got "):
        sr.convert.from_optax(of_adam(count, moments, moments), adam)
    with pytest.raises(StateError, match="t must be an integer from 0 to "):
        sr.convert.from_optax(_TraceState(moments), momentum, t=count)
    for convert, entry in ((sr.convert.from_torch, of_torch), (sr.convert.from_bitsandbytes, of_bitsandbytes)):
        with pytest.raises(StateError, match="the step of parameter 0 must be an integer from 0 to "):
            convert({"state": {0: entry}, "param_groups": [{"params": [0]}]}, adam)


def test_a_step_count_that_optax_cannot_hold_is_refused() -> None:
    optimizer, like = sr.Optimizer(np.ones(3, np.float32), "adam"), _AdamState
    zero = like(np.zeros((), np.int32), np.zeros(3), np.zeros(3))
    optimizer.load_state_dict({**optimizer.state_dict(), "t": 2**31 - 1})
    assert int(sr.convert.to_optax(optimizer, zero).count) == 2**31 - 1
    optimizer.load_state_dict({**optimizer.state_dict(), "t": 2**31})
    with pytest.raises(StateError, match="which is an int32, must be an integer from 0 to 2147483647, got 2147483648"):
        sr.convert.to_optax(optimizer, zero)
