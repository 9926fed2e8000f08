"""What programs and wrappers do with torch's optimizers beside stepping them: the PyTorch door goes along."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer

import steprule.torch as door
from steprule.errors import HyperparameterError, StateError, StructureError
from tests.doors.torch.cases import (
    ALL,
    CLASSES,
    case_id,
    everything,
    one_thread,
    ours,
    parameter,
    random_gradients,
    step,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


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

    def closure() -> float:
        losses.append(1.5)
        return 1.5

    optimizer = Mine([parameter()])
    optimizer.register_step_pre_hook(lambda own, args, kwargs: ((own, closure), {}))
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

KEPT_BY: dict[str, dict[str, Any]] = {
    "torch's schedulers": {"initial_lr": 0.1, "swa_lr": 0.1, "base_momentum": 0.8, "max_momentum": 0.9},
    "timm": {"lr_scale": 0.5, "lr_mult": 0.5, "param_names": ["w"], "initial_weight_decay": 0.1, "use_muon": False},
    "transformers": {"rank": 8, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std", "optim_args": "rank=8"},
    "peft": {"loraplus_lr_ratio": 16, "loraplus_weight_decay": 0.0},
    "deepspeed": {"name": "decay", "moe": True, "mp_group": None, "has_moe_layers": True, "max_grad_norm": 1.0},
    "apex": {"step": 3, "bias_correction": True, "grad_averaging": True, "use_nvlamb": False, "adam_w_mode": True},
    "Megatron": {"wd_mult": 1.0, "pre_wd_mult": 1.0, "pre_lr_mult": 1.0, "min_lr": 0.0, "start_wd": 0.1, "end_wd": 0.1}
    | {"is_expert_parallel": False, "is_decoupled_lr": False, "default_config": True, "is_vision_model_param": False},
    "fairscale, FSDP": {"fsdp_in_use": False, "shard": 0, "offload": False},
    "bitsandbytes": {"optim_bits": 8, "min_8bit_size": 4096, "block_wise": True, "percentile_clipping": 100}
    | {"max_unorm": 0.0, "skip_zeros": False, "is_paged": False, "t_alpha": None, "alpha": 0.0},
    "schedulefree": {"k": 0, "r": 0.0, "weight_sum": 0.0, "lr_max": -1.0, "scheduled_lr": 0.1, "train_mode": True}
    | {"warmup_steps": 0, "weight_lr_power": 2.0},
    "prodigy": {"d": 1e-6, "d0": 1e-6, "d_max": 1e-6, "d_coef": 1.0, "d_numerator": 0.0, "growth_rate": 1e9}
    | {"beta3": None, "decouple": True, "use_bias_correction": False, "safeguard_warmup": False, "slice_p": 1},
    "mmengine": {"param_name": "w", "layer_name": "w", "decay_mult": 1.0, "base_lr": 0.1, "constraint": False},
    "ultralytics": {"param_group": "bias", "warmup_bias_lr": 0.1},
    "muon": {"ns_steps": 5, "ns_coefficients": (3.4, -4.8, 2.0), "adjust_lr_fn": None, "momentum_buffers": []},
    "SAM and Lookahead": {"rho": 0.05, "adaptive": False, "lookahead_k": 5, "lookahead_alpha": 0.5, "la_steps": 5},
    "LARS": {"trust_coefficient": 1e-3, "trust_clip": False, "always_adapt": False, "lars_exclude": True},
    "scripts": {"weight_decay_scale": 0.0, "layer_decay": 0.75, "is_bias": True, "no_decay": True, "lr_decay_rate": 0.9}
    | {"group_name": "g", "layer_id": 3, "depth": 2, "clip_norms": [1.0], "clip_grad_norm": 1.0, "grad_clip": 1.0}
    | {"nonfinite_": [], "max_steps": 9, "weight_name": "w", "seeds": [1], "learning_rates": [0.1], "max_norm": 1.0},
}
"""What libraries and scripts keep in groups, beside options."""
NOTES: dict[Any, Any] = {
    **{key: value for keys in KEPT_BY.values() for key, value in keys.items() if key != "param_names"},
    "param_name": "w",
    "param": "w",
    "state": "frozen",
    "states_dir": "/tmp",
    "weight": 0.3,
    "weights_only": True,
    "stages": (1, 2),
    "used": True,
    "beta1": None,
    "beta3": 0.9,
    "rl": True,
    "l": 0.5,
    "r": 0.5,
    "ln": 0.5,
    "l2": 0.5,
    "lrl": 0.5,
    "fps": 25,
    "ps": 0.5,
    "reps": 3,
    "clips": 0.5,
    "momentum2": 0.5,
    "weight_decay_2": 0.1,
    "no_weight_decay": True,
    "lrs": [0.1],
    "lr2": 0.1,
    "ep": 3,
    "moment": "m",
    "alphas": "a",
    "layer": None,
    "lambda_max": 1.0,
    "decay": 0.1,
    3: "three",
}


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_notes_in_groups_pass_and_stay(name: str, options: dict[str, Any]) -> None:
    (p,), (q,) = ([parameter()] for _ in range(2))
    plain = ours(name, [q], **options)
    notes = {key: value for key, value in NOTES.items() if key not in plain.param_groups[0]}  # alpha, rho; k
    optimizer = ours(name, [{"params": [p], **notes}], **options)
    optimizer.add_param_group({"params": [parameter()], **notes})
    for own in (optimizer, plain):
        step(own, name)
    assert torch.equal(p, q)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        assert {key: group[key] for key in notes} == notes


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
    ("AdamW", {"clip_nrom": 1.0}, "clip_norm"),
    ("Lion", {"clipnorm": 1}, "clip_norm"),
    ("SGD", {"clip_vlaue": torch.tensor(0.5)}, "clip_value"),
    ("Adam", {"update_clipp": True}, "update_clip"),
    ("AdamW", {"non_finite": "skip"}, "nonfinite"),
    ("AdamW", {"max_skip": 3}, "max_skips"),
    ("AdamW", {"learning_rate": 0.1}, "lr"),
    ("SGD", {"learningRate": torch.tensor(0.1)}, "lr"),
    ("Lion", {"wd": 0.1}, "weight_decay"),
    ("Adam", {"epsilon": 1e-6}, "eps"),
    ("Adam", {"LR": 0.1}, "lr"),
    ("RMSprop", {"Eps": 1e-6}, "eps"),
    ("Adam", {"lrr": 0.1}, "lr"),
    ("AdamW", {"llr": torch.tensor(0.1)}, "lr"),
    ("SGD", {"rl": 0.1}, "lr"),
    ("Lion", {"lr_": 0.1}, "lr"),
    ("AdamW", {"epss": 1e-6}, "eps"),
    ("Adam", {"esp": 1e-6}, "eps"),
    ("Optimizer", {"eeps": 1e-6}, "eps"),
    ("Adadelta", {"rhoo": 0.5}, "rho"),
    ("ADOPT", {"cilp": True}, "clip"),
    ("Adam", {"ebtas": (0.9, 0.9)}, "betas"),
    ("Adam", {"beta1": 0.5}, "betas"),
    ("AdamW", {"beta2": torch.tensor(0.5)}, "betas"),
    ("Lion", {"beta_1": 0.5}, "betas"),
    ("AdamW", {"weightDecay": 0.1}, "weight_decay"),
    ("AdamW", {"weight-decay": 0}, "weight_decay"),
    ("NAdam", {"Betas": (0.9, 0.9)}, "betas"),
    ("AdamW", {"States": "8bit"}, "states"),
    ("SGD", {"Nesterov": True}, "nesterov"),
    ("Optimizer", {"learning_rate": 0.1}, "lr"),
]


@pytest.mark.parametrize(("name", "slip", "meant"), SLIPS, ids=case_id)
def test_a_slip_names_the_option(name: str, slip: dict[str, Any], meant: str) -> None:
    options = {"rule": "adamw"} if name == "Optimizer" else {}
    with pytest.raises(HyperparameterError, match=f"no option '{next(iter(slip))}'. Did you mean '{meant}'"):
        ours(name, [{"params": [parameter()], **slip}], **options)
    optimizer = ours(name, [parameter()], **options)
    before = everything(optimizer)
    with pytest.raises(HyperparameterError, match=f"no option '{next(iter(slip))}'. Did you mean '{meant}'"):
        optimizer.add_param_group({"params": [parameter()], **slip})
    assert everything(optimizer) == before


@pytest.mark.parametrize("begun", [False, True], ids=["before the first step", "between steps"])
@pytest.mark.parametrize(("name", "slip", "meant"), SLIPS, ids=case_id)
def test_a_slip_in_a_group_that_is_there_is_found_by_the_next_step(
    name: str, slip: dict[str, Any], meant: str, begun: bool
) -> None:
    optimizer = ours(name, [parameter()], **({"rule": "adamw"} if name == "Optimizer" else {}))
    if begun:
        step(optimizer, name)
    optimizer.param_groups[0].update(slip)
    before = everything(optimizer)
    for _ in range(2):  # whoever catches the first error gets the second
        with pytest.raises(HyperparameterError, match=f"no option '{next(iter(slip))}'. Did you mean '{meant}'"):
            step(optimizer, name, steps=1)
        assert everything(optimizer) == before
    with pytest.raises(StateError, match=f"state dict do not fit: .*Did you mean '{meant}'.* \\(group 0\\)"):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    del optimizer.param_groups[0][next(iter(slip))]
    step(optimizer, name)
    optimizer.param_groups[0].update({"name": "w", "lr_scale": 0.5, "initial_lr": 0.1})  # notes, at any time
    step(optimizer, name)


@pytest.mark.parametrize("name", ["SGD", "Optimizer"])
def test_the_papers_names_are_notes_where_there_are_no_betas(name: str) -> None:
    options = {"rule": "momentum"} if name == "Optimizer" else {}
    optimizer = ours(name, [{"params": [parameter()], "beta1": 0.5, "beta2": 0.5}], **options)
    step(optimizer, name)
    assert optimizer.param_groups[0]["beta1"] == 0.5


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
    "map": lambda p, q: map(nn.Parameter, (p, q)),
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
