"""States and updates of the JAX door as newcomers meet them: what types they have, what else reads them, and into what
formats they go.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import steprule.jax as ours
from steprule import coding, formats
from steprule.backends import jax_math
from steprule.doors.jax.alias import NAMES
from steprule.errors import HyperparameterError, StateError, StructureError
from steprule.formats import SLOT_FORMATS

pytestmark = pytest.mark.apart

TYPES = ("float16", "bfloat16", "float32", "float64")
ALIASES = sorted(name for name in NAMES if hasattr(optax, name))
OF_THE_PARAMETER = ("rprop",)
"""Whose updates in optax have the parameter's type alone."""


def params() -> dict[str, Any]:
    return {"w": jax.random.normal(jax.random.key(0), (70, 100)), "b": jnp.ones(3)}


def after(transformation: Any, steps: int = 3) -> Any:
    tree = params()
    state = transformation.init(tree)
    for _ in range(steps):
        _, state = transformation.update(tree, state, tree)
    return state


def assert_same_structure(a: Any, b: Any) -> None:
    structure: Any = jax.tree.structure(a)  # whose methods have no types
    assert structure == jax.tree.structure(b)


def assert_equal(a: Any, b: Any) -> None:
    assert_same_structure(a, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


# Types of updates.


# optax's NovoGrad fails where gradients and parameters have different types.
@pytest.mark.parametrize("name", [name for name in ALIASES if name != "novograd"])
def test_updates_have_the_type_of_optax_s(name: str) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if name == "momentum" else {}
    with jax.enable_x64(True):
        for parameter, gradient in itertools.product(TYPES, TYPES):
            theta, g = jnp.ones(3, parameter), jnp.ones(3, gradient)
            found = []
            for library in (optax, ours):
                tx = getattr(library, name)(1e-3, **options)
                update, _ = jax.eval_shape(lambda g, theta, tx=tx: tx.update(g, tx.init(theta), theta), g, theta)
                found.append(update.dtype)
            expected = jnp.promote_types(parameter, gradient) if name in OF_THE_PARAMETER else found[0]
            assert found[1] == expected, (parameter, gradient)


def test_aliases_are_those_of_the_page() -> None:
    assert {"adam", "adamw", "lion", "sgd", "rprop", "adan", "yogi"} <= set(ALIASES)


def test_a_decay_below_16_bits_has_its_effect() -> None:
    theta, g = jnp.ones(4), jnp.ones(4, jnp.bfloat16)
    ends = []
    for decay in (0.0, 1e-3):
        transformation = ours.adamw(1e-3, weight_decay=decay)
        x, state = theta, transformation.init(theta)
        for _ in range(100):
            update, state = transformation.update(g, state, x)
            x = optax.apply_updates(x, update)
        ends.append(float(x[0]))
    assert ends[1] - ends[0] == pytest.approx(-9.3e-5, rel=0.1)


# Formats of states.


@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_a_run_of_optax_goes_on_in_fewer_bits_and_back(states: str) -> None:
    theirs = after(optax.adam(0.1))
    small = ours.adam(0.1, states=states)
    like = small.init(params())
    with pytest.raises(
        StateError, match=rf"slot 'mu' is kept as {states}.* here, but the state has it as float32.* convert=True"
    ):
        ours.from_optax("adam", theirs, like)
    state = ours.from_optax("adam", theirs, like, convert=True)
    assert_same_structure(state, like)
    assert int(state.count) == 3
    assert_equal(state.slots["nu"]["b"], theirs[0].nu["b"])
    own = SLOT_FORMATS[states]
    for name, way in (("mu", own.signed), ("nu", own.non_negative)):
        numbers = np.asarray(getattr(theirs[0], name)["w"])
        planes = coding.encode(way, numbers)
        found = state.slots[name]["w"]
        if way.is_coded:
            for plane, kept in zip(jax.tree.leaves(found), planes.values(), strict=True):
                np.testing.assert_array_equal(plane, kept)
            np.testing.assert_array_equal(found.decode(), coding.decode(way, planes, (70, 100)))
        else:
            np.testing.assert_array_equal(np.asarray(found).view(np.uint16), planes[""])
    small.update(params(), state, params())
    with pytest.raises(StateError, match="convert=True"):
        ours.to_optax("adam", state, theirs)
    back = ours.to_optax("adam", state, theirs, convert=True)
    assert_same_structure(back, theirs)
    numbers = ours.decode(state).slots["mu"]["w"]
    np.testing.assert_array_equal(back[0].mu["w"], numbers.astype(np.float32))


def test_converting_does_not_hide_other_parameters() -> None:
    theirs = optax.adam(0.1).init(jnp.ones((70, 90)))
    with pytest.raises(StateError, match="for other parameters"):
        ours.from_optax("adam", theirs, ours.adam(0.1, states="8bit").init(jnp.ones((70, 100))), convert=True)


def test_a_state_goes_into_other_formats_and_stays_where_it_is_the_same() -> None:
    plain, small = (optax.chain(optax.clip(1.0), ours.adopt(0.1, states=states)) for states in ("float32", "8bit"))
    state, like = after(plain), small.init(params())
    there = ours.encode(state, like)
    assert_same_structure(there, like)
    assert_equal(ours.encode(there, state), ours.decode(there))
    assert_equal(ours.encode(there, like), there)
    with pytest.raises(StateError, match="the state is for other parameters"):
        ours.encode(state, after(ours.lion(0.1)))
    converted = jax.jit(ours.encode)(state, like)
    assert_equal(converted, there)


def test_a_slot_that_is_in_the_format_already_keeps_its_codes() -> None:
    """The largest number of a group may have been rounded up to the next exponent, which would be taken then."""
    gradients = np.random.default_rng(0).normal(size=(3, 70, 100)).astype(np.float32)
    half, whole = ours.adam(0.1, states={"m": "8bit"}), ours.adam(0.1, states="8bit")
    state = half.init(params := {"w": jnp.zeros((70, 100))})
    for gradient in gradients:
        _, state = half.update({"w": gradient}, state, params)
    there = ours.encode(state, whole.init(params))
    assert_equal(there.slots["mu"], state.slots["mu"])
    rounded_again = ours.encode(ours.decode(state), state)
    assert not np.array_equal(rounded_again.slots["mu"]["w"].codes, state.slots["mu"]["w"].codes)


def test_tools_that_read_numbers_read_a_decoded_state() -> None:
    small = ours.adam(0.1, states="8bit")
    zeros = small.init(params())
    assert optax.tree.norm(optax.tree_utils.tree_get(ours.decode(zeros), "mu")) == 0
    state, plain = ours.decode(after(small)), after(ours.adam(0.1))
    for name in ("mu", "nu"):
        norm, expected = (optax.tree.norm(optax.tree_utils.tree_get(x, name)) for x in (state, plain))
        assert float(norm) == pytest.approx(float(expected), rel=0.01)
    assert isinstance(after(small).slots["nu"]["w"], ours.NonNegativeEightBit)


@pytest.mark.parametrize("take", [lambda state: state, lambda state: state[0], lambda state: None])
def test_the_state_of_another_optimizer_is_told_with_the_way_from_it(take: Callable[[Any], Any]) -> None:
    transformation = ours.adamw(0.1)
    tree = params()
    with pytest.raises(StructureError, match=r"steprule.jax.from_optax\('adamw', state, optimizer.init\(params\)\)"):
        transformation.update(tree, take(after(optax.adamw(0.1))), tree)


# What is given while tracing.


def test_injecting_into_a_transformation_needs_named_arguments() -> None:
    with pytest.raises(HyperparameterError, match=r"optax.inject_hyperparams\(lambda lr: ") as error:
        optax.inject_hyperparams(ours.transformation)("adamw", lr=0.1).init(params())
    remedy = str(error.value).partition("injected: ")[2]
    state = eval(remedy, {"optax": optax, "steprule": __import__("steprule.jax")}).init(params())
    assert float(state.hyperparams["lr"]) == pytest.approx(0.1)


def test_a_traced_seed_rounds_as_the_same_number_does() -> None:
    theta = params()["w"]

    def codes(seed: Any) -> Any:
        transformation = ours.adam(0.1, states="8bit", seed=seed)
        _, state = transformation.update(theta, transformation.init(theta), theta)
        return state.slots["mu"].codes

    mapped = jax.vmap(codes)(jnp.arange(3))
    for seed in range(3):
        np.testing.assert_array_equal(mapped[seed], codes(seed))
    assert (mapped[0] != mapped[1]).any()
    with pytest.raises(HyperparameterError, match="seed must be one integer, got float32"):
        jax.vmap(codes)(jnp.ones(2))


@pytest.mark.parametrize("wide", [False, True])
def test_keys_of_traced_seeds(wide: bool) -> None:
    seeds = [0, 1, 2**31 - 1, *([2**40 + 5, 2**63 - 1] if wide else [])]
    with jax.enable_x64(wide):
        for seed in seeds:
            high, low = jax.jit(jax_math.keys)(jnp.asarray(seed), jnp.int32(9))
            assert (int(high), int(low)) == formats.keys(seed, 9)


def test_keys_of_random_numbers_are_no_parameters() -> None:
    with pytest.raises(StructureError, match=r"parameter \['k'\] has the type key<fry>.*optax.masked"):
        ours.adam(0.1).init({"k": jax.random.key(0)})


def test_float64_parameters_are_told_what_this_door_has() -> None:
    with jax.enable_x64(True), pytest.raises(StructureError, match=r"another transformation \(optax.partition\)"):
        ours.adam(0.1, states="8bit").init(jnp.zeros((64, 128)))


# Memory.

SHAPES = [(256, 1000), (256, 1024), (2560, 100), (2560, 97), (262_147,), (3, 3, 160, 180), (25_600, 10)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_temporaries_of_a_step_in_8_bits_are_copies_of_its_slots_at_most(shape: tuple[int, ...]) -> None:
    transformation = ours.adamw(1e-3, states="8bit")

    def step(theta: Any, state: Any, g: Any) -> Any:
        updates, state = transformation.update(g, state, theta)
        return optax.apply_updates(theta, updates), state

    theta = jax.eval_shape(lambda: jnp.zeros(shape))
    state = jax.eval_shape(transformation.init, theta)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(theta, state, theta).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    slots = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert memory.temp_size_in_bytes <= 1.25 * slots + 4096


# Shards.

partition: Any = PartitionSpec
SHARDED = [
    ((64, 1000), partition("x", None), True),
    ((64, 1024), partition(None, "x"), True),
    ((8, 64, 128), partition(None, "x", None), True),
    ((64_000,), partition("x"), True),
    ((64, 1000), partition(None, "x"), False),
]
"""A shape, how it is sharded over four devices, and whether every part has whole groups, or whole rows."""


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize(("shape", "spec", "is_whole"), SHARDED, ids=str)
def test_whole_groups_are_stepped_without_communication(
    shape: tuple[int, ...], spec: PartitionSpec, is_whole: bool, axes: AxisType
) -> None:
    transformation = ours.adamw(1e-3, states="8bit")

    def step(theta: Any, state: Any, g: Any) -> Any:
        updates, state = transformation.update(g, state, theta)
        return optax.apply_updates(theta, updates), state

    mesh = jax.make_mesh((4,), ("x",), devices=jax.devices()[:4], axis_types=(axes,))
    theta = jax.random.normal(jax.random.key(0), shape)
    expected = jax.jit(step)(theta, transformation.init(theta), theta)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(theta, NamedSharding(mesh, spec))
        state = transformation.init(sharded)
        compiled = jax.jit(step).lower(sharded, state, sharded).compile()
        text = compiled.as_text()
        assert text is not None
        said = [word for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if word in text]
        assert bool(said) != is_whole
        assert_equal(jax.device_get(compiled(sharded, state, sharded)), jax.device_get(expected))
