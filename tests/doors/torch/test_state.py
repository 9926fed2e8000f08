"""State of the PyTorch door: interchange with torch.optim, exact resumption, copies, and what it refuses."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import steprule as sr
import steprule.torch as door
from steprule.doors.foreign.names import slot_names
from steprule.errors import StateError, StructureError
from tests.doors.torch.cases import (
    ALL,
    CLASSES,
    EXTRA,
    INFO,
    OWN,
    RICH,
    ROWS,
    Make,
    assert_agree,
    case_id,
    default_dtype,
    everything,
    frozen,
    one_thread,
    ours,
    problem_for,
    random_gradients,
    reference,
    train,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

DTYPES = [torch.float32, torch.float64]
HALVES = [torch.float16, torch.bfloat16]
SCALARS = {"mu_product", "eta", "mu"}  # float64 here, torch's default type there
DEFAULTS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in dict(RICH)]


def resumed(first: Make, second: Make, name: str, options: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    """Return the parameters after 7 steps of one optimizer and 13 of another that loaded its state."""
    problem = problem_for(name, dtype)
    optimizer = first(name, problem.trained(), **options)
    train(problem, optimizer, 7)
    state = copy.deepcopy(optimizer.state_dict())
    optimizer = second(name, problem.trained())  # the options are in the state dict
    optimizer.load_state_dict(state)
    train(problem, optimizer, 13, start=7)
    return problem.trained()


@pytest.mark.parametrize("dtype", DTYPES, ids=case_id)
@pytest.mark.parametrize(("first", "second"), [(reference, ours), (ours, reference)], ids=["torch-ours", "ours-torch"])
@pytest.mark.parametrize(("name", "options"), [*DEFAULTS, *RICH], ids=case_id)
def test_state_dicts_interchange_in_mid_training(
    name: str, options: dict[str, Any], first: Make, second: Make, dtype: torch.dtype
) -> None:
    with default_dtype(dtype):
        problem = problem_for(name, dtype)
        train(problem, reference(name, problem.trained(), **options), 20)
        assert_agree(resumed(first, second, name, options, dtype), problem.trained(), name)


def described(value: Any, key: str) -> Any:
    """Return what must be alike in two states: kind, type, shape and place of a value."""
    if isinstance(value, int):  # the step count of torch's SparseAdam; a tensor here, exact in torch's arithmetic
        value = torch.tensor(value, dtype=torch.float64)
    if isinstance(value, Tensor):
        return "tensor", torch.float64 if key in SCALARS else value.dtype, tuple(value.shape), value.device
    return type(value)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64], ids=case_id)
@pytest.mark.parametrize(("name", "options"), [*DEFAULTS, *RICH], ids=case_id)
def test_state_has_the_keys_types_and_shapes_of_torch(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    if dtype.is_complex and not INFO[name].supports_complex:
        dtype = torch.float32
    dicts = []
    for make in (reference, ours):
        problem = problem_for(name, dtype)
        optimizer = make(name, problem.trained(), **options)
        dicts.append([optimizer.state_dict()])
        train(problem, optimizer, 2)
        dicts[-1].append(optimizer.state_dict())
    for theirs, mine in zip(*dicts, strict=True):
        shapes = [
            {i: {k: described(v, k) for k, v in state.items()} for i, state in d["state"].items()}
            for d in (theirs, mine)
        ]
        assert shapes[1] == shapes[0]
        for theirs_group, my_group in zip(theirs["param_groups"], mine["param_groups"], strict=True):
            unset = {flag: None for flag in ("foreach", "fused") if flag in theirs_group}  # as the reference is not
            assert frozen(my_group) == frozen({**theirs_group, **unset})


@pytest.mark.parametrize("dtype", HALVES, ids=case_id)
@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_slots_of_half_precision_parameters_are_float32(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    problem = problem_for(name, dtype)
    optimizer = ours(name, problem.trained(), **options)
    random_gradients(problem.trained(), 0, name)
    optimizer.step()
    names = slot_names(OWN[name], "torch") if name in OWN else {}
    numbers = [names.get(slot, slot) for slot in OWN[name].numbers] if name in OWN else []
    for p in problem.trained():
        assert p.dtype == dtype
        slots = {key: value for key, value in optimizer.state[p].items() if key not in (*SCALARS, *numbers, "step")}
        assert slots
        assert all(value.dtype == torch.float32 for value in slots.values())
        assert name in ROWS or all(value.shape == p.shape for value in slots.values())


def stepped(name: str, params: list[Any], optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
    for t in range(start, stop):
        random_gradients(params, t, name)
        optimizer.step()


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES, torch.complex64], ids=case_id)
@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_a_resumed_run_has_the_bits_of_a_straight_one(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    if dtype.is_complex and name == "SparseAdam":
        with pytest.raises(ValueError, match="SparseAdam does not support complex parameters"):
            ours(name, problem_for("Adam", dtype).trained())
        return
    if dtype.is_complex and name in ROWS:
        params = problem_for(name, dtype).trained()
        with pytest.raises((RuntimeError, StructureError), match="complex"):
            stepped(name, params, ours(name, params, **options), 0, 1)
        return
    straight, parted = (problem_for(name, dtype).trained() for _ in range(2))
    optimizer = ours(name, straight, **options)
    stepped(name, straight, optimizer, 0, 10)
    half = ours(name, parted, **options)
    stepped(name, parted, half, 0, 5)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    other = ours(name, parted, **options)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert everything(other) == everything(half)
    stepped(name, parted, other, 5, 10)
    assert everything(other) == everything(optimizer)


@pytest.mark.parametrize(("name", "options"), [("AdamW", {}), ("NAdam", {}), ("ASGD", {}), ("SGD", {"momentum": 0.9})])
@pytest.mark.parametrize("dtype", HALVES, ids=case_id)
def test_half_precision_state_of_torch_is_widened_exactly(
    name: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    params = problem_for(name, dtype).trained()
    theirs = reference(name, params, **options)
    stepped(name, params, theirs, 0, 3)
    mine = ours(name, params, **options)
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for i, state in theirs.state_dict()["state"].items():
        for key, value in state.items():
            wide = torch.float64 if key in SCALARS else torch.float32
            assert frozen(mine.state_dict()["state"][i][key]) == frozen(value.to(wide))
    stepped(name, params, mine, 3, 4)


@pytest.mark.parametrize(("name", "options"), RICH, ids=case_id)
def test_checkpoints_from_before_an_option_existed_load(name: str, options: dict[str, Any]) -> None:
    options = {key: value for key, value in options.items() if key not in INFO[name].not_og_supported_flags}
    results = []
    for make in (reference, ours):
        problem = problem_for(name)
        theirs = reference(name, problem.trained(), **options)
        train(problem, theirs, 5)
        old = copy.deepcopy(theirs.state_dict())
        for group in old["param_groups"]:
            for flag in INFO[name].not_og_supported_flags:
                group.pop(flag, None)
        for state in old["state"].values():
            if "step" in state:
                state["step"] = int(state["step"])  # torch kept a Python number once
        optimizer = make(name, problem.trained())
        optimizer.load_state_dict(old)
        train(problem, optimizer, 5, start=5)
        results.append(problem.trained())
    assert_agree(results[1], results[0], name)


def slot_of(state: dict[str, Any]) -> str:
    """Return the name of the first slot that has the parameter's shape."""
    return next(key for key, value in state.items() if isinstance(value, Tensor) and value.dim())


