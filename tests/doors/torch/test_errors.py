"""Errors of the PyTorch door: torch's types and words, and nothing changed by a call that fails."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import steprule.torch as door
from steprule.errors import HyperparameterError
from tests.doors.torch.cases import (
    ALL,
    CLASSES,
    DENSE_ALL,
    ERRORS_OF_ALL,
    INFO,
    TORCH_NAMES,
    assert_agree,
    case_id,
    default_dtype,
    everything,
    one_thread,
    ours,
    problem_for,
    random_gradients,
    reference,
    step,
    trained_by,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

# An int is as good a beta as a float; torch refuses it in the two classes that also take tensors.
INT_BETAS = "betas must be either both floats or both Tensors"

NEVER_NUMBERS = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}


def parameter(*shape: int, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(shape or (3, 2), dtype=dtype))


def error_inputs() -> Iterator[Any]:
    """Yield every class with each error input of torch's own table."""
    for name, info in INFO.items():
        for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
            yield pytest.param(name, error, id=f"{name}-{error.optimizer_error_input.desc}")


@pytest.mark.parametrize(("name", "error"), list(error_inputs()))
def test_error_inputs_of_torch(name: str, error: Any) -> None:
    params, kwargs = error.optimizer_error_input.params, copy.deepcopy(error.optimizer_error_input.kwargs)
    expecting = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    with expecting(error.error_type, match=error.error_regex):
        optimizer = ours(name, params, **kwargs)
        if error.error_on.name == "STEP_ERROR":
            random_gradients(optimizer.param_groups[0]["params"], 0)
            optimizer.step()


@pytest.mark.parametrize("error", ERRORS_OF_ALL, ids=lambda error: error.optimizer_error_input.desc)
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in TORCH_NAMES])
def test_the_other_classes_have_the_errors_that_torch_has_for_all(name: str, error: Any) -> None:
    given = copy.deepcopy(error.optimizer_error_input)  # an optimizer fills in the groups that it is given
    expecting = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    with expecting(error.error_type, match=error.error_regex):
        ours(name, given.params, **given.kwargs)


@pytest.mark.parametrize("name", [n for n in CLASSES if "fused" in inspect.signature(getattr(door, n)).parameters])
@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_what_fused_does_not_go_with_is_refused_in_torchs_words(name: str, other: str) -> None:
    with pytest.raises(RuntimeError) as theirs:
        torch.optim.SGD([parameter()], **{"fused": True, other: True})
    with pytest.raises(RuntimeError, match=re.escape(str(theirs.value))):
        ours(name, [parameter()], **{"fused": True, other: True})
    ours(name, [parameter()], **{"fused": True, other: False})
    ours(name, [parameter()], **{"fused": False, other: True})


def wrong_values(name: str) -> Iterator[dict[str, Any]]:
    """Yield options of which most are out of their range, by what the defaults look like."""
    for key, p in inspect.signature(getattr(torch.optim, name)).parameters.items():
        if key in NEVER_NUMBERS or isinstance(p.default, bool):
            continue
        if isinstance(p.default, tuple):
            for i, bad in itertools.product(range(len(p.default)), (-0.1, 0, 1, 1.0, 1.5, float("nan"), float("inf"))):
                yield {key: (*p.default[:i], bad, *p.default[i + 1 :])}
        else:
            yield from ({key: bad} for bad in (-1, -0.25, 1.5, float("nan"), float("-inf")))
    yield from ({"lr": torch.tensor(bad)} for bad in (-1.0, [0.1, 0.2], float("nan")))
    if name == "SGD":
        yield from ({"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1})


def refused_by_torch() -> Iterator[Any]:
    for name in TORCH_NAMES:
        for options in wrong_values(name):
            try:
                reference(name, [parameter()], **options)
            except Exception as error:  # whatever torch raises is what is asked for
                if str(error) == INT_BETAS and not any(isinstance(beta, Tensor) for beta in options["betas"]):
                    continue
                yield pytest.param(name, options, error, id=f"{name}-{case_id(options)}")


REFUSED = list(refused_by_torch())


def test_torch_refuses_values_of_every_class() -> None:
    assert {p.values[0] for p in REFUSED} == set(TORCH_NAMES)
    assert len(REFUSED) > 150


@pytest.mark.parametrize(("name", "options", "error"), REFUSED)
def test_values_that_torch_refuses_are_refused_in_its_words(
    name: str, options: dict[str, Any], error: Exception
) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        ours(name, [parameter()], **options)


def unusual_values(name: str) -> Iterator[dict[str, Any]]:
    """Yield options at the ends of the usual ranges, and beyond them where torch has no upper bound."""
    for key, p in inspect.signature(getattr(torch.optim, name)).parameters.items():
        if key in NEVER_NUMBERS or isinstance(p.default, bool):
            continue
        if isinstance(p.default, tuple):
            for i, value in itertools.product(range(len(p.default)), (0.0, 0.5, 1.5)):
                yield {key: (*p.default[:i], value, *p.default[i + 1 :])}
        else:
            yield from ({key: value} for value in (0, 0.5, 1, 1.5))


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_values_that_torch_accepts_are_accepted_and_mean_the_same(name: str) -> None:
    accepted = 0
    with default_dtype(torch.float64):
        for options in unusual_values(name):
            try:
                expected = trained_by(reference, name, torch.float64, options, 3)
            except ValueError:
                continue
            if all(p.isfinite().all() for p in expected):
                assert_agree(trained_by(ours, name, torch.float64, options, 3), expected, f"{name} {options}")
                accepted += 1
    assert accepted > 5


@pytest.mark.parametrize("index", [0, 1])
def test_betas_of_two_elements_are_refused_in_the_words_that_torch_has_for_them(index: int) -> None:
    betas = [torch.tensor(0.9), torch.tensor(0.9)]
    betas[index] = torch.tensor([0.9, 0.8])
    with pytest.raises(ValueError, match=rf"Tensor betas\[{index}\] must be 1-element"):
        ours("Adam", [parameter()], betas=tuple(betas))


def betas_of(name: str) -> tuple[float, ...]:
    """Return the betas that a class has by default, none where it has no such argument."""
    argument = inspect.signature(getattr(door, name)).parameters.get("betas")
    return () if argument is None else argument.default


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "Optimizer"])
def test_more_betas_than_a_class_has_are_refused(name: str) -> None:
    if not betas_of(name):
        with pytest.raises(TypeError, match="betas"):
            ours(name, [parameter()], betas=(0.9, 0.9))
        return
    p = parameter()
    p.grad = sparse_like(p) if name == "SparseAdam" else torch.ones_like(p)
    with pytest.raises(ValueError, match=r"betas|too many values"):
        ours(name, [p], betas=(0.9, *betas_of(name))).step()


