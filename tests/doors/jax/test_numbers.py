"""Rules that keep a number of each tensor in JAX, and those of papers that sum over all tensors."""

from __future__ import annotations

import functools
import importlib
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import steprule as sr
import steprule.jax
from steprule import PerTensor, Scalar, rule
from steprule.doors.foreign.names import slot_names
from steprule.doors.jax.alias import NAMES, meant
from steprule.errors import HyperparameterError, StateError, StructureError
from steprule.formats import SLOT_FORMATS
from steprule.rules import Rule
from steprule.rules.papers.dadapt_adam import dadapt_adam
from steprule.rules.papers.novograd import novograd
from steprule.rules.papers.prodigy import prodigy
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import assert_same_bits, variants
from tests.covering import swept
from tests.doors.jax.test_sums import SHAPES, STEPS, assert_close, follow, gradients, leaf_of, start, stepped, tree_of
from tests.launch import number_rules

pytestmark = pytest.mark.apart

PAPERS: dict[str, Rule] = {own.name: own for own in (novograd, prodigy, dadapt_adam)}
RULES: dict[str, Rule] = {**number_rules.RULES, **PAPERS}
QUICK = ("late_moment", "novograd", "mixed", "prodigy")
ALONE = (*number_rules.ALONE, "novograd")
"""Those whose tensors know nothing of each other."""
VARIANTS = [(name, options) for name, own in PAPERS.items() for options in variants(own)]


def value_of(pair: Any) -> float:
    """Return the number that a state keeps."""
    assert pair.shape == (2,)
    return float(np.asarray(pair, np.float64).sum())


# Steps.


