"""Right optimizers in rarer styles are recognised, those of fewer digits too, and nothing fits whatever it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import pytest

import steprule as sr
from steprule.checking.fit import noise
from tests.checking.hand_written import odd

ADAM = {"lr": "0.001", "beta1": "0.9", "beta2": "0.999", "eps": "1e-08"}


@pytest.mark.parametrize(
    ("thing", "rule", "hyper"),
    [
        (odd.yields, "sgd", {"lr": "0.1"}),
        (odd.decorated, "sgd", {"lr": "0.1"}),
        (odd.Updates, "momentum", {"lr": "0.01", "mu": "0.9"}),
        (odd.Updates(lr=0.1), "momentum", {"lr": "0.1", "mu": "0.9"}),  # type: ignore[no-untyped-call]
        (odd.ReadsGrad, "Adam", ADAM),
        (odd.nadam, "nadam(psi=None)", {**ADAM, "lr": "0.002"}),
        (odd.rmsprop_under_the_root, "rmsprop(eps_inside=True)", {"lr": "0.001", "rho": "0.9", "eps": "1e-06"}),
        pytest.param(optax.nadam(1e-3), "nadam(psi=None)", ADAM, marks=pytest.mark.slow),
        pytest.param(odd.signs, "signum", {"lr": "0.1", "beta": "0"}, marks=pytest.mark.slow),
    ],
)
def test_a_rarer_style_is_recognised(thing: Any, rule: str, hyper: dict[str, str]) -> None:
    answer = sr.check(thing)
    assert answer.is_right, str(answer)
    assert (answer.rule, {name: one.text for name, one in answer.hyperparameters.items()}) == (rule, hyper)
    assert not answer.remarks


@pytest.mark.parametrize(
    ("thing", "rule", "hyper"),
    [
        (odd.adam_in_float32, "Adam", ADAM),
        (odd.momentum_in_float32, "momentum", {"lr": "0.1", "mu": "0.9"}),
        pytest.param(odd.hidden_float32, "momentum", {"lr": "0.1", "mu": "0.9"}, marks=pytest.mark.slow),
        pytest.param(
            lambda: optax.adam(optax.exponential_decay(1e-2, 10, 0.9)),
            "Adam with a rate that falls as (1 - 0.0104807)**(t - 1)",
            {**ADAM, "lr": "0.01", "fall": "0.0105"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_state_or_a_rate_of_float32_is_no_mistake(thing: Any, rule: str, hyper: dict[str, str]) -> None:
    answer = sr.check(thing)
    assert answer.is_right, str(answer)
    assert (answer.rule, {name: one.text for name, one in answer.hyperparameters.items()}) == (rule, hyper)
    assert any("have the digits of float32 alone" in remark for remark in answer.remarks)


def test_an_average_that_cannot_fall_is_no_maximum() -> None:
    answer = sr.check(odd.adam_in_bfloat16)
    assert (answer.rule, [one.name for one in answer.mistakes]) == ("Adam", ["moments in low precision"])


def test_a_step_that_is_returned_is_named_beside_other_mistakes() -> None:
    answer = sr.check(odd.returns_the_step)
    assert answer.rule == "Adam"
    assert [one.name for one in answer.mistakes] == ["epsilon inside the root", "step is returned"]
    assert {name: one.text for name, one in answer.hyperparameters.items()} == ADAM


def test_betas_that_have_changed_places_are_noted() -> None:
    answer = sr.check(odd.betas_changed)
    assert answer.is_right
    assert any("they may have changed places" in remark for remark in answer.remarks)


@pytest.mark.parametrize("unit", [2.0**-53, 2.0**-24])
@pytest.mark.parametrize("rest", [1e-6, 1e-11, 0.0])
def test_a_decay_that_tends_to_1_does_not_excuse_everything(unit: float, rest: float) -> None:
    before, after = np.zeros((3, 1)), np.ones((3, 1))
    allowed = float(noise(before, after, unit, 1 - rest).max())
    assert allowed <= (1e-8 if unit < 1e-10 else 0.011)
