"""Checkpoints of the PyTorch door: resumed in every bit, and carried over to NumPy arrays and back."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.errors import CheckpointError, StateError
from steprule.formats import SLOT_FORMATS
from tests.checkpoint.test_fuzz import as_text, mutated, parts, put, sealed
from tests.doors.torch.cases import (
    ALL,
    CLASSES,
    DENSE_ALL,
    ROWS,
    case_id,
    everything,
    frozen,
    ours,
    random_gradients,
    with_slots,
)

HALF = 100
SMALLEST: dict[str, Any] = {"states": "8bit", "min_elements": 0, "weights": "split24", "seed": 11}


def params_of(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Return parameters whose numbers depend on nothing."""
    random = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in ((6, 130), (4,), ())]
    if dtype.is_complex:
        made = [one * (1 + 0.5j) for one in made]
    return [nn.Parameter(one) for one in made]


def sized(name: str, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Return parameters that suit the class: sparse gradients have rows."""
    return params_of(dtype)[:1] if name == "SparseAdam" else params_of(dtype)


def train(optimizer: Any, start: int, stop: int, name: str = "") -> None:
    """Step along gradients that depend on t alone."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for t in range(start, stop):
        random_gradients(params, t, name)
        optimizer.step()


def check_resume(path: Path, name: str, options: dict[str, Any], dtype: torch.dtype, half: int = HALF) -> None:
    """Train straight, and with a stop in between, and compare every bit."""
    straight, stopped = (ours(name, sized(name, dtype), **copy.deepcopy(options)) for _ in range(2))
    train(stopped, 0, half, name)
    sr.save(path, stopped, True)
    zeros = [nn.Parameter(torch.zeros_like(param)) for param in sized(name, dtype)]
    # Options that choose which slots there are must be those of the checkpoint, which come with it.
    resumed = ours(name, zeros, **copy.deepcopy(options))
    for group in resumed.param_groups:
        group["lr"] = 0.125
    sr.load(path, resumed, True)
    assert everything(resumed) == everything(stopped)
    train(resumed, half, 2 * half, name)
    train(straight, 0, 2 * half, name)
    assert everything(resumed) == everything(straight)


# Resume.


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_every_class_resumes_in_every_bit(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    check_resume(tmp_path / "x", name, options, torch.float32)
    for dtype in (torch.float64, torch.bfloat16, torch.complex64):
        if not (
            dtype.is_complex and name in (*ROWS, "SparseAdam", "Rprop", "Lion", "Signum", "Yogi", "AdaBelief", "ADOPT")
        ):
            check_resume(tmp_path / "x", name, options, dtype, 3)


@pytest.mark.parametrize(("name", "options"), [case for case in ALL if case[0] != "SparseAdam"], ids=case_id)
def test_every_class_resumes_with_formats(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    check_resume(tmp_path / "x", name, {**options, **with_slots(name, SMALLEST)}, torch.bfloat16, 10)
    bfloat16 = {"states": "bfloat16", "min_elements": 0, "weights": "stochastic"}
    check_resume(tmp_path / "x", name, {**options, **with_slots(name, bfloat16)}, torch.float16, 5)


def test_every_class_is_in_the_matrix() -> None:
    assert {name for name, _ in ALL} == set(CLASSES) - {"Optimizer"}


@pytest.mark.parametrize("rule", ["adan", "momentum", sr.cautious("adamw")], ids=str)
def test_any_rule_resumes(tmp_path: Path, rule: Any) -> None:
    check_resume(tmp_path / "x", "Optimizer", {"rule": rule, "lr": 0.02}, torch.float32, 5)


def test_options_of_groups_come_back_as_they_were(tmp_path: Path) -> None:
    first, second, third = params_of()
    groups: list[dict[str, Any]] = [
        {"params": [("a", first)], "lr": torch.tensor(0.25)},
        {"params": [("b", second), ("c", third)]},
    ]
    optimizer = door.AdamW(groups, lr=0.5, betas=(0.8, 0.95))
    train(optimizer, 0, 3)
    optimizer.param_groups[1]["note"] = ["mine", (1, float("inf"))]
    sr.save(tmp_path / "x", optimizer, True)
    others = [nn.Parameter(torch.zeros_like(param)) for param in (first, second, third)]
    named = [{"params": [("a", others[0])]}, {"params": [("b", others[1]), ("c", others[2])]}]
    resumed = door.AdamW(named)
    sr.load(tmp_path / "x", resumed, True)
    assert everything(resumed) == everything(optimizer)
    assert resumed.param_groups[0]["lr"].dtype == torch.float32


def test_a_scheduler_goes_on(tmp_path: Path) -> None:
    optimizer, resumed = (door.AdamW(params_of(), lr=0.5) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    train(optimizer, 0, 3)
    scheduler.step()
    sr.save(tmp_path / "x", optimizer, True, scheduler=scheduler.state_dict())
    again = torch.optim.lr_scheduler.LinearLR(resumed)  # it changes lr, so it comes first
    checkpoint = sr.load(tmp_path / "x", resumed, True)
    again.load_state_dict(checkpoint.extra["scheduler"])
    train(optimizer, 3, 4)
    train(resumed, 3, 4)
    for one in (scheduler, again):
        one.step()
    assert everything(resumed) == everything(optimizer)


def _schedules() -> dict[str, Any]:
    rates = torch.optim.lr_scheduler
    return {
        "steps": lambda o: rates.MultiStepLR(o, [2, 4, 4], gamma=0.3),
        "cosine": lambda o: rates.CosineAnnealingWarmRestarts(o, 3),
        "plateau": lambda o: rates.ReduceLROnPlateau(o, patience=1),
        "chain": lambda o: rates.SequentialLR(o, [rates.ConstantLR(o), rates.MultiStepLR(o, [1, 3])], [2]),
    }


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("kind", _schedules())
def test_every_kind_of_schedule_goes_on(tmp_path: Path, kind: str, as_tensor: bool) -> None:
    def made() -> tuple[Any, Any]:
        optimizer = door.AdamW(params_of(), lr=torch.tensor(0.1) if as_tensor else 0.1)
        return optimizer, _schedules()[kind](optimizer)

    def run(optimizer: Any, schedule: Any, start: int, stop: int) -> None:
        for t in range(start, stop):
            train(optimizer, t, t + 1)
            schedule.step(*([1.0] if kind == "plateau" else []))

    straight, stopped, resumed = made(), made(), made()
    run(*stopped, 0, 3)
    sr.save(tmp_path / "x", stopped[0], True, schedule=stopped[1].state_dict())
    found = sr.load(tmp_path / "x", resumed[0], True).extra["schedule"]
    assert repr(found) == repr(stopped[1].state_dict())
    resumed[1].load_state_dict(found)
    run(*resumed, 3, 6)
    run(*straight, 0, 6)
    assert everything(resumed[0]) == everything(straight[0])


def test_tensors_of_one_number_are_arrays_where_nobody_imported_torch(tmp_path: Path) -> None:
    sr.save(
        tmp_path / "x", door.AdamW(params_of()), a=[torch.tensor(0.1), torch.tensor([7]), torch.tensor(1.5).bfloat16()]
    )
    code = "import sys, steprule as sr; print(sr.load(sys.argv[1]).extra, 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "{'a': [array(0.1, dtype=float32), array([7]), array(1.5, dtype=float32)]} False\n"


def test_parameters_that_were_never_stepped_and_that_lag_behind(tmp_path: Path) -> None:
    def made() -> Any:
        return door.NAdam(params_of(), lr=0.1)

    def run(optimizer: Any, start: int, stop: int) -> None:
        params = optimizer.param_groups[0]["params"]
        for t in range(start, stop):
            random_gradients(params, t)
            params[2].grad = None
            if t % 2:
                params[1].grad = None
            optimizer.step()

    straight, stopped, resumed = made(), made(), made()
    run(stopped, 0, 5)
    sr.save(tmp_path / "x", stopped, True)
    checkpoint = sr.load(tmp_path / "x", resumed, True)
    assert checkpoint.t is None
    assert everything(resumed) == everything(stopped)
    run(resumed, 5, 9)
    run(straight, 0, 9)
    assert everything(resumed) == everything(straight)
    arrays = sr.Optimizer([param.detach().numpy() for param in params_of()], "nadam")
    with pytest.raises(StateError, match=r"parameter 2 has been stepped 0 times, 0 5 times.*one count for all"):
        sr.load(tmp_path / "x", arrays)


_RESUMED = """
import sys, torch, steprule as sr
from tests.checkpoint.test_torch import SMALLEST, door, params_of, train
optimizer = door.AdamW([torch.nn.Parameter(torch.zeros_like(p)) for p in params_of(torch.bfloat16)], **SMALLEST)
sr.load(sys.argv[1], optimizer, True)
train(optimizer, 100, 200)
sr.save(sys.argv[1] + ".end", optimizer, True)
"""


@pytest.mark.slow
def test_another_process_goes_on(tmp_path: Path) -> None:
    straight = door.AdamW(params_of(torch.bfloat16), **SMALLEST)
    train(straight, 0, 100)
    sr.save(tmp_path / "x", straight, True)
    subprocess.run([sys.executable, "-c", _RESUMED, str(tmp_path / "x")], check=True)
    end = door.AdamW(params_of(torch.bfloat16), **SMALLEST)
    sr.load(tmp_path / "x.end", end, True)
    train(straight, 100, 200)
    assert everything(end) == everything(straight)


# Across doors.


def arrays_of(params: list[nn.Parameter]) -> list[np.ndarray[Any, Any]]:
    """Return copies as arrays."""
    import ml_dtypes

    found = []
    for param in params:
        bits = param.detach().clone()
        is_short = bits.dtype is torch.bfloat16
        found.append(bits.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if is_short else bits.numpy())
    return found


def stepped_alike(optimizer: Any, other: sr.Optimizer, start: int, stop: int) -> None:
    """Step both along the same gradients, and compare the parameters."""
    params = optimizer.param_groups[0]["params"]
    for t in range(start, stop):
        random_gradients(params, t)
        optimizer.step()
        other.step(arrays_of([param.grad for param in params]))
    for array, expected in zip(other.params, arrays_of(params), strict=True):
        assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_from_torch_to_numpy_and_back(tmp_path: Path, name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    formats = with_slots(name, SMALLEST) if dtype is torch.bfloat16 else {}
    optimizer: Any = ours(name, params_of(dtype), **options, **formats)
    train(optimizer, 0, 10)
    sr.save(tmp_path / "x", optimizer, True)
    zeros = [np.zeros_like(array) for array in arrays_of(params_of(dtype))]
    kept = {key: value for key, value in formats.items() if key != "seed"}
    own = optimizer._options_of(optimizer.param_groups)[0]
    # Options that may choose which slots there are.
    chosen = [key for key, hyper in own.rule.hyperparameters.items() if hyper.is_static or hyper.optional]
    slots = {key: own.values[key] for key in chosen}
    arrays = sr.Optimizer(zeros, own.rule, **kept, **slots)
    sr.load(tmp_path / "x", arrays, True)
    stepped_alike(optimizer, arrays, 10, 20)

    sr.save(tmp_path / "y", arrays, True)
    fresh = {key: value for key, value in options.items() if key in ("momentum", "amsgrad", *chosen)}
    back: Any = ours(name, [nn.Parameter(torch.zeros_like(p)) for p in params_of(dtype)], **fresh, **formats)
    sr.load(tmp_path / "y", back, True)
    assert frozen(back.state_dict()["state"]) == frozen(optimizer.state_dict()["state"])
    stepped_alike(back, arrays, 20, 30)


def test_groups_without_decay_go_to_one_rule(tmp_path: Path) -> None:
    first, second, _ = params_of()
    split: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "weight_decay": 0.0}]
    optimizer = door.AdamW(split, lr=0.1)
    train(optimizer, 0, 3)
    sr.save(tmp_path / "x", optimizer, True)
    groups = [sr.Group(np.zeros((6, 130), np.float32)), sr.Group(np.zeros(4, np.float32))]
    arrays = sr.Optimizer(groups, "adamw")
    sr.load(tmp_path / "x", arrays, True)
    assert [group["weight_decay"] for group in arrays.groups] == [0.01, 0.0]
    params = [first, second]
    for t in range(3, 6):
        random_gradients(params, t)
        optimizer.step()
        arrays.step(arrays_of([param.grad for param in params]))  # type: ignore[misc]
    assert [p.tobytes() for p in arrays.params] == [p.tobytes() for p in arrays_of(params)]


def test_what_a_class_cannot_say_is_refused(tmp_path: Path) -> None:
    def arrays(rule: str, **options: Any) -> None:
        optimizer = sr.Optimizer([param.detach().numpy() for param in params_of()], rule, **options)
        sr.save(tmp_path / "x", optimizer)

    cases: list[tuple[str, dict[str, Any], str]] = [
        ("adam", {"bias_correction": False}, "'adam'.* with bias_correction=False"),
        ("lion", {}, "for rule 'lion' .*, which Adam cannot be; load it with steprule.torch.Optimizer"),
        ("adam", {"lr": lambda t: 0.1}, "lr was a schedule when group 0 was saved"),
    ]
    for rule, options, words in cases:
        arrays(rule, **options)
        adam = door.Adam(params_of())
        before = everything(adam)
        with pytest.raises(StateError, match=words):
            sr.load(tmp_path / "x", adam)
        assert everything(adam) == before
    arrays("adam", bias_correction=False)
    sr.load(tmp_path / "x", general := door.Optimizer(params_of(), "adam"))
    assert general.param_groups[0]["bias_correction"] is False


def test_hyperparameters_may_stay(tmp_path: Path) -> None:
    optimizer = door.Adam(params_of(), lr=0.5, betas=(0.5, 0.75))
    train(optimizer, 0, 2)
    sr.save(tmp_path / "x", optimizer)
    other = door.Adam(params_of(), lr=0.25)
    sr.load(tmp_path / "x", other, hyperparameters=False)
    assert other.param_groups[0]["lr"] == 0.25
    assert frozen(other.state_dict()["state"]) == frozen(optimizer.state_dict()["state"])


def test_formats_are_converted_on_request(tmp_path: Path) -> None:
    optimizer = door.Adam(params_of(), lr=0.5)
    train(optimizer, 0, 2)
    sr.save(tmp_path / "x", optimizer)
    coded = door.Adam(params_of(), states="8bit", min_elements=0)
    sr.load(tmp_path / "x", coded, convert=True)
    assert "exp_avg_8bit" in coded.state_dict()["state"][0]
    assert coded.param_groups[0]["lr"] == 0.5
    arrays = sr.Optimizer([param.detach().numpy() for param in params_of()], "adam")
    arrays.step([np.ones_like(param) for param in arrays.params])
    sr.save(tmp_path / "x", arrays)
    with pytest.raises(StateError, match="exp_avg is kept as 8bit signed 128 here, but the state has it as float32"):
        sr.load(tmp_path / "x", coded)


FORMATS: list[dict[str, Any]] = [
    {},
    {"states": "8bit", "min_elements": 0},
    {"states": "bfloat16", "min_elements": 0},
    {"states": "4bit", "min_elements": 0},
    {"states": {"exp_avg": "8bit"}, "min_elements": 0},
    {"states": {"exp_avg": "8bit", "exp_avg_sq": "4bit"}, "min_elements": 0},
]


def test_other_formats_are_refused_in_both_directions(tmp_path: Path) -> None:
    for saved, here in itertools.permutations(FORMATS, 2):
        optimizer = door.AdamW(params_of(), lr=0.5, **saved)
        train(optimizer, 0, 2)
        sr.save(tmp_path / "x", optimizer)
        other = door.AdamW(params_of(), **here)
        before = everything(other)
        with pytest.raises(StateError, match=r"nothing was loaded: parameter 0: exp_avg.* is kept as .*convert=True"):
            sr.load(tmp_path / "x", other)
        assert everything(other) == before
        sr.load(tmp_path / "x", other, convert=True)
        assert other.param_groups[0]["lr"] == 0.5
        assert other.param_groups[0].get("states", "float32") == here.get("states", "float32")
        train(other, 2, 3)


STATES: list[Any] = ["float32", "bfloat16", "8bit", "4bit", {"m": "4bit", "v": "8bit"}]
SHAPES = ((3, 131), (7,), (1, 1), (), (0, 3))
"""Rows that end in the middle of an item of codes, and of a group of them."""


def in_formats(states: Any) -> tuple[sr.Optimizer, Any]:
    """Return the same optimizer of both doors."""
    arrays = [np.sin(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape) for shape in SHAPES]
    params = [nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]
    low: dict[str, Any] = {} if states == "float32" else {"states": states, "min_elements": 0}
    optimizer = door.Adam(params, lr=0.5, **low)
    return sr.Optimizer(arrays, "adam", lr=0.5, **low), optimizer


def planes_in(path: Path) -> Any:
    """Return what a file says of slots, every bit of it."""
    checkpoint = sr.load(path)
    slots = {
        (name, plane): (array.dtype, array.shape, array.tobytes())
        for name, own in checkpoint.slots.items()
        for plane, array in own.items()
    }
    return slots, checkpoint.formats


@pytest.mark.parametrize(("there", "here"), list(itertools.permutations(STATES, 2)), ids=str)
def test_every_format_is_converted_to_every_other_alike_in_all_ways(tmp_path: Path, there: Any, here: Any) -> None:
    saved, _ = in_formats(there)
    for t in range(3):
        saved.step([np.asarray(np.cos(array + t)) for array in saved.params])
    sr.save(tmp_path / "arrays", saved)
    _, theirs = in_formats(there)
    sr.load(tmp_path / "arrays", theirs)
    sr.save(tmp_path / "tensors", theirs)
    assert planes_in(tmp_path / "arrays") == planes_in(tmp_path / "tensors")
    made: list[Any] = []
    for name, one in itertools.product(("arrays", "tensors"), in_formats(here)):
        sr.load(tmp_path / name, one, convert=True)
        made.append(one)
    for one, state in zip(in_formats(here), (saved.state_dict(), theirs.state_dict()), strict=True):
        one.load_state_dict(state, convert=True)
        made.append(one)
    written, tables = [], []
    for one in made:
        sr.save(tmp_path / "again", one)
        written.append(planes_in(tmp_path / "again"))
        tables.append(sr.load(tmp_path / "again").describe().splitlines()[1:])
    assert written == written[:1] * len(made)
    assert tables == tables[:1] * len(made)


def test_the_seed_belongs_to_the_state(tmp_path: Path) -> None:
    straight = door.AdamW(params_of(torch.bfloat16), **SMALLEST)
    train(straight, 0, 3)
    sr.save(tmp_path / "x", straight, True)
    train(straight, 3, 6)
    for options in ({}, {"hyperparameters": False}, {"convert": True}):
        resumed = door.AdamW(params_of(torch.bfloat16), **{**SMALLEST, "seed": 5})
        sr.load(tmp_path / "x", resumed, True, **options)
        assert resumed.param_groups[0]["seed"] == 11
        train(resumed, 3, 6)
        assert everything(resumed) == everything(straight)


def test_other_guards_are_refused(tmp_path: Path) -> None:
    guarded = door.AdamW(params_of(), clip_norm=0.1, nonfinite="skip")
    train(guarded, 0, 2)
    sr.save(tmp_path / "x", guarded, True)
    plain = door.AdamW(params_of(), lr=0.25)
    before = everything(plain)
    with pytest.raises(StateError, match=r"saved with .*clip_norm=0\.1.*hyperparameters=False"):
        sr.load(tmp_path / "x", plain, True)
    assert everything(plain) == before
    sr.load(tmp_path / "x", plain, True, hyperparameters=False)
    assert plain.param_groups[0]["lr"] == 0.25
    assert frozen(plain.state_dict()["state"]) == frozen(guarded.state_dict()["state"])


def test_targets_that_cannot_be_filled_are_found_before_anything_changes(tmp_path: Path) -> None:
    saved = door.AdamW(params_of())
    train(saved, 0, 2)
    sr.save(tmp_path / "x", saved, {"a": torch.ones(4), "b": torch.ones(2, 3)})
    with torch.inference_mode():
        inference = torch.zeros(2, 3)
    wrong = {
        "made in inference mode": inference,
        "one number seen as many": torch.zeros(1, 3).expand(2, 3),
        "of layout torch.sparse_coo": torch.zeros(2, 3).to_sparse(),
    }
    for words, tensor in wrong.items():
        first, optimizer = torch.zeros(4), door.AdamW(params_of())
        before = everything(optimizer)
        with pytest.raises(StateError, match=f"x: nothing was loaded: b is {words}"):
            sr.load(tmp_path / "x", optimizer, {"a": first, "b": tensor})
        assert everything(optimizer) == before
        assert not first.any()
    with torch.inference_mode():
        sr.load(tmp_path / "x", params={"a": torch.zeros(4), "b": inference})
        assert inference.all()


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        (torch.float32, "nearest"),
        *itertools.product([torch.float16, torch.bfloat16], ["nearest", "stochastic", "split24", "split32"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("states", ["float32", *SLOT_FORMATS])
def test_parameters_of_every_type_resume(tmp_path: Path, kind: torch.dtype, weights: str, states: str) -> None:
    def made(number: float) -> tuple[nn.Parameter, door.AdamW]:
        weight = nn.Parameter(torch.full((4, 130), number, dtype=kind))
        options: dict[str, Any] = {} if states == "float32" else {"states": states, "min_elements": 0}
        return weight, door.AdamW([weight], weights=weights, **options)

    def step(weight: nn.Parameter, optimizer: door.AdamW) -> bytes:
        weight.grad = torch.linspace(-1, 1, 520).reshape(4, 130).to(kind)
        optimizer.step()
        return weight.detach().view(torch.uint8).numpy().tobytes()

    first = made(1.0)
    step(*first)
    sr.save(tmp_path / "x", first[1], params=True)
    by_file, by_dict = made(0.0), made(0.0)
    sr.load(tmp_path / "x", by_file[1], params=True)
    by_dict[0].data.copy_(first[0].detach())
    by_dict[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    expected = step(*first)
    assert step(*by_file) == expected
    assert step(*by_dict) == expected


@pytest.mark.parametrize(
    "wrong", [None, 1, "x", [], [1], [{}], [{"params": 1}], [{"params": [[]]}], torch.ones(2)], ids=repr
)
def test_a_dict_of_another_shape_is_refused(wrong: Any) -> None:
    optimizer = door.AdamW([nn.Parameter(torch.ones(2))])
    good = optimizer.state_dict()
    with pytest.raises(StateError, match=r"number of parameter groups|'param_groups' must be a list of dicts"):
        optimizer.load_state_dict({**good, "param_groups": wrong})
    for state in (wrong, {0: wrong}):
        with pytest.raises(StateError, match="'state' must be a dict of dicts"):
            optimizer.load_state_dict({**good, "state": state})


def test_tensors_without_elements_are_filled_whatever_their_strides(tmp_path: Path) -> None:
    empty = torch.tensor(np.zeros((2, 0, 3), np.float32))
    assert 0 in empty.stride()  # as those of an expanded tensor, which cannot be filled
    saved, here = ([nn.Parameter(empty.clone()), nn.Parameter(torch.full((2,), number))] for number in (1.0, 0.0))
    here[0].data = empty
    sr.save(tmp_path / "x", door.AdamW(saved), params=True)
    sr.load(tmp_path / "x", door.AdamW(here), params=True)
    assert here[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("step", [math.nan, math.inf, 2.5, -1.0, 1e30])
def test_a_state_with_what_is_no_step_count_is_not_saved(tmp_path: Path, step: float) -> None:
    optimizer = door.AdamW([weight := nn.Parameter(torch.ones(2))])
    weight.grad = torch.ones(2)
    optimizer.step()
    optimizer.state[weight]["step"] = torch.tensor(step)
    with pytest.raises(StateError, match="the step of parameter 0 must be an integer from 0 to "):
        sr.save(tmp_path / "x", optimizer)
    assert not (tmp_path / "x").exists()


# Tensors.


class Model(nn.Module):
    """A module with buffers, tied weights and several types."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4).bfloat16()
        self.last = nn.Linear(4, 4).bfloat16()
        self.last.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("eighth", torch.randn(3).to(torch.float8_e4m3fn))
        self.register_buffer("turned", torch.randn(2, 3).T)
        self.register_buffer("wave", torch.randn(2, dtype=torch.complex64).conj())


def test_a_module_comes_back(tmp_path: Path) -> None:
    model, other = Model(), Model()
    optimizer = door.AdamW(model.named_parameters())
    train(optimizer, 0, 2)
    sr.save(tmp_path / "x", optimizer, model, history=torch.arange(3))
    resumed = door.AdamW(other.named_parameters())
    checkpoint = sr.load(tmp_path / "x", resumed, other)
    assert frozen(other.state_dict()) == frozen(model.state_dict())
    assert other.last.weight is other.first.weight
    assert everything(resumed) == everything(optimizer)
    assert checkpoint.extra["history"].tolist() == [0, 1, 2]
    by_library = safetensors.torch.load_file(tmp_path / "x")
    for name, tensor in model.state_dict().items():
        if not tensor.is_complex():
            assert frozen(by_library[f"params/{name}"]) == frozen(tensor), name


def test_a_module_of_other_shapes_changes_nothing(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = door.AdamW(model.named_parameters())
    sr.save(tmp_path / "x", optimizer, model)
    other = nn.Linear(3, 2, bias=False)
    before = everything(optimizer)
    with pytest.raises(StateError, match=r"not those to be filled\. By name, the checkpoint lacks none, and has bias"):
        sr.load(tmp_path / "x", optimizer, other)
    assert everything(optimizer) == before


def test_parameters_are_matched_by_name(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = door.AdamW(model.named_parameters())
    train(optimizer, 0, 2)
    sr.save(tmp_path / "x", optimizer, True)
    turned = door.AdamW(list(other.named_parameters())[::-1])
    sr.load(tmp_path / "x", turned, True)
    assert frozen(other.state_dict()) == frozen(model.state_dict())
    assert frozen(turned.state[other.bias]) == frozen(optimizer.state[model.bias])


def test_saving_leaves_storages_as_they_were(tmp_path: Path) -> None:
    model = Model()
    optimizer = door.AdamW(model.named_parameters())
    train(optimizer, 0, 1)
    sr.save(tmp_path / "x", optimizer, model)
    for tensor in [*model.state_dict().values(), optimizer.state[model.first.weight]["exp_avg"]]:
        assert tensor.untyped_storage().resizable(), "as sharding frees parameters"


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(2).to_sparse(), "of layout torch.sparse_coo"),
        (torch.empty(2, device="meta"), "on the device 'meta'"),
        (torch.empty(2, dtype=torch.uint4), "of type torch.uint4"),  # type: ignore[attr-defined]
    ],
    ids=["sparse", "meta", "type"],
)
def test_tensors_that_no_file_can_hold(tmp_path: Path, tensor: Tensor, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        sr.save(tmp_path / "x", door.Adam(params_of()), {"t": tensor})
    assert not list(tmp_path.iterdir())


def test_options_and_states_that_no_file_can_hold(tmp_path: Path) -> None:
    optimizer = door.Adam(params_of())
    optimizer.param_groups[0]["note"] = object()
    with pytest.raises(CheckpointError, match="option 'note' of group 0 is of type object; nothing was written"):
        sr.save(tmp_path / "x", optimizer)
    del optimizer.param_groups[0]["note"]
    train(optimizer, 0, 1)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["mine"] = 1
    with pytest.raises(StateError, match=r"parameter 0 has \['mine'\], which are not slots of 'adam'"):
        sr.save(tmp_path / "x", optimizer)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match=r"torch.optim.adam.Adam; pass a steprule.Optimizer, one of steprule.torch, or"):
        sr.save(tmp_path / "x", torch.optim.Adam(params_of()))


def test_a_checkpoint_of_another_class_or_number_changes_nothing(tmp_path: Path) -> None:
    optimizer = door.Adam(params_of())
    train(optimizer, 0, 2)
    sr.save(tmp_path / "x", optimizer, True)
    wrong: list[tuple[Any, str]] = [
        (door.Lion(params_of()), "for rule 'adam' .* which Lion cannot be"),
        (door.Adam(params_of()[:2]), "has 3 parameters, this optimizer has 2"),
        (door.Adam(params_of(torch.float64)), "0 is float64 .* in the checkpoint float32"),
        (door.Adam([{"params": params_of()[:2]}, {"params": params_of()[2:]}]), "1 parameter groups, .* has 2"),
    ]
    for other, words in wrong:
        before = everything(other)
        with pytest.raises(StateError, match=words):
            sr.load(tmp_path / "x", other, True)
        assert everything(other) == before


@pytest.mark.slow
@pytest.mark.parametrize("coded", [False, True])
def test_documents_that_somebody_made(tmp_path: Path, coded: bool) -> None:
    path, loads = tmp_path / "x", 0
    options: dict[str, Any] = {"states": {"exp_avg": "8bit"}, "min_elements": 0} if coded else {"lr": torch.tensor(0.5)}
    optimizer = door.NAdam([("a", params_of()[0]), ("b", params_of()[1])], **options)
    train(optimizer, 0, 1)
    sr.save(path, optimizer, True)
    header, document, rest = parts(path)
    rng, before = random.Random(coded), everything(optimizer)
    for _ in range(1_500):
        header["__metadata__"]["document"] = as_text(mutated(rng, document))
        put(path, sealed(json.dumps(header, separators=(",", ":")).encode(), rest))
        try:
            sr.load(path, optimizer, True)
        except (CheckpointError, StateError):
            assert everything(optimizer) == before
        else:
            loads += 1
            before = everything(optimizer)
    assert 50 < loads < 750


_IMPORTS = """
import sys
import numpy as np, steprule as sr
sr.save(sys.argv[1], sr.Optimizer(np.ones(3)), True)
sr.load(sys.argv[1], sr.Optimizer(np.ones(3)), True)
print(*{"torch", "safetensors", "pickle5", "scipy"} & set(sys.modules))
"""


def test_checkpoints_of_arrays_load_no_framework(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _IMPORTS, str(tmp_path / "x")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


class Wrapper(torch.nn.Module):
    """As DistributedDataParallel names its parameters."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.module = model


WRAPPED: dict[str, Any] = {
    "": lambda model: model,
    "module": Wrapper,
    "_orig_mod": lambda model: torch.compile(model, backend="eager"),
    "module._orig_mod": lambda model: Wrapper(torch.compile(model, backend="eager")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("here", WRAPPED)
@pytest.mark.parametrize("there", WRAPPED)
def test_names_within_wrappers_are_explained_and_the_remedy_helps(tmp_path: Path, there: str, here: str) -> None:
    saved, own = (torch.nn.Linear(3, 2) for _ in range(2))
    inside, model = WRAPPED[there](saved), WRAPPED[here](own)
    sr.save(tmp_path / "x", door.AdamW(inside.named_parameters()), inside)
    optimizer = door.AdamW(model.named_parameters())
    if there == here:
        sr.load(tmp_path / "x", optimizer, model)
    else:
        with pytest.raises(StateError, match=r"not those to be filled.*: pass (.*)$") as caught:
            sr.load(tmp_path / "x", optimizer, model)
        assert not torch.equal(own.weight, saved.weight)
        remedy = str(caught.value).split(": pass ")[1].split("; and save")[0]
        sr.load(tmp_path / "x", optimizer, eval(remedy, {"model": model}))
    assert torch.equal(own.weight, saved.weight)
