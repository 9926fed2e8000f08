"""Polar factors: against the singular value decomposition in float64, on odd matrices, and what rules may say."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import steprule as sr
from steprule.errors import RuleError
from steprule.language.matrices import seen_as
from steprule.language.newton_schulz import Iteration, gram_room, iterate
from steprule.language.polar import COEFFICIENTS, polar
from steprule.rules import Count, Rate

SHAPES = ((64, 64), (32, 128), (128, 32), (1, 9), (9, 1), (3, 1000))
ROUNDING = {"float64": 1e-13, "float32": 3e-5}
"""Of ten steps and fewer: what products leave of the exact result of the polynomials, as a share of its norm."""
FACTOR = {("jordan", 5): 0.35, ("polar_express", 5): 0.2, ("polar_express", 8): 5e-3, ("polar_express", 10): 1e-4}
"""How far from the polar factor the steps end, as a share of its norm, where singular values span a factor of 100."""


def spread(shape: tuple[int, int], lowest: float = 1e-2) -> tuple[Any, Any, Any]:
    """Return a matrix as left vectors, singular values and right vectors."""
    rng = np.random.default_rng(sum(shape))
    left, _, right = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    return left, np.geomspace(1.0, lowest, min(shape)), right


def of_singular_values(values: Any, steps: int, name: str) -> Any:
    """Return what the polynomials make of singular values, in float64."""
    s = values / np.sqrt(np.sum(values**2)) / (1.01 if name == "polar_express" else 1.0)
    for step in range(steps):
        a, b, c = COEFFICIENTS[name][min(step, len(COEFFICIENTS[name]) - 1)]
        s = a * s + b * s**3 + c * s**5
    return s


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_it_is_the_polynomials_of_the_singular_values(name: str, dtype: str) -> None:
    for shape in SHAPES:
        left, values, right = spread(shape)
        for steps in (1, 5, 10):
            exact = (left * of_singular_values(values, steps, name)) @ right
            found = polar(((left * values) @ right).astype(dtype), steps, name)
            assert found.dtype == dtype
            assert np.linalg.norm(found - exact) <= ROUNDING[dtype] * np.linalg.norm(exact), (shape, steps)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("name", "steps"), FACTOR)
def test_it_is_near_the_polar_factor(name: str, steps: int, dtype: str) -> None:
    for shape in SHAPES:
        left, values, right = spread(shape)
        found = polar(((left * values) @ right).astype(dtype), steps, name)
        assert np.linalg.norm(found - left @ right) <= FACTOR[name, steps] * np.sqrt(min(shape)), shape


def test_float16_is_computed_in_float32() -> None:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype("float16")
    np.testing.assert_array_equal(polar(x), polar(x.astype("float32")).astype("float16"))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries_give_the_same_but_for_rounding(library: str) -> None:
    for shape, view in (((6, 4), "first"), ((4, 6), "first"), ((2, 3, 4, 5), "last"), ((5, 2, 3), "first")):
        x = np.random.default_rng(1).standard_normal(shape).astype("float32")
        for name in COEFFICIENTS:
            with seen_as(view):  # type: ignore[arg-type]
                ours = polar(x, 5, name)
                theirs = polar(torch.tensor(x) if library == "torch" else jnp.asarray(x), 5, name)
            np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_odd_matrices(dtype: str) -> None:
    """Zeros give zeros; an element that is not finite makes all NaN; the size of a matrix does not matter."""
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert (polar(np.zeros((4, 3), dtype)) == 0).all()
    for bad in (np.nan, np.inf, -np.inf):
        wrong = x.astype(dtype)
        wrong[1, 2] = bad
        assert np.isnan(polar(wrong)).all()
    assert polar(np.zeros((0, 3), dtype)).shape == (0, 3)
    assert polar(np.zeros((3, 0), dtype)).shape == (3, 0)
    one = np.outer([1.0, 2.0, 2.0], [3.0, 4.0]).astype(dtype)  # of rank 1
    factor = np.outer([1.0, 2.0, 2.0], [3.0, 4.0]) / 15
    np.testing.assert_allclose(polar(one, 12, "polar_express"), factor, atol=2e-3 if dtype == "float16" else 1e-5)
    sizes = {"float16": (1e-4, 1e4), "float32": (1e-30, 1e37), "float64": (1e-300, 1e300)}[dtype]
    for size in sizes:
        scaled = polar((x * size / 4).astype(dtype), eps=0.0)
        np.testing.assert_allclose(scaled, polar(x), rtol=0, atol=0.05 if dtype == "float16" else 1e-5)


def test_a_norm_below_eps_counts_as_that() -> None:
    x = np.full((2, 2), 1e-9)
    np.testing.assert_array_equal(polar(x, eps=1e-7), polar(x, eps=1e-7))
    np.testing.assert_allclose(polar(x, 1, (1.0, 0.0, 0.0), eps=1e-7), x / 1e-7)
    np.testing.assert_allclose(polar(x, 1, (1.0, 0.0, 0.0), eps=1e-9), x / 2e-9)


def test_views_and_parts() -> None:
    x = np.random.default_rng(2).standard_normal((6, 4, 5))
    with seen_as("first"):
        np.testing.assert_array_equal(polar(x), polar(x.reshape(6, 20)).reshape(6, 4, 5))
        parts = [polar(part) for part in np.split(x.reshape(6, 20), 3)]
        np.testing.assert_array_equal(polar(x, parts=3), np.concatenate(parts).reshape(6, 4, 5))
    with seen_as("last"):
        np.testing.assert_array_equal(polar(x), np.stack([polar(matrix) for matrix in x]))
    with pytest.raises(RuleError, match="4 parts: the parts are not equally high"):
        polar(x[0][:3], parts=4)


def test_the_room_is_what_is_said() -> None:
    for shape in ((3, 5, 4), (2, 4, 5), (1, 1, 7)):
        stack = np.random.default_rng(3).standard_normal(shape)
        room = np.full(gram_room(*shape) + 1, 7.0)
        iterate(stack, Iteration(((1.5, -0.5, 0.0),) * 3), room[:-1])
        assert room[-1] == 7.0
        assert np.isfinite(stack).all()


def test_rules_say_what_can_be_read() -> None:
    @sr.rule
    def fine(theta, g, *, lr: Rate = 0.1, steps: Count = 5, a: float = 1.5):
        return (theta - lr * sr.polar(g, steps, (a, -0.5, 0.0)),)

    assert fine.needs_matrices
    assert fine.view == "first"
    assert fine.trace().sees == "matrix"
    (polar_of,) = fine.trace().parameter.args[1].args[1:]
    assert polar_of.op == "polar"

    def refused(words: str, make: Any) -> None:
        with pytest.raises(RuleError, match=words):

            @sr.rule
            def wrong(theta, g, *, t, lr: Rate = 0.1, steps: Count = 5):
                return (theta - lr * make(g, steps, t, lr),)

    refused("polar is of a number of every element, but .* is one number", lambda g, steps, t, lr: sr.polar(lr))
    refused("is a condition", lambda g, steps, t, lr: sr.polar(g > 0))
    refused("is of each row", lambda g, steps, t, lr: sr.polar(sr.mean(g, over="row")))
    refused("steps of polar is a number or a hyperparameter itself", lambda g, steps, t, lr: sr.polar(g, steps + 1))
    refused("steps of polar is a number or a hyperparameter itself", lambda g, steps, t, lr: sr.polar(g, t))
    refused("steps of polar is a whole number", lambda g, steps, t, lr: sr.polar(g, 2.5))
    refused("the coefficients of polar are 'jordan', 'polar_express'", lambda g, steps, t, lr: sr.polar(g, 5, "newton"))
    refused("a name or three numbers", lambda g, steps, t, lr: sr.polar(g, 5, (1.0, 2.0)))
    refused("parts of polar is a whole number", lambda g, steps, t, lr: sr.polar(g, parts=0))


def test_polar_factors_and_sums_may_depend_on_each_other() -> None:
    """The polar factor of what a sum has scaled, and a sum over that, and a polar factor of it."""

    @sr.rule
    def deep(theta, g, *, lr: Rate = 0.1):
        o = sr.polar(g - sr.mean(g))
        second = sr.polar(o * sr.norm(o) + theta, 3, "polar_express")
        return (theta - lr * second * sr.total(g * o),)

    rng = np.random.default_rng(4)
    theta = rng.standard_normal((7, 5))
    expected, arrays = theta.copy(), {backend: theta.copy() for backend in ("llvm", "numpy")}
    optimizers = [sr.Optimizer(array, deep, backend=backend) for backend, array in arrays.items()]
    for _ in range(3):
        g = rng.standard_normal((7, 5))
        (expected,) = deep(expected, g)
        for optimizer in optimizers:
            optimizer.step(g)
    for array in arrays.values():
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 2.5}, "steps of polar is a whole number of at least 1, got 2.5"),
        ({"steps": 0}, "steps of polar is a whole number of at least 1, got 0.0"),
        ({"parts": 0}, "parts of polar is a whole number of at least 1, got 0.0"),
        ({"coefficients": (1.0, 2.0)}, "a name or three numbers (a, b, c), got (1.0, 2.0)"),
        ({"coefficients": 3.0}, "a name or three numbers (a, b, c), got 3.0"),
    ],
)
def test_options_are_checked_on_arrays_too(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RuleError, match=re.escape(words)):
        sr.polar(np.ones((3, 4)), **options)
