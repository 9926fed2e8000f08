"""The JAX door among what people use it with: optax's wrappers, Flax, Equinox, Orbax, transformations of JAX, shards.

There are eight devices, made of this processor.
"""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import steprule as sr
import steprule.jax
from steprule.errors import HyperparameterError, RuleError, StateError, StructureError, TargetError
from steprule.formats import STATES
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import rotated
from tests.doors.stubs import assert_stub_has

pytestmark = pytest.mark.apart


def params() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.standard_normal((6, 5)), jnp.float32), "b": [jnp.ones(5), jnp.float32(2.0)]}


def loss(tree: Any) -> Any:
    return sum(jnp.sum((leaf - 1.5) ** 2) for leaf in jax.tree.leaves(tree))


def run(transformation: Any, tree: Any, steps: int = 5) -> tuple[Any, Any]:
    @jax.jit
    def step(tree: Any, state: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(jax.grad(loss)(tree), state, tree)
        return optax.apply_updates(tree, updates), state

    state = transformation.init(tree)
    for _ in range(steps):
        tree, state = step(tree, state)
    return tree, state


def assert_equal(a: Any, b: Any) -> None:
    assert str(jax.tree.structure(a)) == str(jax.tree.structure(b))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


# The names.


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_has_a_function_that_takes_its_rate_first(name: str) -> None:
    make = getattr(steprule.jax, name)
    given = inspect.signature(make).parameters
    assert next(iter(given)) == "learning_rate"
    assert set(given) >= {*CATALOGUE[name].hyperparameters, "states", "min_elements", "seed"}
    assert CATALOGUE[name].paper in make.__doc__
    tree = jnp.full(3, 1e-3)  # steps of 1e-8 show
    first, named = (run(made, tree, 2) for made in (make(0.02), make(lr=0.02)))
    assert_equal(first, named)
    assert (np.asarray(first[0]) != np.asarray(tree)).all()
    assert name in steprule.jax.__all__
    assert name in dir(steprule.jax)


def test_the_stub_has_every_public_name() -> None:
    assert_stub_has("jax", steprule.jax.__all__)


def test_a_rule_of_ones_own_is_a_transformation() -> None:
    @sr.rule(paper="mine")
    def half(theta, g, *, lr: sr.Rate = 0.25):
        return (theta - lr * g / 2,)

    tree, state = run(steprule.jax.transformation(sr.decoupled(half), weight_decay=0.0), params())
    assert state.slots == {}
    assert_close(tree, run(optax.sgd(0.125), params())[0])


def test_names_that_are_wrong_are_told() -> None:
    with pytest.raises(AttributeError, match=r"no 'adamm'. Did you mean 'adam"):
        steprule.jax.adamm  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(RuleError, match="no rule is called 'adm'"):
        steprule.jax.transformation("adm")
    with pytest.raises(HyperparameterError, match=r"'learning_rate'. It is called 'lr'"):
        steprule.jax.transformation("adam", learning_rate=0.1)
    with pytest.raises(HyperparameterError, match=r"'betas'. They are called 'beta1' and 'beta2'"):
        steprule.jax.adam(0.1, betas=(0.9, 0.999))
    with pytest.raises(TypeError, match="too many positional arguments"):
        steprule.jax.lion(0.1, 0.9, 0.99, None, 0.0, None, True)


# Within optax.


def test_it_chains() -> None:
    clipped = optax.chain(optax.clip_by_global_norm(0.5), steprule.jax.adam(0.1))
    theirs = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    assert_close(run(clipped, params())[0], run(theirs, params())[0])
    scaled = optax.chain(steprule.jax.adam(0.1), optax.scale(0.5))
    assert_close(run(scaled, params())[0], run(optax.adam(0.05), params())[0])


def test_masked_steps_what_is_not_masked() -> None:
    mask = {"w": True, "b": [False, True]}
    tree, state = run(optax.masked(steprule.jax.adamw(0.1), mask), params())
    theirs, _ = run(optax.masked(optax.adamw(0.1), mask), params())
    assert_close(tree, theirs)
    assert len(jax.tree.leaves(state.inner_state.slots["mu"])) == 2


def test_multi_transform_and_partition() -> None:
    labels = {"w": "a", "b": ["b", "b"]}
    ours = optax.multi_transform({"a": steprule.jax.adam(0.1), "b": steprule.jax.sgd(0.01)}, labels)
    theirs = optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.01)}, labels)
    assert_close(run(ours, params())[0], run(theirs, params())[0])


def test_multi_steps_accumulates() -> None:
    ours = optax.MultiSteps(steprule.jax.adam(0.1), every_k_schedule=3)
    theirs = optax.MultiSteps(optax.adam(0.1), every_k_schedule=3)
    tree, state = run(ours, params(), 7)
    assert_close(tree, run(theirs, params(), 7)[0])
    assert int(state.inner_opt_state.count) == 2