def test_an_int_is_a_beta() -> None:
    for name in ("Adam", "AdamW", "NAdam", "Lion"):
        p = parameter()
        p.grad = torch.ones_like(p)
        ours(name, [p], betas=(0, 0.9)).step()
        assert (p != 1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ({"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ({"weight_decay": -0.5}, "Invalid weight_decay value: -0.5"),
    ],
    ids=lambda v: case_id(v) or "words",
)
def test_the_other_classes_use_the_same_words(options: dict[str, Any], words: str) -> None:
    names = [name for name in CLASSES if name not in (*TORCH_NAMES, "Optimizer")]
    tried = [name for name in names if set(options) <= set(inspect.signature(getattr(door, name)).parameters)]
    assert tried
    for name in tried:
        values = options
        if "betas" in options:
            values = {"betas": (*options["betas"], *betas_of(name)[2:])}
        with pytest.raises(HyperparameterError, match=re.escape(words)):
            ours(name, [parameter()], **values)


def sparse_like(p: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.ones(2, p.shape[1]), p.shape)


@pytest.mark.parametrize("name", [name for name in TORCH_NAMES if name not in ("SGD", "Adagrad")])
def test_gradients_of_the_wrong_layout_are_refused_in_torchs_words(name: str) -> None:
    messages = []
    for make in (reference, ours):
        p = parameter()
        p.grad = torch.ones(3, 2) if name == "SparseAdam" else sparse_like(p)
        optimizer = make(name, [p])
        before = everything(optimizer)
        with pytest.raises(RuntimeError) as raised:
            optimizer.step()
        messages.append(str(raised.value))
        if make is ours:
            assert everything(optimizer) == before
    assert messages[0] in messages[1]


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in (*TORCH_NAMES, "Optimizer")])
def test_the_other_classes_refuse_sparse_gradients(name: str) -> None:
    p = parameter()
    p.grad = sparse_like(p)
    with pytest.raises(RuntimeError, match=f"{name} does not support sparse gradients"):
        ours(name, [p]).step()


def test_adagrad_refuses_weight_decay_of_sparse_gradients() -> None:
    p = parameter()
    p.grad = sparse_like(p)
    optimizer = ours("Adagrad", [p], weight_decay=0.1)
    before = everything(optimizer)
    with pytest.raises(RuntimeError, match="weight_decay option is not compatible with sparse gradients"):
        optimizer.step()
    assert everything(optimizer) == before


WRONG_PARAMETERS: dict[str, Callable[[], Any]] = {
    "empty": list,
    "exhausted": lambda: iter(()),
    "tensor": parameter,
    "set": lambda: [{"params": {parameter()}}],
    "no tensor": lambda: [1.0],
    "non-leaf": lambda: [parameter() * 2],
    "in two groups": lambda: [{"params": [p := parameter()]}, {"params": [p]}],
    "some without names": lambda: [("w", parameter()), parameter()],
    "no params": lambda: [{"lr": 0.1}],
}


