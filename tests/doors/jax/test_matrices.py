"""Rules that see rows and columns in JAX: their sums within the bound, and steps that are the rule called on arrays."""

from __future__ import annotations

import functools
import importlib
import math
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import steprule as sr
import steprule.jax
from steprule import PerColumn, PerRow, mean, rule, sqrt
from steprule.backends import jax as backend
from steprule.backends.jax_math import along
from steprule.engine import plan
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import FORMATS
from steprule.language.matrices import kept_shape
from steprule.rules import Rule, centralized
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.cases import Array, assert_same_bits
from tests.covering import swept
from tests.doors.jax.test_sums import (
    KINDS,
    STEPS,
    assert_close,
    follow,
    gradients,
    hard,
    leaf_of,
    start,
    stepped,
    tree_of,
)
from tests.launch import row_rules

pytestmark = pytest.mark.apart

PAPERS: dict[str, Rule] = {own.name: own for own in (adafactor, came, adam_mini)}
RULES: dict[str, Rule] = {**row_rules.RULES, **PAPERS, "centralized": centralized("adamw")}
QUICK = ("adafactor", "came", "mixed", "centralized", "in_pairs")
ALONE = [name for name in RULES if name != "mixed"]
"""Those whose tensors know nothing of each other."""
SHAPES = [(40, 60), (2, 3, 7, 5), (1, 9), (9, 1), (7,), (1,), (), (0, 3), (3, 0)]
OPTIONS = [
    *((name, {}) for name in PAPERS),
    ("adafactor", {"clamp": True, "beta1": 0.9, "beta2": 0.99, "eps1": 0.3, "weight_decay": 0.1}),
    ("adafactor", {"eps2": None, "clip_threshold": 0.5, "relative_step": False}),
    ("came", {"weight_decay": 0.1}),
    ("adam_mini", {"blocks": "tensor", "weight_decay": 0.1}),
]

# The sums themselves.


@pytest.mark.parametrize("word", swept(["total", "mean", "norm", "rms"], ["mean", "norm"]))
@pytest.mark.parametrize("kind", swept(KINDS, ["cancelling", "huge", "of all magnitudes"]))
def test_a_sum_keeps_its_bound(kind: str, word: str) -> None:
    """Of n numbers, in whatever order: each of the n - 1 sums is rounded once, as squares, quotients and roots are."""
    for shape in ((3, 20_011), (20_011, 3), (5, 3, 7, 101)):
        x = hard(kind, math.prod(shape)).reshape(shape)
        for seen in ("first", "last"):
            for over in ("row", "column"):
                _check(x, word, over, seen)


def _check(x: Array, word: str, over: Literal["row", "column"], seen: Literal["first", "last"]) -> None:
    with jax.enable_x64(True):  # what float64 has, before it is rounded to float32
        found = np.asarray(jax.jit(along, static_argnums=(0, 2, 3))(word, jnp.asarray(x, jnp.float64), over, seen))
    narrow = np.asarray(jax.jit(along, static_argnums=(0, 2, 3))(word, jnp.asarray(x), over, seen))
    assert narrow.dtype == np.float32
    assert found.shape == narrow.shape == kept_shape(x.shape, over, seen)
    with np.errstate(over="ignore"):
        assert_same_bits(narrow, found.astype(np.float32))
    kept = {axis for axis, n in enumerate(found.shape) if n > 1}
    lines = np.moveaxis(x, sorted(kept), range(len(kept))).reshape(found.size, -1).tolist()
    count = len(lines[0])
    for line, number in zip(lines, found.ravel().tolist(), strict=True):
        numbers = [y * y for y in line] if word in ("norm", "rms") else line
        scale = 1 / count if word in ("mean", "rms") else 1.0
        exact, size = math.fsum(numbers) * scale, math.fsum(map(abs, numbers)) * scale
        if word in ("norm", "rms"):
            assert abs(number - math.sqrt(exact)) <= (count + 2) * 2.0**-53 * math.sqrt(exact)
        else:
            assert abs(number - exact) <= (count + 1) * 2.0**-53 * size


# Steps.


@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("name", swept(RULES, QUICK))
def test_steps_are_the_rule_called_on_arrays(name: str, jitted: bool) -> None:
    for shape in SHAPES if jitted else SHAPES[:1]:
        follow(RULES[name], start(shape), functools.partial(gradients, shape), jitted)


