"""Expressions in which some symbols are 0: what is left of them."""

from __future__ import annotations

import numpy as np
import pytest

import steprule as sr
from steprule.language.computing import computed, without
from steprule.language.node import Node, symbol
from steprule.language.walk import postorder, symbols_in
from tests.cases import FOR_VECTORS as CATALOGUE

THETA, G, M, V = (symbol(name, "element") for name in ("theta", "g", "m", "v"))
BETA, T = symbol("beta", "host"), symbol("t", "host")


def _operations(root: Node) -> list[str]:
    return [node.op for node in postorder([root]) if node.args]


def test_an_average_with_a_decay_of_zero_is_the_gradient() -> None:
    m = BETA * M + (1 - BETA) * G
    assert without(m, {"beta", "m"}) is G
    assert without(m / (1 - BETA**T), {"beta", "m"}) is G


def test_what_does_something_stays() -> None:
    root = (BETA * M + (1 - BETA) * G) * 2 + V / (1 + T) - 0 * THETA
    left = without(root, {"beta", "m"})
    assert _operations(left) == ["mul", "add", "div", "add", "mul", "sub"]  # 0 * theta may be NaN
    assert symbols_in([left]) == {"g", "v", "t", "theta"}
    assert without(root, ()) is root


def test_zero_to_a_power_that_may_be_zero_is_not_zero() -> None:
    assert _operations(without(BETA ** (T - 1), {"beta"})) == ["sub", "pow"]


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "adamax", "radam", "lion", "adabelief"])
def test_it_is_the_same_number(name: str) -> None:
    rule = CATALOGUE[name]
    root = rule.trace(rule.variant(rule.resolve({}))).parameter
    rng = np.random.default_rng(0)
    values: dict[str, object] = {key: rng.uniform(0.1, 1.0, 50) for key in (rule.parameter, rule.gradient, *rule.slots)}
    values |= {**rule.resolve({}), "t": 7, "beta1": 0.0, "m": np.zeros(50)}
    left = without(root, {"beta1", "m"})
    np.testing.assert_array_equal(computed(left, values), computed(root, values))
    assert len(_operations(left)) < len(_operations(root))
    assert "m" not in symbols_in([left])


def test_adam_without_its_average_divides_once_less() -> None:
    root = CATALOGUE["adam"].trace(sr.rules.find("adam").variant(sr.rules.find("adam").resolve({}))).parameter
    assert _operations(root).count("div") - _operations(without(root, {"beta1", "m"})).count("div") == 1