def with_slot(change: Callable[[Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def damage(state_dict: dict[str, Any]) -> None:
        state = state_dict["state"][max(state_dict["state"])]  # the last: what is before it must not be loaded
        state[slot_of(state)] = change(state[slot_of(state)])

    return damage


def missing_slot(state_dict: dict[str, Any]) -> None:
    state = state_dict["state"][max(state_dict["state"])]
    del state[slot_of(state)]


def foreign_state(state_dict: dict[str, Any]) -> None:
    state_dict["state"][max(state_dict["state"])] = {"step": torch.tensor(3.0), "hessian": torch.ones(2)}


def more_groups(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"].append({**state_dict["param_groups"][0], "params": []})


def fewer_parameters(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"][0]["params"].pop()


def bad_option(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"][0]["lr"] = -1.0


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], None], type[Exception]]] = {
    "other shape": (with_slot(lambda x: x.new_ones(*x.shape, 2)), StateError),
    "same count, other shape": (with_slot(lambda x: x.reshape(-1, 1, 1)), StateError),
    "int64": (with_slot(lambda x: x.long()), StateError),
    "float64": (with_slot(lambda x: x.double()), StateError),
    "complex": (with_slot(lambda x: x.to(torch.complex64)), StateError),
    "no tensor": (with_slot(lambda x: x.tolist()), StateError),
    "number": (with_slot(lambda x: 0.5), StateError),
    "missing slot": (missing_slot, StateError),
    "foreign state": (foreign_state, StateError),
    "more groups": (more_groups, ValueError),
    "fewer parameters": (fewer_parameters, ValueError),
    "bad option": (bad_option, ValueError),
}


@pytest.mark.parametrize(
    ("name", "options", "damage"),
    [
        pytest.param(name, options, damage, id=f"{name}-{damage}")
        for name, options in dict(ALL).items()
        for damage in DAMAGES
        # Whose only slot appears with the first step, while the group counts.
        if damage != "missing slot" or name not in ("SGD", "SGDScheduleFree")
    ],
)
def test_a_damaged_state_dict_is_refused_and_changes_nothing(name: str, options: dict[str, Any], damage: str) -> None:
    params = problem_for(name).trained()
    optimizer = ours(name, params, **options)
    stepped(name, params, optimizer, 0, 3)
    change, error = DAMAGES[damage]
    damaged = copy.deepcopy(optimizer.state_dict())
    damaged["param_groups"][0]["lr"] = 0.5
    change(damaged)
    stepped(name, params, optimizer, 3, 5)
    before, given = everything(optimizer), frozen(damaged)
    tensors = [(id(p), key, id(v)) for p, state in optimizer.state.items() for key, v in state.items()]
    with pytest.raises(error):
        optimizer.load_state_dict(damaged)
    assert everything(optimizer) == before
    assert frozen(damaged) == given
    assert [(id(p), key, id(v)) for p, state in optimizer.state.items() for key, v in state.items()] == tensors
    stepped(name, params, optimizer, 5, 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (more_groups, "loaded state dict has a different number of parameter groups"),
        (fewer_parameters, "doesn't match the size of optimizer's group"),
    ],
)
def test_state_of_other_groups_is_refused_in_torchs_words(change: Callable[[Any], None], words: str) -> None:
    optimizer = ours("Adam", problem_for("Adam").trained())
    state_dict = copy.deepcopy(optimizer.state_dict())
    change(state_dict)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(state_dict)


@pytest.mark.parametrize(("saved", "loading"), [("Adam", "RMSprop"), ("RMSprop", "Adam"), ("SGD", "AdamW")])
@pytest.mark.parametrize("make", [ours, reference])
def test_a_checkpoint_of_another_class_is_refused(saved: str, loading: str, make: Make) -> None:
    params = problem_for("Adam").trained()
    other = make(saved, params, **dict(RICH)[saved])
    stepped(saved, params, other, 0, 2)
    optimizer = ours(loading, params, **dict(RICH)[loading])
    stepped(loading, params, optimizer, 0, 2)
    before = everything(optimizer)
    with pytest.raises(StateError):
        optimizer.load_state_dict(other.state_dict())
    assert everything(optimizer) == before


def hooked(make: Make) -> tuple[list[str], Any]:
    """Return the calls of every hook of state dicts, in order, and the state that a hook made of another."""
    params = problem_for("Adam").trained()
    optimizer, calls = make("Adam", params), []
    stepped("Adam", params, optimizer, 0, 2)

    def renamed(opt: torch.optim.Optimizer, d: dict[str, Any]) -> dict[str, Any]:
        calls.append("load pre")
        state = {i: {k.removeprefix("old."): v for k, v in s.items()} for i, s in d["state"].items()}
        return {**d, "state": state}

    def prefixed(opt: torch.optim.Optimizer, d: dict[str, Any]) -> dict[str, Any]:
        calls.append("save post")
        return {**d, "state": {i: {f"old.{k}": v for k, v in s.items()} for i, s in d["state"].items()}}

    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("save pre"))
    optimizer.register_state_dict_pre_hook(lambda opt: calls.append("save pre, first"), prepend=True)
    optimizer.register_state_dict_post_hook(prefixed)
    optimizer.register_load_state_dict_pre_hook(renamed)
    optimizer.register_load_state_dict_post_hook(lambda opt: calls.append("load post"))
    state_dict = copy.deepcopy(optimizer.state_dict())
    stepped("Adam", params, optimizer, 2, 4)
    optimizer.load_state_dict(state_dict)
    return calls, [[sorted(s) for s in states.values()] for states in (state_dict["state"], optimizer.state)]


