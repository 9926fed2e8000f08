"""What programs and wrappers do with torch's optimizers beside stepping them: the PyTorch door goes along."""

from __future__ import annotations

import copy
import inspect
import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer

import steprule as sr
import steprule.torch as door
from steprule.errors import HyperparameterError, StateError, StructureError
from tests.torch_cases import (
    ALL,
    CLASSES,
    RICH,
    TORCH_NAMES,
    assert_agree,
    case_id,
    everything,
    frozen,
    one_thread,
    ours,
    problem_for,
    random_gradients,
    reference,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def parameter(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1.2, 12).reshape(4, 3).to(dtype))


def step(optimizer: torch.optim.Optimizer, name: str = "", steps: int = 2, start: int = 0) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, start + steps):
        random_gradients(params, t, name)
        optimizer.step()


# Hooks


def counted(optimizer: Any) -> list[str]:
    """Return what the hooks of an optimizer will have noted."""
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    return calls


class Mine(door.AdamW):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class OfMine(Mine):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Twice(door.AdamW):
    def step(self, closure: Any = None) -> Any:
        super().step()
        return super().step(closure)


class Alone(door.AdamW):
    def step(self, closure: Any = None) -> Any:
        return None


class Mixin:
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)  # type: ignore[misc]


class Mixed(Mixin, door.AdamW):
    pass


@pytest.mark.parametrize("cls", [door.AdamW, Mine, OfMine, Twice, Alone, Mixed], ids=lambda cls: cls.__name__)
def test_hooks_run_once_a_step(cls: Any) -> None:
    optimizer = cls([parameter()])
    calls = counted(optimizer)
    step(optimizer)
    assert calls == ["before", "after"] * 2
    door.AdamW([parameter()])  # torch.optim's wrap the base class when one is made
    Mine([parameter()])
    step(optimizer)
    assert calls == ["before", "after"] * 4


@pytest.mark.parametrize("cls", [door.AdamW, Mine, OfMine], ids=lambda cls: cls.__name__)
def test_hooks_for_all_optimizers_and_the_profiler_see_one_step(cls: Any) -> None:
    optimizer, calls = cls([parameter()]), []
    handle = torch_optimizer.register_optimizer_step_post_hook(lambda *_: calls.append("after"))
    try:
        step(optimizer)
    finally:
        handle.remove()
    assert calls == ["after"] * 2
    with torch.profiler.profile() as profile:
        step(optimizer, steps=3)
    names = [event.name for event in profile.events() if event.name.startswith("Optimizer.step#")]
    assert names == [f"Optimizer.step#{cls.__name__}.step"] * 3


def test_a_step_that_fails_within_a_subclass_leaves_hooks_at_work() -> None:
    optimizer = Mine([parameter()])
    calls = counted(optimizer)
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(HyperparameterError):
        step(optimizer, steps=1)
    optimizer.param_groups[0]["lr"] = 0.1
    step(optimizer, steps=1)
    assert calls == ["before", "before", "after"]


def test_hooks_change_the_arguments_of_a_subclass() -> None:
    losses = []
    optimizer = Mine([parameter()])
    optimizer.register_step_pre_hook(lambda own, args, kwargs: ((own, lambda: losses.append(1.5) or 1.5), {}))
    random_gradients(optimizer.param_groups[0]["params"], 0)
    assert optimizer.step() == 1.5
    assert losses == [1.5]


def test_a_subclass_steps_once_when_it_is_compiled() -> None:
    class Counting(door.SGD):
        taken = 0

        def step(self, closure: Any = None) -> Any:
            self.taken += 1
            return super().step(closure)

    p, q = parameter(), parameter()
    optimizer, plain = Counting([p], lr=0.1), door.SGD([q], lr=0.1)
    for own in (p, q):
        random_gradients([own], 0)
    torch.compile(optimizer.step, backend="eager")()
    plain.step()
    assert optimizer.taken == 1
    assert torch.equal(p, q)