def test_inject_hyperparams_lets_rates_be_set_between_steps() -> None:
    injected = optax.inject_hyperparams(steprule.jax.adamw)(lr=0.1, weight_decay=0.01)
    tree = params()
    state = injected.init(tree)
    assert float(state.hyperparams["lr"]) == pytest.approx(0.1)
    for lr in (0.1, 0.05, 0.0):
        state.hyperparams["lr"] = jnp.float32(lr)
        before = tree
        updates, state = jax.jit(injected.update)(jax.grad(loss)(tree), state, tree)
        tree = optax.apply_updates(tree, updates)
    assert_equal(tree, before)
    scheduled = optax.inject_hyperparams(steprule.jax.adam, static_args=())(lr=optax.linear_schedule(0.1, 0.0, 10))
    assert_close(run(scheduled, params())[0], run(optax.adam(optax.linear_schedule(0.1, 0.0, 10)), params())[0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_apply_if_finite_leaves_the_state_of_a_bad_step(dtype: Any) -> None:
    tree = jax.tree.map(lambda x: x.astype(dtype), params())
    safe = optax.apply_if_finite(steprule.jax.adam(0.1), max_consecutive_errors=3)
    state = safe.init(tree)
    grads = jax.grad(loss)(tree)
    _, state = jax.jit(safe.update)(grads, state, tree)
    bad = jax.tree.map(lambda g: g * jnp.nan, grads)
    updates, after = jax.jit(safe.update)(bad, state, tree)
    assert_equal(after.inner_state, state.inner_state)
    assert_equal(optax.apply_updates(tree, updates), tree)


def test_tree_map_params_finds_the_slots() -> None:
    transformation = optax.chain(steprule.jax.nadam(0.1, psi=4e-3), optax.scale(1.0))
    state = transformation.init(params())
    marked = optax.tree_map_params(transformation, lambda _: "param", state, transform_non_params=lambda _: "other")
    assert jax.tree.leaves(marked[0].slots["mu"]) == ["param"] * 3
    assert marked[0].slots["mu_product"] == marked[0].count == "other"
    assert optax.tree_utils.tree_get(state, "count") == 0


def test_a_schedule_sees_the_steps_taken_before_and_the_rule_the_number_of_its_own() -> None:
    seen: list[int] = []

    def schedule(count: Any) -> Any:
        jax.debug.callback(lambda c: seen.append(int(c)), count)
        return jnp.where(count == 0, 0.5, 0.25)

    @sr.rule(paper="shows t")
    def shows(theta, g, *, t, lr: sr.Rate = 1.0):
        return (theta - (lr * t) * g,)

    transformation = steprule.jax.transformation(shows, lr=schedule)
    state = transformation.init(jnp.float32(0))
    for expected in (-0.5 * 1, -0.25 * 2, -0.25 * 3):
        update, state = jax.jit(transformation.update)(jnp.float32(1), state)
        assert float(update) == expected
    jax.effects_barrier()  # type: ignore[no-untyped-call]
    assert sorted(seen) == [0, 1, 2]
    assert int(state.count) == 3


def test_rates_start_at_the_schedules_first_value_where_a_slot_starts_at_the_rate() -> None:
    state = steprule.jax.rprop(optax.linear_schedule(0.5, 0.1, 10)).init(jnp.zeros(3))
    assert (np.asarray(state.slots["delta"]) == np.float32(0.5)).all()


# Flax, Equinox, Orbax.


def test_flax_nnx() -> None:
    def train(transformation: Any) -> tuple[Any, float]:
        model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
        x, y = jnp.ones((8, 4)), jnp.zeros((8, 3))

        @nnx.jit
        def step(model: Any, optimizer: Any) -> Any:
            value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
            optimizer.update(model, grads)
            return value

        losses = [float(step(model, optimizer)) for _ in range(10)]
        return nnx.state(model, nnx.Param), losses[-1] / losses[0]

    ours, fell = train(steprule.jax.adam(0.1))
    theirs, _ = train(optax.adam(0.1))
    assert_close(ours, theirs)
    assert fell < 0.5


@pytest.mark.parametrize("states", ["8bit", "4bit"])
def test_flax_nnx_keeps_slots_in_8_bits(states: str) -> None:
    model = nnx.Linear(64, 128, rngs=nnx.Rngs(0))
    assert model.bias is not None
    optimizer = nnx.Optimizer(model, steprule.jax.adam(1e-3, states=states), wrt=nnx.Param)
    x = jnp.ones((2, 64))
    plain = steprule.jax.adam(1e-3, states=states)
    tree = {"bias": model.bias[...], "kernel": model.kernel[...]}
    state = plain.init(tree)
    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(x) ** 2))(model))
        grads = jax.grad(lambda p: jnp.sum((x @ p["kernel"] + p["bias"]) ** 2))(tree)
        updates, state = plain.update(grads, state, tree)
        tree = optax.apply_updates(tree, updates)
    assert isinstance(state.slots["mu"]["kernel"], steprule.jax.EightBit if states == "8bit" else steprule.jax.Coded)
    assert_close({"bias": model.bias[...], "kernel": model.kernel[...]}, tree)


