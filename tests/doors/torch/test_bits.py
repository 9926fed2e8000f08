"""The same bits through the PyTorch door: its tensors against the rule itself, run by NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch
from steprule.errors import StructureError
from steprule.rules import Rule, decoupled, find, l2, maximize, schedule_free
from tests.cases import CASES, COMBINED, Array, Direct, assert_same_bits, case_id, same, sees, unlike_defaults, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import FIRST_CASES, SOME_CASES, rotated
from tests.doors.torch.cases import OWN

RULES = {**CATALOGUE, **COMBINED}
OF_COMBINED: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in COMBINED]
ALL_CASES = [*CASES, *OF_COMBINED]
REALS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COMPLEXES = [torch.complex64, torch.complex128]
SIZES = [0, 1, 3, 17, 1000]
LARGE = 40_013
STEPS = 8  # AdEMAMix warms up for 7, RAdam adapts from the sixth, ASGD averages from t0 + 2 = 5


@pytest.fixture(autouse=True)
def _torch_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _array(tensor: torch.Tensor) -> Array:
    """Return a copy that NumPy can hold."""
    plain = tensor.detach()
    if plain.dtype == torch.bfloat16:
        return np.array(plain.view(torch.uint16).numpy().view(ml_dtypes.bfloat16))
    return np.array(plain.numpy())


def _assert_means(direct: Direct, tensor: torch.Tensor, state: dict[str, Any], what: str) -> None:
    """Assert that a tensor and its state are what the rule itself gives, in every bit."""
    assert_same_bits(_array(tensor), direct.theta, f"{what}: theta")
    kept = {name: slot for name, slot in direct.slots.items() if slot is not None}
    assert kept.keys() <= state.keys(), what
    for name, slot in kept.items():
        if name in direct.rule.numbers:
            assert same(state[name].item(), slot), f"{what}: {name}"
        else:
            assert_same_bits(_array(state[name]), slot, f"{what}: {name}")


def _wild(rng: np.random.Generator, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    width = "float64" if dtype == torch.float64 else "float32"
    with np.errstate(over="ignore"):
        return torch.from_numpy(wild(rng, int(np.prod(shape)), width).reshape(shape)).to(dtype)


def _parameters(rng: np.random.Generator, dtypes: Sequence[torch.dtype], sizes: Sequence[int]) -> list[torch.Tensor]:
    return [torch.from_numpy(rng.standard_normal(n)).to(dtype) for dtype in dtypes for n in sizes]


def _made(
    make: Any, rule: Rule, values: dict[str, Any], tensors: Sequence[torch.Tensor]
) -> list[torch.optim.Optimizer]:
    """Return the optimizer of each tensor: one for all, or one for each where it would see the others."""
    if sees(rule, values) == "all":
        return [make([tensor]) for tensor in tensors]
    return [make(tensors)] * len(tensors)


def _gradient(
    rng: np.random.Generator, like: torch.Tensor, rule: Rule, values: dict[str, Any], t: int = STEPS
) -> torch.Tensor:
    """Return a wild gradient, but for a rule with sums a tame one at first: a NaN is all that would be left."""
    if sees(rule, values) == "element" or t > STEPS // 2:
        return _wild(rng, like.shape, like.dtype)
    return torch.from_numpy(rng.standard_normal(like.shape) + 0.3).to(like.dtype)


def _agree(
    rule: Rule,
    dtypes: Sequence[torch.dtype],
    sizes: Sequence[int],
    values: dict[str, Any],
    large: Sequence[torch.dtype] = (),
    **switches: Any,
) -> None:
    """Step many tensors at once by the door, and each by the rule itself; compare all bits of all state."""
    rng = np.random.default_rng(0)
    tensors = [*_parameters(rng, dtypes, sizes), *_parameters(rng, large, [LARGE])]
    directs = [Direct(rule, _array(tensor), **values) for tensor in tensors]
    make = partial(steprule.torch.Optimizer, rule=rule, **values, **switches)
    optimizers = _made(make, rule, values, tensors)
    for t in range(1, STEPS + 1):
        for tensor, direct in zip(tensors, directs, strict=True):
            tensor.grad = _gradient(rng, tensor, rule, values, t)
            direct.step(_array(tensor.grad))
        before = [_array(tensor.grad) for tensor in tensors if tensor.grad is not None]
        torch.set_num_threads(1 + t % 2)
        for optimizer in dict.fromkeys(optimizers):
            optimizer.step()
        torch.set_num_threads(1)
        for tensor, direct, g, optimizer in zip(tensors, directs, before, optimizers, strict=True):
            what = f"{rule.name} {tensor.dtype} x {tensor.numel()} at t={t}"
            _assert_means(direct, tensor, optimizer.state[tensor], what)
            assert tensor.grad is not None
            assert_same_bits(_array(tensor.grad), g, "the gradient, which is only read")


LARGE_ONES = rotated([*SOME_CASES, *OF_COMBINED], REALS, plain=[*FIRST_CASES, *OF_COMBINED])


@pytest.mark.parametrize(
    ("case", "large"),
    [one for k, one in enumerate(LARGE_ONES) if k % 4 == 1 or not one.marks],
    ids=lambda x: case_id(x) if x in ALL_CASES else str(x),
)
def test_every_rule_and_option_in_every_type_and_size_on_one_and_two_threads(
    case: tuple[str, dict[str, Any]], large: torch.dtype
) -> None:
    """What is so large that two threads share it is of one type at a time: its numbers take longer than all others.

    The plain run has each rule once: what its options do to its numbers the tests of machine code find.
    """
    name, options = case
    _agree(RULES[name], REALS, SIZES, {**unlike_defaults(RULES[name], options), **options}, [large])


def _correctly_rounded_sqrt(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.sqrt(x.numpy()))


def _seen(*by: str) -> list[tuple[str, dict[str, Any]]]:
    return [case for case in ALL_CASES if sees(RULES[case[0]], case[1]) in by]


@pytest.mark.parametrize("case", _seen("element"), ids=case_id)
def test_the_rule_run_on_torch_tensors_gives_the_same_bits(
    case: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch's own root is an ulp off for a sixth of all float32 (MKL's, on some processors); all else is exact.
    monkeypatch.setattr(torch, "sqrt", _correctly_rounded_sqrt)
    name, options = case
    values = {**unlike_defaults(RULES[name], options), **options}
    _agree(RULES[name], [torch.float32, torch.float64], [0, 1, 17, 1000], values, differentiable=True)


@pytest.mark.parametrize("case", _seen("tensor"), ids=case_id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_on_torch_tensors_are_in_torchs_order(case: tuple[str, dict[str, Any]], dtype: torch.dtype) -> None:
    """Only there: torch's sums are of the tensor's own type, too."""
    name, options = case
    values = {**unlike_defaults(RULES[name], options), **options}
    rng = np.random.default_rng(0)
    tensors = _parameters(rng, [dtype], [1, 17, 1000])
    directs = [Direct(RULES[name], _array(tensor), **values) for tensor in tensors]
    optimizer = steprule.torch.Optimizer(tensors, rule=RULES[name], differentiable=True, **values)
    for _ in range(STEPS):
        for tensor, direct in zip(tensors, directs, strict=True):
            tensor.grad = torch.from_numpy(rng.standard_normal(tensor.shape)).to(dtype)
            direct.step(_array(tensor.grad))
        optimizer.step()
    for tensor, direct in zip(tensors, directs, strict=True):
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        np.testing.assert_allclose(_array(tensor), direct.theta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RULES)
def test_complex_parameters_are_pairs_of_reals(name: str) -> None:
    rng = np.random.default_rng(1)
    rule = RULES[name]
    if rule.view:
        param = torch.complex(*_parameters(rng, [torch.float32], [3, 3]))
        param.grad = param.clone()
        with pytest.raises(
            StructureError, match=r"sees the rows and columns of a parameter, but one of shape .* complex"
        ):
            steprule.torch.Optimizer([param], rule=rule).step()
        return
    tensors = [torch.complex(*_parameters(rng, [dtype.to_real()], [n, n])) for dtype in COMPLEXES for n in SIZES]
    directs = [Direct(rule, _array(torch.view_as_real(tensor))) for tensor in tensors]
    optimizers = _made(partial(steprule.torch.Optimizer, rule=rule), rule, {}, tensors)
    for t in range(1, STEPS + 1):
        for tensor, direct in zip(tensors, directs, strict=True):
            parts = [_gradient(rng, tensor.real, rule, {}, t) for _ in range(2)]
            tensor.grad = torch.complex(*parts)
            direct.step(_array(torch.view_as_real(tensor.grad)))
        for optimizer in dict.fromkeys(optimizers):
            optimizer.step()
    for tensor, direct, optimizer in zip(tensors, directs, optimizers, strict=True):
        state = {
            key: torch.view_as_real(slot) if torch.is_complex(slot) else slot
            for key, slot in optimizer.state[tensor].items()
        }
        _assert_means(direct, torch.view_as_real(tensor), state, f"{name} {tensor.dtype} x {tensor.numel()}")


BETAS = {"beta1": 0.8, "beta2": 0.95}
# Class and options, beside the rule and the hyperparameters that they mean. maximize negates the gradient alone, not
# the decay.
NAMED: list[tuple[str, dict[str, Any], Rule, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}, find("sgd"), {"lr": 0.05}),
    (
        "SGD",
        {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05, "maximize": True},
        maximize(l2("momentum")),
        {"lr": 1e-3, "mu": 0.8, "dampening": 0.3, "weight_decay": 0.05},
    ),
    ("SGD", {"momentum": 0.8, "nesterov": True}, find("momentum"), {"lr": 1e-3, "mu": 0.8, "nesterov": True}),
    (
        "RMSprop",
        {"alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.05},
        l2("rmsprop"),
        {"rho": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.05},
    ),
    ("RMSprop", {"maximize": True}, maximize("rmsprop"), {}),
    (
        "Adagrad",
        {"lr_decay": 0.1, "weight_decay": 0.05, "initial_accumulator_value": 0.25},
        l2("adagrad"),
        {"lr_decay": 0.1, "weight_decay": 0.05, "initial_accumulator": 0.25},
    ),
    ("Adadelta", {"rho": 0.8, "weight_decay": 0.05}, l2("adadelta"), {"rho": 0.8, "weight_decay": 0.05}),
    ("Adam", {"betas": (0.8, 0.95), "eps": 1e-5}, find("adam"), {**BETAS, "eps": 1e-5}),
    ("Adam", {"weight_decay": 0.05, "amsgrad": True}, l2("amsgrad"), {"weight_decay": 0.05, "correction": "after_max"}),
    ("Adam", {"weight_decay": 0.05, "decoupled_weight_decay": True}, decoupled("adam"), {"weight_decay": 0.05}),
    ("AdamW", {}, decoupled("adam"), {"weight_decay": 0.01}),
    (
        "AdamW",
        {"betas": (0.8, 0.95), "weight_decay": 0.05, "amsgrad": True, "maximize": True},
        maximize(decoupled("amsgrad")),
        {**BETAS, "weight_decay": 0.05, "correction": "after_max"},
    ),
    ("Adamax", {"weight_decay": 0.05}, l2("adamax"), {"lr": 2e-3, "eps": 1e-8, "weight_decay": 0.05}),
    ("Adamax", {"betas": (0.8, 0.95), "eps": 0}, find("adamax"), {"lr": 2e-3, **BETAS}),
    ("NAdam", {"momentum_decay": 0.02}, find("nadam"), {"lr": 2e-3, "psi": 0.02}),
    (
        "NAdam",
        {"weight_decay": 0.05, "decoupled_weight_decay": True, "maximize": True},
        maximize(decoupled("nadam")),
        {"lr": 2e-3, "weight_decay": 0.05},
    ),
    ("RAdam", {"betas": (0.8, 0.95)}, find("radam"), {**BETAS, "rho_min": 5.0, "eps_hat": True}),
    (
        "Rprop",
        {"etas": (0.4, 1.3), "step_sizes": (0.004, 0.09), "maximize": True},
        maximize("rprop"),
        {"eta_minus": 0.4, "eta_plus": 1.3, "delta_min": 0.004, "delta_max": 0.09},
    ),
    (
        "ASGD",
        {"lambd": 0.03, "alpha": 0.6, "t0": 3, "weight_decay": 0.05},
        l2("asgd"),
        {"lambd": 0.03, "alpha": 0.6, "t0": 3.0, "weight_decay": 0.05, "lagged": True},
    ),
    ("Lion", {"weight_decay": 0.05, "maximize": True}, maximize(decoupled("lion")), {"weight_decay": 0.05}),
    ("AdaBelief", {"betas": (0.8, 0.95)}, find("adabelief"), BETAS),
    ("Yogi", {"initial_accumulator": 0.25}, find("yogi"), {"initial_accumulator": 0.25}),
    (
        "Adan",
        {"betas": (0.8, 0.7, 0.95), "weight_decay": 0.05},
        find("adan"),
        {"beta1": 0.8, "beta2": 0.7, "beta3": 0.95, "weight_decay": 0.05},
    ),
    ("ADOPT", {"clip": True}, find("adopt"), {"clip": True}),
    ("AdEMAMix", {"alpha": 0.6, "warmup": 7.0}, find("ademamix"), {"alpha": 0.6, "warmup": 7.0}),
    (
        "Signum",
        {"momentum": 0.6, "weight_decay": 0.05, "decoupled_weight_decay": False},
        l2("signum"),
        {"beta": 0.6, "weight_decay": 0.05},
    ),
    (
        "SGDScheduleFree",
        {"lr": 0.02, "momentum": 0.6, "weight_decay": 0.05, "maximize": True},
        maximize(schedule_free(l2("sgd"))),
        {"lr": 0.02, "beta": 0.6, "weight_decay": 0.05},
    ),
]
_TESTED = {name for name, *_ in NAMED}
NAMED += [
    (name, {"lr": 0.02, "weight_decay": 0.05}, decoupled(rule), {"lr": 0.02, "weight_decay": 0.05})
    for name, rule in OWN.items()
    if name not in _TESTED and "weight_decay" not in rule.hyperparameters
]
# What test_agreement.py asks of the classes that torch.optim lacks.
STATE_NAMES: dict[str, Mapping[str, str]] = {
    **{name: getattr(steprule.torch, name)._naming.slots for name in OWN},
    "SGD": {"b": "momentum_buffer"},
    "RMSprop": {"v": "square_avg", "g_avg": "grad_avg", "b": "momentum_buffer"},
    "Adagrad": {"G": "sum"},
    "Adadelta": {"E_g2": "square_avg", "E_dx2": "acc_delta"},
    "Adam": {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    "AdamW": {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"},
    "Adamax": {"m": "exp_avg", "u": "exp_inf"},
    "NAdam": {"m": "exp_avg", "v": "exp_avg_sq", "mu_product": "mu_product"},
    "RAdam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "Rprop": {"g_prev": "prev", "delta": "step_size"},
    "ASGD": {"ax": "ax", "eta": "eta", "mu": "mu"},
}


@pytest.mark.parametrize(
    ("name", "options", "rule", "values"), NAMED, ids=[f"{name}-{rule.name}" for name, _, rule, _ in NAMED]
)
def test_every_class_is_a_rule_of_the_numpy_door(
    name: str, options: dict[str, Any], rule: Rule, values: dict[str, Any]
) -> None:
    rng = np.random.default_rng(2)
    tensors = _parameters(rng, REALS, [1, 1000])
    arrays = [_array(tensor) for tensor in tensors]
    optimizer = getattr(steprule.torch, name)(tensors, **options)
    expected = sr.Optimizer(arrays, rule, backend="numpy", **values)
    for _ in range(STEPS):
        for tensor in tensors:
            tensor.grad = _wild(rng, tensor.shape, tensor.dtype)
        optimizer.step()
        expected.step([_array(tensor.grad) for tensor in tensors if tensor.grad is not None])
    for index, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        what = f"{name}, {tensor.dtype}"
        assert_same_bits(_array(tensor), array, what)
        for slot, found in expected.slots.items():
            kept = optimizer.state[tensor][STATE_NAMES[name].get(slot, slot)]
            if slot in rule.scalars:
                assert [kept.item()] == found, f"{what}: {slot}"
            else:
                assert_same_bits(_array(kept), found[index], f"{what}: {slot}")
