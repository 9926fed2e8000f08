"""Muon in JAX: optax's function, polar factors by ``jnp.matmul``, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import steprule as sr
import steprule.jax
from steprule.errors import HyperparameterError, StructureError
from steprule.rules import batched
from steprule.rules.papers.muon import muon

Axes = optax.contrib.MuonDimensionNumbers
SHAPES = {"wide": (16, 32), "tall": (40, 8), "bias": (32,), "stack": (4, 8, 6), "kernel": (12, 3, 3, 2)}
# Both multiply in float32, in another order; optax adds eps to norms and we compare with it.
ABSOLUTE = 1e-5


def tree(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), "float32") for name, shape in SHAPES.items()}


def trained(transformation: Any, steps: int = 50) -> dict[str, Any]:
    params = tree(0)
    state, update = transformation.init(params), jax.jit(transformation.update)
    for step in range(1, steps + 1):
        updates, state = update(tree(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


OPTIONS: list[dict[str, Any]] = [
    {"weight_decay": 0.1, "weight_decay_mask": {**dict.fromkeys(SHAPES, True), "tall": False}, "ns_steps": 3},
    {
        "nesterov": False,
        "consistent_rms": 0.2,
        "ns_coeffs": (2.0, -1.5, 0.5),
        "eps": 1e-6,
        "beta": 0.9,
        "adam_b1": 0.8,
        "adam_b2": 0.95,
        "adam_learning_rate": 1e-3,
        "adam_weight_decay": 0.01,
    },
    {
        "muon_weight_dimension_numbers": lambda _: {
            "wide": Axes(1, 0),
            "tall": Axes(),
            "bias": None,
            "stack": Axes(1, 2),
            "kernel": Axes((1, 2, 3), 0),
        }
    },
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.dear
def test_fifty_steps_are_those_of_optax(options: dict[str, Any]) -> None:
    rate = optax.linear_schedule(0.02, 0.01, 50)
    ours = trained(steprule.jax.muon(rate, **options))
    theirs = trained(optax.contrib.muon(rate, **options))
    for name, own in ours.items():
        np.testing.assert_allclose(own, theirs[name], rtol=0, atol=ABSOLUTE, err_msg=name)
        assert np.abs(np.asarray(own - tree(0)[name])).max() > 1000 * ABSOLUTE


def test_arguments_and_defaults_are_optaxs() -> None:
    import inspect

    theirs = inspect.signature(optax.contrib.muon).parameters
    ours = inspect.signature(steprule.jax.muon).parameters
    shown = [(own.name, own.kind, own.default) for own in ours.values() if own.name != "products"]
    assert shown == [(own.name, own.kind, own.default) for own in theirs.values()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adaptive": True}, "adaptive=True is not supported"),
        ({"preconditioning": "aol"}, "preconditioning='aol' is not supported"),
        ({"ns_coeffs": "dion"}, "ns_coeffs='dion' is not supported"),
        ({"ns_coeffs": ((1.0, 2.0, 3.0),) * 3}, "ns_coeffs must be three numbers"),
        ({"mu_dtype": "float16"}, "mu_dtype must be 'bfloat16' or None"),
        ({"products": "float8"}, "products must be None or one of bfloat16, float32"),
        ({"beta": 1.5}, "momentum must be"),
    ],
)
def test_what_is_not_supported_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=re.escape(words)):
        steprule.jax.muon(0.02, **options)


def test_axes_that_are_no_matrix_are_named() -> None:
    axes = {**dict.fromkeys(SHAPES), "kernel": Axes((0, 1, 2), 3)}
    with pytest.raises(StructureError, match=r"kernel of shape \(12, 3, 3, 2\) is no matrix by reduction_axis"):
        steprule.jax.muon(0.02, muon_weight_dimension_numbers=axes).init(tree(0))
    with pytest.raises(StructureError, match="another structure than the parameters"):
        steprule.jax.muon(0.02, muon_weight_dimension_numbers={"wide": Axes()}).init(tree(0))


def test_the_number_of_steps_is_fixed_while_tracing() -> None:
    params = {"w": tree(0)["wide"]}
    optimizer = optax.inject_hyperparams(steprule.jax.muon)(learning_rate=0.02)
    state = optimizer.init(params)
    with pytest.raises(HyperparameterError, match=r"static_args=\('ns_steps',\)"):
        jax.jit(optimizer.update)(params, state, params)
    optimizer = optax.inject_hyperparams(steprule.jax.muon, static_args=("ns_steps",))(learning_rate=0.02)
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert "learning_rate" in state.hyperparams
    assert np.isfinite(np.asarray(updates["w"])).all()


@pytest.mark.parametrize("view", ["first", "last"])
def test_a_step_is_that_of_the_other_targets(view: str) -> None:
    rule, parts = (muon, 2) if view == "first" else (batched(muon), 1)
    params = {name: np.array(own) for name, own in tree(0).items() if own.ndim > 1}
    optimizer = sr.Optimizer(params, rule, lr=0.02, parts=parts)
    step = steprule.jax.step(rule, lr=0.02, parts=parts)
    theta = {name: jnp.array(own) for name, own in params.items()}
    slots, run = step.init(theta), jax.jit(step)
    for t in range(1, 6):
        g = {name: np.array(own) for name, own in tree(t).items() if own.ndim > 1}
        optimizer.step(g)
        theta, slots = run(theta, g, slots, t)
    for name, own in params.items():
        np.testing.assert_allclose(theta[name], own, rtol=0, atol=2e-6, err_msg=name)


# Of matrices whose singular values are between 0.1 and 1, the largest error of an element of the polar factor.
@pytest.mark.parametrize(("products", "error"), [(None, 1e-5), ("float32", 1e-5), ("bfloat16", 0.02)])
def test_the_polar_factor_is_that_of_the_singular_vectors(products: str | None, error: float) -> None:
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.normal(size=(16, 24)), full_matrices=False)
    g = jnp.asarray(u @ np.diag(np.linspace(0.1, 1, 16)) @ v, "float32")
    options: dict[str, Any] = {"lr": 1.0, "weight_decay": 0.0, "momentum": 0.0, "nesterov": False, "ns_steps": 10}
    found = steprule.jax.transformation("muon", coefficients="polar_express", products=products, **options)
    updates, _ = found.update(g, found.init(g), g)
    worst = float(np.abs(np.asarray(updates) + u @ v).max())
    assert worst < error
    assert products != "bfloat16" or worst > 1e-4  # it was multiplied in 16 bits


def test_products_of_rules_without_any_are_refused() -> None:
    with pytest.raises(HyperparameterError, match="products='bfloat16' has no effect: rule 'adam' multiplies no"):
        steprule.jax.transformation("adam", products="bfloat16")
    with pytest.raises(HyperparameterError, match="has no effect: no rule multiplies"):
        steprule.jax.step("adam", routes=[("w", "lion")], products="bfloat16")


def test_odd_matrices() -> None:
    """A NaN makes NaN of its own matrix alone; zeros are no step; one row is its own direction."""
    g = {"nan": jnp.ones((3, 4)).at[0, 0].set(jnp.nan), "ones": jnp.ones((3, 4)), "zero": jnp.zeros((3, 4))}
    g |= {
        "row": jnp.ones((1, 5)),
        "tall": jnp.ones((1000, 3)),
        "large": jnp.full((3, 4), 3e38),
        "empty": jnp.ones((0, 3)),
    }
    step = steprule.jax.step("muon", lr=1.0, weight_decay=0.0)
    theta = jax.tree.map(jnp.zeros_like, g)
    new, _ = jax.jit(step)(theta, g, step.init(theta), 1)
    assert np.isnan(np.asarray(new["nan"])).all()
    assert not np.asarray(new["zero"]).any()
    for name in ("ones", "row", "tall", "large"):
        assert np.isfinite(np.asarray(new[name])).all(), name
    np.testing.assert_allclose(new["large"], new["ones"], rtol=1e-5)


def test_vectors_and_uneven_parts_are_refused() -> None:
    with pytest.raises(StructureError, match=r"\['b'\] is a vector of 3, and rule 'muon' steps matrices"):
        steprule.jax.transformation("muon").init({"b": jnp.zeros(3)})
    step = steprule.jax.step("muon", parts=3)
    theta = {"w": jnp.ones((4, 2))}
    with pytest.raises(HyperparameterError, match=r"\['w'\] has 4 rows, which parts=3"):
        step(theta, theta, step.init(theta), 1)