def test_equinox() -> None:
    model = eqx.nn.MLP(3, 2, 8, 2, key=jax.random.key(0))
    transformation = steprule.jax.adamw(0.05)
    state = transformation.init(eqx.filter(model, eqx.is_inexact_array))
    x = jax.random.normal(jax.random.key(1), (16, 3))

    @eqx.filter_jit
    def step(model: Any, state: Any) -> tuple[Any, Any, Any]:
        value, grads = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x) - 1.0) ** 2))(model)
        updates, state = transformation.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, value

    losses = []
    for _ in range(20):
        model, state, value = step(model, state)
        losses.append(float(value))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("states", STATES)
@pytest.mark.dear
def test_orbax_keeps_states_exactly(tmp_path: Path, states: str) -> None:
    options: dict[str, Any] = {} if states == "float32" else {"states": states, "min_elements": 1}
    transformation = optax.chain(optax.clip_by_global_norm(1.0), steprule.jax.nadam(0.1, psi=4e-3, **options))
    tree, state = run(transformation, params())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", {"params": tree, "state": state})
        checkpointer.wait_until_finished()
        like = jax.tree.map(jnp.zeros_like, {"params": tree, "state": state})
        back = checkpointer.restore(tmp_path / "run", like)
    assert_equal(back["state"], state)
    goes_on = jax.jit(transformation.update)(jax.grad(loss)(tree), state, tree)
    again = jax.jit(transformation.update)(jax.grad(loss)(back["params"]), back["state"], back["params"])
    assert_equal(goes_on, again)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", optax.adam(0.1)),
        ("adamw", optax.adamw(0.1)),
        ("lion", optax.lion(0.1)),
        ("momentum", optax.sgd(0.1, momentum=0.9)),
        ("adamax", optax.adamax(0.1)),
        ("amsgrad", optax.amsgrad(0.1)),
        ("nadam", optax.nadam(0.1)),
        ("adabelief", optax.adabelief(0.1)),
        ("rmsprop", optax.rmsprop(0.1)),
        ("centered", optax.rmsprop(0.1, centered=True, eps=1e-3)),
        ("signum", optax.signum(0.1)),
    ],
)
def test_states_of_optax_go_on_here_and_ours_there(name: str, theirs: Any) -> None:
    options: dict[str, Any] = {"centered": True, "eps": 1e-3} if name == "centered" else {}
    name = "rmsprop" if name == "centered" else name
    ours = optax.chain(optax.clip(100.0), getattr(steprule.jax, name)(0.1, **options))
    tree, their_state = run(theirs, params())
    t = 5 if name in ("momentum", "rmsprop") else None  # optax counts no steps there
    state = steprule.jax.from_optax(name, their_state, ours.init(tree), t=t, **options)
    assert int(state[1].count) == 5

    def goes_on(transformation: Any, state: Any) -> Any:
        updates, _ = jax.jit(transformation.update)(jax.grad(loss)(tree), state, tree)
        return updates

    assert_close(goes_on(ours, state), goes_on(theirs, their_state))
    there = steprule.jax.to_optax(name, state, theirs.init(tree), **options)
    assert_equal(there, their_state)


@sr.rule
def my_adam(theta, g, fast: sr.FirstMoment, size: sr.SecondMoment, *, t, lr: sr.Rate = 0.1):
    fast = 0.9 * fast + (1 - 0.9) * g
    size = 0.999 * size + (1 - 0.999) * g**2
    return theta - lr * (fast / (1 - 0.9**t)) / (sr.sqrt(size / (1 - 0.999**t)) + 1e-8), fast, size


