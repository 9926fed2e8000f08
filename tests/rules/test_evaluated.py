"""Rules with an evaluated point: how one is declared, and the combinators that have one, around every rule."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import steprule as sr
from steprule.errors import HyperparameterError, RuleError
from steprule.language.node import Node
from steprule.rules import CATALOGUE, Rule, schedule_free, update_clip
from steprule.rules.hyperparameters import Decay, Rate
from steprule.rules.schedule_free import _replaced
from tests.cases import assert_same_bits, variants

Array = NDArray[np.float64]
PLAIN = [name for name, rule in CATALOGUE.items() if rule.evaluated is None and not rule.needs_matrices]
RATED = [name for name in PLAIN if "lr" in CATALOGUE[name].hyperparameters]
STEPS = 8


def _gradients(steps: int = STEPS) -> Array:
    return np.random.default_rng(0).standard_normal((steps, 3, 4))


def _start() -> Array:
    return np.linspace(-2, 3, 12).reshape(3, 4)


def _path(rule: Rule | str, gradients: Array, **hyperparameters: Any) -> list[Array]:
    """Return the iterates, from the start on."""
    theta = _start()
    optimizer = sr.Optimizer(theta, rule, **hyperparameters)
    path = [theta.copy()]
    for g in gradients:
        optimizer.step(g)
        path.append(theta.copy())
    return path


def _defined(evaluated: Any, init: dict[str, float | str] | None = None) -> Rule:
    @sr.rule(init={"z": "theta"} if init is None else init, evaluated=evaluated)
    def mine(theta, g, z, *, lr: Rate = 0.1, beta: Decay = 0.9):
        return theta - lr * (g - beta * theta), z + g

    return mine


def test_a_rule_declares_a_point_and_slots_that_begin_as_the_parameter() -> None:
    rule = _defined(lambda theta, z, *, beta: theta + (1 - 1 / beta) * (z - theta))
    assert rule.points == {"z"}
    assert isinstance(rule.trace().evaluated, Node)
    assert sr.maximize(rule).trace().evaluated is not None
    x = _start()
    optimizer = sr.Optimizer(x, rule)
    assert np.array_equal(optimizer.slots["z"], x)
    assert optimizer.slots["z"] is not x
    assert _defined(lambda z: None).trace().evaluated is None


@pytest.mark.parametrize(
    ("evaluated", "words"),
    [
        (lambda g: g, "depends on g, the gradient"),
        (lambda theta, t: theta, "depends on t, the step number"),
        (lambda q: q, "'q', which the rule does not have"),
        (lambda theta, z=1: theta, "without defaults, got z=1"),
        (lambda *theta: theta, r"got \*theta"),
        (lambda theta: 1.0, "must be a number of every element, got 1.0"),
        (lambda beta: beta, "must be a number of every element, got beta"),
        (lambda theta: theta * sr.mean(theta), "takes a sum"),
        (lambda theta, z: (theta, z), "returns 2 values"),
        (3.0, r"must be a function of names of the rule, .* got 3.0"),
    ],
)
def test_a_wrong_point_is_refused_when_it_is_defined(evaluated: Any, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        _defined(evaluated)


def test_a_point_that_is_not_repeated_is_refused() -> None:
    numbers = iter(range(100))
    with pytest.raises(RuleError, match="evaluated point is not the same twice"):
        _defined(lambda theta: theta * float(next(numbers)))


def test_slots_that_begin_as_the_parameter_are_of_every_element() -> None:
    with pytest.raises(RuleError, match="'k' names 'theta', but the slot has no number for each element"):

        @sr.rule(init={"k": "theta"})
        def mine(theta, g, k: sr.Scalar, *, lr: Rate = 0.1):
            return theta - lr * g, k + 1

    with pytest.raises(RuleError, match="names 'thet', which is not a hyperparameter, nor theta"):
        _defined(lambda z: z, {"z": "thet"})
    with pytest.raises(RuleError, match="'trained'; give that slot another name"):

        @sr.rule(evaluated=lambda trained: trained)
        def other(theta, g, trained, *, lr: Rate = 0.1):
            return theta - lr * g, trained + g


@pytest.mark.parametrize("maker", [sr.schedule_free, sr.averaged, sr.lookahead])
def test_a_model_has_one_evaluated_point(maker: Callable[[str], Rule]) -> None:
    for name in ("asgd", "schedule_free_sgd", "averaged(sgd)"):
        with pytest.raises(RuleError, match="has an evaluated point of its own"):
            maker(name)
    with pytest.raises(RuleError, match="has no lr"):
        sr.schedule_free(_defined_without_rate)


@sr.rule
def _defined_without_rate(theta, g, *, step: Rate = 0.1):
    return (theta - step * g,)


def test_names_that_a_rule_has_already_are_refused() -> None:
    @sr.rule
    def taken(theta, g, z, *, lr: Rate = 0.1):
        return theta - lr * g, z + g

    with pytest.raises(RuleError, match="has a 'z' of its own"):
        sr.schedule_free(taken)

    @sr.rule
    def decaying(theta, g, *, lr: Rate = 0.1, decay: Rate = 0.1):
        return (theta - lr * decay * g,)

    with pytest.raises(RuleError, match="already has a hyperparameter 'decay'"):
        sr.averaged(decaying)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_replaced_is_the_same_in_every_variant(name: str) -> None:
    """For rules of the catalogue one variant is asked alone."""
    rule = CATALOGUE[name]
    average, decay = _replaced(rule)
    if average is None:
        return
    for options in variants(rule):
        trace = rule.trace(rule.variant(rule.resolve(options)))
        nodes = {id(node): node for root in (trace.parameter, *trace.kept.values()) for node in _below(root)}
        for node in nodes.values():
            if any(arg.name == average for arg in node.args):
                assert node.op == "mul"
                assert {arg.name for arg in node.args} == {average, decay}


def _below(node: Node) -> list[Node]:
    return [node, *(found for arg in node.args for found in _below(arg))] if node.args else [node]


@pytest.mark.parametrize("name", RATED)
def test_schedule_free_averages_what_it_steps(name: str) -> None:
    """x is the mean of all z, as weights of one lr are equal, and y lies between z and x."""
    rule, theta = schedule_free(name), _start()
    optimizer = sr.Optimizer(theta, rule)
    share = optimizer.groups[0]["beta" if "beta" in rule.hyperparameters else "beta1"]
    points: list[Array] = []
    for g in _gradients():
        before, z = theta.copy(), optimizer.slots["z"].copy()
        optimizer.step(g)
        points.append(optimizer.slots["z"].copy())
        x = np.mean(points, axis=0)
        np.testing.assert_allclose(optimizer.evaluated, x, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(theta, (1 - share) * points[-1] + share * x, rtol=1e-9, atol=1e-9)
        assert not np.array_equal(before, theta) or np.array_equal(z, points[-1])


@pytest.mark.parametrize("name", PLAIN)
def test_an_average_changes_no_iterate(name: str) -> None:
    gradients = _gradients()
    path = _path(name, gradients)
    for options in ({"decay": 0.9}, {"decay": None}, {"decay": None, "start": 3.0}):
        theta = _start()
        optimizer = sr.Optimizer(theta, sr.averaged(name), **options)
        for t, g in enumerate(gradients, start=1):
            optimizer.step(g)
            assert np.array_equal(theta, path[t])
            np.testing.assert_allclose(optimizer.evaluated, _average(path[1 : t + 1], **options), rtol=1e-9, atol=1e-12)


def _average(iterates: list[Array], decay: float | None, start: float = 0.0) -> Array:
    t = len(iterates)
    if decay is None:
        last = iterates[int(start) :] or iterates[-1:]
        return np.asarray(np.mean(last, axis=0))
    weights = [decay ** (t - 1 - k) for k in range(t)]
    return np.asarray(sum(w * x for w, x in zip(weights, iterates, strict=True)) / math.fsum(weights))


@pytest.mark.parametrize("name", PLAIN)
def test_lookahead_draws_back_every_few_steps(name: str) -> None:
    gradients, theta, other = _gradients(), _start(), _start()
    optimizer, inside = sr.Optimizer(theta, sr.lookahead(name), sync_period=3, slow_step_size=0.25), None
    inside, slow = sr.Optimizer(other, name), _start()
    for t, g in enumerate(gradients, start=1):
        optimizer.step(g)
        inside.step(g)
        if t % 3 == 0:
            slow = slow + 0.25 * (other - slow)
            other[...] = slow
        np.testing.assert_allclose(theta, other, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(optimizer.evaluated, slow, rtol=1e-12, atol=1e-12)


def test_the_weights_of_schedule_free() -> None:
    """By t**weight_t_power times the largest rate so far to weight_lr_power, with a schedule and a warm-up."""
    theta, gradients = _start(), _gradients(9)
    rates = [0.4, 0.1, 0.5, 0.2, 0.2, 0.6, 0.1, 0.3, 0.3]
    options: dict[str, Any] = {"warmup_steps": 4, "weight_t_power": 1.5, "weight_lr_power": 0.5}
    optimizer = sr.Optimizer(theta, "schedule_free_sgd", lr=lambda t: rates[t - 1], **options)
    total, weights, largest = np.zeros((3, 4)), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        optimizer.step(g)
        largest = max(largest, rates[t - 1] * min(1, t / 4))
        weight = t**1.5 * largest**0.5
        total, weights = total + weight * optimizer.slots["z"], weights + weight
        np.testing.assert_allclose(optimizer.evaluated, total / weights, rtol=1e-12, atol=1e-12)


def test_a_rate_of_zero_at_first_weighs_nothing() -> None:
    theta = _start()
    optimizer = sr.Optimizer(theta, "schedule_free_adamw", lr=lambda t: 0.0 if t < 3 else 0.1)
    for t, g in enumerate(_gradients(4), start=1):
        optimizer.step(g)
        assert np.array_equal(theta, _start()) == (t < 3)
        assert np.isfinite(optimizer.evaluated).all()


def test_a_share_of_zero_is_refused() -> None:
    with pytest.raises(HyperparameterError, match="beta1 must be"):
        sr.Optimizer(np.zeros(3), "schedule_free_adamw", beta1=0.0)
    with pytest.raises(HyperparameterError, match="beta must be"):
        sr.Optimizer(np.zeros(3), "schedule_free_sgd", beta=1.0)
    with pytest.raises(HyperparameterError, match="start does nothing"):
        sr.Optimizer(np.zeros(3), sr.averaged("adam"), start=3)
    assert sr.Optimizer(np.zeros(3), sr.averaged("adam"), decay=None, start=3).groups[0]["start"] == 3


def test_asgd_is_evaluated_at_its_average() -> None:
    theta = _start()
    optimizer = sr.Optimizer(theta, "asgd", t0=2, lr=0.1)
    for g in _gradients():
        optimizer.step(g)
    assert np.array_equal(optimizer.evaluated, optimizer.slots["ax"])
    assert not np.array_equal(optimizer.evaluated, theta)


@pytest.mark.parametrize("text", ["schedule_free(lion)", "averaged(adam)", "lookahead(l2(sgd))"])
def test_combinators_are_found_by_name_and_pickled(text: str) -> None:
    rule = sr.rules.find(text)
    assert pickle.loads(pickle.dumps(rule)) is rule
    assert rule.name == text


def test_clipped_updates_of_schedule_free_leave_its_weights_alone() -> None:
    """``update_clip`` lowers the rate of the rule inside, tensor by tensor; iterates are weighted by the rate given."""
    arrays = [np.ones(5, np.float32) for _ in range(3)]
    made: list[tuple[str | Rule, dict[str, Any]]] = [
        (schedule_free(update_clip("adamw")), {}),
        (update_clip("schedule_free_adamw"), {}),
        ("schedule_free_adamw", {"update_clip": True}),
    ]
    optimizers = [sr.Optimizer(own, rule, lr=0.1, **more) for own, (rule, more) in zip(arrays, made, strict=True)]
    unclipped = np.ones(5, np.float32)
    other = sr.Optimizer(unclipped, "schedule_free_adamw", lr=0.1)
    for t in range(6):
        g = np.random.default_rng(t).normal(size=5).astype(np.float32) * (10 if t == 4 else 1)
        for optimizer in (*optimizers, other):
            optimizer.step(g)
    assert_same_bits(arrays[0], arrays[1], "the combinator moves inside")
    assert_same_bits(arrays[0], arrays[2], "the option is the combinator")
    assert not np.array_equal(arrays[0], unclipped)
    assert optimizers[2].slots["lr_max"] == [0.1]