def test_state_dict_hooks_are_called_as_by_torch() -> None:
    assert hooked(ours) == hooked(reference)


def by_deepcopy(pair: Any) -> Any:
    return copy.deepcopy(pair)


def by_pickle(pair: Any) -> Any:
    return pickle.loads(pickle.dumps(pair))


def storages(params: list[Tensor], optimizer: torch.optim.Optimizer) -> set[int]:
    tensors = [*params, *(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor))]
    return {x.data_ptr() for x in tensors}


@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=case_id)
@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_a_copy_goes_on_in_every_bit_and_shares_nothing(
    name: str, options: dict[str, Any], dtype: torch.dtype, copied: Callable[[Any], Any]
) -> None:
    params = problem_for(name, dtype).trained()
    optimizer = ours(name, params, **options)
    stepped(name, params, optimizer, 0, 4)
    (their_params, twin) = copied((params, optimizer))
    assert type(twin) is type(optimizer)
    assert everything(twin) == everything(optimizer)
    assert not storages(params, optimizer) & storages(their_params, twin)
    before = everything(optimizer)
    stepped(name, their_params, twin, 4, 8)
    assert everything(optimizer) == before
    stepped(name, params, optimizer, 4, 8)
    assert everything(optimizer) == everything(twin) != before


@sr.rule(paper="a rule of the test's own")
def halving(theta: Any, g: Any, m: Any, *, lr: sr.Rate = 0.1) -> Any:
    m = 0.5 * m + g
    return theta - lr * m, m