def test_moments_of_a_rule_of_ones_own_have_the_names_of_optax() -> None:
    ours = steprule.jax.transformation(my_adam, states={"size": "bfloat16"}, min_elements=1)
    tree, state = run(ours, params())
    assert set(state.slots) == {"mu", "nu"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.slots["nu"])} == {"bfloat16"}
    assert_close(optax.tree_utils.tree_get(state, "mu"), state.slots["mu"])
    assert set(steprule.jax.step(my_adam).init(tree)) == {"fast", "size"}
    tree, theirs = run(optax.adam(0.1), params())
    ours = steprule.jax.transformation(my_adam)
    going_on = steprule.jax.from_optax(my_adam, theirs, ours.init(tree))
    as_adam = steprule.jax.from_optax("adam", theirs, steprule.jax.adam(0.1).init(tree))
    assert_equal(ours.update(tree, going_on, tree)[0], steprule.jax.adam(0.1).update(tree, as_adam, tree)[0])
    assert_equal(steprule.jax.to_optax(my_adam, going_on, optax.adam(0.1).init(tree)), theirs)
    with pytest.raises(
        StructureError, match=r"steprule.jax.from_optax\(my_adam, state, optimizer.init\(params\)\), once"
    ):
        ours.update(tree, theirs, tree)


def test_states_that_do_not_fit_are_refused() -> None:
    tree = params()
    state = optax.adam(0.1).init(tree)
    ours = steprule.jax.adam(0.1).init(tree)
    with pytest.raises(StateError, match="optax has no state that means the same as that of rule 'adopt'"):
        steprule.jax.from_optax("adopt", state, steprule.jax.adopt(0.1).init(tree))
    with pytest.raises(StateError, match="0 named tuples"):
        steprule.jax.from_optax("lion", state, steprule.jax.lion(0.1).init(tree))
    with pytest.raises(StateError, match="other parameters"):
        steprule.jax.from_optax("adam", optax.adam(0.1).init(jnp.zeros(3)), ours)
    with pytest.raises(StateError, match="leave t="):
        steprule.jax.from_optax("adam", state, ours, t=3)
    with pytest.raises(StateError, match="give t="):
        steprule.jax.from_optax("momentum", optax.trace(0.9).init(tree), steprule.jax.momentum(0.1).init(tree))
    with pytest.raises(StateError, match="keeps no slots"):
        steprule.jax.from_optax("sgd", state, ours)
    small = steprule.jax.adam(0.1, states="8bit", min_elements=1).init(tree)
    with pytest.raises(
        StateError, match=r"slot 'mu' is kept as 8bit.* here, but the state has it as float32.*convert=True"
    ):
        steprule.jax.from_optax("adam", state, small)


# Transformations of JAX.


def test_a_population_with_a_rate_each() -> None:
    def final(lr: Any) -> Any:
        transformation = steprule.jax.adam(lr)

        def step(carry: Any, _: Any) -> tuple[Any, Any]:
            tree, state = carry
            updates, state = transformation.update(jax.grad(loss)(tree), state, tree)
            return (optax.apply_updates(tree, updates), state), None

        tree = params()
        return jax.lax.scan(step, (tree, transformation.init(tree)), None, length=10)[0][0]

    rates = jnp.geomspace(1e-3, 1.0, 64)
    together = jax.jit(jax.vmap(final))(rates)
    for index in (0, 31, 63):
        alone = jax.jit(final)(rates[index])
        assert_close(jax.tree.map(lambda x, i=index: x[i], together), alone, 1e-6)


def meta_loss(values: Any, name: str, names: tuple[str, ...]) -> Any:
    step = steprule.jax.step(name, **dict(zip(names, values, strict=True)))

    def body(carry: Any, t: Any) -> tuple[Any, Any]:
        tree, slots = carry
        return step(tree, jax.grad(loss)(tree), slots, t), None

    tree = jax.tree.map(lambda x: x.astype(values[0].dtype), params())
    (tree, _), _ = jax.lax.scan(body, (tree, step.init(tree)), jnp.arange(1, 8))
    return loss(tree)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adam", {"lr": 0.05, "beta1": 0.8, "beta2": 0.9, "eps": 0.1}),
        ("adamw", {"lr": 0.05, "weight_decay": 0.3}),
        ("momentum", {"lr": 0.01, "mu": 0.7}),
        ("nadam", {"lr": 0.05, "beta1": 0.8}),
        ("adamax", {"lr": 0.05}),
        ("radam", {"lr": 0.05, "beta2": 0.9}),
    ],
)
@pytest.mark.dear
def test_gradients_run_through_steps(name: str, values: dict[str, float]) -> None:
    names = tuple(values)
    with jax.enable_x64(True):  # for the differences
        at = [jnp.float64(value) for value in values.values()]
        slopes = jax.jit(jax.grad(meta_loss), static_argnums=(1, 2))(at, name, names)
        value = jax.jit(meta_loss, static_argnums=(1, 2))
        for index, slope in enumerate(slopes):
            up, down = (value([v + h * (i == index) for i, v in enumerate(at)], name, names) for h in (1e-5, -1e-5))
            assert float(slope) == pytest.approx(float(up - down) / 2e-5, rel=1e-4), names[index]
    narrow = jax.jit(jax.grad(meta_loss), static_argnums=(1, 2))([jnp.float32(v) for v in values.values()], name, names)
    np.testing.assert_allclose(np.array(narrow), np.array(slopes), rtol=2e-3)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_dead_unit_gives_no_nan_to_the_gradient_of_the_rate(name: str) -> None:
    def final(lr: Any) -> Any:
        step = steprule.jax.step(name, lr=lr)
        theta = jnp.array([1.0, 0.0])  # the second element is where it wants to be, and never moves
        slots = step.init(theta)
        for t in (1, 2, 3):
            theta, slots = step(theta, 2 * theta, slots, t)
        return jnp.sum(theta**2)

    assert np.isfinite(float(jax.jit(jax.grad(final))(0.01)))