@rule
def joined(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.3) -> Any:
    """Operations on elements, rows and columns that a compiler would join."""
    r = (0.5 * r) * 0.7 + mean(abs(g), over="row") + 0.1
    c = 0.5 * c + sqrt(mean(abs(g), over="column")) ** 2 / 3.0 / (1.0 + c)
    u = ((g * 0.7) * r) * 0.3 * c / (1.0 + r) / (0.5 + c) + ((g + r) + 0.1) + c
    return theta - lr * (u * 1.1 - r * c) / sqrt(1.0 + r), r, c


@pytest.mark.parametrize("name", swept([*RULES, "joined"], (*QUICK, "factored", "by_neuron", "joined")))
def test_of_few_numbers_a_step_has_the_bits_of_the_referee(name: str) -> None:
    """In whatever order a float64 sum of them is taken, it hardly ever changes a rounding to float32."""
    some = {**RULES, "joined": joined}[name]
    for shape in ((13, 9), (2, 3, 4), (7,)):
        other = sr.Optimizer(start(shape), some, backend="numpy")
        step, theta = steprule.jax.step(some), jnp.asarray(start(shape))
        slots = step.init(theta)
        for t in range(1, 7):
            other.step(gradients(shape, t))
            theta, slots = jax.jit(step)(theta, jnp.asarray(gradients(shape, t)), slots, t)
            assert_same_bits(np.asarray(theta), other.params, f"{shape}, step {t}")


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_options(name: str, options: dict[str, Any]) -> None:
    for shape in ((40, 60), (7,)):
        follow(PAPERS[name], start(shape), functools.partial(gradients, shape), **options)


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["bfloat16"]))
@pytest.mark.parametrize("name", PAPERS)
def test_narrow_parameters(name: str, dtype: str) -> None:
    kind = jnp.dtype(dtype)
    follow(RULES[name], start((40, 60)).astype(kind), lambda t: gradients((40, 60), t).clip(-100, 100).astype(kind))
    slots = steprule.jax.step(RULES[name]).init(jnp.zeros((4, 5), dtype))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(slots)} == {"float32"}


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_in_64_bits_it_is_the_papers_loop(name: str, options: dict[str, Any]) -> None:
    loops, rng = importlib.import_module(f"tests.papers.{name}"), np.random.default_rng(2)
    for shape, run in (((9,), loops.run), ((5, 4), loops.run_matrix)):
        theta, grads = rng.standard_normal(shape), rng.standard_normal((8, *shape)) * 10.0 ** rng.uniform(-2, 1, shape)
        expected, kept = run(theta.tolist(), grads.tolist(), **options)
        with jax.enable_x64(True):
            step = steprule.jax.step(PAPERS[name], **options)
            x = jnp.asarray(theta)
            slots = step.init(x)
            for t, g in enumerate(grads, start=1):
                x, slots = jax.jit(step)(x, jnp.asarray(g), slots, t)
                np.testing.assert_allclose(np.asarray(x), expected[t - 1], rtol=1e-10, atol=1e-10)
        assert set(slots) == set(kept)
        for slot, value in kept.items():
            assert slots[slot].dtype == np.float64
            scale = 1e-10 * np.max(np.abs(value))
            np.testing.assert_allclose(np.ravel(slots[slot]), np.ravel(value), rtol=1e-10, atol=scale)


@pytest.mark.parametrize("name", swept(RULES, QUICK))
def test_several_leaves_are_those_of_an_optimizer(name: str) -> None:
    shapes = [(3, 129), (5,), (), (0, 3), (2, 3, 4)]
    other = sr.Optimizer([start(shape) for shape in shapes], RULES[name])
    theta, step = [jnp.asarray(start(shape)) for shape in shapes], steprule.jax.step(RULES[name])
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        grads = [gradients(shape, t) for shape in shapes]
        other.step(grads)
        theta, slots = jax.jit(step)(theta, [jnp.asarray(g) for g in grads], slots, t)
    assert_close(theta, other.params, 1e-5)


