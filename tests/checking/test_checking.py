"""`steprule.check`: right optimizers are recognised, the known mistakes are named, and nothing is accused falsely."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import optax
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import steprule as sr
import steprule.jax
import steprule.torch
from steprule.checking import Answer
from steprule.checking.written import adam_as_written
from tests.checking.hand_written import styles
from tests.checking.hand_written.slips import SLIPS, adam, go_together

DEFAULTS = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def _assert_is(answer: Answer, rule: str, hyper: dict[str, float]) -> None:
    """Within the error that it states, and that is small."""
    assert (answer.rule, [one.name for one in answer.mistakes]) == (rule, []), str(answer)
    assert answer.is_right
    assert answer.hyperparameters.keys() == hyper.keys()
    for name, value in hyper.items():
        found = answer.hyperparameters[name]
        assert found.error <= 1e-9
        assert abs(found.value - value) <= 4 * found.error, (name, found)
        assert float(found.text) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "thing",
    [*styles.ADAMS, pytest.param(styles.on_jax_arrays, marks=pytest.mark.slow)],
    ids=lambda thing: getattr(thing, "__name__", None),
)
def test_adam_is_recognised_in_every_style(thing: Callable[..., Any]) -> None:
    _assert_is(sr.check(thing), "Adam", DEFAULTS)


def test_epsilon_before_the_correction_is_no_mistake() -> None:
    answer = sr.check(styles.like_keras)
    _assert_is(answer, "Adam", {**DEFAULTS, "eps": 1e-7})
    assert any("before that is corrected" in remark for remark in answer.remarks)


_LIBRARIES: list[tuple[Any, dict[str, Any], str, dict[str, float]]] = [
    (torch.optim.Adam, {}, "Adam", DEFAULTS),
    (torch.optim.Adam, {"weight_decay": 0.1}, "Adam with an L2 penalty in the gradient",
     DEFAULTS | {"weight_decay": 0.1}),
    (torch.optim.Adam, {"amsgrad": True}, "AMSGrad", DEFAULTS),
    (torch.optim.AdamW, {"lr": 0.3, "betas": (0.5, 0.95)}, "AdamW",
     {"lr": 0.3, "beta1": 0.5, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.01}),
    (torch.optim.SGD, {"lr": 0.5}, "sgd", {"lr": 0.5}),
    (torch.optim.SGD, {"lr": 0.5, "momentum": 0.8}, "momentum", {"lr": 0.5, "mu": 0.8}),
    (torch.optim.RMSprop, {}, "rmsprop", {"lr": 0.01, "rho": 0.99, "eps": 1e-8}),
    (torch.optim.Adagrad, {}, "adagrad", {"lr": 0.01, "eps": 1e-10}),
    (styles.OfTorchsKind, {}, "AdamW", DEFAULTS | {"weight_decay": 0.01}),
    (optax.adamw, {"learning_rate": 0.1, "weight_decay": 0.02}, "AdamW", DEFAULTS | {"lr": 0.1, "weight_decay": 0.02}),
    (optax.sgd(0.1), {}, "sgd", {"lr": 0.1}),
    (steprule.torch.AdamW, {}, "AdamW", DEFAULTS | {"weight_decay": 0.01}),
    (sr.rules.CATALOGUE["adam"], {}, "Adam", DEFAULTS),
    (sr.rules.CATALOGUE["adagrad"], {}, "adagrad", {"lr": 0.01, "eps": 1e-10}),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "options", "rule", "hyper"), _LIBRARIES)
def test_optimizers_of_libraries_are_recognised(
    thing: Any, options: dict[str, Any], rule: str, hyper: dict[str, float]
) -> None:
    _assert_is(sr.check(thing, **options), rule, hyper)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("thing", "rule"),
    [(optax.adam(0.001), "Adam"), (optax.amsgrad(0.001), "AMSGrad"), (steprule.jax.adam(0.001), "Adam")],
)
def test_more_transformations_are_recognised(thing: Any, rule: str) -> None:
    _assert_is(sr.check(thing), rule, DEFAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lion", "nadam", "radam", "adamax", "adabelief", "adadelta", "yogi", "laprop"])
def test_rules_of_the_catalogue_are_recognised(name: str) -> None:
    answer = sr.check(sr.rules.CATALOGUE[name])
    assert answer.rule == name
    assert answer.is_right


def _names(slips: tuple[str, ...]) -> set[str]:
    return {one.name for one in sr.check(adam(slips)).mistakes}


@pytest.mark.parametrize("slip", SLIPS)
def test_each_mistake_is_named(slip: str) -> None:
    answer = sr.check(adam([slip]))
    assert [one.name for one in answer.mistakes] == [SLIPS[slip]], str(answer)
    assert not answer.is_right
    assert answer.hyperparameters["lr"].text == "0.002"


PAIRS = [pair for pair in itertools.combinations(SLIPS, 2) if go_together(pair)]
_SOME = PAIRS[::14]


@pytest.mark.parametrize("pair", _SOME, ids=str)
def test_two_mistakes_are_named(pair: tuple[str, ...]) -> None:
    assert _names(pair) == {SLIPS[slip] for slip in pair}


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in _SOME], ids=str)
def test_all_pairs_of_mistakes_are_named(pair: tuple[str, ...]) -> None:
    assert _names(pair) == {SLIPS[slip] for slip in pair}


def test_several_mistakes_are_named_together() -> None:
    slips = ("eps inside", "both stored", "t per tensor", "writes", "l2")
    assert _names(slips) == {SLIPS[slip] for slip in slips}


_RATES = st.floats(1e-5, 1.0)
_DECAYS = st.floats(0.1, 0.9999).filter(lambda beta: abs(beta - 0.99) > 1e-3)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(lr=_RATES, beta1=st.just(0.0) | st.floats(0.02, 0.99), beta2=_DECAYS, eps=st.floats(1e-12, 1e-2))
def test_no_adam_is_accused(lr: float, beta1: float, beta2: float, eps: float) -> None:
    answer = sr.check(adam((), lr=lr, beta1=beta1, beta2=beta2, eps=eps))
    assert not answer.mistakes, (str(answer), lr, beta1, beta2, eps)
    assert answer.rule == "Adam"
    for name, value in (("lr", lr), ("beta1", beta1), ("beta2", beta2), ("eps", eps)):
        found = answer.hyperparameters[name]
        assert abs(found.value - value) <= min(8 * found.error, 1e-6 * (value + 1)), (name, value, found)


@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(lr=_RATES, decay=st.floats(1e-4, 0.5), beta2=_DECAYS)
def test_no_adamw_is_accused(lr: float, decay: float, beta2: float) -> None:
    answer = sr.check(adam((), lr=lr, beta2=beta2, decay=decay))
    assert (answer.rule, answer.mistakes) == ("AdamW", ())
    assert answer.hyperparameters["weight_decay"].value == pytest.approx(decay, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "catalogued", "theirs"),
    [
        ({}, "adam", {}),
        ({"epsilon": "inside"}, "adam", {"eps_inside": True}),
        ({"corrected": "none"}, "adam", {"bias_correction": False}),
        ({"maximum": "before"}, "amsgrad", {"correction": "after_max"}),
        ({"maximum": "after"}, "amsgrad", {"correction": "before_max"}),
        ({"maximum": "before", "corrected": "none"}, "amsgrad", {"correction": "none"}),
    ],
)
def test_what_is_no_mistake_is_the_catalogues(options: dict[str, Any], catalogued: str, theirs: dict[str, Any]) -> None:
    """The rule that is fitted has the bits of the one that it stands for."""
    rule = sr.rules.CATALOGUE[catalogued]
    random = np.random.default_rng(0)
    own: list[Any] = [random.normal(size=50), *(np.zeros(50) for _ in range(3))]
    other: list[Any] = [own[0], *(np.zeros(50) for _ in rule.slots)]
    for t in range(1, 8):
        g = random.normal(size=50) / t
        own = [np.zeros(50) if one is None else one for one in adam_as_written(own[0], g, *own[1:], t=t, **options)]
        other = list(rule(other[0], g, *other[1:], t=t, **theirs))
        assert own[0].tobytes() == other[0].tobytes()


def test_an_answer_says_where_it_differs_and_what_to_write() -> None:
    answer = sr.check(adam(["eps inside"]))
    assert answer.difference is not None
    assert answer.difference.step == 1
    assert abs(answer.difference.gradient) < 1e-4
    (line,) = answer.lines["epsilon inside the root"]
    assert line.instead.startswith("root = (np.sqrt(v_hat) + eps) if")
    text = str(answer)
    assert text.startswith("adamw is Adam, with 1 mistake: epsilon inside the root.")
    assert "Remedy: Add epsilon to the root" in text
    assert "beta2         0.999" in text


def test_a_weight_decay_that_is_scaled_otherwise_says_how() -> None:
    answer = sr.check(adam(["scaled"]))
    assert "times that" in answer.mistakes[0].what or "not multiplied" in answer.mistakes[0].what


def test_what_the_code_says_is_held_against_its_steps() -> None:
    def mine(params: Any, grads: Any, state: Any, lr: float = 0.5) -> Any:
        return [p - 0.25 * g for p, g in zip(params, grads, strict=True)]

    answer = sr.check(mine)
    assert answer.rule == "sgd"
    assert any("The code says lr = 0.5" in remark for remark in answer.remarks)


def test_float32_is_looked_at_as_well() -> None:
    """Types that widen are told, and steps that are other ones in float32; neither is, of those that are right."""

    def other(params: Any, grads: Any, state: Any) -> Any:
        rates = [0.1 if p.dtype == np.float64 else 0.11 for p in params]
        return [(p - lr * g).astype(p.dtype) for lr, p, g in zip(rates, params, grads, strict=True)]

    found = [sr.check(one).remarks for one in (adam([]), other, styles.Bound)]
    assert ["another type" in " ".join(one) for one in found] == [True, False, False]
    assert ["steps differ from the rule's" in " ".join(one) for one in found] == [False, True, False]