@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
@pytest.mark.parametrize(("rule", "options"), [("lion", {"lr": 0.01, "beta1": 0.8}), (halving, {"lr": 0.01})])
def test_copies_of_an_optimizer_with_any_rule(rule: Any, options: dict[str, Any], copied: Callable[[Any], Any]) -> None:
    params = problem_for("Adam").trained()
    optimizer = door.Optimizer(params, rule=rule, **options)
    stepped("", params, optimizer, 0, 4)
    their_params, twin = copied((params, optimizer))
    resumed = door.Optimizer(copy.deepcopy(params), rule=rule, **options)
    resumed.load_state_dict(optimizer.state_dict())
    for p, o in ((params, optimizer), (their_params, twin), (resumed.param_groups[0]["params"], resumed)):
        stepped("", p, o, 4, 8)
    assert everything(optimizer) == everything(twin) == everything(resumed)


def test_loading_copies_the_state() -> None:
    params = problem_for("Adam").trained()
    first, second = ours("Adam", params), ours("Adam", params)
    stepped("Adam", params, first, 0, 2)
    state_dict = first.state_dict()
    second.load_state_dict(state_dict)
    kept = frozen(state_dict)
    stepped("Adam", params, second, 2, 4)
    assert frozen(state_dict) == kept


def test_the_extra_classes_are_covered() -> None:
    assert {name for name, _ in RICH} | {name for name, _ in EXTRA} | {"Optimizer"} == set(CLASSES)