@pytest.mark.parametrize("cls", [door.AdamW, Mine], ids=lambda cls: cls.__name__)
def test_a_schedule_that_wraps_the_step_is_called_and_is_not_in_the_way_of_hooks(cls: Any) -> None:
    optimizer = cls([parameter()], lr=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    calls = counted(optimizer)
    step(optimizer, steps=1)
    schedule.step()
    step(optimizer, steps=1)
    assert calls == ["before", "after"] * 2
    assert optimizer._opt_called
    assert optimizer.param_groups[0]["lr"] == 0.05


# Groups, defaults and notes

NOTES: dict[str, Any] = {
    **{"param_name": "w", "param": "w", "state": "frozen", "states_dir": "/tmp", "weight": 0.3, "weights_only": True},
    **{"stage": 2, "stages": (1, 2), "used": True, "beta1": 0.9, "beta2": 0.99, "momentum2": 0.5, "seeds": "1, 2"},
    **{"weight_decay_2": 0.1, "no_weight_decay": True, "lrs": [0.1], "lr2": 0.1, "ep": 3, "epoch": 3, "moment": "m"},
    **{"maximum": 3, "alphas": "a", "layer": None, "lambda_max": 1.0, "decay": 0.1, "wd": 0.1, "warm": 3, 3: "three"},
}


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_notes_in_groups_pass_and_stay(name: str, options: dict[str, Any]) -> None:
    (p,), (q,) = ([parameter()] for _ in range(2))
    optimizer, plain = ours(name, [{"params": [p], **NOTES}], **options), ours(name, [q], **options)
    optimizer.add_param_group({"params": [parameter()], **NOTES})
    for own in (optimizer, plain):
        step(own, name)
    assert torch.equal(p, q)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        assert {key: group[key] for key in NOTES} == NOTES


SLIPS: list[tuple[str, dict[str, Any], str]] = [
    ("AdamW", {"state": "8bit"}, "states"),
    ("AdamW", {"state": {"exp_avg": "bfloat16"}}, "states"),
    ("Lion", {"weight": "split24"}, "weights"),
    ("SGD", {"momentm": 0.9}, "momentum"),
    ("SGD", {"mometnum": torch.tensor(0.9)}, "momentum"),
    ("SGD", {"maximise": True}, "maximize"),
    ("RMSprop", {"centred": True}, "centered"),
    ("ASGD", {"lambda": 0.1}, "lambd"),
    ("Adam", {"bettas": (0.9, 0.9)}, "betas"),
    ("Adam", {"amsgrad_": True}, "amsgrad"),
    ("NAdam", {"momentum_deday": 0.1}, "momentum_decay"),
    ("Optimizer", {"weight_deca": 0.1}, "weight_decay"),
]


@pytest.mark.parametrize(("name", "slip", "meant"), SLIPS, ids=case_id)
def test_a_slip_names_the_option(name: str, slip: dict[str, Any], meant: str) -> None:
    options = {"rule": "adamw"} if name == "Optimizer" else {}
    optimizer = ours(name, [parameter()], **options)
    before = everything(optimizer)
    with pytest.raises(HyperparameterError, match=f"no option '{next(iter(slip))}'. Did you mean '{meant}'"):
        optimizer.add_param_group({"params": [parameter()], **slip})
    assert everything(optimizer) == before


@pytest.mark.parametrize("name", CLASSES)
def test_a_key_that_is_added_to_the_defaults_is_a_note(name: str) -> None:
    optimizer = ours(name, [parameter()])
    step(optimizer, name)
    optimizer.defaults.update({"note": 1, "state": "8bit", "clip_norm": 3.0, "weigth_decay": 0.1})
    step(optimizer, name)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert "note" not in optimizer.param_groups[0]
    again = copy.deepcopy(optimizer)
    step(optimizer, name)
    step(again, name)
    assert everything(again) == everything(optimizer)
    del optimizer.defaults["clip_norm"]  # of which a group would have one of its own
    optimizer.add_param_group({"params": [parameter()]})
    assert optimizer.param_groups[1]["note"] == 1
    step(optimizer, name)


def test_a_group_that_has_lost_an_option_is_refused_as_ever() -> None:
    optimizer = ours("AdamW", [parameter()])
    del optimizer.param_groups[0]["eps"]
    with pytest.raises(HyperparameterError, match="has lost its option 'eps'"):
        step(optimizer)


GIVEN: dict[str, Callable[[nn.Parameter, nn.Parameter], Any]] = {
    "ParameterList": lambda p, q: nn.ParameterList([p, q]),
    "ParameterList in a group": lambda p, q: [{"params": nn.ParameterList([p, q])}],
    "values of a ParameterDict": lambda p, q: nn.ParameterDict({"p": p, "q": q}).values(),
    "items of a ParameterDict": lambda p, q: nn.ParameterDict({"p": p, "q": q}).items(),
    "items in a group": lambda p, q: [{"params": nn.ParameterDict({"p": p, "q": q}).items()}],
    "generator": lambda p, q: (x for x in (p, q)),
    "generator in a group": lambda p, q: [{"params": (x for x in (p, q))}],
    "generator of groups": lambda p, q: ({"params": [x]} for x in (p, q)),
    "map": lambda p, q: map(lambda x: x, (p, q)),
    "tuple": lambda p, q: (p, q),
    "named in a generator": lambda p, q: (pair for pair in (("p", p), ("q", q))),
    "keys": lambda p, q: OrderedDict({p: 1, q: 2}).keys(),
    "single tensors in groups": lambda p, q: [{"params": p}, {"params": q}],
}


@pytest.mark.parametrize("how", GIVEN)
@pytest.mark.parametrize("name", CLASSES)
def test_parameters_are_taken_as_torch_takes_them(name: str, how: str) -> None:
    theirs, own = (GIVEN[how](p, q) for p, q in ((parameter(), parameter()) for _ in range(2)))
    expected, optimizer = torch.optim.SGD(theirs), ours(name, own)
    for group, told in zip(optimizer.param_groups, expected.param_groups, strict=True):
        assert len(group["params"]) == len(told["params"])
        assert group.get("param_names") == told.get("param_names")
    step(optimizer, name)


def test_formats_are_checked_for_parameters_from_a_generator() -> None:
    optimizer = ours("AdamW", [parameter()])
    wide = nn.Parameter(torch.ones(64, 128, dtype=torch.float64))
    with pytest.raises(StructureError, match="float64"):
        optimizer.add_param_group({"params": (p for p in [wide]), "states": "8bit"})
    assert len(optimizer.param_groups) == 1


WRONG: dict[str, Callable[[], Any]] = {
    "module": lambda: nn.Linear(2, 2),
    "Sequential": lambda: nn.Sequential(nn.Linear(2, 2)),
    "ParameterDict": lambda: nn.ParameterDict({"p": parameter()}),
    "empty ParameterList": lambda: nn.ParameterList([]),
}


@pytest.mark.parametrize("how", WRONG)
def test_modules_are_refused_as_torch_refuses_them(how: str) -> None:
    with pytest.raises((TypeError, ValueError)) as theirs:
        torch.optim.SGD(WRONG[how]())
    with pytest.raises(theirs.type, match=r"\.parameters\(\)|empty parameter list"):
        ours("SGD", WRONG[how]())


# Options of several numbers, and numbers of other kinds

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


def test_betas_of_adam_are_a_tuple_as_in_torch() -> None:
    for name in ("Adam", "AdamW"):
        for betas in ([0.75, 0.875], np.array([0.75, 0.875])):
            groups = [make(name, [parameter()], betas=betas).param_groups[0] for make in (reference, ours)]
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
CYCLED = [(name, {}) for name in TORCH_NAMES] + [
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


# State

COUNTS: dict[str, Callable[[int], Any]] = {
    "int": lambda t: t,
    "float": float,
    "int64 of NumPy": np.int64,
    "int32 of NumPy": np.int32,
    "float64 of NumPy": np.float64,
    "float16 of NumPy": np.float16,
    "array of no dimension": np.array,
    "array of one": lambda t: np.array([t]),
    "tensor of an int": torch.tensor,
    "tensor of one": lambda t: torch.tensor([float(t)]),
}


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize(("name", "options"), dict(ALL).items(), ids=case_id)
def test_step_counts_of_any_kind_are_taken(name: str, options: dict[str, Any], kind: str) -> None:
    (p,), (q,) = ([parameter()] for _ in range(2))
    optimizer, plain = ours(name, [p], **options), ours(name, [q], **options)
    for own in (optimizer, plain):
        step(own, name)
    saved = copy.deepcopy(optimizer.state_dict())
    if "step" in saved["state"][0]:
        saved["state"][0]["step"] = COUNTS[kind](2)
    optimizer.load_state_dict(saved)
    step(optimizer, name, 1, 2)
    if "step" in optimizer.state[p]:
        optimizer.state[p]["step"] = COUNTS[kind](3)
    step(optimizer, name, 1, 3)
    step(plain, name, 2, 2)
    assert everything(optimizer) == everything(plain)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), "2", np.array([2, 3]), 2.5, np.float64(-1), None])