@pytest.mark.parametrize("name", swept(ALONE, QUICK))
def test_leaves_step_as_each_alone_and_updates_add_up(name: str) -> None:
    transformation, step = steprule.jax.transformation(RULES[name]), steprule.jax.step(RULES[name])
    together = stepped(transformation, tree_of(0))
    for key, leaf in tree_of(0).items():
        assert_close(together[key], stepped(transformation, leaf, functools.partial(leaf_of, key)), 0)
        theta, slots = leaf, step.init(leaf)
        for t in range(1, STEPS + 1):
            theta, slots = jax.jit(step)(theta, tree_of(t)[key], slots, t)
        assert_close(together[key], theta)


@pytest.mark.parametrize("bad", swept([np.nan, np.inf, 1e30], [np.inf]))
@pytest.mark.parametrize("name", PAPERS)
def test_what_has_no_square_and_what_is_zero(name: str, bad: float) -> None:
    for shape in ((4, 5), (7,)):
        oracle, step = sr.Optimizer(start(shape), PAPERS[name]), steprule.jax.step(PAPERS[name])
        theta = jnp.asarray(start(shape))
        slots = step.init(theta)
        for t in (1, 2):
            g = gradients(shape, t)
            g[0], g[..., 0] = 0.0, 0.0
            g.reshape(-1)[-1] = bad
            oracle.step(g)
            theta, slots = jax.jit(step)(theta, jnp.asarray(g), slots, t)
        np.testing.assert_allclose(np.asarray(theta), oracle.params, rtol=1e-5)


@pytest.mark.parametrize("name", PAPERS)
def test_slots_in_16_bits(name: str) -> None:
    """Of elements; those of rows and columns stay as they are."""
    options: dict[str, Any] = {"beta1": 0.9} if name == "adafactor" else {}
    other = sr.Optimizer(start((5, 300)), PAPERS[name], states="bfloat16", min_elements=0, seed=5, **options)
    step = steprule.jax.step(PAPERS[name], states="bfloat16", min_elements=0, seed=5, **options)
    theta = jnp.asarray(start((5, 300)))
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        other.step(gradients((5, 300), t))
        theta, slots = jax.jit(step)(theta, jnp.asarray(gradients((5, 300), t)), slots, t)
    assert_close(theta, other.params, 1e-5)
    assert slots["m"].dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for slot, x in slots.items() if slot != "m")


@pytest.mark.parametrize("shape", [(5, 300), (2, 3, 256), (4, 3, 20), (300,)])
@pytest.mark.parametrize("states", ["8bit", "4bit"])
@pytest.mark.parametrize("name", ["came", "adam_mini"])
def test_slots_in_groups(name: str, states: str, shape: tuple[int, ...]) -> None:
    """Groups are those of NumPy, also where they have elements of several rows. Sums of whole numbers are exact."""
    other = sr.Optimizer(start(shape), PAPERS[name], states=states, min_elements=0, seed=5)
    step = steprule.jax.step(PAPERS[name], states=states, min_elements=0, seed=5)
    theta = jnp.asarray(start(shape))
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        g = np.random.default_rng(t).integers(-64, 64, shape).astype(np.float32)
        other.step(g)
        theta, slots = jax.jit(step)(theta, jnp.asarray(g), slots, t)
        if t == 1:
            (kept,) = other.state_dict()["slots"].values()
            for plane in ("m", "m.scale"):
                found = [leaf for leaf in jax.tree.leaves(slots["m"]) if leaf.shape == kept[plane].shape]
                assert any(np.array_equal(np.asarray(leaf), kept[plane]) for leaf in found), plane
    assert_close(theta, other.params, 1e-5)
    assert all(x.dtype == jnp.float32 for slot, x in slots.items() if slot != "m")


