"""Every rule and option against its paper, written as a straight float64 loop that imports nothing of ours."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.rules import cautious, cautious_decay, l2, maximize, unscaled
from tests.cases import CASES, Array, case_id, unlike_defaults
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.papers import combinators

# The loops write sums and products in another order, so the last bits differ; nothing else may.
RELATIVE = 1e-11
# Steps over a distance that they estimate take differences of parameters that have hardly moved.
ESTIMATING = {name: 1e-9 for name, rule in CATALOGUE.items() if "d" in rule.scalars}
STEPS = 25


def _gradients(seed: int = 0, n: int = 9, drift: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((STEPS, n)) * 10.0 ** rng.uniform(-3, 2, n) + drift
    gradients[STEPS // 2 :, 0] = 0.0
    return gradients


def _compare(
    rule: sr.Rule,
    run: Any,
    hyperparameters: dict[str, Any],
    backend: str = "llvm",
    gradients: Array | None = None,
) -> None:
    relative = ESTIMATING.get(rule.name, RELATIVE)
    gradients = _gradients(drift=float(rule.name in ESTIMATING)) if gradients is None else gradients
    theta = np.linspace(-2, 3, gradients.shape[1])
    path, slots = run(theta.tolist(), gradients.tolist(), **hyperparameters)
    optimizer = sr.Optimizer(theta, rule, backend=backend, **hyperparameters)
    for g, expected in zip(gradients, path, strict=True):
        optimizer.step(g)
        np.testing.assert_allclose(theta, expected, rtol=relative, atol=relative)
    ours = {name: value for name, value in optimizer.slots.items() if value is not None}
    assert set(ours) == set(slots)
    for name, value in slots.items():
        scale = np.max(np.abs(value), where=np.isfinite(value), initial=0.0)
        np.testing.assert_allclose(np.ravel(ours[name]), np.ravel(value), rtol=relative, atol=relative * scale)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_rule_equals_its_paper(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    rule = CATALOGUE[name]
    run = importlib.import_module(f"tests.papers.{name}").run
    _compare(rule, run, options)
    _compare(rule, run, {**unlike_defaults(rule, options), **options})


@pytest.mark.parametrize("name", CATALOGUE)
def test_referee_equals_the_paper(name: str) -> None:
    rule = CATALOGUE[name]
    _compare(rule, importlib.import_module(f"tests.papers.{name}").run, {}, backend="numpy")


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"eps_inside": True}], ids=str)
def test_centered_rmsprop_equals_the_paper_where_squares_overflow(options: dict[str, Any], backend: str) -> None:
    gradients = _gradients()
    gradients[5, ::2] = [1e160, -1e200, 1e308, 1.7e154, 1e155]
    run = importlib.import_module("tests.papers.rmsprop").run
    _compare(CATALOGUE["rmsprop"], run, {"centered": True, **options}, backend, gradients)


def test_l2_equals_its_loop() -> None:
    values = {"lr": 0.01, "mu": 0.9, "weight_decay": 0.1}
    _compare(l2(CATALOGUE["momentum"]), combinators.run_l2_sgd_momentum, values)


def test_maximize_equals_its_loop() -> None:
    _compare(maximize(CATALOGUE["adam"]), combinators.run_maximize_adam, {"lr": 0.01})


def test_unscaled_equals_its_loop() -> None:
    _compare(unscaled(CATALOGUE["sgd"]), combinators.run_unscaled_sgd, {"lr": 0.1, "grad_scale": 1000.0})


def test_cautious_equals_its_loop() -> None:
    _compare(cautious(CATALOGUE["adam"]), combinators.run_cautious_adam, {"lr": 0.01})


def test_cautious_adamw_is_the_authors() -> None:
    values = {"lr": 0.05, "weight_decay": 0.3}
    _compare(cautious(CATALOGUE["adamw"]), combinators.run_cautious_adamw, values)
    _compare(cautious(unscaled(CATALOGUE["adamw"])), combinators.run_cautious_adamw, values)


@pytest.mark.parametrize("rescale", ["paper", "clamped"])
def test_rescaled_cautious_steps_equal_their_loop(rescale: str) -> None:
    values = {"lr": 0.05, "weight_decay": 0.03, "rescale": rescale}
    gradients = np.tile(_gradients(), 30) * np.random.default_rng(9).choice([-1.0, 1.0], 270)
    for backend in ("llvm", "numpy"):
        _compare(cautious("adamw"), combinators.run_rescaled_cautious_adamw, values, backend, gradients)


@pytest.mark.parametrize("scale_by_lr", [True, False])
def test_cautious_decay_equals_its_loop(scale_by_lr: bool) -> None:
    values = {"lr": 0.05, "weight_decay": 0.03, "scale_by_lr": scale_by_lr}
    _compare(cautious_decay(CATALOGUE["adam"]), combinators.run_cautious_decay_adam, values)


@pytest.mark.parametrize(("beta1", "beta3"), [(0.0, 0.9999), (0.9, 0.0), (0.0, 0.0), (0.9999, 0.9999), (0.999, 0.9)])
def test_the_ends_of_ademamixs_warmup(beta1: float, beta3: float) -> None:
    run = importlib.import_module("tests.papers.ademamix").run
    _compare(CATALOGUE["ademamix"], run, {"lr": 0.01, "beta1": beta1, "beta3": beta3, "warmup": 11.0})


def test_defaults_are_those_of_the_loops() -> None:
    import inspect

    for name, rule in CATALOGUE.items():
        run = importlib.import_module(f"tests.papers.{name}").run
        theirs = {k: p.default for k, p in inspect.signature(run).parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert theirs == {k: hyper.default for k, hyper in rule.hyperparameters.items()}, name