def test_what_is_no_step_count_is_refused(wrong: Any) -> None:
    optimizer = ours("AdamW", [parameter()])
    step(optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["step"] = wrong
    before = everything(optimizer)
    with pytest.raises(StateError, match="step"):
        optimizer.load_state_dict(saved)
    assert everything(optimizer) == before


def notes_of(p: Tensor) -> dict[str, Any]:
    """Return what wrappers keep in the state of a parameter."""
    average = p.detach().clone()
    return {
        "z": average,
        "ema": [average * 2, {"slow": average * 3}],
        "name": "w",
        "seen": torch.tensor([3, 4]),
        "k": 7,
    }


@pytest.mark.parametrize("when", ["before the first step", "after"])
@pytest.mark.parametrize(("name", "options"), [*ALL, ("SGD", {}), ("RMSprop", {}), ("Optimizer", {})], ids=case_id)
def test_what_wrappers_keep_in_the_state_survives_a_load(name: str, options: dict[str, Any], when: str) -> None:
    p, q = parameter(), parameter()
    optimizer, again = ours(name, [p], **options), ours(name, [q], **options)
    if when == "after":
        step(optimizer, name)
        with torch.no_grad():
            q.copy_(p)
    optimizer.state[p].update(notes_of(p))
    saved = optimizer.state_dict()
    again.load_state_dict(saved)
    assert frozen(again.state[q]) == frozen(optimizer.state[p])
    assert again.state[q]["z"] is not optimizer.state[p]["z"]
    again.state[q]["ema"][1]["slow"].zero_()
    assert optimizer.state[p]["ema"][1]["slow"].any()
    for own in (optimizer, again):
        step(own, name, 2, 2)
    assert torch.equal(p, q)
    assert again.float32_state_dict()["state"][0]["name"] == "w"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "options"), dict(RICH).items(), ids=case_id)