def test_slots_have_the_axes_of_their_parameter() -> None:
    """With length 1 along those that are summed, on its devices."""
    slots = steprule.jax.step(adafactor).init({"w": jnp.zeros((2, 3, 4)), "b": jnp.zeros(5), "n": 1.0, "no": None})
    assert {key: x.shape for key, x in slots["r"].items() if x is not None} == {"w": (2, 3, 1), "b": (1,), "n": ()}
    assert {key: x.shape for key, x in slots["c"].items() if x is not None} == {"w": (2, 1, 4), "b": (5,), "n": ()}
    slots = steprule.jax.step(row_rules.RULES["by_neuron"]).init(jnp.zeros((2, 3, 4)))
    assert_same_bits(np.asarray(slots["v"]), np.full((2, 1, 1), 0.25, np.float32))
    device = jax.devices()[3]
    slots = steprule.jax.step(adafactor).init(jax.device_put(jnp.zeros((4, 4)), device))
    assert slots["r"].devices() == slots["c"].devices() == {device}


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_not_stepped_is_left_out(name: str) -> None:
    transformation = steprule.jax.transformation(RULES[name])
    alone = stepped(transformation, {"w": tree_of(0)["w"]}, lambda t: {"w": tree_of(t)["w"]})
    masked = stepped(optax.masked(transformation, {"w": True, "b": False, "s": False}), tree_of(0))
    assert_close(masked["w"], alone["w"], 0)
    step = steprule.jax.step(RULES[name])
    tree, slots = {**tree_of(0), "no": None}, step.init({**tree_of(0), "no": None})
    still, after = jax.jit(step)(tree, {**tree_of(1), "b": None, "no": None}, slots, 1)
    for one, other in ((still, tree), *((after[slot], slots[slot]) for slot in slots)):
        assert_same_bits(np.asarray(one["b"]), np.asarray(other["b"]))
        assert not np.array_equal(np.asarray(one["w"]), np.asarray(other["w"]))


@pytest.mark.parametrize("name", PAPERS)
def test_schedules_and_injected_rates(name: str) -> None:
    own = PAPERS[name]
    fixed = stepped(steprule.jax.transformation(own, lr=0.05), tree_of(0))
    scheduled = steprule.jax.transformation(own, lr=optax.constant_schedule(0.05))
    injected = optax.inject_hyperparams(lambda lr: steprule.jax.transformation(own, lr=lr))(lr=0.05)
    assert_close(stepped(scheduled, tree_of(0)), fixed, 1e-5)
    assert_close(stepped(injected, tree_of(0)), fixed, 1e-5)


def test_a_mask_of_weight_decay() -> None:
    mask = {"w": True, "b": False, "s": True}
    masked = stepped(steprule.jax.transformation(adafactor, weight_decay=0.5, mask=mask), tree_of(0))
    for key, weight_decay in (("w", 0.5), ("b", 0.0)):
        some = steprule.jax.transformation(adafactor, weight_decay=weight_decay)
        assert_close(masked[key], stepped(some, tree_of(0))[key], 0)


@pytest.mark.parametrize("name", PAPERS)
def test_runs_under_vmap_have_rows_of_their_own(name: str) -> None:
    step = steprule.jax.step(RULES[name])

    def final(theta: Any, grads: Any) -> Any:
        def one(carry: Any, g: Any) -> Any:
            theta, slots, t = carry
            return (*step(theta, g, slots, t), t + 1), None

        return jax.lax.scan(one, (theta, step.init(theta), jnp.int32(1)), grads)[0][0]

    thetas = jnp.stack([jnp.asarray(start((6, 5))) * k for k in (1, 2, 3)])
    grads = jnp.stack([jnp.stack([jnp.asarray(gradients((6, 5), 5 * k + t)) for t in range(3)]) for k in (1, 2, 3)])
    found = jax.jit(jax.vmap(final))(thetas, grads)
    for k in range(3):
        assert_close(found[k], jax.jit(final)(thetas[k], grads[k]))