def test_donated_memory_is_used_again() -> None:
    transformation = steprule.jax.adam(0.1)
    tree = {"w": jnp.ones((256, 256))}
    state = transformation.init(tree)

    @jax.jit
    def plain(tree: Any, state: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(tree, state, tree)
        return optax.apply_updates(tree, updates), state

    donating = jax.jit(plain, donate_argnums=(0, 1))
    expected = plain(tree, state)
    compiled = donating.lower(tree, state).compile()
    used = compiled.memory_analysis()
    assert used is not None
    assert used.alias_size_in_bytes >= 3 * 256 * 256 * 4
    assert used.temp_size_in_bytes < 256 * 256 * 4
    places = {leaf.unsafe_buffer_pointer() for leaf in (tree["w"], state.slots["mu"]["w"], state.slots["nu"]["w"])}
    new, after = donating(tree, state)
    assert_equal((new, after), expected)
    stepped = (new["w"], after.slots["mu"]["w"], after.slots["nu"]["w"])
    assert {leaf.unsafe_buffer_pointer() for leaf in stepped} == places
    assert tree["w"].is_deleted()


def test_gradients_and_parameters_are_only_read() -> None:
    tree, transformation = params(), steprule.jax.adam(0.1)
    before = jax.tree.map(np.asarray, tree)
    transformation.update(tree, transformation.init(tree), tree)
    assert_equal(tree, before)


partition: Any = PartitionSpec  # which has no types


SPECS = [partition("x", None), partition(None, "x"), partition("x", "y")]


@pytest.mark.parametrize(("states", "spec"), rotated(STATES, SPECS, ["float32"]))
def test_states_are_sharded_as_the_parameters_and_bits_do_not_depend_on_it(states: str, spec: PartitionSpec) -> None:
    assert jax.device_count() == 8
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
    where = NamedSharding(mesh, spec)
    options: dict[str, Any] = {} if states == "float32" else {"states": states}
    transformation = steprule.jax.adamw(0.01, **options)
    rng = np.random.default_rng(1)
    w = jnp.asarray(rng.standard_normal((16, 512)), jnp.float32)
    grads = [jnp.asarray(rng.standard_normal((16, 512)), jnp.float32) for _ in range(3)]

    @jax.jit
    def step(w: Any, g: Any, state: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(g, state, w)
        return optax.apply_updates(w, updates), state

    alone, sharded = w, jax.device_put(w, where)
    state, apart = transformation.init(alone), transformation.init(sharded)
    for slot in apart.slots.values():
        codes = slot.codes if states in ("8bit", "4bit") else slot
        assert codes.sharding.is_equivalent_to(where, 2)
        if states in ("8bit", "4bit"):
            assert slot.scale.sharding.device_set == set(jax.devices())
            if spec[1] is None:
                assert slot.scale.sharding.is_equivalent_to(where, 2)
    for g in grads:
        alone, state = step(alone, g, state)
        sharded, apart = step(sharded, jax.device_put(g, where), apart)
    assert_equal(alone, jax.device_get(sharded))
    assert_equal(state.slots, jax.device_get(apart.slots))
    if states == "float32":
        assert all(slot.sharding.is_equivalent_to(where, 2) for slot in apart.slots.values())
        text = step.lower(sharded, sharded, apart).compile().as_text()
        assert text is not None
        assert "all-gather" not in text
        assert "all-reduce" not in text


def test_bfloat16_parameters_have_float32_slots_and_updates_of_the_gradients_type() -> None:
    tree = jnp.ones((4, 4), jnp.bfloat16)
    transformation = steprule.jax.adam(1e-3)
    state = transformation.init(tree)
    assert state.slots["mu"].dtype == jnp.float32
    update, _ = transformation.update(tree, state, tree)
    assert update.dtype == jnp.bfloat16
    wide, _ = transformation.update(tree.astype(jnp.float32), state, tree)
    assert wide.dtype == jnp.float32
    new, _ = steprule.jax.step("adam")(tree, tree, steprule.jax.step("adam").init(tree), 1)
    assert new.dtype == jnp.bfloat16


# What is refused, and that nothing else happens.


def test_leaves_that_are_no_numbers_are_refused_with_a_way_out() -> None:
    adam = steprule.jax.adam(0.1)
    with pytest.raises(StructureError, match=r"parameter \['n'\] has the type int32; .*optax.masked"):
        adam.init({"w": jnp.ones(3), "n": jnp.arange(3)})
    with pytest.raises(StructureError, match=r"parameter \['x'\] is True \(a bool\), not an array.*equinox.filter"):
        adam.init({"x": True})
    with pytest.raises(StructureError, match="gradient the array has the type float0"):
        adam.update(np.zeros(3, jax.dtypes.float0), adam.init(jnp.zeros(3)))


def test_trees_that_do_not_fit_are_refused() -> None:
    adamw = steprule.jax.adamw(0.1)
    tree = params()
    state = adamw.init(tree)
    with pytest.raises(StructureError, match="needs the parameters: call update"):
        adamw.update(tree, state)
    with pytest.raises(StructureError, match="the slots 'm' have another structure than the gradients"):
        adamw.update({"w": tree["w"]}, state, {"w": tree["w"]})
    with pytest.raises(StructureError, match="the parameters have another structure"):
        adamw.update(tree, state, {"w": tree["w"]})
    other = {**tree, "w": jnp.ones((6, 4))}
    with pytest.raises(StructureError, match=r"slot 'm' of \['w'\] has shape \(6, 5\), but its gradient \(6, 4\)"):
        adamw.update(other, state, other)
    with pytest.raises(StructureError, match=r"parameter \['w'\] has shape"):
        adamw.update(other, state, tree)
    with pytest.raises(StructureError, match=r"has the slots \['m'\], but rule 'adamw' keeps \['m', 'v'\]"):
        adamw.update(tree, steprule.jax.lion(0.1).init(tree), tree)


def test_a_state_of_other_formats_is_refused() -> None:
    tree = {"w": jnp.ones((4, 200))}
    plain, small = steprule.jax.adam(0.1), steprule.jax.adam(0.1, states="8bit", min_elements=1)
    with pytest.raises(StructureError, match=r"slot 'm' of \['w'\] is kept as float32, but .* as uint8 and uint8"):
        small.update(tree, plain.init(tree), tree)
    with pytest.raises(StructureError, match=r"is kept as uint8 and uint8, but these options keep it as float32"):
        plain.update(tree, small.init(tree), tree)
    narrow = steprule.jax.adam(0.1, states="bfloat16", min_elements=1)
    with pytest.raises(StructureError, match=r"is kept as bfloat16, but these options keep it as float32"):
        plain.update(tree, narrow.init(tree), tree)


def test_leaves_of_one_dimension_are_one_row() -> None:
    theta = np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    other = sr.Optimizer(theta.copy(), "adam", lr=0.1, states="8bit", seed=3)
    step = steprule.jax.step("adam", lr=0.1, states="8bit", seed=3)
    x = jnp.asarray(theta)
    slots = step.init(x)
    for t in range(1, 4):
        g = np.random.default_rng(t).standard_normal(5_000).astype(np.float32)
        other.step(g)
        x, slots = step(x, jnp.asarray(g), slots, t)
    kept = other.state_dict()["slots"]["params"]
    np.testing.assert_array_equal(np.asarray(x), other.params)
    for name in ("m", "v"):
        np.testing.assert_array_equal(np.asarray(slots[name].codes), kept[name])
        np.testing.assert_array_equal(np.asarray(slots[name].scale), kept[f"{name}.scale"])


def test_a_state_in_which_they_are_float32_goes_on_as_it_is() -> None:
    tree = {"flat": jnp.ones(5_000), "w": jnp.ones((64, 128))}
    today = steprule.jax.adam(0.1, states="8bit")
    state = steprule.jax.adam(0.1, states="8bit", min_elements=6_000).init(tree)  # as all were once
    assert isinstance(state.slots["mu"]["flat"], jax.Array)
    plain = steprule.jax.adam(0.1)
    expected, _ = plain.update(tree, plain.init(tree), tree)
    updates, state = jax.jit(today.update)(tree, state, tree)
    assert isinstance(state.slots["mu"]["flat"], jax.Array)
    np.testing.assert_array_equal(np.asarray(updates["flat"]), np.asarray(expected["flat"]))
    assert not isinstance(today.init(tree).slots["mu"]["flat"], jax.Array)


def test_states_without_any_effect_are_warned_of() -> None:
    small = {"w": jnp.ones((10, 10)), "b": jnp.ones(1_000)}
    with pytest.warns(UserWarning, match=r"states='8bit' has no effect: the largest parameter has 1,000 elements"):
        steprule.jax.adam(0.1, states="8bit").init(small)


def test_hyperparameters_that_are_wrong_are_refused() -> None:
    with pytest.raises(HyperparameterError, match=r"lr must be a number of at least 0, got -0.1"):
        steprule.jax.adam(-0.1)
    with pytest.raises(HyperparameterError, match=r"beta1 must be .*, got 1.5"):
        steprule.jax.adam(0.1, beta1=jnp.float32(1.5))
    with pytest.raises(
        HyperparameterError, match=r"got bfloat16: 0.999 in bfloat16 is 1. optax.inject.*hyperparam_dtype"
    ):
        steprule.jax.adam(0.1, beta2=jnp.bfloat16(0.999))
    with pytest.raises(HyperparameterError, match=r"lr must be one number, got float32\[3\].*jax.vmap"):
        steprule.jax.adam(jnp.ones(3))
    with pytest.raises(HyperparameterError, match=r"nesterov is a JAX array.*static argument"):
        jax.jit(lambda flag: steprule.jax.momentum(0.1, nesterov=flag).init(jnp.zeros(3)))(True)
    with pytest.raises(HyperparameterError, match=r"a schedule of steprule.schedules.*Give one of optax"):
        steprule.jax.adam(sr.schedules.cosine(0.1, 100))
    with pytest.raises(HyperparameterError, match="no hyperparameter 'gamma'"):
        steprule.jax.adam(0.1, gamma=jnp.float32(0.1))
    with pytest.raises(HyperparameterError, match="has no effect"):
        steprule.jax.adam(0.1, seed=3)
    with pytest.raises(HyperparameterError, match="has no effect"):
        steprule.jax.adam(0.1, min_elements=3)
    with pytest.raises(HyperparameterError, match="states must be one of"):
        steprule.jax.adam(0.1, states="3bit")
    with pytest.raises(HyperparameterError, match="has no effect: the rule keeps no slots"):
        steprule.jax.sgd(0.1, states="8bit")


def test_a_schedule_that_cannot_be_traced_is_told_by_its_name() -> None:
    import math

    for schedule in (lambda count: math.cos(count), lambda count: 0.1 if count < 5 else 0.01):
        transformation = steprule.jax.adam(schedule)
        state = transformation.init(jnp.zeros(3))
        with pytest.raises(HyperparameterError, match=r"the schedule of lr cannot be traced.*jnp.where"):
            jax.jit(transformation.update)(jnp.zeros(3), state)


NO_STEPS = [0, -1, 1.5, True, "3", None, 2**31, np.int64(0), np.float64(1), np.array([1]), np.int32(-3)]


@pytest.mark.parametrize("t", NO_STEPS, ids=str)
def test_what_is_no_step_number_is_refused(t: Any) -> None:
    step = steprule.jax.step("adam")
    theta, slots = jnp.zeros(3), step.init(jnp.zeros(3))
    with pytest.raises(HyperparameterError, match="t must be the number of the step"):
        step(theta, theta, slots, t)
    if isinstance(t, (int, np.generic, np.ndarray)) and t is not True and t != 2**31:
        with pytest.raises(HyperparameterError, match="t must be the number of the step"):
            step(theta, theta, slots, jnp.asarray(t))
    with pytest.raises(HyperparameterError, match="t must be the number of the step"):
        jax.jit(step)(theta, theta, slots, 1.5)


@pytest.mark.parametrize("returned", [None, -1.0, "x", jnp.ones(3), jnp.bfloat16(0.1), jnp.float32(-1)], ids=str)
def test_what_a_schedule_returns_is_checked(returned: Any) -> None:
    transformation = steprule.jax.sgd(lambda count: returned)
    with pytest.raises(HyperparameterError, match="lr must be"):
        transformation.update(jnp.ones(3), transformation.init(jnp.ones(3)))


def test_whole_numbers_are_hyperparameters_too() -> None:
    injected = optax.inject_hyperparams(steprule.jax.adam)(lr=1, seed=3, states="8bit", min_elements=1)
    tree = {"w": jnp.ones((2, 130))}
    state = injected.init(tree)
    state.hyperparams["lr"] = 0
    updates, _ = injected.update(tree, state, tree)
    assert_equal(optax.apply_updates(tree, updates), tree)
    with pytest.raises(HyperparameterError, match="static_args"):
        jax.jit(injected.update)(tree, state, tree)


def test_arrays_of_numpy_are_what_jax_makes_of_them() -> None:
    tree = {"w": np.ones((4, 200)), "b": np.ones(3, np.float32)}  # float64, which JAX has as float32
    few: dict[str, Any] = {"states": "8bit", "min_elements": 1}
    for options in ({}, few):
        transformation = steprule.jax.adamw(0.1, **options)
        state = transformation.init(tree)
        updates, after = transformation.update(tree, state, tree)
        again, _ = jax.jit(transformation.update)(tree, state, tree)
        assert updates["w"].dtype == np.float32
        assert_equal(updates, again)
        transformation.update(tree, after, jax.tree.map(jnp.asarray, tree))


def test_types_of_gradients_and_parameters_may_differ() -> None:
    with jax.enable_x64(True):
        wide, narrow = jnp.ones(3, np.float64), jnp.ones(3, np.float32)
        for theta, g in ((wide, narrow), (narrow, wide)):
            transformation = steprule.jax.adam(0.1)
            state = transformation.init(theta)
            assert state.slots["mu"].dtype == theta.dtype
            for params in (theta, None):
                update, after = transformation.update(g, state, params)
                assert update.dtype == np.float64
                assert after.slots["mu"].dtype == theta.dtype


def test_updates_may_be_given_more_than_they_take() -> None:
    tree = params()
    transformation = steprule.jax.adam(0.1)
    assert isinstance(transformation, optax.GradientTransformationExtraArgs)
    state = transformation.init(tree)
    assert_equal(transformation.update(tree, state, tree, value=1.0), transformation.update(tree, state, tree))


def test_zeros_of_both_signs_are_two_numbers() -> None:
    @sr.rule(paper="shows the sign of c")
    def signed(theta, g, *, c: float = 1.0):
        return (theta * c + g * c,)

    for values in ((0.0, -0.0), (-0.0, 0.0)):
        for c in values:
            step = steprule.jax.step(signed, c=c)
            new, _ = jax.jit(step)(jnp.ones(2), jnp.ones(2), {}, 1)
            assert bool(np.signbit(np.asarray(new)).all()) == (str(c) == "-0.0")


def test_a_leaf_that_is_missing_among_the_parameters_is_named() -> None:
    tree = params()
    transformation = steprule.jax.adamw(0.1)
    with pytest.raises(StructureError, match=r"parameter \['w'\] is None"):
        transformation.update(tree, transformation.init(tree), {**tree, "w": None})


def test_slots_lie_where_their_parameter_does() -> None:
    there = jax.device_put(jnp.ones((4, 300)), jax.devices()[3])
    slot = steprule.jax.adam(0.1, states="8bit", min_elements=1).init(there).slots["mu"]
    assert slot.codes.devices() == slot.scale.devices() == {jax.devices()[3]}


def test_a_rule_that_cannot_be_traced_is_refused() -> None:
    import math

    @sr.rule(paper="asks for a factorial")
    def counted(theta, g, *, t, lr: sr.Rate = 0.1):
        return (theta - lr / math.factorial(t) * g,)

    with pytest.raises(TargetError, match=r"counted.*calls math.factorial"):
        steprule.jax.step(counted)(jnp.zeros(3), jnp.zeros(3), {}, 1)


def test_a_traced_start_in_8_bits_is_refused() -> None:
    def init(start: Any) -> Any:
        return steprule.jax.adagrad(0.1, initial_accumulator=start, states="8bit", min_elements=1).init(
            jnp.ones((3, 3))
        )

    with pytest.raises(HyperparameterError, match="starts at a traced number"):
        jax.jit(init)(0.5)


def test_without_optax_the_door_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['optax'] = None\nimport steprule\ntry:\n    steprule.jax\nexcept ImportError as e:\n"
    )
    done = subprocess.run([sys.executable, "-c", f"{script}    print(e)"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'steprule.jax needs JAX and optax. Install: pip install "jax>=0.8" "optax>=0.2.6"'


@pytest.mark.parametrize("options", [{}, {"states": "8bit", "min_elements": 0}, {"lr": lambda t: 0.1}], ids=",".join)
def test_a_transformation_goes_when_it_is_dropped(options: dict[str, Any]) -> None:
    """With the garbage collector off: nothing of it is in a cycle, nor kept by what was traced."""

    def made() -> Any:
        return [steprule.jax.transformation("adamw", **options), steprule.jax.step("adamw", **options)]

    gc.collect()
    gc.disable()
    try:
        transformation, step = made()
        tree, state = run(transformation, params())
        new, slots = step(tree, tree, step.init(tree), 1)
        kept = [weakref.ref(x) for x in (transformation.init, transformation.update, step, *jax.tree.leaves(slots))]
        del transformation, step, tree, state, new, slots
        assert [ref() for ref in kept] == [None] * len(kept)
    finally:
        gc.enable()