def test_what_wrappers_keep_follows_the_parameters_device(name: str, options: dict[str, Any]) -> None:
    kinds = []
    for make in (reference, ours):
        p, q = parameter(), nn.Parameter(parameter().detach().to("meta"))
        optimizer = make(name, [p], **options)
        step(optimizer, name)
        optimizer.state[p].update(notes_of(p))
        again = make(name, [q], **options)
        again.load_state_dict(optimizer.state_dict())
        state = again.state[q]
        tensors = (state["z"], state["ema"][0], state["ema"][1]["slow"])
        kinds.append([(tensor.device.type, tensor.dtype) for tensor in tensors])
        assert state["seen"].device.type == "meta"
    assert kinds[0] == kinds[1] == [("meta", torch.float32)] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=case_id)
def test_what_wrappers_keep_is_widened_and_never_narrowed(dtype: torch.dtype) -> None:
    p = parameter(dtype)
    optimizer, again = ours("SGD", [p]), ours("SGD", [parameter(dtype)])
    kept = {"half": torch.ones(3, dtype=torch.float16), "wide": torch.ones(3, dtype=torch.float64) / 3}
    optimizer.state[p].update(kept, mask=torch.tensor([True, False]), count=torch.tensor(3))
    again.load_state_dict(optimizer.state_dict())
    (state,) = again.state.values()
    assert state["half"].dtype == (torch.float32 if dtype is torch.float32 else torch.float16)
    assert torch.equal(state["wide"], kept["wide"])
    assert (state["mask"].dtype, state["count"].dtype) == (torch.bool, torch.int64)


@pytest.mark.parametrize("foreign", ["step", "momentum_buffer"])
@pytest.mark.parametrize("name", ["Adam", "Lion", "Adagrad", "RMSprop"])
def test_the_state_of_another_optimizer_is_no_note(name: str, foreign: str) -> None:
    optimizer = ours(name, [parameter()])
    saved = {**optimizer.state_dict(), "state": {0: {foreign: torch.tensor(2.0), "z": torch.ones(4, 3)}}}
    with pytest.raises(StateError, match="is it of another optimizer"):
        optimizer.load_state_dict(saved)


def test_a_state_that_is_part_of_a_graph_is_loaded_without_it() -> None:
    def differentiable(p: Tensor) -> Any:
        return ours("NAdam", [p], betas=(torch.tensor(0.75, requires_grad=True), 0.875), differentiable=True)

    p, q = parameter().detach(), parameter().detach()
    optimizer, again = differentiable(p), differentiable(q)
    step(optimizer)
    assert optimizer.state[p]["mu_product"].requires_grad
    again.load_state_dict(optimizer.state_dict())
    assert frozen(again.state[q]) == frozen(optimizer.state[p])
    assert not again.state[q]["mu_product"].requires_grad


# Loss scaling


@pytest.mark.parametrize("guards", [{}, {"clip_norm": 1.0, "nonfinite": "skip"}], ids=["", "guarded"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_scaler_steps_where_no_parameter_has_a_gradient(name: str, guards: dict[str, Any]) -> None:
    """As torch's fused optimizers do; another optimizer may have all the gradients of this step."""
    idle, moved = parameter(), parameter()
    optimizer, other = ours(name, [idle], **guards), ours("SGD", [moved], lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for _ in range(2):
        moved.grad = None
        scaler.scale(moved.sum()).backward()
        scaler.step(optimizer)
        scaler.step(other)
        scaler.update()
    assert torch.equal(idle, parameter())
    torch.testing.assert_close(moved.detach(), parameter().detach() - 1.0, rtol=1e-6, atol=1e-6)
    if name != "SparseAdam":
        for t in range(2):  # ADOPT's first step only looks
            random_gradients([idle], t)
            scaler.step(optimizer)
            scaler.update()
        assert not torch.equal(idle, parameter())
