"""Several rules in one transformation of JAX: the steps of each rule alone, in one state and one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steprule as sr
import steprule.jax
from steprule.errors import HyperparameterError, RuleError, StateError, StructureError

ROUTES: list[Any] = [("matrices", "muon", {"lr": 0.02}), ("*.b", "novograd")]


def model(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    layers = [{"w": rng.normal(size=(8, 12)), "b": rng.normal(size=12)} for _ in range(2)]
    whole = {"wte": rng.normal(size=(20, 8)), "layers": layers, "head": rng.normal(size=(8, 20))}
    return jax.tree.map(lambda x: jnp.asarray(x, "float32"), whole)


def assert_equal(one: Any, other: Any) -> None:
    structures: list[Any] = [jax.tree.structure(one), jax.tree.structure(other)]
    assert structures[0] == structures[1]
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("own", ["adamw", "prodigy", "nadam"])
def test_each_parameter_goes_by_its_rule(own: str) -> None:
    step = steprule.jax.step(own, routes=ROUTES)
    rules = {
        "w": steprule.jax.step("muon", lr=0.02),
        "b": steprule.jax.step("novograd"),
        "rest": steprule.jax.step(own),
    }

    def parts(tree: Any) -> dict[str, Any]:
        layers = tree["layers"]
        rest = {"head": tree["head"], "wte": tree["wte"]}
        return {"w": [own["w"] for own in layers], "b": [own["b"] for own in layers], "rest": rest}

    theta, alone = model(), parts(model())
    slots, each = step.init(theta), {name: rules[name].init(part) for name, part in alone.items()}
    run = jax.jit(step)
    for t in range(1, 4):
        g = model(t)
        theta, slots = run(theta, g, slots, t)
        for name, part in parts(g).items():
            alone[name], each[name] = jax.jit(rules[name])(alone[name], part, each[name], t)
    assert_equal(parts(theta), alone)


def test_a_transformation_has_one_state_and_optaxs_names() -> None:
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), steprule.jax.transformation("adamw", routes=ROUTES))
    params = model()
    state = optimizer.init(params)
    for seed in range(2):
        updates, state = jax.jit(optimizer.update)(model(seed), state, params)
        params = optax.apply_updates(params, updates)
    moments = optax.tree_utils.tree_get(state, "nu")
    assert moments["layers"][0]["w"] is None
    assert moments["wte"].shape == (20, 8)
    # Where there is no gradient nothing changes.
    g = model(5)
    g["layers"][0]["w"] = g["wte"] = None
    updates, new = optimizer.update(g, state, params)
    assert updates["wte"] is None
    assert updates["layers"][0]["w"] is None
    assert_equal(new[1].slots["mu"]["wte"], state[1].slots["mu"]["wte"])
    assert np.any(new[1].slots["mu"]["head"] != state[1].slots["mu"]["head"])


def test_files_go_to_and_from_the_numpy_door(tmp_path: Path) -> None:
    optimizer = steprule.jax.transformation("prodigy", routes=ROUTES)
    params = model()
    state = optimizer.init(params)
    updates, state = optimizer.update(model(1), state, params)
    run = steprule.jax.Training(optimizer, optax.apply_updates(params, updates), state)
    sr.save(tmp_path / "jax", run, params=True)
    arrays = jax.tree.map(np.array, model())
    elsewhere = sr.Optimizer(arrays, "prodigy", routes=ROUTES)
    sr.load(tmp_path / "jax", elsewhere, params=True)
    assert_equal(arrays, run.params)
    sr.save(tmp_path / "numpy", elsewhere, params=True)
    other = steprule.jax.Training(optimizer, params, optimizer.init(params))
    sr.load(tmp_path / "numpy", other, params=True)
    assert_equal((other.params, other.state), (run.params, run.state))
    wrong = steprule.jax.transformation("prodigy", routes=[("matrices", "lion"), *ROUTES[1:]])
    with pytest.raises(StateError, match="is for rule 'muon'"):
        sr.load(tmp_path / "numpy", steprule.jax.Training(wrong, params, wrong.init(params)))
    fewer = steprule.jax.transformation("prodigy", routes=ROUTES[:1])
    run = steprule.jax.Training(fewer, params, fewer.init(params))
    with pytest.raises(StateError, match="has 3 parameter groups, this optimizer has 2"):
        sr.load(tmp_path / "numpy", run)


def test_muon_of_optaxs_name_is_saved_too(tmp_path: Path) -> None:
    optimizer, params = steprule.jax.muon(0.02), model()
    run = steprule.jax.Training(optimizer, params, optimizer.init(params))
    _, run.state = optimizer.update(model(1), run.state, params)
    sr.save(tmp_path / "run", run)
    other = steprule.jax.Training(optimizer, params, optimizer.init(params))
    sr.load(tmp_path / "run", other)
    assert_equal(other.state, run.state)


def test_rules_with_a_point_of_their_own() -> None:
    optimizer = steprule.jax.transformation(sr.averaged("adamw"), routes=ROUTES[:1])
    params = model()
    state = optimizer.init(params)
    for seed in range(3):
        updates, state = optimizer.update(model(seed), state, params)
        params = optax.apply_updates(params, updates)
    point = steprule.jax.evaluated(state, params)
    assert_equal(point["layers"][0]["w"], params["layers"][0]["w"])
    assert np.any(point["wte"] != params["wte"])
    with pytest.raises(HyperparameterError, match="both have a point of their own"):
        steprule.jax.transformation(sr.averaged("adamw"), routes=[("*.b", sr.lookahead("sgd"))])


def test_masks_formats_and_hyperparameters() -> None:
    routes = [("*.w", "adamw", {"weight_decay": 0.5}), ("head", "sgd")]
    step = steprule.jax.step(
        "adamw", lr=0.125, weight_decay=0.25, routes=routes, states={"v": "bfloat16"}, min_elements=0
    )
    slots = step.init(model())
    assert slots["v"]["wte"].dtype == slots["v"]["layers"][0]["w"].dtype == jnp.bfloat16
    assert slots["v"]["head"] is None
    zeros = jax.tree.map(jnp.zeros_like, model())
    theta, _ = step(model(), zeros, slots, 1)
    np.testing.assert_array_equal(theta["head"], model()["head"])
    np.testing.assert_allclose(theta["wte"], model()["wte"] * (1 - 0.125 * 0.25), rtol=1e-6)
    np.testing.assert_allclose(theta["layers"][0]["w"], model()["layers"][0]["w"] * (1 - 0.125 * 0.5), rtol=1e-6)


def test_what_is_wrong_is_said() -> None:
    make = steprule.jax.transformation
    with pytest.raises(HyperparameterError, match=r"'conv' to 'muon', matches no parameter .* 'head'"):
        make("adamw", routes=[("conv", "muon")]).init(model())
    with pytest.raises(RuleError, match="no rule for 'head'"):
        make(None, routes=ROUTES).init(model())
    with pytest.raises(RuleError, match="no rule is named"):
        make(None)
    with pytest.raises(HyperparameterError, match="lr has no effect: no rule is named"):
        make(None, routes=ROUTES, lr=0.1)
    with pytest.raises(HyperparameterError, match="lr has no effect: no parameter is stepped by rule 'adam'"):
        make("adam", routes=[("*", "lion")], lr=0.1).init(model())
    with pytest.raises(HyperparameterError, match=r"routes\[0\]: .*has no hyperparameter 'beta'"):
        make("adam", routes=[("*", "lion", {"beta": 0.1})])
    state = make("lion").init(model())
    with pytest.raises(StructureError, match="but these routes keep"):
        make("adam", routes=ROUTES).update(model(), state, model())