@pytest.mark.parametrize("what", WRONG_PARAMETERS)
@pytest.mark.parametrize("name", CLASSES)
def test_wrong_parameters_are_refused_in_torchs_words(name: str, what: str) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)) as theirs:
        torch.optim.Adam(WRONG_PARAMETERS[what]())
    options = {"rule": "adam"} if name == "Optimizer" else {}
    with pytest.raises(theirs.type, match=re.escape(str(theirs.value))):
        ours(name, WRONG_PARAMETERS[what](), **options)


@pytest.mark.parametrize("add", [False, True], ids=["constructor", "add_param_group"])
@pytest.mark.parametrize(
    ("name", "misspelt", "meant"),
    [
        ("AdamW", "weigth_decay", "weight_decay"),
        ("Adam", "beta", "betas"),
        ("SGD", "momentun", "momentum"),
        ("SGD", "nestrov", "nesterov"),
        ("RAdam", "decoupled_weight_decy", "decoupled_weight_decay"),
        ("Adagrad", "lr_decoy", "lr_decay"),
        ("Lion", "weight_deacy", "weight_decay"),
    ],
)
def test_a_misspelt_group_option_names_the_right_one(name: str, misspelt: str, meant: str, add: bool) -> None:
    group = {"params": [parameter()], misspelt: 0.1}
    optimizer = ours(name, [parameter()])
    before = everything(optimizer)
    with pytest.raises(HyperparameterError, match=f"(?s){misspelt}.*{meant}"):
        optimizer.add_param_group(group) if add else ours(name, [group])
    assert everything(optimizer) == before


@pytest.mark.parametrize(
    ("name", "written", "meant", "value"),
    [
        ("AdamW", "learning_rate", "lr", 0.1),
        ("AdamW", "epsilon", "eps", 1e-3),
        ("SGD", "mu", "momentum", 0.9),
        ("Lion", "wd", "weight_decay", 0.1),
        ("AdamW", "weigth_decay", "weight_decay", 0.1),
        ("AdamW", "clip_nrom", "clip_norm", 0.1),
    ],
)
def test_another_name_of_an_argument_is_told(name: str, written: str, meant: str, value: float) -> None:
    p, q = parameter(), parameter()
    with pytest.raises(TypeError, match=f"{name} has no argument '{written}'.*'{meant}'"):
        ours(name, [p], **{written: value})
    optimizer, plain = ours(name, [p], **{meant: value}), ours(name, [q])
    for own in (optimizer, plain):
        step(own, name)
    assert not torch.equal(p, q)


@pytest.mark.parametrize(("written", "meant"), [("adamw", "AdamW"), ("AdamX", "Adam"), ("sgd", "SGD")])
def test_another_name_of_a_class_is_told(written: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"no '{written}'. Did you mean .*'{meant}'"):
        getattr(door, written)


FOREIGN = {
    **dict.fromkeys(("name", "group_name", "tag", "note", "_private", "layer_id", "is_bias", "use_muon"), "mine"),
    **dict.fromkeys(("lr_scale", "lr_mult", "wd_mult", "initial_lr", "max_lr", "min_lr", "swa_lr"), 0.5),
    **dict.fromkeys(("base_momentum", "max_momentum"), 0.5),
}


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_foreign_group_keys_pass_and_stay(name: str, options: dict[str, Any]) -> None:
    problem = problem_for(name)
    optimizer = ours(name, [{"params": problem.trained(), **FOREIGN}], **options)
    random_gradients(problem.trained(), 0, name)
    optimizer.step()
    group = optimizer.state_dict()["param_groups"][0]
    assert {key: group[key] for key in FOREIGN} == FOREIGN


class ClosureError(Exception):
    pass


def bad_lr(optimizer: torch.optim.Optimizer, name: str) -> None:
    optimizer.param_groups[-1]["lr"] = -1.0
    optimizer.step()


def wrong_layout(optimizer: torch.optim.Optimizer, name: str) -> None:
    p = optimizer.param_groups[-1]["params"][-1]
    p.grad = p.grad.to_dense() if name == "SparseAdam" else p.grad.to_sparse()
    optimizer.step()


def closure_raises(optimizer: torch.optim.Optimizer, name: str) -> None:
    def closure() -> float:
        raise ClosureError

    optimizer.step(closure)


