"""Copies and pickles: of rules, schedules and optimizers, none of which may touch the original's memory."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steprule as sr
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import assert_same_bits


@sr.rule
def mine(theta, g, m, n: sr.Scalar, *, t, lr: sr.Rate = 0.1):
    n = n + math.sqrt(t)
    m = 0.5 * m + g
    return theta - lr * m / n, m, n


def _structures() -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    return {
        "one": lambda: rng.standard_normal(5),
        "large": lambda: rng.standard_normal(200_000),
        "nest": lambda: {"w": rng.standard_normal((40, 30)), "b": [np.zeros(3, np.float32), np.zeros(0)]},
        "strided": lambda: rng.standard_normal((30, 40))[:, ::3],
        "Fortran": lambda: np.asfortranarray(rng.standard_normal((30, 40))),
    }


def _grads(params: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if isinstance(params, dict):
        return {key: _grads(value, seed + i) for i, (key, value) in enumerate(params.items())}
    if isinstance(params, list):
        return [_grads(value, seed + i) for i, value in enumerate(params)]
    return rng.standard_normal(params.shape).astype(params.dtype)


def _flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _flat(value)]
    return [leaf for value in tree for leaf in _flat(value)] if isinstance(tree, list) else [tree]


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("structure", _structures())
@pytest.mark.parametrize("rule", [CATALOGUE["adamw"], CATALOGUE["nadam"], mine], ids=lambda rule: rule.name)
def test_a_copy_goes_on_by_itself(rule: sr.Rule, structure: str, backend: str, way: Callable[[Any], Any]) -> None:
    params = _structures()[structure]()
    lr = sr.schedules.cosine(0.1, 10)
    optimizer = sr.Optimizer(params, rule, backend=backend, lr=lr)
    optimizer.step(_grads(params, 1))
    twin = way(optimizer)
    assert twin.t == 1
    before = [leaf.copy() for leaf in _flat(params)]
    twin.step(_grads(params, 2))
    for leaf, old in zip(_flat(params), before, strict=True):
        assert_same_bits(leaf, old, "the original, while its copy steps")
    optimizer.step(_grads(params, 2))
    for a, b in zip(_flat(optimizer.params), _flat(twin.params), strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b), "the copy, against the original")
    assert repr(twin.groups) == repr(optimizer.groups)
    del optimizer, params
    gc.collect()
    fill = [np.full(1000, 7.0) for _ in range(50)]
    twin.step(_grads(twin.params, 3))
    assert all((array == 7).all() for array in fill)


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_a_copy_has_every_option(backend: str, way: Callable[[Any], Any]) -> None:
    """Those of random bits, of formats and of guards: with others it would go on, to other bits."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((6, 40)).astype(np.float32) for _ in range(2)]
    groups = [sr.Group(arrays[0], first_row=6, lr=0.3), sr.Group(arrays[1], states="8bit")]
    optimizer = sr.Optimizer(
        groups, states="4bit", min_elements=0, seed=8, clip_norm=2.0, clip_value=0.9, nonfinite="skip", backend=backend
    )
    grads = [[5 * rng.standard_normal((6, 40)).astype(np.float32) for _ in arrays] for _ in range(4)]
    optimizer.step(grads[0])
    twin = way(optimizer)
    for own in (optimizer, twin):
        for g in grads[1:]:
            own.step(g)
        own.step([np.full((6, 40), np.nan, np.float32), grads[0][1]])
    for a, b in zip(optimizer.params, twin.params, strict=True):
        assert_same_bits(a, b, "the copy, against the original")
    assert (twin.t, twin.skipped) == (optimizer.t, optimizer.skipped) == (4, 1)
    assert [(g.seed, g.first_row) for g in twin.groups] == [(g.seed, g.first_row) for g in optimizer.groups]


def test_a_copy_shares_the_parameters_that_are_copied_with_it() -> None:
    params = {"w": np.ones(3)}
    both = copy.deepcopy((params, sr.Optimizer(params, "sgd", lr=1.0)))
    both[1].step({"w": np.ones(3)})
    assert both[0]["w"].tolist() == [0.0] * 3
    assert params["w"].tolist() == [1.0] * 3


def test_rules_are_themselves_when_copied_and_pickled() -> None:
    for rule in CATALOGUE.values():
        assert copy.deepcopy(rule) is rule
        assert copy.copy(rule) is rule
        assert pickle.loads(pickle.dumps(rule)) is rule
    assert pickle.loads(pickle.dumps(mine)) is mine
    combined = sr.cautious(sr.decoupled(mine))
    assert pickle.loads(pickle.dumps(combined)).name == "cautious(decoupled(mine))"


def test_addresses_are_never_copied() -> None:
    optimizer = sr.Optimizer(np.zeros(3))
    optimizer.step(np.ones(3))
    for part in (optimizer._layout, optimizer._layout._launch):
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.deepcopy(part)
    with pytest.raises(TypeError, match=r"use copy\.deepcopy"):
        copy.copy(optimizer)


def test_a_rule_made_twice_is_one_rule() -> None:
    assert sr.cautious("adam") is sr.cautious(CATALOGUE["adam"])
    assert pickle.loads(pickle.dumps(sr.cautious("adam"))) is sr.cautious("adam")
    assert sr.cautious("adam", "mine") is not sr.cautious("adam")


def test_memory_that_is_stepped_cannot_be_moved() -> None:
    theta = np.zeros(3)
    optimizer = sr.Optimizer(theta, "sgd")
    with pytest.raises(ValueError, match="resize"):
        theta.resize(1_000_000, refcheck=False)
    optimizer.step(np.ones(3))


def test_parameters_that_change_are_noticed() -> None:
    theta, other = np.zeros(6), np.zeros(6)
    optimizer = sr.Optimizer([other, theta], "sgd", lr=1.0)
    theta.flags.writeable = False
    with pytest.raises(sr.errors.StructureError, match=r"params\[1\] has become read-only"):
        optimizer.step([np.ones(6), np.ones(6)])
    assert not other.any()
    assert optimizer.t == 0
    theta.flags.writeable = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since NumPy 2.5, which still does it
        theta.shape = (2, 3)
    optimizer.step([np.ones(6), np.ones(6)])  # the memory is the same
    np.testing.assert_array_equal(theta, np.full((2, 3), -1.0))


def test_a_copy_keeps_groups_with_equal_options_apart() -> None:
    own = [np.ones(3), np.ones(3)]
    optimizer = sr.Optimizer([sr.Group(own[0]), sr.Group(own[1])], "sgd", lr=0.1)
    twin = copy.deepcopy(optimizer)
    twin.groups[1]["lr"] = 1.0
    twin.step([np.ones(3), np.ones(3)])
    first, second = twin.params
    np.testing.assert_array_equal(first, np.full(3, 0.9))
    np.testing.assert_array_equal(second, np.zeros(3))