@pytest.mark.parametrize("jitted", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("name", swept(RULES, QUICK))
def test_steps_are_the_rule_called_on_arrays(name: str, jitted: bool) -> None:
    for shape in SHAPES if jitted else SHAPES[:1]:
        follow(RULES[name], start(shape), functools.partial(gradients, shape), jitted)


@pytest.mark.parametrize("dtype", swept(["float16", "bfloat16"], ["bfloat16"]))
@pytest.mark.parametrize("name", PAPERS)
def test_narrow_parameters(name: str, dtype: str) -> None:
    kind = jnp.dtype(dtype)
    follow(RULES[name], start((40, 60)).astype(kind), lambda t: gradients((40, 60), t).clip(-100, 100).astype(kind))


@pytest.mark.parametrize(
    ("name", "options"),
    [case if k % 5 == 0 else pytest.param(*case, marks=pytest.mark.slow) for k, case in enumerate(VARIANTS)],
    ids=str,
)
def test_in_64_bits_it_is_the_papers_loop(name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    theta, grads = rng.standard_normal(9), rng.standard_normal((12, 9)) * 10.0 ** rng.uniform(-2, 1, 9)
    expected, kept = importlib.import_module(f"tests.papers.{name}").run(theta.tolist(), grads.tolist(), **options)
    with jax.enable_x64(True):
        step = steprule.jax.step(PAPERS[name], **options)
        run, x = jax.jit(step), jnp.asarray(theta)
        slots = step.init(x)
        for t, g in enumerate(grads, start=1):
            x, slots = run(x, jnp.asarray(g), slots, t)
            np.testing.assert_allclose(np.asarray(x), expected[t - 1], rtol=1e-10, atol=1e-10)
    assert set(slots) == set(kept)
    for slot, value in kept.items():
        found = value_of(slots[slot]) if slot in PAPERS[name].numbers else np.asarray(slots[slot])
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10 * np.max(np.abs(value)))


@pytest.mark.parametrize("name", swept(RULES, QUICK))
def test_several_leaves_are_those_of_an_optimizer(name: str) -> None:
    shapes = [(3, 129), (5,), (), (0, 3)]
    other = sr.Optimizer([start(shape) for shape in shapes], RULES[name])
    theta, step = [jnp.asarray(start(shape)) for shape in shapes], steprule.jax.step(RULES[name])
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        grads = [gradients(shape, t) for shape in shapes]
        other.step(grads)
        theta, slots = jax.jit(step)(theta, [jnp.asarray(g) for g in grads], slots, t)
    assert_close(theta, other.params, 1e-5)
    kept = other.state_dict()
    for slot in RULES[name].scalars & set(slots):
        assert value_of(slots[slot]) == pytest.approx(kept["groups"][0]["scalars"][slot], rel=1e-6)


@pytest.mark.parametrize("name", ALONE)
def test_leaves_step_as_each_alone_and_updates_add_up(name: str) -> None:
    transformation, step = steprule.jax.transformation(RULES[name]), steprule.jax.step(RULES[name])
    together = stepped(transformation, tree_of(0))
    for key, leaf in tree_of(0).items():
        assert_close(together[key], stepped(transformation, leaf, functools.partial(leaf_of, key)), 0)
        theta, slots = leaf, step.init(leaf)
        for t in range(1, STEPS + 1):
            theta, slots = jax.jit(step)(theta, tree_of(t)[key], slots, t)
        assert_close(together[key], theta)


@pytest.mark.parametrize("name", swept(RULES, QUICK))
def test_both_parts_of_complex_numbers_share_the_number(name: str) -> None:
    step = steprule.jax.step(RULES[name])
    pairs, twice = start((40, 2)), [gradients((40, 2), t) for t in range(1, STEPS + 1)]
    theta, real = jnp.asarray(pairs.view(np.complex64)[:, 0]), jnp.asarray(pairs)
    slots, of_real = step.init(theta), step.init(real)
    for t, g in enumerate(twice, start=1):
        theta, slots = jax.jit(step)(theta, jnp.asarray(g.view(np.complex64)[:, 0]), slots, t)
        real, of_real = jax.jit(step)(real, jnp.asarray(g), of_real, t)
    np.testing.assert_allclose(
        np.asarray(theta).view(np.float32).reshape(40, 2), np.asarray(real), rtol=1e-5, atol=1e-6
    )
    for slot in RULES[name].numbers & set(slots):
        assert value_of(slots[slot]) == pytest.approx(value_of(of_real[slot]), rel=1e-6)


@pytest.mark.parametrize("states", swept(SLOT_FORMATS, ["8bit"]))
@pytest.mark.parametrize("name", PAPERS)
def test_low_precision_slots(name: str, states: str) -> None:
    shapes = [(5, 300), (40,)]
    other = sr.Optimizer([start(shape) for shape in shapes], RULES[name], states=states, min_elements=0, seed=5)
    step = steprule.jax.step(RULES[name], states=states, min_elements=0, seed=5)
    theta = [jnp.asarray(start(shape)) for shape in shapes]
    slots = step.init(theta)
    for t in range(1, STEPS + 1):
        grads = [gradients(shape, t) for shape in shapes]
        other.step(grads)
        theta, slots = jax.jit(step)(theta, [jnp.asarray(g) for g in grads], slots, t)
    assert_close(theta, other.params, 1e-5)


def test_numbers_are_those_of_each_leaf() -> None:
    """A leaf without a gradient keeps its own; no two are one array, which could not be donated."""
    step = steprule.jax.step(number_rules.RULES["late_moment"], start=3.0)
    tree = {**tree_of(0), "still": jnp.ones(3)}
    slots = step.init(tree)
    assert {value_of(pair) for pair in slots["v"].values()} == {3.0}
    run = jax.jit(step, donate_argnums=(0, 2))
    tree, slots = run(tree, {**tree_of(1), "still": None}, slots, 1)
    tree, slots = run(tree, {**tree_of(2), "still": None}, slots, 2)
    assert value_of(slots["v"]["still"]) == 3.0
    assert value_of(slots["steps"]["still"]) == 0.0
    for key in ("w", "b", "s"):
        v = 3.0
        for t in (1, 2):
            g = np.asarray(tree_of(t)[key], np.float64)
            v = 0.8 * v + (1 - 0.8) * float((g * g).mean())
        assert value_of(slots["v"][key]) == pytest.approx(v, rel=1e-6)
        assert value_of(slots["steps"][key]) == 2.0


@pytest.mark.parametrize("name", ["novograd", "mixed", "prodigy"])
def test_what_is_not_stepped_is_left_out(name: str) -> None:
    transformation = steprule.jax.transformation(RULES[name])
    alone = stepped(transformation, {"b": tree_of(0)["b"]}, lambda t: {"b": tree_of(t)["b"]})
    masked = stepped(optax.masked(transformation, {"w": False, "b": True, "s": False}), tree_of(0))
    labels = {"w": "other", "b": "this", "s": "other"}
    parted = stepped(optax.multi_transform({"this": transformation, "other": optax.sgd(0.1)}, labels), tree_of(0))
    for found in (masked, parted):
        assert_close(found["b"], alone["b"], 0)


def test_a_mask_of_weight_decay() -> None:
    masked = stepped(
        steprule.jax.transformation(novograd, weight_decay=0.5, mask={"w": True, "b": False, "s": True}), tree_of(0)
    )
    for key, weight_decay in (("w", 0.5), ("b", 0.0)):
        some = steprule.jax.transformation(novograd, weight_decay=weight_decay)
        assert_close(masked[key], stepped(some, tree_of(0))[key], 0)


@pytest.mark.parametrize("name", PAPERS)
def test_schedules_and_injected_rates(name: str) -> None:
    own = PAPERS[name]
    fixed = stepped(steprule.jax.transformation(own, lr=0.05), tree_of(0))
    scheduled = steprule.jax.transformation(own, lr=optax.constant_schedule(0.05))
    injected = optax.inject_hyperparams(lambda lr: steprule.jax.transformation(own, lr=lr))(lr=0.05)
    assert_close(stepped(scheduled, tree_of(0)), fixed, 1e-5)
    assert_close(stepped(injected, tree_of(0)), fixed, 1e-5)


@pytest.mark.parametrize("name", PAPERS)
def test_outside_of_a_program_nothing_is_compiled_anew(name: str) -> None:
    from tests.doors.jax.test_bits import Heard

    step = steprule.jax.step(PAPERS[name])
    theta = jnp.asarray(start((17,)))
    slots = step.init(theta)
    compilations: list[str] = []
    for t in range(1, 6):
        with jax.log_compiles(t > 2), Heard(compilations):
            theta, slots = step(theta, jnp.asarray(gradients((17,), t)), slots, t)
    assert not compilations


@pytest.mark.parametrize("name", ["novograd", "late_moment", "prodigy"])
def test_runs_under_vmap_keep_numbers_of_their_own(name: str) -> None:
    step = steprule.jax.step(RULES[name])

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


@pytest.mark.parametrize("name", ["novograd", "prodigy"])
def test_sharded_leaves(name: str) -> None:
    assert jax.device_count() == 8
    spec: Any = PartitionSpec
    where = NamedSharding(Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y")), spec("x", "y"))
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


# Numbers that are not finite, or that float32 does not have.


def test_a_number_that_float32_does_not_have_is_infinite() -> None:
    """And stays so: as NaN it would be taken for one that has not begun."""

    @rule
    def summed(theta: Any, g: Any, v: PerTensor, d: Scalar, *, lr: float = 0.1) -> Any:
        square = sr.total(g * g)
        return theta - lr * g, v + square, d + sr.total(g, over="all")

    step = steprule.jax.step(summed)
    slots = step.init(jnp.ones(3))
    g = jnp.full(3, 1.8e19)
    for t in (1, 2):
        _, slots = jax.jit(step)(jnp.ones(3), g, slots, t)
    assert value_of(slots["v"]) == math.inf
    assert value_of(slots["d"]) == pytest.approx(6 * 1.8e19)
    with jax.enable_x64(True):
        slots = step.init(jnp.ones(3, jnp.float32))
        _, slots = jax.jit(step)(jnp.ones(3, jnp.float32), g, slots, 1)
        assert value_of(slots["v"]) == pytest.approx(3 * 1.8e19**2)
    _, slots = jax.jit(step)(jnp.ones(3), jnp.full(3, jnp.inf), step.init(jnp.ones(3)), 1)
    assert value_of(slots["v"]) == value_of(slots["d"]) == math.inf


@pytest.mark.parametrize("name", PAPERS)
def test_zeros_and_what_is_not_finite(name: str) -> None:
    follow(PAPERS[name], start((4,)), lambda t: np.zeros(4, np.float32))
    for bad in (np.nan, np.inf):
        oracle = sr.Optimizer(start((4,)), PAPERS[name])
        step, theta = steprule.jax.step(PAPERS[name]), jnp.asarray(start((4,)))
        slots = step.init(theta)
        for t in (1, 2):
            g = gradients((4,), t)
            g[1] = bad if t == 1 else g[1]
            oracle.step(g)
            theta, slots = jax.jit(step)(theta, jnp.asarray(g), slots, t)
        np.testing.assert_allclose(np.asarray(theta), oracle.params, rtol=1e-5)


# States.


def test_a_state_that_does_not_fit_is_refused() -> None:
    step = steprule.jax.step(novograd)
    theta = {"a": jnp.ones(3)}
    slots = step.init(theta)
    for wrong in (jnp.zeros(()), jnp.zeros(3), jnp.zeros(2, jnp.int32), 0.0, None):
        with pytest.raises(
            StructureError, match=r"slot 'v' of \['a'\] is .*, expected an array of two numbers.*Call init"
        ):
            step(theta, theta, {**slots, "v": {"a": wrong}}, 1)
    with pytest.raises(StructureError, match="the slots 'v' have another structure"):
        step(theta, theta, {**slots, "v": jnp.zeros(2)}, 1)
    with pytest.raises(StructureError, match=r"has the slots \['m'\], but rule 'novograd' keeps \['m', 'v'\]"):
        step(theta, theta, {"m": slots["m"]}, 1)
    with pytest.raises(HyperparameterError, match="states names 'v', which is not kept for each element"):
        steprule.jax.step(novograd, states={"v": "8bit"})


@pytest.mark.parametrize("name", swept(QUICK, ["novograd", "mixed"]))
def test_a_run_continues_from_its_file(name: str, tmp_path: Path) -> None:
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
    for t in (2, 3):
        updates, again.state = update(tree_of(t), again.state, again.params)
        again.params = optax.apply_updates(again.params, updates)
    for mine, theirs in zip(
        jax.tree.leaves((again.params, again.state)), jax.tree.leaves((params, state)), strict=True
    ):
        assert_same_bits(np.asarray(mine), np.asarray(theirs))


@pytest.mark.parametrize("name", ["novograd", "mixed"])
def test_files_go_to_numpy_and_back(name: str, tmp_path: Path) -> None:
    transformation = steprule.jax.transformation(RULES[name])
    run = steprule.jax.Training(transformation, tree_of(0), transformation.init(tree_of(0)))
    updates, run.state = transformation.update(tree_of(1), run.state, run.params)
    run.params = optax.apply_updates(run.params, updates)
    sr.save(tmp_path / "run", run, params=True)
    arrays = {key: np.array(x) for key, x in tree_of(0).items()}
    other = sr.Optimizer(arrays, RULES[name])
    sr.load(tmp_path / "run", other, params=True)
    own = other.state_dict()["numbers"]
    for key in arrays:
        assert own[f"params[{key!r}]"]["v"] == value_of(
            run.state.slots[slot_names(RULES[name], "optax").get("v", "v")][key]
        )
    other.step({key: np.array(x) for key, x in tree_of(2).items()})
    updates, run.state = transformation.update(tree_of(2), run.state, run.params)
    run.params = optax.apply_updates(run.params, updates)
    assert_close(run.params, arrays)
    sr.save(tmp_path / "other", other, params=True)
    back = steprule.jax.Training(transformation, tree_of(0), transformation.init(tree_of(0)))
    sr.load(tmp_path / "other", back, params=True)
    assert_close(back.state, run.state)


def test_a_masked_run_continues_from_its_file(tmp_path: Path) -> None:
    transformation = steprule.jax.transformation(number_rules.RULES["late_moment"])
    masked = optax.masked(transformation, {"w": False, "b": True, "s": False})
    run = steprule.jax.Training(transformation, tree_of(0), masked.init(tree_of(0)))
    _, run.state = masked.update(tree_of(1), run.state, run.params)
    sr.save(tmp_path / "run", run)
    again = steprule.jax.Training(transformation, tree_of(0), masked.init(tree_of(0)))
    sr.load(tmp_path / "run", again)
    assert_close(again.state, run.state, 0)
    whole = steprule.jax.Training(transformation, tree_of(0), transformation.init(tree_of(0)))
    with pytest.raises(StateError, match="the state has no number 'v' of it"):
        sr.load(tmp_path / "run", whole)
    sr.save(tmp_path / "whole", whole)
    with pytest.raises(StateError, match="is masked here; mask what was masked"):
        sr.load(tmp_path / "whole", again)


OPTAX = {"novograd": optax.novograd, "prodigy": optax.contrib.prodigy, "dadapt_adamw": optax.contrib.dadapt_adamw}


@pytest.mark.parametrize(
    ("name", "theirs"), [(n, theirs) for n, theirs in OPTAX.items() if NAMES[n].plain.name in CATALOGUE]
)
def test_states_of_optax_go_on_here_and_back(name: str, theirs: Any) -> None:
    own, other = getattr(steprule.jax, name)(0.1), theirs(0.1)
    params = tree_of(0)
    state, begun = other.init(params), own.init(params)
    for t in (1, 2):
        updates, state = other.update(tree_of(t), state, params)
        params = optax.apply_updates(params, updates)
    mine = steprule.jax.from_optax(name, state, begun)
    assert str(jax.tree.structure(mine)) == str(jax.tree.structure(begun))
    back = steprule.jax.to_optax(name, mine, other.init(params))
    assert_close(back, state, 0)
    found, _ = own.update(tree_of(3), mine, params)
    expected, _ = other.update(tree_of(3), state, params)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=1e-7)
    with pytest.raises(StateError, match="for other parameters"):
        steprule.jax.from_optax(name, other.init({"w": params["w"]}), begun)
    some, values = meant(name, {"lr": 0.1})
    arrays = sr.Optimizer({key: np.array(x) for key, x in params.items()}, some, **values)
    arrays.load_state_dict(sr.convert.from_optax(state, arrays))
    assert_close(sr.convert.to_optax(arrays, other.init(params)), state, 1e-6)
    arrays.step({key: np.array(x) for key, x in tree_of(3).items()})
    assert_close(arrays.params, optax.apply_updates(params, expected), 2e-5)


# Derivatives.


@pytest.mark.parametrize("name", ["novograd", "layer_moment", "prodigy"])
def test_derivatives_pass_through_the_numbers(name: str) -> None:
    options: dict[str, Any] = {"d0": 1e-2} if name == "prodigy" else {}

    def last(scale: Any, dtype: Any) -> Any:
        step = steprule.jax.step(RULES[name], **options)
        theta = jnp.asarray(start((5,)), dtype)
        slots = step.init(theta)
        for t in (1, 2, 3):
            theta, slots = step(theta, jnp.asarray(gradients((5,), t), dtype) * scale + 1e-2, slots, t)
        return theta.sum()

    with jax.enable_x64(True):
        around = [float(last(jnp.float64(1 + h), jnp.float64)) for h in (1e-5, -1e-5)]
    expected = (around[0] - around[1]) / 2e-5
    for slope in (jax.grad, jax.jacfwd):
        found = jax.jit(slope(functools.partial(last, dtype=jnp.float32)))(jnp.float32(1.0))
        assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", PAPERS)
def test_derivatives_are_finite_where_a_sum_is_zero(name: str) -> None:
    step = steprule.jax.step(PAPERS[name])
    slope = jax.grad(lambda g: step(g * 0, g, step.init(g), 1)[0].sum())(jnp.zeros(3))
    assert np.isfinite(np.asarray(slope)).all()
