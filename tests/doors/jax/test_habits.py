"""What users of optax, Equinox and Optimistix do as a matter of course."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steprule as sr
import steprule.jax as ours
from steprule.errors import HyperparameterError, StateError, StructureError
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import MATRICES, sees

pytestmark = pytest.mark.apart


def stepped(transformation: Any, params: Any, grads: list[Any], state: Any = None) -> tuple[Any, Any]:
    """Return the parameters after steps along these gradients, and the state."""
    state = transformation.init(params) if state is None else state
    for g in grads:
        updates, state = transformation.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same_structure(a: Any, b: Any) -> None:
    assert str(jax.tree.structure(a)) == str(jax.tree.structure(b))


def assert_equal(a: Any, b: Any) -> None:
    assert_same_structure(a, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        assert np.asarray(x).dtype == np.asarray(y).dtype


def random(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


# Arguments.


def test_the_names_of_optax_and_those_of_the_papers_are_one() -> None:
    params, grads = random(5), [random(5, seed=seed) for seed in range(1, 4)]
    for theirs, own in (
        (ours.adam(0.1, 0.8, 0.95, 1e-5), ours.adam(lr=0.1, beta1=0.8, beta2=0.95, eps=1e-5)),
        (ours.adamw(learning_rate=0.1, weight_decay=0.2), ours.transformation("adamw", lr=0.1, weight_decay=0.2)),
        (ours.sgd(0.1, 0.8, True), ours.momentum(lr=0.1, mu=0.8, nesterov=True)),
        (ours.sgd(0.1, mu=0.8), ours.momentum(learning_rate=0.1, mu=0.8)),
        (ours.rmsprop(0.1, decay=0.8, eps_in_sqrt=False), ours.transformation("rmsprop", lr=0.1, rho=0.8)),
        (ours.rprop(0.1, 0.4, 1.3, 0.004, 0.09), ours.rprop(0.1, 0.4, 1.3, delta_min=0.004, delta_max=0.09)),
        (ours.radam(0.1, threshold=4.5), ours.transformation("radam", lr=0.1, rho_min=4.5)),
        (ours.adagrad(0.1, initial_accumulator_value=0.3), ours.adagrad(0.1, initial_accumulator=0.3)),
        (ours.ademamix(0.1, b1=0.8, b3=0.95), ours.transformation("ademamix", lr=0.1, beta1=0.8, beta3=0.95)),
        (ours.nadam(0.1, psi=4e-3), ours.transformation("nadam", lr=0.1)),
        (ours.nadam(0.1), ours.adam(0.1, nesterov=True)),
        (ours.lion(0.1, weight_decay=0.0), ours.transformation("lion", lr=0.1)),
        (ours.adadelta(), ours.transformation("adadelta", rho=0.9)),
        (ours.adamax(0.1, eps=0.0), ours.transformation("adamax", lr=0.1)),
        (ours.amsgrad(0.1, correction="after_max"), ours.transformation("amsgrad", lr=0.1, correction="after_max")),
    ):
        assert_equal(stepped(theirs, params, grads), stepped(own, params, grads))


@pytest.mark.parametrize("name", CATALOGUE)
def test_without_a_rate_the_rules_own_is_taken(name: str) -> None:
    params, grads = random(5), [random(5, seed=1)]
    # Those of optax: for adafactor a size, relative to the parameter's.
    theirs = {"adafactor": 1.0, "schedule_free_sgd": 1.0, "schedule_free_adamw": 0.0025}
    rate = theirs.get(name, CATALOGUE[name].hyperparameters["lr"].default)
    make = getattr(ours, name)
    assert_equal(stepped(make(), params, grads), stepped(make(rate), params, grads))


def test_arguments_that_mean_nothing_or_two_things_are_refused() -> None:
    with pytest.raises(HyperparameterError, match=r"b1 and beta1 are one argument of adam, got 0.8 and 0.7.*: b1 here"):
        ours.adam(0.1, b1=0.8, beta1=0.7)
    with pytest.raises(HyperparameterError, match=r"learning_rate and lr are one argument of sgd"):
        ours.sgd(0.1, lr=0.1)
    with pytest.raises(HyperparameterError, match=r"nesterov=True means nothing to rule 'sgd'.*use optax.sgd"):
        ours.sgd(0.1, nesterov=True)
    with pytest.raises(
        HyperparameterError, match=r"bias_correction=True means nothing to rule 'rmsprop'.*optax.rmsprop"
    ):
        ours.rmsprop(0.1, bias_correction=True)
    with pytest.raises(HyperparameterError, match=r"nesterov=True means nothing to rule 'radam'.*use optax.radam"):
        ours.radam(0.1, nesterov=True)
    with pytest.raises(HyperparameterError, match=r"eps_hat=True means nothing to rule 'nadam', .*; leave it out$"):
        ours.adam(0.1, nesterov=True, eps_hat=True)
    with pytest.raises(HyperparameterError, match=r"got bias_correction_mu=False and .*optax.amsgrad corrects one"):
        ours.amsgrad(0.1, bias_correction_mu=False)
    with pytest.raises(HyperparameterError, match="accumulator_dtype has no effect: rule 'sgd' keeps no moment"):
        ours.sgd(0.1, accumulator_dtype="bfloat16")
    with pytest.raises(HyperparameterError, match="states='8bit' says how 'm' is kept, too"):
        ours.adam(0.1, mu_dtype="bfloat16", states="8bit")
    with pytest.raises(HyperparameterError, match=r"mask has no effect: rule 'adam' has no weight_decay"):
        ours.transformation("adam", mask=True)


def test_inject_hyperparams_finds_every_number_by_optax_s_name() -> None:
    injected = optax.inject_hyperparams(ours.adamw)(1e-3, mask=None)
    theirs = optax.inject_hyperparams(optax.adamw)(1e-3)
    params = random(4)
    state = injected.init(params)
    assert {"learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"} == set(state.hyperparams)
    assert set(theirs.init(params).hyperparams) == set(state.hyperparams)
    frozen = optax.tree_utils.tree_set(state, learning_rate=jnp.float32(0.0))
    assert_equal(stepped(injected, params, [params], frozen)[0], params)


# Moments.


def test_mu_dtype_keeps_the_first_moment_in_that_type_whatever_its_size() -> None:
    params = {"w": jnp.ones((3, 2)), "b": jnp.float32(1.0)}
    for make, name in ((ours.adam, "mu"), (ours.lion, "mu"), (ours.nadam, "mu")):
        slots = make(0.1, mu_dtype=jnp.bfloat16).init(params).slots
        assert {leaf.dtype for leaf in jax.tree.leaves(slots.pop(name))} == {jnp.dtype(jnp.bfloat16)}
        assert {leaf.dtype for leaf in jax.tree.leaves(slots)} <= {jnp.dtype(np.float32)}
    assert ours.sgd(0.1, 0.9, accumulator_dtype="bfloat16").init(params).slots["trace"]["b"].dtype == jnp.bfloat16
    assert ours.adam(0.1, mu_dtype="float32").init(params).slots["mu"]["b"].dtype == np.float32
    with pytest.raises(StructureError, match=r"moment of \['b'\] is kept as float32 and cannot be kept as complex64"):
        ours.adam(0.1, mu_dtype="complex64").init(params)
    for wrong in ("float16", jnp.float16, "bflaot16"):
        with pytest.raises(HyperparameterError, match=r"mu_dtype must be one of .*Did you mean 'bfloat16'"):
            ours.adam(0.1, mu_dtype=wrong)
    assert ours.adam(0.1, states={"mu": "8bit"}, min_elements=1).init(params).slots["nu"]["w"].dtype == np.float32


def test_tree_utils_find_states_by_their_usual_names() -> None:
    params = {"w": random(3, 2)}
    tx = optax.chain(optax.clip_by_global_norm(1.0), ours.adamw(0.1))
    _, state = stepped(tx, params, [params] * 3)
    theirs = stepped(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)), params, [params] * 3)[1]
    for name in ("count", "mu", "nu"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
            *(optax.tree_utils.tree_get(s, name) for s in (state, theirs)),
        )
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert_equal(optax.tree_utils.tree_get(optax.tree_utils.tree_set(state, mu=zeros, count=0), "mu"), zeros)
    found = {
        "trace": ours.sgd(0.1, 0.9),
        "sum_of_squares": ours.adagrad(0.1),
        "e_x": ours.adadelta(0.1),
        "nu_max": ours.amsgrad(0.1),
        "nu": ours.rmsprop(0.1),
        "mu": ours.adabelief(0.1),
        "ema": ours.signum(0.1),
    }
    for name, transformation in found.items():
        assert optax.tree_utils.tree_get(transformation.init(params), name)["w"].shape == (3, 2)

    @sr.rule(paper="keeps its own names")
    def adam(theta, g, m, *, lr: sr.Rate = 1.0):
        m = m + g
        return theta - lr * m, m

    assert set(ours.transformation(adam).init(params).slots) == {"m"}


def test_a_scalar_slot_has_one_shape_whatever_the_width_of_numbers() -> None:
    shapes = []
    for wide in (False, True):
        with jax.enable_x64(wide):
            transformation = ours.nadam(0.1, psi=4e-3)
            _, state = stepped(transformation, jnp.ones(3), [jnp.ones(3)] * 4)
            shapes.append((state.slots["mu_product"].shape, transformation.init(jnp.ones(3)).slots["mu_product"].shape))
            expected = np.prod([0.9 * (1 - 0.5 * 0.96 ** (t * 4e-3)) for t in range(1, 5)])
            assert float(np.asarray(state.slots["mu_product"], np.float64).sum()) == pytest.approx(expected, rel=1e-14)
    assert shapes == [((2,), (2,))] * 2


# Leaves.


def test_numbers_of_python_are_parameters_and_gradients() -> None:
    params = {"a": 1.0, "b": random(2), "n": 2, "c": 1.0 + 2.0j}
    grads = {"a": 0.5, "b": random(2, seed=1), "n": 3, "c": 0.5 - 1.0j}
    arrays = [jax.tree.map(lambda x: jnp.asarray(x * 1.0), tree) for tree in (params, grads)]
    for transformation in (ours.adamw(0.1), optax.masked(ours.adam(0.1), True)):
        state = transformation.init(params)
        assert_equal(state, transformation.init(arrays[0]))
        assert_equal(transformation.update(grads, state, params), transformation.update(arrays[1], state, arrays[0]))
    step = ours.step("adam")
    assert_equal(step(1.0, 0.5, step.init(1.0), 1), step(jnp.float32(1), jnp.float32(0.5), step.init(1.0), 1))


# Of rules with sums both parts are one tensor, and those of rows and columns refuse them.
@pytest.mark.parametrize("name", [name for name, rule in CATALOGUE.items() if rule.trace().sees == "element"])
def test_both_parts_of_complex_numbers_are_stepped_each_as_a_number_of_its_own(name: str) -> None:
    parts = [random(4, 3, seed=seed) for seed in (0, 1)]
    grads = [[random(4, 3, seed=seed + 2 * i) for seed in (2, 3)] for i in range(3)]
    transformation = getattr(ours, name)(0.1)
    if name in MATRICES:
        with pytest.raises(StructureError, match="complex"):
            stepped(transformation, jax.lax.complex(*parts), [jax.lax.complex(*g) for g in grads])
        return
    params, state = stepped(transformation, jax.lax.complex(*parts), [jax.lax.complex(*g) for g in grads])
    if sees(CATALOGUE[name]) != "element":  # sums are over all pairs
        pairs, _ = stepped(transformation, jnp.stack(parts, -1), [jnp.stack(g, -1) for g in grads])
        np.testing.assert_allclose(jnp.stack([params.real, params.imag], -1), pairs, rtol=1e-5)
        return
    for i, part in enumerate((jnp.real, jnp.imag)):
        alone, own = stepped(transformation, parts[i], [g[i] for g in grads])
        assert_equal(part(params), alone)
        arrays = [slot for slot in state.slots if slot not in CATALOGUE[name].numbers]
        assert_equal({slot: part(state.slots[slot]) for slot in arrays}, {slot: own.slots[slot] for slot in arrays})
    assert params.dtype == jnp.complex64


def test_complex_numbers_everywhere() -> None:
    theta = jax.lax.complex(random(80, 80), random(80, 80, seed=1))
    small = ours.adam(0.1, states="8bit").init({"c": theta, "r": random(80, 80)}).slots["mu"]
    assert small["c"].dtype == jnp.complex64
    assert isinstance(small["r"], ours.EightBit)
    step = ours.step("adamw", weight_decay=0.1)
    new, _ = jax.jit(step)(theta, theta, step.init(theta), 1)
    real, _ = jax.jit(step)(theta.real, theta.real, step.init(theta.real), 1)
    assert_equal(new.real, real)
    with jax.enable_x64(True):
        wide = jnp.ones(3, np.complex128)
        assert_equal(stepped(ours.adagrad(0.1), wide, [wide])[1].slots, {"sum_of_squares": wide * (1.1 + 0.1j)})
    adam, state = ours.adam(0.1), ours.adam(0.1).init(theta)
    with pytest.raises(StructureError, match=r"has the type complex64, but its gradient float32"):
        adam.update(theta.real, state, theta)
    with pytest.raises(StructureError, match=r"has the type float32, but its gradient complex64"):
        adam.update(theta, ours.adam(0.1).init(theta.real), None)
    with pytest.raises(StateError, match="is complex, and does not mean the same"):
        ours.from_optax("adam", optax.adam(0.1).init(theta), state)


def test_where_there_is_no_gradient_nothing_moves() -> None:
    params = {"a": random(2), "b": {"c": random(3), "d": random(2, 2)}}
    grads = {"a": random(2, seed=1), "b": {"c": None, "d": random(2, 2, seed=2)}}
    for transformation in (ours.adamw(0.1), ours.sgd(0.1, 0.9), ours.nadam(0.1, psi=4e-3)):
        state = transformation.init(params)
        for given in (state, transformation.init(grads)):  # made for all, or for what has a gradient
            updates, after = jax.jit(transformation.update)(grads, given, params)
            assert updates["b"]["c"] is None
            alone = {"a": params["a"], "d": params["b"]["d"]}
            own, _ = transformation.update({"a": grads["a"], "d": grads["b"]["d"]}, transformation.init(alone), alone)
            assert_equal({"a": updates["a"], "d": updates["b"]["d"]}, own)
            assert_same_structure(after, given)
            for slot, tree in after.slots.items():
                if slot != "mu_product":
                    assert_equal(tree["b"]["c"], given.slots[slot]["b"]["c"])
    step = ours.step("adam")
    new, slots = step(params, {"a": grads["a"], "b": None}, step.init(params), 1)
    assert_equal(new["b"], params["b"])
    assert_equal(slots["m"]["b"], step.init(params)["m"]["b"])


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "sgd"])
def test_equinox_gives_the_whole_model_as_parameters(name: str) -> None:
    model = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))
    arrays = eqx.filter(model, eqx.is_inexact_array)
    grads = eqx.filter_grad(lambda m: jnp.sum(m(jnp.ones(2)) ** 2))(model)
    transformation = getattr(ours, name)(0.1)
    state = transformation.init(arrays)
    updates, _ = transformation.update(grads, state, model)
    assert_equal(updates, transformation.update(grads, state, arrays)[0])
    eqx.apply_updates(model, updates)


# Masks.

TREE = {"w": random(3, 2), "b": {"c": random(2), "d": random(2, seed=1)}}


@pytest.mark.parametrize(
    ("mask", "decayed"),
    [
        (None, "wcd"),
        (True, "wcd"),
        ({"w": True, "b": False}, "w"),
        ({"w": False, "b": {"c": True, "d": np.bool_(False)}}, "c"),
        (lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree), "w"),
    ],
)
@pytest.mark.parametrize("rule", [CATALOGUE["adamw"], sr.l2("adam"), CATALOGUE["adan"]], ids=str)
def test_a_mask_says_what_decays(rule: Any, mask: Any, decayed: str) -> None:
    grads = [jax.tree.map(lambda x, i=i: jnp.cos(x + i), TREE) for i in range(3)]
    masked, state = stepped(ours.transformation(rule, weight_decay=0.3, mask=mask), TREE, grads)
    decays, _ = stepped(ours.transformation(rule, weight_decay=0.3), TREE, grads)
    plain, own = stepped(ours.transformation(rule, weight_decay=0.0), TREE, grads)
    leaves: dict[str, Any] = {"w": lambda t: t["w"], "c": lambda t: t["b"]["c"], "d": lambda t: t["b"]["d"]}
    for name, at in leaves.items():
        assert_equal(at(masked), at(decays if name in decayed else plain))
        assert not np.array_equal(at(decays), at(plain))
    assert_same_structure(state, own)
    step = ours.step(rule, weight_decay=0.3, mask=mask)
    new, _ = jax.jit(step)(TREE, grads[0], step.init(TREE), 1)
    direct = ours.step(rule, weight_decay=0.3 if "w" in decayed else 0.0)
    assert_equal(new["w"], jax.jit(direct)(TREE, grads[0], direct.init(TREE), 1)[0]["w"])


def test_a_mask_goes_with_gradients_that_are_none() -> None:
    grads = {"w": jnp.ones((3, 2)), "b": {"c": None, "d": jnp.ones(2)}}
    for mask in ({"w": False, "b": True}, lambda tree: jax.tree.map(lambda x: x.ndim < 2, tree)):
        transformation = ours.adamw(0.1, weight_decay=0.3, mask=mask)
        updates, _ = transformation.update(grads, transformation.init(TREE), TREE)
        plain, _ = ours.adam(0.1).update(grads, ours.adam(0.1).init(TREE), TREE)
        assert_equal(updates["w"], plain["w"])
        assert not np.array_equal(updates["b"]["d"], plain["b"]["d"])


def test_masks_that_do_not_fit_are_refused() -> None:
    def update(mask: Any) -> None:
        transformation = ours.adamw(0.1, mask=mask)
        transformation.update(TREE, transformation.init(TREE), TREE)

    with pytest.raises(StructureError, match="mask of weight decay has another structure than the gradients"):
        update({"w": True})
    with pytest.raises(HyperparameterError, match=r"mask of weight decay has 1 where True or False is meant"):
        update({"w": 1, "b": False})
    with pytest.raises(HyperparameterError, match="where True or False is meant: it is fixed while tracing"):
        jax.jit(lambda flag: update(flag))(True)


# Those who walk closures: Optimistix and Equinox make trees of transformations, so that a rate is traced.


closure_to_pytree: Any = eqxi.closure_to_pytree  # which has no types


def walked(rate: Any) -> Any:
    return closure_to_pytree(optax.chain(optax.clip(100.0), ours.adamw(rate, mask={"w": True, "b": False})))


def test_a_transformation_is_hashable_and_a_tree_to_those_who_walk_it() -> None:
    assert len({ours.adam(0.1), ours.adam(0.1)}) == 2
    leaves = jax.tree.leaves(walked(jnp.float32(0.25)))
    assert [float(leaf) for leaf in leaves if eqx.is_array(leaf)] == [0.25] * 2  # of init and of update
    schedule = optax.linear_schedule(jnp.float32(0.5), 0.0, 10)
    assert [float(leaf) for leaf in jax.tree.leaves(walked(schedule)) if eqx.is_array(leaf)] == [0.5] * 2


def test_a_walked_transformation_is_compiled_once_for_all_rates() -> None:
    traced = []

    @eqx.filter_jit
    def step(transformation: Any, tree: Any) -> Any:
        traced.append(transformation)
        updates, _ = transformation.update(tree, transformation.init(tree), tree)
        return updates

    for rate in (0.25, 0.5):
        expected, _ = ours.adamw(jnp.float32(rate), mask={"w": True, "b": False}).update(
            TREE, ours.adamw(0.1).init(TREE), TREE
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), step(walked(jnp.float32(rate)), TREE), expected
        )
    assert len(traced) == 1


def test_a_mapped_rate_goes_through_a_walked_transformation() -> None:
    def moved(rate: Any) -> Any:
        transformation = walked(rate)
        return transformation.update(TREE, transformation.init(TREE), TREE)[0]["w"]

    both = jax.vmap(moved)(jnp.float32([0.25, 0.5]))
    np.testing.assert_allclose(both[1], moved(jnp.float32(0.5)), rtol=1e-6)