def wrong_state(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Break the last slot of the last parameter, which is put back after the failure."""
    state = optimizer.state[optimizer.param_groups[-1]["params"][-1]]
    key = [key for key, value in state.items() if isinstance(value, Tensor) and value.dim()][-1]
    kept, state[key] = state[key], torch.zeros(5)
    try:
        optimizer.step()
    finally:
        state[key] = kept


def wrong_shape(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Let the last gradient be of another shape than its parameter, which is put back after the failure."""
    p = optimizer.param_groups[-1]["params"][-1]
    kept = p.data
    p.data = torch.ones(2, 2, dtype=p.dtype)
    try:
        optimizer.step()
    finally:
        p.data = kept


Failure = Callable[[torch.optim.Optimizer, str], None]
FAILURES: dict[Failure, type[Exception]] = {
    bad_lr: ValueError,
    wrong_layout: RuntimeError,
    closure_raises: ClosureError,
    wrong_state: ValueError,
    wrong_shape: (ValueError, RuntimeError),  # type: ignore[dict-item]  # torch's type depends on the class
}
CAN_FAIL = [
    pytest.param(name, options, failure, steps, id=f"{name}-{failure.__name__}-after {steps}")
    for name, options in dict(ALL).items()
    for failure in FAILURES
    for steps in (0, 3)
    if not (failure is wrong_layout and name in ("SGD", "Adagrad"))
    if not (failure is wrong_state and steps == 0)  # there is no state to break yet
]


def two_groups(name: str, options: dict[str, Any]) -> tuple[torch.optim.Optimizer, list[Tensor]]:
    first, second = problem_for(name), problem_for(name)
    params = [*first.trained(), *second.trained()]
    half = len(params) // 2
    return ours(name, [{"params": params[:half]}, {"params": params[half:]}], **options), params


@pytest.mark.parametrize(("name", "options", "failure", "steps_before"), CAN_FAIL)
def test_a_failed_step_changes_nothing(name: str, options: dict[str, Any], failure: Failure, steps_before: int) -> None:
    (optimizer, params), (twin, untouched) = two_groups(name, options), two_groups(name, options)
    for t in range(steps_before):
        for o, theirs in ((optimizer, params), (twin, untouched)):
            random_gradients(theirs, t, name)
            o.step()
    random_gradients(params, steps_before, name)
    before, lr = everything(optimizer), optimizer.param_groups[-1]["lr"]
    with pytest.raises(FAILURES[failure]):
        failure(optimizer, name)
    optimizer.param_groups[-1]["lr"] = lr
    assert everything(optimizer) == before
    for t in range(steps_before, steps_before + 3):
        for o, theirs in ((optimizer, params), (twin, untouched)):
            random_gradients(theirs, t, name)
            o.step()
    assert everything(optimizer) == everything(twin)


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_gradients_are_never_written(name: str, options: dict[str, Any]) -> None:
    optimizer, params = two_groups(name, options)
    for t in range(3):
        random_gradients(params, t, name)
        kept = [(p.grad, p.grad.clone(), p.grad._version) for p in params if p.grad is not None]
        optimizer.step()
        assert len(kept) == len(params)
        assert all(p.grad is g for p, (g, _, _) in zip(params, kept, strict=True))
        assert all(torch.equal(g, copied) and g._version == version for g, copied, version in kept)


def test_a_bad_value_set_between_steps_is_refused_in_torchs_words() -> None:
    p = parameter()
    p.grad = torch.ones_like(p)
    optimizer = ours("Adam", [p])
    optimizer.step()
    for key, value, words in (
        ("lr", -1.0, "Invalid learning rate: -1.0"),
        ("betas", (0.9, 1.0), "Invalid beta parameter at index 1: 1.0"),
        ("eps", -1.0, "Invalid epsilon value: -1.0"),
        ("weight_decay", -1.0, "Invalid weight_decay value: -1.0"),
    ):
        group = optimizer.param_groups[0]
        kept, group[key] = group[key], value
        with pytest.raises(ValueError, match=re.escape(words)):
            optimizer.step()
        group[key] = kept
    optimizer.step()


@pytest.mark.parametrize("flag", ["amsgrad", "capturable", "differentiable", "foreach", "fused", "maximize"])
def test_texts_are_not_on_or_off(flag: str) -> None:
    with pytest.raises(HyperparameterError, match=f"{flag} must be True or False, got 'no'"):
        ours("Adam", [parameter()], **{flag: "no"})
    optimizer = ours("Adam", [parameter()])
    with pytest.raises(HyperparameterError, match=rf"{flag} must be True or False, got 'no' \(group 1\)"):
        optimizer.add_param_group({"params": [parameter()], flag: "no"})
    ours("Adam", [{"params": [parameter()], "nesterov": "a note", "clip": "another"}])


def test_the_constructor_names_what_is_missing_of_formats() -> None:
    """What the error says: remove it, or make the model bfloat16."""
    model = torch.nn.Linear(64, 128)
    with pytest.raises(HyperparameterError, match=r"no parameter is float16 .*remove it, .*model\.bfloat16\(\)"):
        door.AdamW(model.parameters(), weights="split24")
    assert "split24" in door.AdamW(model.bfloat16().parameters(), weights="split24").describe()
