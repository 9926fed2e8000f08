"""Rules with sums in JAX: the sums within their bound, and steps that are those of the rule called on NumPy arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import steprule as sr
import steprule.jax
from steprule import rule
from steprule.backends import jax as backend
from steprule.backends.jax_math import total as jax_total
from steprule.backends.jax_math import total_of_squares
from steprule.engine import plan
from steprule.formats import FORMATS, SLOT_FORMATS
from steprule.language import mean, total
from steprule.rules import Scalar
from steprule.rules.combinators import decoupled, update_clip
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, Direct, assert_same_bits
from tests.language.test_sums import RULES, straight_layerwise

pytestmark = pytest.mark.apart

ALL = {**RULES, "update_clip": update_clip(CATALOGUE["adamw"])}
SHAPES = [(3, 129), (40, 60), (20_011,), (5,), (1,), (), (0, 3)]
STEPS = 4


def gradients(shape: tuple[int, ...], t: int, dtype: Any = np.float32) -> Array:
    rng = np.random.default_rng([11, t, *shape])
    return np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3), dtype)


def start(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return np.asarray(np.random.default_rng([8, *shape]).standard_normal(shape), dtype)


def follow(some: Any, theta: Array, g: Callable[[int], Array], jitted: bool = True, **values: Any) -> None:
    """Assert that each step of JAX is the rule called on NumPy's arrays, from where that is.

    A scalar that is off by one unit in its last place may move what is multiplied with it by two, once a product.
    """
    oracle = Direct(some, theta.copy(), **values)
    step = steprule.jax.step(some, **values)
    run = jax.jit(step) if jitted else step
    slots = step.init(jnp.asarray(theta))
    for t in range(1, STEPS + 1):
        before = oracle.theta
        new, slots = run(jnp.asarray(before), jnp.asarray(g(t)), slots, t)
        with np.errstate(all="ignore"):
            oracle.step(g(t))
        unit = np.finfo(oracle.theta.dtype if oracle.theta.dtype.kind == "f" else np.float32).eps
        moved = abs(oracle.theta.astype(np.float64) - before.astype(np.float64))
        assert new.dtype == oracle.theta.dtype
        error = abs(np.asarray(new).astype(np.float64) - oracle.theta.astype(np.float64))
        if oracle.theta.dtype.itemsize > 2:
            assert (error <= unit * (abs(oracle.theta) + 8 * moved)).all(), f"step {t}"
        else:  # rounded to 16 bits, which hides it, or shows one place
            assert (
                error
                <= 2.0 ** (-7 if oracle.theta.dtype.name == "bfloat16" else -10) * abs(oracle.theta.astype(np.float64))
            ).all(), f"step {t}"
            assert (error == 0).mean() > 0.98 or error.size < 50


# The sums themselves.


def hard(kind: str, n: int) -> Array:
    """Return numbers that are hard to sum."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n).astype(np.float32)
    if kind == "cancelling":  # what is left is a millionth of a millionth
        half = (x[: n // 2] * 1e6).astype(np.float32)
        x = np.concatenate([half, -half, np.full(n - 2 * (n // 2), 1e-3, np.float32)])
        return rng.permutation(x)
    if kind == "of all magnitudes":
        return (x * 2.0 ** rng.integers(-120, 120, n)).astype(np.float32)
    if kind == "huge":  # the sum is no number of float32
        return np.full(n, 3e38, np.float32)
    if kind == "tiny":
        return np.full(n, 2e-38, np.float32)
    return np.abs(x) if kind == "of one sign" else x


KINDS = ["cancelling", "of all magnitudes", "huge", "tiny", "of one sign", "of both signs"]


@pytest.mark.parametrize("n", [1, 5, 1_000_003, pytest.param(10_000_019, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_keeps_its_bound(kind: str, n: int) -> None:
    """In whatever order n numbers are added in float64, each of the n - 1 sums is rounded once."""
    x = hard(kind, n)
    exact, within = math.fsum(x.tolist()), (n - 1) * 2.0**-53 * math.fsum(abs(x).tolist())
    for shaped in (x, x.reshape(1, n, 1), np.asfortranarray(x[: n // 7 * 7].reshape(7, -1))):
        expected = exact if shaped.size == n else math.fsum(shaped.ravel().tolist())
        for run in (jax_total, jax.jit(jax_total)):
            found, rounded = run(jnp.asarray(shaped))
            assert found.dtype == np.float64
            assert abs(float(found) - expected) <= within
            with np.errstate(over="ignore"):
                assert_same_bits(np.asarray(rounded), np.asarray(found).astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_of_squares_keeps_its_bound(kind: str) -> None:
    """Each square is rounded once, too; those of float32 would overflow, or vanish."""
    x = hard(kind, 100_003)
    exact = sum((Fraction(y) ** 2 for y in x.tolist()), Fraction(0))
    found, rounded = jax.jit(total_of_squares)(x)
    assert found.dtype == np.float64
    assert abs(Fraction(float(found)) - exact) <= Fraction(x.size, 2**53) * exact
    with np.errstate(over="ignore"):
        assert_same_bits(np.asarray(rounded), np.asarray(found).astype(np.float32))


def test_a_sum_of_ten_million_squares_is_that_of_float64() -> None:
    x = hard("of both signs", 10_000_019)
    squares = (x * x).tolist()
    found, _ = jax.jit(lambda x: jax_total(x * x))(x)
    assert float(found) == pytest.approx(math.fsum(squares), rel=1e-12)
    plain = jax.jit(lambda x: jnp.sum(x * x))(x)
    assert float(plain) != pytest.approx(math.fsum(squares), rel=1e-9)  # what the above could not tell from float32


def test_a_sum_that_is_no_number() -> None:
    for x in ([math.inf, 1.0], [-math.inf, 1.0], [math.inf, -math.inf], [math.nan, 1.0]):
        found, rounded = jax.jit(jax_total)(jnp.asarray(x, jnp.float32))
        np.testing.assert_array_equal([float(found), float(rounded)], [sum(x)] * 2)


# Steps.


@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("name", ALL)
def test_steps_are_the_rule_called_on_arrays(name: str, jitted: bool) -> None:
    for shape in SHAPES if jitted else SHAPES[:2]:
        follow(ALL[name], start(shape), functools.partial(gradients, shape), jitted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_narrow_parameters(name: str, dtype: str) -> None:
    kind = jnp.dtype(dtype)
    follow(ALL[name], start((40, 60)).astype(kind), lambda t: gradients((40, 60), t).clip(-100, 100).astype(kind))


@pytest.mark.parametrize("name", ALL)
def test_float64_with_64_bits(name: str) -> None:
    with jax.enable_x64(True):
        for shape in ((40, 60), (5,), ()):
            theta = start(shape, np.float64)
            oracle, step = Direct(ALL[name], theta.copy()), steprule.jax.step(ALL[name])
            new, slots = jnp.asarray(theta), step.init(jnp.asarray(theta))
            for t in range(1, STEPS + 1):
                g = gradients(shape, t, np.float64)
                oracle.step(g)
                new, slots = jax.jit(step)(new, jnp.asarray(g), slots, t)
            assert new.dtype == np.float64
            np.testing.assert_allclose(np.asarray(new), oracle.theta, rtol=1e-11, atol=1e-11)
    # float32 parameters beside it
    with jax.enable_x64(True):
        follow(ALL[name], start((40, 60)), lambda t: gradients((40, 60), t))


@pytest.mark.parametrize(("wide", "within"), [(False, 2e-5), (True, 1e-12)])
def test_the_papers_loop(wide: bool, within: float) -> None:
    rng = np.random.default_rng(3)
    x, grads = rng.standard_normal(300), rng.standard_normal((6, 300))
    with jax.enable_x64(wide):
        step = steprule.jax.step(RULES["layerwise"])
        theta, slots = jnp.asarray(x), step.init(jnp.asarray(x))
        for t, g in enumerate(grads, start=1):
            theta, slots = jax.jit(step)(theta, jnp.asarray(g), slots, t)
    np.testing.assert_allclose(np.asarray(theta), straight_layerwise(x.tolist(), grads.tolist()), rtol=within)


@rule
def normed(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    """A zero tensor has a ratio of 1."""
    length = math.sqrt(total(g * g))
    return theta - lr * sr.where(length > 0, 1 / length, 1.0) * g


def exact_norm(g: Array) -> float:
    """Return the norm of the squares as float32 has them, from their exact sum."""
    squares = (g * g).ravel().tolist()
    return math.sqrt(sum(map(Fraction, squares), Fraction(0)))


@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1.0, 1e12, 1.8e19])
def test_norms_of_tiny_and_of_huge_gradients(scale: float) -> None:
    """The sum of squares is no number of float32 in the last, and one in float64."""
    g = (np.random.default_rng(0).uniform(0.5, 1, 100_003) * scale).astype(np.float32)
    theta, _ = jax.jit(steprule.jax.step(normed, lr=1.0))(jnp.zeros_like(g), jnp.asarray(g), {}, 1)
    np.testing.assert_allclose(np.asarray(theta), -g / exact_norm(g), rtol=3e-7)


def test_a_tensor_of_zeros_and_one_that_is_not_finite() -> None:
    step = jax.jit(steprule.jax.step(normed))
    ones = jnp.ones(3)
    assert_same_bits(np.asarray(step(ones, jnp.zeros(3), {}, 1)[0]), np.ones(3, np.float32))
    for bad in (math.inf, math.nan):
        g = jnp.asarray([bad, 1.0, 0.0])
        with np.errstate(all="ignore"):
            (expected,) = normed(np.ones(3, np.float32), np.asarray(g))
        np.testing.assert_array_equal(np.asarray(step(ones, g, {}, 1)[0]), expected)


@pytest.mark.parametrize("name", ["layerwise", "standardized", "update_clip"])
@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_low_precision_slots(name: str, states: str) -> None:
    shapes = [(5, 300), (40,), (3, 131)]
    other = sr.Optimizer([start(shape) for shape in shapes], ALL[name], states=states, min_elements=0, seed=5)
    step = steprule.jax.step(ALL[name], states=states, min_elements=0, seed=5)
    theta = [jnp.asarray(start(shape)) for shape in shapes]
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        grads = [gradients(shape, t) for shape in shapes]
        other.step(grads)
        theta, slots = jax.jit(step)(theta, [jnp.asarray(g) for g in grads], slots, t)
    for mine, theirs in zip(theta, other.params, strict=True):
        np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("states", ["8bit", "4bit"])
def test_a_sum_over_a_slot_in_codes_alone(states: str) -> None:
    """No array that is read has the parameter's shape."""

    @rule
    def remembered(theta: Any, g: Any, m: Any, *, lr: float = 0.1) -> Any:
        return theta - lr * total(m * m) * g, 0.9 * m + 0.1 * g

    theta, g = start((3, 131)), gradients((3, 131), 1)
    other = sr.Optimizer(theta.copy(), remembered, states=states, min_elements=0)
    step = steprule.jax.step(remembered, states=states, min_elements=0)
    mine, slots = jnp.asarray(theta), step.init(jnp.asarray(theta))
    for t in range(1, STEPS + 1):
        other.step(g)
        mine, slots = jax.jit(step)(mine, jnp.asarray(g), slots, t)
    np.testing.assert_allclose(np.asarray(mine), other.params, rtol=1e-6)
    assert not np.allclose(other.params, theta)


@pytest.mark.parametrize("name", ALL)
def test_both_parts_of_complex_numbers_are_one_tensor(name: str) -> None:
    step = steprule.jax.step(ALL[name])
    pairs, twice = start((40, 2)), [gradients((40, 2), t) for t in range(1, STEPS + 1)]
    theta, real = jnp.asarray(pairs.view(np.complex64)[:, 0]), jnp.asarray(pairs)
    slots, of_real = step.init(theta), step.init(real)
    for t, g in enumerate(twice, start=1):
        theta, slots = jax.jit(step)(theta, jnp.asarray(g.view(np.complex64)[:, 0]), slots, t)
        real, of_real = jax.jit(step)(real, jnp.asarray(g), of_real, t)
    found = np.asarray(theta).view(np.float32).reshape(40, 2)
    np.testing.assert_allclose(found, np.asarray(real), rtol=1e-5, atol=1e-6)


# Trees, and what transforms them.


def tree_of(number: int) -> dict[str, Any]:
    shapes = {"w": (6, 5), "b": (5,), "s": ()}
    made = start if number == 0 else (lambda shape: gradients(shape, number))
    return {key: jnp.asarray(made(shape)) for key, shape in shapes.items()}


def leaf_of(key: str, number: int) -> Any:
    return tree_of(number)[key]


def stepped(transformation: Any, tree: Any, grads: Callable[[int], Any] = tree_of) -> Any:
    state = transformation.init(tree)
    for t in range(1, STEPS + 1):
        updates, state = jax.jit(transformation.update)(grads(t), state, tree)
        tree = optax.apply_updates(tree, updates)
    return tree


def assert_close(a: Any, b: Any, within: float = 2e-6) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=within, atol=within)


@pytest.mark.parametrize("name", ALL)
def test_leaves_step_as_each_alone_and_updates_add_up(name: str) -> None:
    transformation, step = steprule.jax.transformation(ALL[name]), steprule.jax.step(ALL[name])
    together = stepped(transformation, tree_of(0))
    for key, leaf in tree_of(0).items():
        assert_close(together[key], stepped(transformation, leaf, functools.partial(leaf_of, key)), 0)
        theta, slots = leaf, step.init(leaf)
        for t in range(1, STEPS + 1):
            theta, slots = jax.jit(step)(theta, tree_of(t)[key], slots, t)
        assert_close(together[key], theta)


def test_what_is_not_stepped_is_in_no_sum() -> None:
    transformation = steprule.jax.transformation(RULES["layerwise"])
    alone = stepped(transformation, {"b": tree_of(0)["b"]}, lambda t: {"b": tree_of(t)["b"]})
    masked = stepped(optax.masked(transformation, {"w": False, "b": True, "s": False}), tree_of(0))
    labels = {"w": "other", "b": "this", "s": "other"}
    parted = stepped(optax.multi_transform({"this": transformation, "other": optax.sgd(0.1)}, labels), tree_of(0))
    for found in (masked, parted):
        assert_close(found["b"], alone["b"], 0)


def test_a_mask_of_weight_decay_is_in_the_sums() -> None:
    @rule
    def decaying(theta: Any, g: Any, *, lr: float = 0.1, weight_decay: float = 0.5) -> Any:
        step = g + weight_decay * theta
        return theta - lr * step / (math.sqrt(total(step * step)) + 1e-6)

    masked = stepped(steprule.jax.transformation(decaying, mask={"w": True, "b": False, "s": True}), tree_of(0))
    for key, weight_decay in (("w", 0.5), ("b", 0.0)):
        some = steprule.jax.transformation(decaying, weight_decay=weight_decay)
        assert_close(masked[key], stepped(some, tree_of(0))[key], 0)


def test_schedules_and_injected_rates() -> None:
    some = decoupled(RULES["layerwise"])
    fixed = stepped(steprule.jax.transformation(some, lr=0.05, weight_decay=0.0), tree_of(0))
    scheduled = steprule.jax.transformation(some, lr=optax.constant_schedule(0.05), weight_decay=0.0)
    injected = optax.inject_hyperparams(lambda lr: steprule.jax.transformation(some, lr=lr, weight_decay=0.0))(lr=0.05)
    assert_close(stepped(scheduled, tree_of(0)), fixed)
    assert_close(stepped(injected, tree_of(0)), fixed)


def test_outside_of_a_program_nothing_is_compiled_anew() -> None:
    from tests.doors.jax.test_bits import Heard

    step = steprule.jax.step(RULES["standardized"])
    theta = jnp.asarray(start((17,)))
    slots = step.init(theta)
    compilations: list[str] = []
    for t in range(1, 6):
        with jax.log_compiles(t > 2), Heard(compilations):
            theta, slots = step(theta, jnp.asarray(gradients((17,), t)), slots, t)
    assert not compilations


@pytest.mark.parametrize("name", ALL)
def test_runs_under_vmap_have_sums_of_their_own(name: str) -> None:
    step = steprule.jax.step(ALL[name])

    def final(theta: Any, grads: Any) -> Any:
        def one(carry: Any, g: Any) -> Any:
            theta, slots, t = carry
            return (*step(theta, g, slots, t), t + 1), None

        return jax.lax.scan(one, (theta, step.init(theta), jnp.int32(1)), grads)[0][0]

    thetas = jnp.stack([jnp.asarray(start((30,))) * k for k in (1, 2, 3)])
    grads = jnp.stack([jnp.stack([jnp.asarray(gradients((30,), 5 * k + t)) for t in range(3)]) for k in (1, 2, 3)])
    found = jax.jit(jax.vmap(final))(thetas, grads)
    for k in range(3):
        assert_close(found[k], jax.jit(final)(thetas[k], grads[k]))


@pytest.mark.parametrize("axes", [("x",), (None, "y"), ("x", "y")], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_sums_are_over_the_whole_of_a_sharded_array(name: str, axes: tuple[str | None, ...]) -> None:
    assert jax.device_count() == 8
    spec: Any = PartitionSpec
    where = NamedSharding(Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y")), spec(*axes))
    step = steprule.jax.step(ALL[name])
    run = jax.jit(step)
    alone = jnp.asarray(start((16, 512)))
    sharded = jax.device_put(alone, where)
    slots, apart = step.init(alone), step.init(sharded)
    for t in range(1, STEPS + 1):
        g = jnp.asarray(gradients((16, 512), t))
        alone, slots = run(alone, g, slots, t)
        sharded, apart = run(sharded, jax.device_put(g, where), apart, t)
        assert sharded.sharding.is_equivalent_to(where, 2)
    assert_close(alone, sharded)
    compiled = str(run.lower(sharded, jax.device_put(g, where), apart, 1).compile().as_text())
    assert ("all-reduce" in compiled) == (name != "by_size")  # a size is known without a sum
    assert "all-gather" not in compiled


def test_a_run_continues_from_its_file(tmp_path: Path) -> None:
    transformation = steprule.jax.transformation(RULES["standardized"])
    params = tree_of(0)
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for t in (1, 2, 3):
        if t == 2:
            sr.save(tmp_path / "run", steprule.jax.Training(transformation, params, state), params=True)
        updates, state = update(tree_of(t), state, params)
        params = optax.apply_updates(params, updates)
    again = steprule.jax.Training(transformation, tree_of(0), transformation.init(tree_of(0)))
    sr.load(tmp_path / "run", again, params=True)
    for t in (2, 3):
        updates, again.state = update(tree_of(t), again.state, again.params)
        again.params = optax.apply_updates(again.params, updates)
    for mine, theirs in zip(jax.tree.leaves(again.params), jax.tree.leaves(params), strict=True):
        assert_same_bits(np.asarray(mine), np.asarray(theirs))


# Derivatives.


def plain_layerwise(theta: Any, grads: Any, lr: Any) -> Any:
    """Return what ``layerwise`` does, in plain JAX."""
    m = v = jnp.zeros_like(theta)
    for t, g in enumerate(grads, start=1):
        m, v = 0.9 * m + (1 - 0.9) * g, 0.99 * v + (1 - 0.99) * g * g
        step = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.99**t)) + 1e-6)
        theta = theta - lr * jnp.linalg.norm(theta) / jnp.linalg.norm(step) * step
    return theta


@pytest.mark.parametrize(("mode", "wide"), [(jax.jacrev, False), (jax.jacfwd, False), (jax.jacrev, True)])
def test_derivatives_pass_through_sums(mode: Any, wide: bool) -> None:
    with jax.enable_x64(wide):
        theta = jnp.asarray(start((5,)), jnp.float64 if wide else jnp.float32)
        grads = [jnp.asarray(gradients((5,), t), theta.dtype) for t in (1, 2)]
        step_of = RULES["layerwise"]

        def ours(theta: Any, grads: Any, lr: Any) -> Any:
            step = steprule.jax.step(step_of, lr=lr)
            slots = step.init(theta)
            for t, g in enumerate(grads, start=1):
                theta, slots = step(theta, g, slots, t)
            return theta

        for which in (0, 1, 2):
            lr = jnp.asarray(0.01, theta.dtype)
            found, expected = (jax.jit(mode(function, which))(theta, grads, lr) for function in (ours, plain_layerwise))
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                largest = float(abs(other).max())
                np.testing.assert_allclose(one, other, rtol=1e-9 if wide else 1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("lr", [0.1, jnp.float32(0.1)], ids=["fixed", "array"])
def test_derivatives_are_finite_where_a_sum_is_zero(lr: Any) -> None:
    for some, zeros in ((normed, jnp.zeros(3)), (RULES["layerwise"], jnp.zeros(3)), (ALL["update_clip"], jnp.zeros(3))):
        step = steprule.jax.step(some, lr=lr)
        slope = jax.grad(lambda g, step=step: step(g * 0, g, step.init(g), 1)[0].sum())(zeros)
        assert np.isfinite(np.asarray(slope)).all(), some.name


# Sums over all leaves.


@rule
def together(theta: Any, g: Any, m: Any, drift: Scalar, *, lr: float = 0.1, beta: float = 0.9, t: int) -> Any:
    """Sums over all tensors that depend on each other, one over the tensor that depends on them, and a scalar slot."""
    g = g * sr.minimum(1.0, 1.0 / sr.norm(g, over="all"))
    m = beta * m + (1 - beta) * g
    drift = 0.5 * drift + total(m * theta, over="all") / sr.size(g, over="all") + 1 / t
    return theta - lr * (1 + drift * drift) * m / (1e-3 + sr.norm(m)), m, drift


class Together:
    """Steps lists of numbers by ``together``: straight loops in float64."""

    def __init__(self, tensors: list[list[float]]) -> None:
        self.theta, self.m, self.drift, self.t = tensors, [[0.0] * len(x) for x in tensors], 0.0, 0

    def step(self, grads: list[list[float]]) -> None:
        self.t += 1
        length = math.sqrt(math.fsum(x * x for g in grads for x in g))
        self.m = [
            [0.9 * a + 0.1 * (x * min(1.0, 1.0 / length)) for a, x in zip(m, g, strict=True)]
            for m, g in zip(self.m, grads, strict=True)
        ]
        products = [a * x for m, theta in zip(self.m, self.theta, strict=True) for a, x in zip(m, theta, strict=True)]
        self.drift = 0.5 * self.drift + math.fsum(products) / len(products) + 1 / self.t
        for theta, m in zip(self.theta, self.m, strict=True):
            own = 1e-3 + math.sqrt(math.fsum(a * a for a in m))
            theta[:] = [x - 0.1 * (1 + self.drift**2) * a / own for x, a in zip(theta, m, strict=True)]


def numbers(tree: Any) -> list[list[float]]:
    """Return the numbers of each leaf."""
    return [np.asarray(leaf, np.float64).ravel().tolist() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
def test_sums_over_all_leaves(jitted: bool) -> None:
    """Leaves without a gradient are in none."""
    step = steprule.jax.step(together)
    run = jax.jit(step) if jitted else step
    tree = {**tree_of(0), "still": jnp.full(4, 1e6)}
    slots, oracle = step.init(tree), Together(numbers(tree_of(0)))
    for t in range(1, STEPS + 1):
        tree, slots = run(tree, {**tree_of(t), "still": None}, slots, t)
        oracle.step(numbers(tree_of(t)))
    for found, expected in zip(numbers({key: tree[key] for key in tree_of(0)}), oracle.theta, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    assert_close(tree["still"], jnp.full(4, 1e6), 0)
    assert float(slots["drift"][0]) + float(slots["drift"][1]) == pytest.approx(oracle.drift, rel=1e-6)


def test_sums_over_all_leaves_are_of_one_transformation() -> None:
    transformation = steprule.jax.transformation(together)
    alone = stepped(transformation, {"b": tree_of(0)["b"]}, lambda t: {"b": tree_of(t)["b"]})
    masked = stepped(optax.masked(transformation, {"w": False, "b": True, "s": False}), tree_of(0))
    labels = {"w": "other", "b": "this", "s": "other"}
    parted = stepped(optax.multi_transform({"this": transformation, "other": transformation}, labels), tree_of(0))
    assert_close(masked["b"], alone["b"], 0)
    assert_close(parted["b"], alone["b"], 0)
    assert not np.allclose(stepped(transformation, tree_of(0))["b"], alone["b"], rtol=1e-3)


def test_sums_over_leaves_of_several_types_and_formats() -> None:
    """Complex numbers are two, and what is kept in other formats has a kernel of its own."""
    step = steprule.jax.step(together, states="8bit", min_elements=100)
    plain = steprule.jax.step(together)
    tree = {"a": start((2, 128)), "b": start((3,)).astype(jnp.bfloat16), "c": start((4,)).view(np.complex64)}
    grads = [
        {key: gradients((1, x.size), t)[0].astype(x.dtype).reshape(x.shape) for key, x in tree.items()} for t in (1, 2)
    ]
    found = []
    for some in (step, plain):
        theta, slots = tree, some.init(tree)
        for t, g in enumerate(grads, start=1):
            theta, slots = jax.jit(some)(theta, g, slots, t)
        found.append((theta, slots["drift"]))
    assert isinstance(step.init(tree)["m"]["a"], steprule.jax.EightBit)
    for key in ("b", "c"):
        one, other = (np.asarray(theta[key]).astype(np.complex64) for theta, _ in found)
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02)
    oracle = Together(
        [
            np.asarray(x).astype(np.float32).tolist() if key != "c" else x.view(np.float32).tolist()
            for key, x in ((key, np.ravel(x)) for key, x in tree.items())
        ]
    )
    for g in grads:
        oracle.step(
            [
                np.ravel(g["a"]).tolist(),
                np.asarray(g["b"]).astype(np.float32).tolist(),
                g["c"].view(np.float32).tolist(),
            ]
        )
    assert float(found[1][1].sum()) == pytest.approx(oracle.drift, rel=1e-3)


def test_sums_over_all_of_nothing_change_nothing() -> None:
    step = steprule.jax.step(together)
    slots = {"m": {"a": None}, "drift": jnp.asarray([0.25, 0.0])}
    theta, after = step({"a": None}, {"a": None}, slots, 1)
    assert theta == {"a": None}
    assert_same_bits(np.asarray(after["drift"]), np.asarray(slots["drift"]))


def test_derivatives_pass_through_sums_over_all_and_scalar_slots() -> None:
    step = steprule.jax.step(together)

    def last(scale: Any) -> Any:
        tree, slots = tree_of(0), step.init(tree_of(0))
        for t in (1, 2, 3):
            tree, slots = step(tree, jax.tree.map(lambda g: g * scale + 1e-2, tree_of(t)), slots, t)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(tree))

    def straight(scale: float) -> float:
        oracle = Together(numbers(tree_of(0)))
        for t in (1, 2, 3):
            oracle.step([[x * scale + 1e-2 for x in g] for g in numbers(tree_of(t))])
        return math.fsum(x for theta in oracle.theta for x in theta)

    expected = (straight(1 + 1e-5) - straight(1 - 1e-5)) / 2e-5
    for slope in (jax.grad, jax.jacfwd):
        assert float(jax.jit(slope(last))(1.0)) == pytest.approx(expected, rel=1e-3)


# What is written.


def test_what_is_written_names_its_sums() -> None:
    some = RULES["layerwise"]
    recipe = plan(some, some.variant(some.resolve({})), FORMATS["float32"])
    assert backend.emit(recipe.before[0]).count("total(x") == 2
    text = backend.emit(recipe)
    assert "def late(_between0, _total0, _total1):" in text
    assert "total(" not in text


def test_a_product_that_is_summed_is_rounded_as_float32() -> None:
    """Contracted with the sum it would be exact, and the sum another number than NumPy's."""
    g = start((1_000,))
    near = round(math.fsum((g * g).tolist()), 3)

    @rule
    def kept(theta: Any, g: Any, s: Any, *, lr: float = 1.0) -> Any:
        return theta - lr * g, total(g * g) - near

    expected = math.fsum((g * g).tolist()) - near
    other = math.fsum((g.astype(np.float64) ** 2).tolist()) - near
    step = steprule.jax.step(kept)
    _, slots = jax.jit(step)(jnp.asarray(g), jnp.asarray(g), step.init(jnp.asarray(g)), 1)
    assert np.float32(expected) != np.float32(other)
    assert_same_bits(np.asarray(slots["s"]), np.full(1_000, expected, np.float32))


def test_a_mean_is_of_all_elements_of_a_tensor() -> None:
    @rule
    def centred(theta: Any, g: Any, *, lr: float = 1.0) -> Any:
        return theta - lr * (g - mean(g))

    for shape in SHAPES:
        follow(centred, start(shape), functools.partial(gradients, shape))
