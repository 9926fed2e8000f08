"""Checkpoints of the JAX door: resumed in every bit, nested as optax nests states, and to and from the other doors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import steprule as sr
import steprule.jax as ours
from steprule.doors.checkpoint import content
from steprule.errors import CheckpointError, StateError
from tests.checkpoint.written_states import (
    CASES,
    MORE,
    SHAPES,
    STEPS,
    WRITTEN,
    Case,
    after,
    gradients,
    start,
    tensors_in,
)

pytestmark = pytest.mark.apart

LOW: dict[str, Any] = {"states": "8bit", "min_elements": 0, "seed": 7}
RUNS: dict[str, tuple[Any, str]] = {
    "adam": (lambda: ours.adam(0.02), "float32"),
    "nadam": (lambda: ours.transformation("nadam", lr=0.02), "float32"),
    "sgd": (lambda: ours.sgd(0.02), "float32"),
    "momentum": (lambda: ours.sgd(0.02, momentum=0.9, nesterov=True), "float16"),
    "lion": (lambda: ours.lion(0.02, states="bfloat16", min_elements=0), "bfloat16"),
    "adan": (lambda: ours.adan(0.02, **LOW), "float32"),
    "radam": (lambda: ours.radam(0.02, **{**LOW, "states": "4bit"}), "float32"),
    "mixed": (lambda: ours.adam(0.02, **{**LOW, "states": {"mu": "4bit", "nu": "8bit"}}), "float16"),
    "adamw": (lambda: ours.adamw(optax.linear_schedule(0.02, 0.01, 9), **LOW), "bfloat16"),
    "complex": (lambda: ours.adam(jnp.float32(0.02)), "complex64"),
    "masked": (lambda: optax.masked(ours.adam(0.02), {"w": True, "b": [False, None]}), "float32"),
    "chain": (lambda: optax.chain(optax.trace(0.5), optax.ema(0.9), ours.nadam(0.02), optax.clip(1.0)), "float32"),
}
INNER = {"masked": lambda: ours.adam(0.02), "chain": lambda: ours.nadam(0.02)}
"""What is given where the transformation is a wrapper of optax."""


def params_of(dtype: str) -> dict[str, Any]:
    """Return parameters whose numbers depend on nothing; one leaf is None."""
    w, b = (np.asarray(array) for array in start("float32").values())
    own = {"w": jnp.asarray(w), "b": [jnp.asarray(b), None]}
    turn: Any = 1 + 0.5j if dtype.startswith("complex") else 1
    tree: dict[str, Any] = jax.tree.map(lambda x: (x * turn).astype(dtype), own)
    return tree


def train(transformation: Any, params: Any, state: Any, steps: range) -> tuple[Any, Any]:
    """Step along gradients that depend on t alone."""
    update = jax.jit(transformation.update)
    for t in steps:
        grads = jax.tree.map(lambda x, t=t: (x * (t % 3 - 1) + 0.1).astype(x.dtype), params_of(str(params["w"].dtype)))
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same_bits(a: Any, b: Any) -> None:
    """Compare two trees in every bit."""
    structure: Any = jax.tree.structure(a)  # whose methods have no types
    assert structure == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def resumed(name: str, path: Path, **options: Any) -> ours.Training:
    """Return a run over zeros that goes on from a file."""
    transformation, dtype = RUNS[name][0](), RUNS[name][1]
    zeros = jax.tree.map(jnp.zeros_like, params_of(dtype))
    run = ours.Training(INNER.get(name, lambda: transformation)(), zeros, transformation.init(zeros))
    sr.load(path, run, params=True, **options)
    return run


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.dear
def test_a_run_resumes_in_every_bit(tmp_path: Path, name: str) -> None:
    transformation, params = RUNS[name][0](), params_of(RUNS[name][1])
    half = train(transformation, params, transformation.init(params), range(4))
    inner = INNER.get(name, lambda: transformation)()
    sr.save(tmp_path / "x", ours.Training(inner, *half), params=True)
    run = resumed(name, tmp_path / "x")
    assert_same_bits((run.params, run.state), half)
    straight = train(transformation, *half, range(4, 8))
    assert_same_bits(train(RUNS[name][0](), run.params, run.state, range(4, 8)), straight)


def test_what_is_not_stepped_is_stored_with_the_parameters(tmp_path: Path) -> None:
    params = {"w": jnp.ones(3), "n": jnp.arange(4)}
    inner = ours.adam(0.02)
    masked = optax.masked(inner, {"w": True, "n": False})
    state = masked.init(params)
    sr.save(tmp_path / "x", ours.Training(inner, params, state), params=True)
    run = ours.Training(inner, jax.tree.map(jnp.zeros_like, params), state)
    sr.load(tmp_path / "x", run, params=True)
    assert_same_bits((run.params, run.state), (params, state))
    stepped = ours.Training(
        inner, {"w": jnp.ones(3), "n": jnp.ones(4)}, inner.init({"w": jnp.ones(3), "n": jnp.ones(4)})
    )
    sr.save(tmp_path / "x", stepped)
    other = ours.Training(inner, stepped.params, state)
    with pytest.raises(StateError, match="masked"):
        sr.load(tmp_path / "x", other)


@pytest.mark.parametrize("hyperparameters", [True, False])
def test_of_an_earlier_file_what_has_one_dimension_is_rounded_unasked_and_a_matrix_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hyperparameters: bool
) -> None:
    low = ours.adam(0.02, states="8bit", seed=3)

    def saved(name: str, shape: tuple[int, ...]) -> None:
        array = np.ones(shape, np.float32)
        optimizer = sr.Optimizer([array], "adam", lr=0.02)
        optimizer.step([np.linspace(-1, 1, array.size, dtype=np.float32).reshape(shape)])
        sr.save(tmp_path / name, optimizer)

    def loaded(name: str, shape: tuple[int, ...], **options: Any) -> ours.Training:
        zeros = [jnp.zeros(shape)]
        run = ours.Training(low, zeros, low.init(zeros))
        sr.load(tmp_path / name, run, hyperparameters=hyperparameters, **options)
        return run

    saved("today", (5000,))
    write = content._group_json
    monkeypatch.setattr(content, "_group_json", lambda *args: {k: v for k, v in write(*args).items() if k != "coding"})
    saved("before", (5000,))
    saved("matrix", (50, 100))
    for name, shape in (("today", (5000,)), ("matrix", (50, 100))):
        with pytest.raises(StateError, match="convert=True"):
            loaded(name, shape)
    assert_same_bits(loaded("before", (5000,)).state, loaded("today", (5000,), convert=True).state)


def test_a_step_resumes(tmp_path: Path) -> None:
    step, params = ours.step("nadam", lr=0.02), params_of("float32")
    slots, grads = step.init(params), params_of("float32")
    for t in (1, 2):
        params, slots = step(params, grads, slots, t)
    sr.save(tmp_path / "x", ours.Training(step, params, ours.State(jnp.int32(2), slots)), params=True)
    run = ours.Training(ours.step("nadam", lr=0.02), params_of("float32"), ours.State(jnp.int32(0), step.init(params)))
    sr.load(tmp_path / "x", run, params=True)
    assert int(run.state.count) == 2
    assert_same_bits((run.params, run.state.slots), (params, slots))


def transformation_of(case: Case) -> Any:
    """Return the same optimizer as a transformation."""
    formats = {name: value for name, value in case.formats.items() if name != "weights"}
    formats = formats if "states" in formats else {}
    return ours.transformation(case.rule, **case.options, **formats)


PLAIN = [name for name, case in CASES.items() if case.dtype != "float64" and not case.groups and case.skips is None]


@pytest.mark.parametrize("door", ["numpy", "torch"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_file_of_another_door_goes_on(tmp_path: Path, name: str, door: str) -> None:
    case, path = CASES[name], WRITTEN / f"{name}.{door}.safetensors"
    file = tensors_in(path)
    transformation = transformation_of(case)
    params = {key: jnp.asarray(array) for key, array in start(case.dtype).items()}
    run = ours.Training(transformation, params, transformation.init(params))
    has_more = any(key.endswith("/theta.low") for key in file)
    if has_more:
        with pytest.raises(StateError, match="theta is kept as nearest here, but the state has it as split"):
            sr.load(path, run, params=True)
    sr.load(path, run, params=True, convert=has_more)
    uncounted = (name, door) == ("momentum", "torch")
    assert int(run.state.count) == (1 if uncounted else STEPS)
    # Written again, the file has the same slots.
    sr.save(tmp_path / "x", run, params=True)
    again = tensors_in(tmp_path / "x")
    own = {key: bits for key, bits in file.items() if key.startswith(("slots/", "params/")) and "theta" not in key}
    assert again == own


@pytest.mark.parametrize("door", ["numpy", "torch"])
@pytest.mark.parametrize("name", [name for name in PLAIN if CASES[name].dtype == "float32" and not CASES[name].formats])
def test_a_step_has_the_bits_of_the_other_doors(name: str, door: str) -> None:
    case = CASES[name]
    step = ours.step(case.rule, **case.options)
    params = {key: jnp.asarray(array) for key, array in start(case.dtype).items()}
    run = ours.Training(step, params, ours.State(jnp.zeros((), jnp.int32), step.init(params)))
    sr.load(WRITTEN / f"{name}.{door}.safetensors", run, params=True)
    params, slots = run.params, run.state.slots
    for t in range(STEPS, STEPS + MORE):
        grads = {key: jnp.asarray(array) for key, array in gradients(case, t).items()}
        params, slots = step(params, grads, slots, t + 1)
    assert {key: np.asarray(array).tobytes() for key, array in params.items()} == after(name)


@pytest.mark.parametrize(
    ("options", "file", "words"),
    [
        ({"lr": 0.01}, "adam", r"saved with lr=0\.02, and this transformation has lr=0\.01.*hyperparameters=False"),
        ({"rule": "lion"}, "adam", r"for rule 'adam' .*, this optimizer's is 'lion'"),
        ({"states": "8bit", "min_elements": 0}, "adam", r"m is kept as 8bit signed 128 here.*as float32.*convert=True"),
        ({"rule": "adan", "states": "8bit", "min_elements": 0}, "adan_8bit", "saved with seed=7; make"),
        ({}, "groups", "has 2 parameter groups, this optimizer has 1"),
        ({"beta1": 0.9, "beta2": 0.999}, "guarded", r"saved with clip_norm=0\.5, nonfinite='skip'"),
        ({}, "adam_float64", r"is float32 of shape .*, but in the checkpoint float64"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], file: str, words: str) -> None:
    given: dict[str, Any] = {"lr": 0.02, **options}
    if "rule" not in options:
        given = {"rule": "adam", "beta1": 0.8, "beta2": 0.95, **given}
    params = {key: jnp.asarray(array) for key, array in start("float32").items()}
    transformation = ours.transformation(**given)
    run = ours.Training(transformation, params, state := transformation.init(params))
    with pytest.raises(StateError, match=words):
        sr.load(WRITTEN / f"{file}.numpy.safetensors", run, params=True)
    assert run.params is params
    assert run.state is state


def test_hyperparameters_and_formats_stay_on_request(tmp_path: Path) -> None:
    params = {key: jnp.asarray(array) for key, array in start("float32").items()}
    transformation = ours.adam(0.5, states="bfloat16", min_elements=0)
    run = ours.Training(transformation, params, transformation.init(params))
    sr.load(WRITTEN / "adam.numpy.safetensors", run, hyperparameters=False, convert=True)
    exact = sr.load(WRITTEN / "adam.numpy.safetensors").slots["w"]["m"]
    assert run.params is params  # which nobody asked to fill
    np.testing.assert_array_equal(np.asarray(run.state.slots["mu"]["w"]), exact.astype(jnp.bfloat16))


FORMATS: list[Any] = ["float32", "bfloat16", "8bit", "4bit", {"m": "4bit", "v": "8bit"}]


@pytest.mark.parametrize(("there", "here"), list(itertools.permutations(FORMATS, 2)), ids=str)
def test_formats_are_converted_as_in_the_other_doors(tmp_path: Path, there: Any, here: Any) -> None:
    options: list[dict[str, Any]] = [
        {} if states == "float32" else {"states": states, "min_elements": 0} for states in (there, here)
    ]
    arrays = [sr.Optimizer(start("float32"), "adam", lr=0.02, **own) for own in options]
    for t in range(STEPS):
        arrays[0].step(gradients(CASES["adam"], t))
    sr.save(tmp_path / "there", arrays[0])
    params = {key: jnp.asarray(array) for key, array in start("float32").items()}
    transformation = ours.transformation("adam", lr=0.02, **options[1])
    run = ours.Training(transformation, params, transformation.init(params))
    with pytest.raises(StateError, match=r"[mv] is kept as .* here, but the state has it as .*convert=True"):
        sr.load(tmp_path / "there", run)
    for name, one in (("arrays", arrays[1]), ("jax", run)):
        sr.load(tmp_path / "there", one, convert=True)
        sr.save(tmp_path / name, one)
    assert tensors_in(tmp_path / "jax") == tensors_in(tmp_path / "arrays")
    # It steps: what is there has the shapes and types that its transformation keeps.
    updates, _ = transformation.update(params, run.state, params)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(updates))


def test_a_run_without_parameters_resumes(tmp_path: Path) -> None:
    transformation = ours.transformation("nadam", lr=0.02)
    params: dict[str, Any] = {}
    _, state = transformation.update(params, transformation.init(params), params)
    sr.save(tmp_path / "x", ours.Training(transformation, params, state), params=True)
    run = ours.Training(transformation, params, transformation.init(params))
    assert sr.load(tmp_path / "x", run, params=True).t == 1
    assert_same_bits(run.state, state)
    arrays = sr.Optimizer(params, "nadam")
    sr.load(tmp_path / "x", arrays, hyperparameters=False)
    assert arrays.t == 1
    assert np.float32(arrays.slots["mu_product"][0]) == np.float32(np.sum(state.slots["mu_product"]))


def test_what_other_transformations_keep_must_be_there(tmp_path: Path) -> None:
    params = params_of("float32")
    chain, alone = RUNS["chain"][0](), ours.nadam(0.02)
    sr.save(tmp_path / "alone", ours.Training(alone, params, alone.init(params)))
    run = ours.Training(alone, params, state := chain.init(params))
    with pytest.raises(StateError, match=r"the state has \[.*\] of other transformations, that of the checkpoint \[\]"):
        sr.load(tmp_path / "alone", run)
    assert run.state is state
    # A file of another door has none: there they begin.
    arrays = {"w": np.zeros(SHAPES["w"], np.float32), "b": [np.zeros(SHAPES["b"], np.float32)]}
    sr.save(tmp_path / "arrays", sr.Optimizer(arrays, "nadam", lr=0.02, psi=None))
    sr.load(tmp_path / "arrays", run)
    assert_same_bits(run.state, state)


def test_wrappers_are_told_from_what_is_within() -> None:
    params = params_of("float32")
    wrapped = optax.chain(ours.adam(0.02))
    with pytest.raises(TypeError, match=r"none of steprule\.jax; of optax\.chain and other wrappers give the one"):
        sr.save("x", ours.Training(wrapped, params, wrapped.init(params)))
    two = optax.chain(ours.adam(0.02), ours.adam(0.02))
    with pytest.raises(StateError, match="has 2 named tuples"):
        sr.save("x", ours.Training(ours.adam(0.02), params, two.init(params)))
    with pytest.raises(TypeError, match=r"pass .*or a steprule.jax.Training"):
        sr.save("x", wrapped.init(params))


@pytest.mark.parametrize("states", ["8bit", "4bit"])
def test_new_arrays_are_where_the_old_ones_were(tmp_path: Path, states: str) -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    spec: Any = PartitionSpec  # which has no types
    split = NamedSharding(mesh, spec("x"))
    params = {"w": jax.device_put(jnp.ones((8, 130)), split)}
    transformation = ours.adam(0.02, **{**LOW, "states": states})
    state = transformation.init(params)
    _, state = transformation.update(params, state, params)
    sr.save(tmp_path / "x", ours.Training(transformation, params, state), params=True)
    run = ours.Training(transformation, params, transformation.init(params))
    sr.load(tmp_path / "x", run, params=True)
    assert_same_bits(run.state, state)
    assert run.params["w"].sharding == split
    for new, old in zip(jax.tree.leaves(run.state), jax.tree.leaves(transformation.init(params)), strict=True):
        assert new.sharding == old.sharding


def test_arrays_of_jax_are_stored_beside_any_optimizer(tmp_path: Path) -> None:
    optimizer = sr.Optimizer({"w": np.zeros(3, np.float32)}, "adam")
    sr.save(tmp_path / "x", optimizer, {"w": jnp.ones(3)}, low=jnp.ones(2, jnp.bfloat16), turned=jnp.ones(2) * 1j)
    checkpoint = sr.load(tmp_path / "x")
    assert checkpoint.params["w"].tolist() == [1, 1, 1]
    assert checkpoint.extra["low"].tolist() == [0x3F80, 0x3F80]
    assert checkpoint.extra["turned"].tolist() == [1j, 1j]
    with pytest.raises(StateError, match=r"a JAX array, which cannot be filled.*steprule\.jax\.Training"):
        sr.load(tmp_path / "x", params={"w": jnp.ones(3)})
    with pytest.raises(CheckpointError, match=r"random\.key_data"):
        sr.save(tmp_path / "x", optimizer, key=jax.random.key(0))


def test_what_is_traced_is_refused(tmp_path: Path) -> None:
    params = params_of("float32")
    transformation = ours.adam(0.02)

    def saving(params: Any) -> Any:
        sr.save(tmp_path / "x", ours.Training(transformation, params, transformation.init(params)), params=True)
        return params

    with pytest.raises(CheckpointError, match="is traced"):
        jax.jit(saving)(params)
    assert not list(tmp_path.iterdir())


def test_a_step_count_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    params, adam = {"w": jnp.ones(3)}, ours.adam(1e-3)
    arrays, run = sr.Optimizer({"w": np.ones(3, np.float32)}, "adam"), ours.Training(adam, params, adam.init(params))
    for t, words in ((2**31, "which is an int32, must be an integer from 0 to 2147483647, got 2147483648"), (7, "")):
        arrays.load_state_dict({**arrays.state_dict(), "t": t})
        sr.save(tmp_path / "x", arrays)
        if words:
            with pytest.raises(StateError, match=words):
                sr.load(tmp_path / "x", run, hyperparameters=False)
        else:
            sr.load(tmp_path / "x", run, hyperparameters=False)
        assert int(run.state.count) == (0 if words else 7)


@pytest.mark.parametrize("count", [2.5, -1, np.nan, "3", True, 2**31, np.array([1, -1])], ids=repr)
def test_what_is_no_step_count_of_optax_is_refused(count: Any) -> None:
    params = {"w": jnp.ones(3)}
    theirs = optax.scale_by_adam().init(params)._replace(count=count)
    with pytest.raises(StateError, match="the count of ScaleByAdamState must be an integer from 0 to 2147483647"):
        ours.from_optax("adam", theirs, ours.adam(1e-3).init(params))
    sgd = ours.sgd(1e-3, momentum=0.9).init(params)
    with pytest.raises(StateError, match="t must be an integer from 0 to 2147483647, got "):
        ours.from_optax("sgd", optax.trace(0.9).init(params), sgd, t=count, momentum=0.9)
