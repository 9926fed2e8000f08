"""The evaluated point in JAX: NumPy's bits, optax's schedule-free, and what states, maps and files make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import steprule as sr
import steprule.jax as ours
from steprule.errors import StateError, StructureError
from steprule.rules import CATALOGUE, Rule
from tests.cases import assert_same_bits

RULES: dict[str, tuple[Rule, dict[str, Any]]] = {
    "sgd": (CATALOGUE["schedule_free_sgd"], {"lr": 0.1, "beta": 0.8}),
    "adamw": (CATALOGUE["schedule_free_adamw"], {"lr": 0.05, "warmup_steps": 3.0}),
    "asgd": (CATALOGUE["asgd"], {"lr": 0.1, "t0": 1.0}),
    "averaged": (sr.averaged("adam"), {"lr": 0.1}),
    "lookahead": (sr.lookahead("momentum"), {"lr": 0.1}),
}


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", RULES)
def test_the_point_is_numpys_after_every_step(name: str, dtype: str) -> None:
    rule, options = RULES[name]
    kind = jnp.dtype(dtype)
    theta = {"w": random(7, 5).astype(kind), "b": random(5, seed=1).astype(kind)}
    optimizer = sr.Optimizer({key: x.copy() for key, x in theta.items()}, rule, backend="numpy", **options)
    step = ours.step(rule, **options)
    run, point = jax.jit(step), jax.jit(step.evaluated)
    params: Any = jax.tree.map(jnp.asarray, theta)
    slots: Any = step.init(params)
    for t in range(1, 7):
        g = {key: random(*x.shape, seed=10 * t + x.ndim).astype(kind) for key, x in theta.items()}
        optimizer.step(g)
        params, slots = run(params, jax.tree.map(jnp.asarray, g), slots, t)
        found = point(params, slots, t)
        for key, expected in optimizer.evaluated.items():
            assert_same_bits(np.asarray(found[key]), expected, f"{key} after step {t}")
        assert str(jax.tree.structure(found)) == str(jax.tree.structure(params))
    assert (np.asarray(found["w"]) != np.asarray(params["w"])).any() or name == "lookahead"


def _trained(transformation: Any, steps: int = 5, params: Any = None) -> tuple[Any, Any]:
    params = {"w": jnp.asarray(random(4, 3))} if params is None else params
    state = transformation.init(params)
    for t in range(steps):
        grads = jax.tree.map(lambda x, t=t: jnp.asarray(random(*x.shape, seed=t + 1)).astype(x.dtype), params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", RULES)
def test_the_state_knows_how_as_the_step_does(name: str) -> None:
    """By the numbers that a state has, jitted or not, and nested in others, the point is that of the options."""
    rule, options = RULES[name]
    tx = ours.transformation(rule, **options)
    params, state = _trained(tx)
    expected = tx.update.stepper.point(4).of(params, _named(rule, state.slots), 5)
    for find in (ours.evaluated, jax.jit(ours.evaluated), ours.schedule_free_eval_params):
        assert_same_bits(np.asarray(find(state, params)["w"]), np.asarray(expected["w"]), name)
    chained = (optax.EmptyState(), {"inner": state})
    assert_same_bits(np.asarray(ours.evaluated(chained, params)["w"]), np.asarray(expected["w"]), name)


def _named(rule: Rule, slots: Any) -> Any:
    from steprule.doors.foreign.names import slot_names

    named = {theirs: slot for slot, theirs in slot_names(rule, "optax").items()}
    return {named.get(slot, slot): tree for slot, tree in slots.items()}


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("schedule_free_sgd", {}),
    ("schedule_free_sgd", {"learning_rate": 0.1, "weight_decay": 0.1, "weight_lr_power": 0.0}),
    ("schedule_free_sgd", {"learning_rate": 0.1, "b1": 0.8, "state_dtype": "float32"}),
    ("schedule_free_adamw", {}),
    ("schedule_free_adamw", {"learning_rate": 0.05, "b1": 0.95, "b2": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_both_points_are_optaxs_for_fifty_steps(name: str, options: dict[str, Any]) -> None:
    x, y = jnp.asarray(random(16, 4)), jnp.asarray(random(16, 3, seed=1))

    def loss(params: Any, t: Any) -> Any:
        return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - y) ** 2) + 0.1 * jnp.sin(t) * params["b"].sum()

    runs = []
    for module, point in ((ours, ours.schedule_free_eval_params), (optax.contrib, None)):
        tx = getattr(module, name)(**options)
        find = point or optax.contrib.schedule_free_eval_params
        params: Any = {"w": jnp.asarray(random(4, 3, seed=2)), "b": jnp.zeros(3)}

        @jax.jit
        def step(params: Any, state: Any, t: Any, tx: Any = tx) -> Any:
            updates, state = tx.update(jax.grad(loss)(params, t), state, params)
            return optax.apply_updates(params, updates), state

        state, seen = tx.init(params), []
        for t in range(50):
            params, state = step(params, state, t)
            seen.append((params, find(state, params)))
        runs.append(seen)
    for ours_now, theirs_now in zip(*runs, strict=True):
        for a, b in zip(jax.tree.leaves(ours_now), jax.tree.leaves(theirs_now), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_arguments_and_defaults_are_optaxs() -> None:
    import inspect

    for name in ("schedule_free_sgd", "schedule_free_adamw"):
        theirs = inspect.signature(getattr(optax.contrib, name)).parameters
        mine = inspect.signature(getattr(ours, name)).parameters
        assert [*mine][: len(theirs)] == [*theirs]
        assert {key: mine[key].default for key in theirs} == {key: own.default for key, own in theirs.items()}
    assert ours.schedule_free_adamw(warmup_steps=10).update.stepper.values["warmup_steps"] == 10


def test_low_precision_is_asked_for_by_name() -> None:
    params = {"w": jnp.asarray(random(64, 128))}
    state = ours.schedule_free_adamw(0.1, states="8bit").init(params)
    assert isinstance(state.slots["nu"]["w"], ours.EightBit)
    assert_same_bits(np.asarray(state.slots["z"]["w"]), random(64, 128))
    tx = ours.schedule_free_adamw(0.1, state_dtype="bfloat16")
    moved, state = _trained(tx, 2, params)
    assert state.slots["z"]["w"].dtype == jnp.bfloat16
    z, beta = np.asarray(state.slots["z"]["w"], np.float32), np.float32(1 - 1 / 0.9)
    y = np.asarray(moved["w"])
    assert_same_bits(np.asarray(ours.evaluated(state, moved)["w"]), y + beta * (z - y))


def test_maps_and_derivatives() -> None:
    """Runs of different betas under one vmap, and how the evaluated point follows beta."""
    g = jnp.asarray(random(5, seed=3))

    def final(beta: Any) -> Any:
        tx = ours.schedule_free_sgd(0.1, b1=beta)
        params, state = jnp.ones(5), tx.init(jnp.ones(5))
        for _ in range(4):
            updates, state = tx.update(g * params, state, params)
            params = optax.apply_updates(params, updates)
        return ours.evaluated(state, params)

    betas = jnp.array([0.5, 0.9, 0.98])
    together = jax.jit(jax.vmap(final))(betas)
    for beta, found in zip(betas.tolist(), together, strict=True):
        np.testing.assert_allclose(found, final(beta), rtol=2e-6)
    slope = jax.grad(lambda beta: final(beta).sum())(0.9)
    with jax.enable_x64():
        above, below = (float(final(jnp.float64(beta)).sum()) for beta in (0.9 + 1e-5, 0.9 - 1e-5))
    assert slope == pytest.approx((above - below) / 2e-5, rel=1e-2)


def test_what_no_step_moves_is_returned_as_it_is() -> None:
    params = {"a": jnp.asarray(random(3)), "b": jnp.asarray(random(3, seed=1)), "c": None}
    tx = optax.masked(ours.schedule_free_sgd(0.1), {"a": True, "b": False, "c": False})
    moved, state = _trained(tx, 3, params)
    found = ours.evaluated(state, moved)
    assert found["c"] is None
    assert found["b"] is moved["b"]
    assert (found["a"] != moved["a"]).any()
    plain, of_adam = _trained(ours.adam(0.1), 2)
    assert ours.evaluated(of_adam, plain) is plain


def test_both_parts_of_complex_numbers() -> None:
    theta = random(4) + 1j * random(4, seed=1)
    both, state = _trained(ours.schedule_free_sgd(0.1), 3, jnp.asarray(theta))
    found = ours.evaluated(state, both)
    real = ours.evaluated(_part(state, jnp.real), both.real)
    assert_same_bits(np.asarray(found.real), np.asarray(real))
    assert found.dtype == jnp.complex64


def _part(state: Any, part: Any) -> Any:
    return state._replace(slots={**state.slots, "z": part(state.slots["z"])})


def test_before_the_first_step_it_is_the_parameter() -> None:
    theta = jnp.asarray([np.inf, -0.0, 1e-42, 3.0, np.nan], jnp.float32)
    for tx in (ours.schedule_free_sgd(0.1), ours.transformation(sr.averaged("sgd"))):
        state = tx.init(theta)
        assert_same_bits(np.asarray(ours.evaluated(state, theta)), np.asarray(theta))


def test_a_step_may_take_the_memory_of_parameters_and_state() -> None:
    tx = ours.schedule_free_adamw(0.1)

    def step(params: Any, state: Any) -> Any:
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.ones(1000)
    moved, state = jax.jit(step, donate_argnums=(0, 1))(params, tx.init(params))
    assert np.isfinite(np.asarray(ours.evaluated(state, moved))).all()


def test_injected_numbers_are_those_of_the_point() -> None:
    tx = optax.inject_hyperparams(ours.schedule_free_sgd, static_args=("min_elements",))(learning_rate=0.1, b1=0.9)
    params, state = _trained(tx, 3)
    state.hyperparams["b1"] = jnp.float32(0.5)
    updates, state = tx.update(params, state, params)
    moved = optax.apply_updates(params, updates)
    [inner] = [state.inner_state]
    y, z = np.asarray(moved["w"]), np.asarray(inner.slots["z"]["w"])
    np.testing.assert_allclose(ours.evaluated(state, moved)["w"], y - (z - y), rtol=1e-6, atol=1e-7)


def test_files_go_on_with_the_same_point(tmp_path: Path) -> None:
    tx = ours.schedule_free_adamw(0.05)
    params, state = _trained(tx)
    run = ours.Training(tx, params, state)
    expected = run.evaluated
    assert (np.asarray(expected["w"]) != np.asarray(params["w"])).any()
    sr.save(tmp_path / "run", run, params=True)
    other = ours.Training(tx, {"w": jnp.zeros((4, 3))}, tx.init({"w": jnp.zeros((4, 3))}))
    sr.load(tmp_path / "run", other, params=True)
    assert_same_bits(np.asarray(other.evaluated["w"]), np.asarray(expected["w"]))
    assert type(other.state) is ours.EvaluatedState
    optimizer = sr.Optimizer({"w": np.zeros((4, 3), np.float32)}, "schedule_free_adamw", lr=0.05, weight_decay=0.0)
    sr.load(tmp_path / "run", optimizer, params=True)
    assert_same_bits(optimizer.evaluated["w"], np.asarray(expected["w"]))
    step = ours.step("schedule_free_adamw", lr=0.05, weight_decay=0.0)
    of_step = ours.Training(
        step, params, ours.State(jnp.int32(5), _named(CATALOGUE["schedule_free_adamw"], state.slots))
    )
    assert_same_bits(np.asarray(of_step.evaluated["w"]), np.asarray(expected["w"]))


def test_a_file_of_the_evaluated_point_is_refused(tmp_path: Path) -> None:
    optimizer = sr.Optimizer({"w": random(4, 3)}, "schedule_free_sgd", lr=0.1)
    optimizer.step({"w": random(4, 3, seed=1)})
    tx, params = ours.schedule_free_sgd(0.1), {"w": jnp.zeros((4, 3))}
    run = ours.Training(tx, params, tx.init(params))
    with optimizer.evaluating():
        sr.save(tmp_path / "evaluated", optimizer, params=True)
    with pytest.raises(
        StateError, match=r"saved by steprule.Optimizer in eval mode.*call train\(\), and save it again"
    ):
        sr.load(tmp_path / "evaluated", run, params=True)
    assert run.params is params
    assert int(run.state.count) == 0
    sr.save(tmp_path / "trained", optimizer, params=True)
    sr.load(tmp_path / "trained", run, params=True)
    assert_same_bits(np.asarray(run.evaluated["w"]), optimizer.evaluated["w"])


def test_what_is_mistaken_is_said() -> None:
    params, state = _trained(ours.schedule_free_sgd(0.1))
    with pytest.raises(StateError, match=r"0 named tuples.*Call evaluated\(state, params\)"):
        ours.evaluated(params, state)
    with pytest.raises(StructureError, match="another structure than the parameters"):
        ours.evaluated(state, {"v": params["w"]})
    with pytest.raises(StructureError, match=r"slot 'z' of \['w'\] is float32\[4, 3\], and the parameter float32\[3\]"):
        ours.evaluated(state, {"w": jnp.zeros(3)})
