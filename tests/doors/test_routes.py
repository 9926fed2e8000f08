"""Routes: which parameter goes by which rule, whatever the door."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from steprule.doors.routes import as_routes, is_matrix, routed
from steprule.errors import HyperparameterError, RuleError
from steprule.rules import find

NAMES = ["tok_embeddings.weight", "layers.0.attn.wq.weight", "layers.0.attn.wq.bias", "layers.0.norm", "lm_head.weight"]
ARRAYS = [np.zeros(shape) for shape in [(50, 8), (8, 8), (2, 4), (8,), (8, 50)]]


def places(routes: Any, own: str | None = "adamw") -> list[int]:
    return routed(as_routes(routes), NAMES, ARRAYS, None if own is None else find(own))


@pytest.mark.parametrize(
    "name",
    [
        *("layers.0.attn.wq.weight", "encoder.layer.0.attention.output.dense.weight", "h_1/mlp/kernel", "w", ""),
        *("remember.w", "headline.w", "MultiHeadDotProductAttention_0/query/kernel", "blocks.3.heads.weight"),
    ],
)
def test_what_is_a_matrix_by_its_name(name: Any) -> None:
    assert is_matrix(name, np.zeros((3, 4)))


@pytest.mark.parametrize(
    "name",
    [
        *("wte", "transformer.wpe.weight", "Embed_0/embedding", "patchEmbed.proj.w", "model.embed_tokens.weight"),
        *("lm_head.weight", "head_0/kernel", "heads.head.weight", "output.weight", "classifier.w", "Unembedding.w"),
        *("MultiHeadDotProductAttention_0/query/bias", "norm/scale"),
    ],
)
def test_what_is_none_by_its_name(name: Any) -> None:
    assert not is_matrix(name, np.zeros((3, 4)))


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (3, 1), (0, 3), (2, 3, 4), (8, 3, 3, 3)])
def test_what_is_none_by_its_shape(shape: Any) -> None:
    assert not is_matrix("w", np.zeros(shape))


def test_the_first_route_that_matches_decides() -> None:
    assert places([("matrices", "lion")]) == [1, 0, 1, 1, 1]
    assert places([("*.bias", "sgd"), ("layers/*", "lion", {"lr": 0.1})]) == [2, 1, 0, 1, 2]
    assert places([(lambda name, array: array.ndim == 1, "sgd"), ("matrices", "lion")]) == [2, 1, 2, 0, 2]
    assert places([(lambda name, array: np.bool_(name == "layers.0.norm"), "sgd"), ("*", "lion")], None) == [
        *(1, 1, 1, 0, 1)
    ]


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([("weight", "lion")], "routes[0], 'weight' to 'lion', matches no parameter (a pattern matches whole names"),
        ([("matrix", "lion")], "Did you mean 'matrices'?"),
        ([("*", "lion"), ("matrices", "sgd")], "routes[1], 'matrices' to 'sgd', has no effect: what it matches"),
        ([("matrices", "lionn")], "Did you mean 'lion'"),
        ([("matrices", "lion", {"beta": 1})], "has no hyperparameter 'beta' (routes[0])"),
        ([("matrices", "lion", {"lr": -1.0})], "lr must be"),
        ([("matrices", None)], "routes[0] has no rule"),
        ([("matrices", "lion", 3)], "routes[0] has the options 3"),
        ([("matrices",)], "routes are tuples (selector, rule, options)"),
        ([(3, "lion")], "routes[0] has the selector 3"),
        ([(lambda name, array: None, "lion")], "returned None for 'tok_embeddings.weight'; return True or False"),
        ("matrices", "routes must be a list of tuples"),
        (("matrices", "lion"), "write routes=[('matrices', 'lion')]"),
        ([(find("lion"), "matrices")], "begins with a rule"),
    ],
)
def test_what_is_wrong_with_routes_is_said(routes: Any, words: Any) -> None:
    with pytest.raises((HyperparameterError, RuleError), match=re.escape(words)):
        places(routes)


def test_a_parameter_without_a_rule_is_named() -> None:
    with pytest.raises(RuleError, match=r"no rule for 'tok_embeddings.weight', .*: no route matches"):
        places([("matrices", "lion")], own=None)