@pytest.mark.parametrize("axes", swept([("x",), (None, "y"), ("x", "y")], [("x", "y")]), ids=str)
@pytest.mark.parametrize("name", PAPERS)
def test_rows_and_columns_are_those_of_the_whole_of_a_sharded_array(name: str, axes: tuple[str | None, ...]) -> None:
    assert jax.device_count() == 8
    spec: Any = PartitionSpec
    where = NamedSharding(Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y")), spec(*axes))
    step = steprule.jax.step(RULES[name])
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
    gathered = [line for line in compiled.splitlines() if "all-gather(" in line]
    assert not any("[16,512]" in line for line in gathered)  # of rows and columns at most


# States.


@pytest.mark.parametrize("name", [*PAPERS, "mixed"])
def test_a_run_continues_from_its_file_also_in_numpy(name: str, tmp_path: Path) -> None:
    transformation = steprule.jax.transformation(RULES[name])
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
    other = sr.Optimizer({key: np.array(x) for key, x in tree_of(0).items()}, RULES[name])
    sr.load(tmp_path / "run", other, params=True)
    for t in (2, 3):
        other.step({key: np.array(x) for key, x in tree_of(t).items()})
        updates, again.state = update(tree_of(t), again.state, again.params)
        again.params = optax.apply_updates(again.params, updates)
    for mine, theirs in zip(
        jax.tree.leaves((again.params, again.state)), jax.tree.leaves((params, state)), strict=True
    ):
        assert_same_bits(np.asarray(mine), np.asarray(theirs))
    assert_close(params, other.params, 1e-5)
    sr.save(tmp_path / "other", other, params=True)
    back = steprule.jax.Training(transformation, tree_of(0), transformation.init(tree_of(0)))
    sr.load(tmp_path / "other", back, params=True)
    assert_close(back.state, state, 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    step = steprule.jax.step(adafactor)
    theta = {"a": jnp.ones((3, 4))}
    slots = step.init(theta)
    with pytest.raises(
        StructureError, match=r"slot 'r' of \['a'\], which has a number of each row, has shape \(3,\), .*\(3, 1\)"
    ):
        step(theta, theta, {**slots, "r": {"a": jnp.zeros(3)}}, 1)
    with pytest.raises(StructureError, match=r"slot 'c' of \['a'\] is kept as float16, but"):
        step(theta, theta, {**slots, "c": {"a": jnp.zeros((1, 4), jnp.float16)}}, 1)
    with pytest.raises(StructureError, match=r"adafactor' sees the rows .* but \['a'\] of shape \(3, 4\) is complex"):
        step.init({"a": jnp.ones((3, 4), jnp.complex64)})
    with pytest.raises(HyperparameterError, match="states names 'r', which is not kept for each element"):
        steprule.jax.step(adafactor, states={"r": "bfloat16"})
    with pytest.raises(HyperparameterError, match="has no effect: the rule keeps no slots"):
        steprule.jax.step(adafactor, states="8bit")


# Derivatives.


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.dear
def test_derivatives_pass_through_rows_and_columns(name: str) -> None:
    def last(scale: Any, dtype: Any) -> Any:
        step = steprule.jax.step(RULES[name], lr=0.1)
        theta = jnp.asarray(start((4, 5)), dtype)
        slots = step.init(theta)
        for t in (1, 2, 3):
            g = jnp.asarray(gradients((4, 5), t) / np.abs(gradients((4, 5), t)).max(), dtype)
            theta, slots = step(theta, g * scale + 1e-1, slots, t)
        return theta.sum()

    with jax.enable_x64(True):
        around = [float(last(jnp.float64(1 + h), jnp.float64)) for h in (1e-6, -1e-6)]
        wide = jax.jit(jax.grad(functools.partial(last, dtype=jnp.float64)))(jnp.float64(1.0))
    expected = (around[0] - around[1]) / 2e-6
    assert float(wide) == pytest.approx(expected, rel=1e-5)
    for slope in (jax.grad, jax.jacfwd):
        found = jax.jit(slope(functools.partial(last, dtype=jnp.float32)))(jnp.float32(1.0))
        assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["adam_mini", "came"])
def test_derivatives_are_finite_where_a_row_is_zero(name: str) -> None:
    step = steprule.jax.step(PAPERS[name])

    def moved(g: Any) -> Any:
        return step(g, g, step.init(g), 1)[0].sum()

    for g in (jnp.zeros((3, 4)), jnp.ones((3, 4)).at[1].set(0.0)):
        assert np.isfinite(np.asarray(jax.grad(moved)(g))).all()


# What is written.


def test_what_is_written_names_its_sums() -> None:
    recipe = plan(adafactor, adafactor.variant(adafactor.resolve({})), FORMATS["float32"], rides=False)
    text = backend.emit(recipe.before[0])
    assert 'along("mean", x1, "row", "last"), along("mean", x1, "column", "last")' in text
    assert 'v3 = along("mean", filled(v2, rows), "column", "last")' in backend.emit(recipe.before[1])
    assert "def kernel(theta_, g_, r_, _row1, c_, _column2, _of_row0_" in backend.emit(recipe)
