"""Rules whose steps depend on norms of the tensor: what their papers say of them, and tensors that have no size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import RuleError
from steprule.rules import Rule, cautious, cautious_decay, decoupled, l2, maximize, trust_ratio
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, Direct, assert_same_bits, wild

SHAPES = [(9,), (40, 70), (1,), (3, 0), ()]
OF_NORMS = ["lamb", "lars", "mars", "trust_ratio(adamw)", "trust_ratio(l2(momentum))"]
RULES: dict[str, Rule] = {name: sr.rules.find(name) for name in ("lamb", "lars", "mars")} | {
    "trust_ratio(adamw)": trust_ratio("adamw"),
    "trust_ratio(l2(momentum))": trust_ratio(l2("momentum")),
    "cautious(adam)": cautious("adam"),
}
OPTIONS: dict[str, dict[str, Any]] = {"cautious(adam)": {"rescale": "paper"}}


def starts(dtype: str) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def gradients(t: int, dtype: str, arrays: list[Array]) -> list[Array]:
    rng = np.random.default_rng(t)
    return [(rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-4, 3, x.shape)).astype(dtype) for x in arrays]


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("correction", [True, False])
def test_lamb_is_adamw_with_trust_ratios(dtype: str, backend: str, correction: bool) -> None:
    options: dict[str, Any] = {"lr": 0.02, "eps": 1e-6, "bias_correction": correction, "weight_decay": 0.1}
    one, two = starts(dtype), starts(dtype)
    lamb = sr.Optimizer(one, "lamb", backend=backend, **options)
    made = sr.Optimizer(two, trust_ratio("adamw"), backend=backend, **options)
    for t in range(6):
        grads = gradients(t, dtype, one)
        if t == 4:
            grads[0] = wild(np.random.default_rng(3), 9, dtype)
        lamb.step(grads)
        made.step(grads)
    for a, b in zip([*one, *lamb.slots["m"]], [*two, *made.slots["m"]], strict=True):
        assert_same_bits(a, b, "lamb")


def test_steps_have_the_size_of_their_tensor() -> None:
    for rule in (RULES["lamb"], RULES["trust_ratio(l2(momentum))"], trust_ratio("lion"), trust_ratio("nadam")):
        theta = starts("float64")[:3]
        optimizer = sr.Optimizer(theta, rule, lr=0.03)
        for t in range(3):
            before = [x.copy() for x in theta]
            optimizer.step(gradients(t, "float64", theta))
            for old, new in zip(before, theta, strict=True):
                assert np.linalg.norm(new - old) == pytest.approx(0.03 * np.linalg.norm(old), rel=1e-9)


def test_the_scale_of_a_loss_changes_the_step_of_lars_nowhere() -> None:
    one, two = starts("float64")[:2], starts("float64")[:2]
    for scale, theta in ((1.0, one), (2.0**40, two)):
        optimizer = sr.Optimizer(theta, "lars", momentum=None)
        for t in range(3):
            optimizer.step([scale * g for g in gradients(t, "float64", theta)])
    for a, b in zip(one, two, strict=True):
        assert_same_bits(a, b)


def test_ratios_and_norms_have_limits() -> None:
    def moved(**options: Any) -> float:
        theta = np.full(4, 50.0)
        sr.Optimizer(theta, "lamb", lr=0.5, weight_decay=0.0, eps=0.0, **options).step(np.ones(4))
        return 50.0 - float(theta[0])

    assert moved() == 0.5 * 50.0
    assert moved(norm_limit=10.0) == 0.5 * 10.0 / 2.0
    assert moved(ratio_limit=7.0) == 0.5 * 7.0
    assert moved(norm_limit=200.0, ratio_limit=60.0) == moved()


# Tensors without a size, and sizes that are not numbers.


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_a_norm_is_zero_the_ratio_is_one(dtype: str, backend: str) -> None:
    zeros, g = [np.zeros(3, dtype), np.zeros(1, dtype)], [np.ones(3, dtype), np.ones(1, dtype)]
    sr.Optimizer(zeros, "lamb", lr=0.25, eps=0.0, backend=backend).step(g)
    assert all((x == -0.25).all() for x in zeros)
    zeros = [np.zeros(3, dtype), np.zeros(1, dtype)]
    sr.Optimizer(zeros, "lars", lr=0.25, backend=backend).step(g)
    assert all((x == -0.25).all() for x in zeros)
    for name in OF_NORMS:
        theta = [np.ones(3, dtype), np.zeros(2, dtype)]
        sr.Optimizer(theta, RULES[name], weight_decay=0.0, backend=backend).step(
            [np.zeros(3, dtype), np.zeros(2, dtype)]
        )
        assert theta[0].tolist() == [1.0] * 3
        assert theta[1].tolist() == [0.0] * 2
    for of_sum in (False, True):  # without a gradient, only the norm of the sum is above 0
        theta = [np.full(4, 2.0, dtype)]
        values: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.25, "norm_of_sum": of_sum}
        sr.Optimizer(theta, "lars", backend=backend, **values).step([np.zeros(4, dtype)])
        ratio = 1e-3 * 4.0 / 1.0 if of_sum else 1.0
        np.testing.assert_allclose(theta[0], 2.0 - 0.5 * ratio * 0.5, rtol=1e-6)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("name", [*OF_NORMS, "cautious(adam)"])
def test_a_nan_stays_with_its_element(name: str, backend: str) -> None:
    theta, plain = np.ones((4, 5)), np.ones(3)
    optimizer = sr.Optimizer([theta, plain], RULES[name], backend=backend, **OPTIONS.get(name, {}))
    g = np.ones((4, 5))
    g[1, 2] = math.nan
    optimizer.step([g, np.ones(3)])
    assert np.isnan(theta[1, 2])
    assert np.isfinite(np.delete(theta.ravel(), 7)).all()
    assert (np.delete(theta.ravel(), 7) != 1).all()
    alone = np.ones(3)
    sr.Optimizer(alone, RULES[name], backend=backend, **OPTIONS.get(name, {})).step(np.ones(3))
    assert_same_bits(plain, alone, name)


@pytest.mark.parametrize("name", ["lars", "trust_ratio(l2(momentum))"])
def test_an_infinite_norm_moves_nothing_else(name: str) -> None:
    theta, g = np.ones(4), np.ones(4)
    g[1] = math.inf
    sr.Optimizer(theta, RULES[name], weight_decay=0.0).step(g)
    assert np.isnan(theta[1])
    assert theta[[0, 2, 3]].tolist() == [1.0] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_neither_overflow_nor_vanish_where_squares_of_elements_do(dtype: str) -> None:
    for scale in (1e30, 1e-30) if dtype == "float32" else (1e100, 1e-100):
        theta, g = np.full(4, 1.0, dtype), np.full(4, scale, dtype)
        sr.Optimizer(theta, "lars", lr=0.5, momentum=None).step(g)
        np.testing.assert_allclose(theta, 1 - 0.5 * 1e-3, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", RULES)
def test_they_mean_what_they_compute_on_arrays(name: str, dtype: str) -> None:
    """Every shape, wild numbers among them, by the rule itself, by the referee and by machine code."""
    options = OPTIONS.get(name, {})
    found = []
    for backend in ("llvm", "numpy", None):
        theta = starts(dtype)
        direct = [Direct(RULES[name], x, **options) for x in theta]
        optimizer = None if backend is None else sr.Optimizer(theta, RULES[name], backend=backend, **options)
        for t in range(4):
            grads = gradients(t, dtype, theta)
            grads[1].reshape(-1)[:40] = wild(np.random.default_rng(t), 40, dtype) if t == 2 else 1.0
            if optimizer is None:
                for own, g in zip(direct, grads, strict=True):
                    own.step(g)
            else:
                optimizer.step(grads)
        found.append(theta if backend else [own.theta for own in direct])
    for other in found[:2]:
        for a, b in zip(other, found[2], strict=True):
            assert_same_bits(a, b, name)


# What combinators of this kind take and refuse.


def test_a_trust_ratio_needs_a_learning_rate() -> None:
    @sr.rule
    def fixed(theta: Any, g: Any, *, rate: float = 0.1) -> Any:
        return theta - rate * g

    with pytest.raises(RuleError, match="'fixed' has no lr, which would be the size of its steps"):
        trust_ratio(fixed)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_can_have_trust_ratios(name: str) -> None:
    rule = trust_ratio(name)
    theta = np.linspace(1, 2, 5)
    before = theta.copy()
    sr.Optimizer(theta, rule, lr=0.1).step(np.linspace(-1, 2, 5))
    if name != "adopt":  # whose first step is none
        assert np.linalg.norm(theta - before) == pytest.approx(0.1 * np.linalg.norm(before), rel=1e-6)


def test_a_rule_whose_learning_rate_may_be_none() -> None:
    @sr.rule
    def maybe(theta: Any, g: Any, *, lr: float | None = None) -> Any:
        return theta - (0.1 if lr is None else lr) * g

    theta = np.full(4, 3.0)
    sr.Optimizer(theta, trust_ratio(maybe)).step(np.ones(4))
    assert theta.tolist() == [0.0] * 4
    theta = np.full(4, 3.0)
    sr.Optimizer(theta, trust_ratio(maybe), lr=0.5).step(np.ones(4))
    assert theta.tolist() == [1.5] * 4


def test_combinators_around_trust_ratios() -> None:
    g = np.linspace(-1, 2, 6)

    def ends(rule: Rule, g: Array = g, **options: Any) -> Array:
        theta = np.linspace(1, 3, 6)
        optimizer = sr.Optimizer(theta, rule, lr=0.1, **options)
        for _ in range(3):
            optimizer.step(g)
        return theta

    assert_same_bits(ends(maximize(trust_ratio("adam"))), ends(trust_ratio("adam"), -g))
    assert_same_bits(ends(decoupled(trust_ratio("adam")), weight_decay=0.0), ends(trust_ratio("adam")))
    assert_same_bits(ends(cautious_decay(trust_ratio("adam")), weight_decay=0.0), ends(trust_ratio("adam")))
    assert not np.array_equal(ends(trust_ratio(cautious_decay("adam"))), ends(trust_ratio("adamw")))
    assert_same_bits(ends(cautious(trust_ratio("adamw"))), ends(trust_ratio("adamw")))  # g never turns


@pytest.mark.parametrize("rescale", ["paper", "clamped"])
def test_rescaled_steps_of_few_elements(rescale: str) -> None:
    """One of 4,000 elements moves: by 4,000 / 2, and by 1,000 at most."""
    theta, g = np.zeros(4000), np.zeros(4000)
    g[7] = 1.0
    sr.Optimizer(theta, cautious("sgd"), lr=0.5, rescale=rescale).step(g)
    assert theta[7] == -0.5 * (2000 if rescale == "paper" else 1000)
    assert np.count_nonzero(theta) == 1
