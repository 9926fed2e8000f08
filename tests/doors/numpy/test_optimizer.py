"""The NumPy door: structures, groups, schedules, state dicts, and errors that change nothing."""

from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError, RuleError, StateError, StructureError, TargetError
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import assert_same_bits, variants
from tests.covering import SOME_CASES


def _nest() -> dict[str, Any]:
    return {"layers": [(np.ones((2, 3)), np.zeros(3)), (np.ones((3, 1)), np.zeros(1))], "scale": np.array(2.0)}


def test_a_nest_is_stepped_in_place() -> None:
    params = _nest()
    kept = params["layers"][0][0]
    optimizer = sr.Optimizer(params, "sgd", lr=0.5)
    optimizer.step(_nest())
    np.testing.assert_array_equal(kept, np.full((2, 3), 0.5))
    assert params["scale"] == 1.0
    assert optimizer.t == 1
    assert optimizer.params["layers"][0][0] is kept
    assert isinstance(optimizer.params["layers"][0], tuple)


def test_lists_and_tuples_are_alike_for_gradients() -> None:
    optimizer = sr.Optimizer([np.zeros(1), np.zeros(2)], "sgd")
    optimizer.step((np.ones(1), np.ones(2)))
    assert optimizer.t == 1


def test_dicts_are_matched_by_key_not_by_order() -> None:
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    sr.Optimizer(params, "sgd", lr=1.0).step({"b": np.full(2, 5.0), "a": np.full(2, 3.0)})
    np.testing.assert_array_equal(params["a"], [-3, -3])


def test_slots_have_the_structure_of_the_parameters() -> None:
    optimizer = sr.Optimizer(_nest(), "adam")
    optimizer.step(_nest())
    assert set(optimizer.slots) == {"m", "v"}
    np.testing.assert_allclose(optimizer.slots["m"]["layers"][0][0], np.full((2, 3), 0.1))


def test_groups_have_hyperparameters_of_their_own() -> None:
    a, b = np.zeros(2), np.zeros(2)
    optimizer = sr.Optimizer([sr.Group({"w": a}), sr.Group(b, lr=0.5)], "sgd", lr=0.25)
    optimizer.step([{"w": np.ones(2)}, np.ones(2)])
    np.testing.assert_array_equal(a, [-0.25, -0.25])
    np.testing.assert_array_equal(b, [-0.5, -0.5])
    optimizer.groups[1]["lr"] = 0.0
    optimizer.step([{"w": np.ones(2)}, np.ones(2)])
    np.testing.assert_array_equal(a, [-0.5, -0.5])
    np.testing.assert_array_equal(b, [-0.5, -0.5])


def test_groups_may_differ_in_options_and_type() -> None:
    a, b = np.zeros(300), np.zeros(300, np.float32)
    optimizer = sr.Optimizer([sr.Group(a, nesterov=True), sr.Group(b)], "momentum", lr=1.0, mu=0.5)
    optimizer.step([np.ones(300), np.ones(300, np.float32)])
    assert (a == -1.5).all()
    assert (b == -1.0).all()


def test_schedules_see_the_step_number() -> None:
    seen: list[int] = []

    def lr(t: int) -> float:
        seen.append(t)
        return 0.5**t

    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, "sgd", lr=lr)
    for _ in range(3):
        optimizer.step(np.ones(1))
    assert seen == [1, 2, 3]
    assert theta[0] == -(0.5 + 0.25 + 0.125)


def test_any_hyperparameter_may_be_a_schedule_and_change() -> None:
    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, "momentum", lr=1.0, mu=lambda t: 0.5 if t < 3 else 0.0)
    for _ in range(3):
        optimizer.step(np.ones(1))
    assert theta[0] == -(1 + 1.5 + 1)
    optimizer.groups[0]["mu"] = 0.25
    optimizer.groups[0].update(lr=2.0, nesterov=True)
    optimizer.step(np.ones(1))
    assert theta[0] == -3.5 - 2 * (1 + 0.25 * 1.25)


def test_epsilon_hat_is_a_schedule_of_epsilon() -> None:
    theta, expected, m, v = np.zeros(1), 0.0, 0.0, 0.0
    optimizer = sr.Optimizer(theta, "adam", lr=0.1, eps=lambda t: 1e-3 / math.sqrt(1 - 0.999**t))
    for t, g in enumerate((1.0, -0.01, 0.3), start=1):
        optimizer.step(np.array([g]))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected -= 0.1 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-3)
    np.testing.assert_allclose(theta, expected, rtol=1e-12)


def test_describe_says_what_is_used() -> None:
    text = sr.Optimizer({"w": np.zeros((3, 2), np.float16), "b": np.zeros(4)}, "adam").describe()
    assert "params['w']  (3, 2)  float16  m: float32, v: float32  10" in text
    assert "10 parameters, 156 bytes with optimizer state, 15.60 bytes per parameter (20.00 with gradients)" in text


def test_a_step_makes_no_temporary() -> None:
    theta, g = np.zeros(1_000_000), np.ones(1_000_000)
    strided = np.zeros((1000, 2000))[:, ::2]
    optimizer = sr.Optimizer([theta, strided], "adam")
    grads = [g, np.ones((1000, 1000))]
    optimizer.step(grads)
    tracemalloc.start()
    optimizer.step(grads)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < theta.nbytes / 10


# State dicts.


def _run(name: str, steps: int, state: dict[str, Any] | None = None, theta: Any = None) -> tuple[Any, sr.Optimizer]:
    rng = np.random.default_rng(0)
    theta = [rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal(5)] if theta is None else theta
    optimizer = sr.Optimizer(theta, name)
    if state is not None:
        optimizer.load_state_dict(state)
    for t in range(optimizer.t, optimizer.t + steps):
        step_rng = np.random.default_rng([1, t])
        optimizer.step([step_rng.standard_normal((4, 3)).astype(np.float32), step_rng.standard_normal(5)])
    return theta, optimizer


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_resumed_run_equals_a_straight_one_in_every_bit(name: str) -> None:
    straight, _ = _run(name, 20)
    theta, optimizer = _run(name, 8)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    resumed, last = _run(name, 12, saved, theta)
    for a, b in zip(straight, resumed, strict=True):
        assert_same_bits(a, b, name)
    assert last.t == 20


def test_a_state_dict_is_a_copy() -> None:
    _theta, optimizer = _run("adam", 2)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    optimizer.step([np.ones((4, 3), np.float32), np.ones(5)])
    for place, slots in saved["slots"].items():
        assert_same_bits(slots["m"], before["slots"][place]["m"])
    assert saved["t"] == 2


def test_a_state_dict_brings_its_hyperparameters() -> None:
    saved = sr.Optimizer(np.zeros(2), "adam", lr=0.5).state_dict()
    optimizer = sr.Optimizer(np.zeros(2), "adam", lr=0.1)
    optimizer.load_state_dict(saved, hyperparameters=False)
    assert optimizer.groups[0]["lr"] == 0.1
    optimizer.load_state_dict(saved)
    assert optimizer.groups[0]["lr"] == 0.5
    theta = np.zeros(2)
    other = sr.Optimizer(theta, "adam", lr=0.1)
    other.load_state_dict(saved)
    other.step(np.ones(2))
    np.testing.assert_allclose(theta, -0.5)


def _wrong_states() -> dict[str, tuple[Callable[[dict[str, Any]], Any], str]]:
    def change(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda state: {**state, key: value}

    def leaf(slot: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda state: {**state, "slots": {"params": {**state["slots"]["params"], slot: value}}}

    def group(**changed: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda state: {**state, "groups": [{**state["groups"][0], **changed}]}

    return {
        "rule": (change("rule", "lion"), "for rule 'lion'"),
        "version": (change("version", 99), "version 99"),
        "t": (change("t", -1), "integer from 0 to"),
        "last t": (change("t", 2**63 - 1), "integer from 0 to"),
        "missing": (change("slots", {}), r"other parameters: it lacks \['params'\]$"),
        "more": (
            lambda state: {**state, "slots": {**state["slots"], "w": {}}},
            r"parameters: it has \['w'\] that are not",
        ),
        "unknown": (change("slots", {"params['w']": {}}), r"has \[\"params\['w'\]\"\] that are not here"),
        "kind": (change("slots", 3), "must be a dict of dicts"),
        "groups": (change("groups", []), "0 groups, this optimizer has 1"),
        "group": (change("groups", [3]), "must be a list of dicts"),
        "no scalars": (group(scalars=None), "dicts hyperparameters and scalars"),
        "no hyperparameters": (group(hyperparameters=[1]), "dicts hyperparameters and scalars"),
        "true": (change("version", True), "version True"),
        "masked": (leaf("m", np.ma.zeros(3)), "MaskedArray"),
        "shape": (leaf("m", np.zeros(4)), r"float64 of shape \(4,\), expected float64 of shape \(3,\)"),
        "type": (leaf("m", np.zeros(3, np.float32)), "float32"),
        "none": (leaf("v", None), "is a NoneType"),
        "slots": (leaf("w", np.zeros(3)), "slots"),
        "range": (group(hyperparameters={"lr": -1.0}), "hyperparameters"),
        "no dict": (lambda state: 3, "not a state dict"),
        "empty": (lambda state: {}, "not a state dict"),
        "scalars": (group(scalars={"mu": 1.0}), "scalar slots"),
    }


@pytest.mark.parametrize("wrong", _wrong_states())
def test_a_wrong_state_is_refused_whole(wrong: str) -> None:
    spoil, words = _wrong_states()[wrong]
    source = sr.Optimizer(np.zeros(3), "adam", lr=0.25)
    source.step(np.ones(3))
    optimizer = sr.Optimizer(np.zeros(3), "adam", lr=0.5)
    with pytest.raises(StateError, match=words):
        optimizer.load_state_dict(spoil(source.state_dict()))
    assert optimizer.t == 0
    assert optimizer.groups[0]["lr"] == 0.5
    assert not optimizer.slots["m"].any()


def test_a_bad_hyperparameter_in_a_state_changes_nothing() -> None:
    saved = sr.Optimizer([sr.Group(np.zeros(3)), sr.Group(np.zeros(3))], "adam", lr=0.25).state_dict()
    saved["groups"][1]["hyperparameters"]["beta1"] = 7.0
    optimizer = sr.Optimizer([sr.Group(np.zeros(3)), sr.Group(np.zeros(3))], "adam", lr=0.5)
    with pytest.raises(StateError, match=r"beta1 must be a number in \[0, 1\), got 7.0 \(group 1\)"):
        optimizer.load_state_dict(saved)
    assert optimizer.groups[0]["lr"] == 0.5


def test_schedules_and_numbers_are_not_mixed_up_on_loading() -> None:
    scheduled = sr.Optimizer(np.zeros(2), "sgd", lr=lambda t: 0.1)
    plain = sr.Optimizer(np.zeros(2), "sgd", lr=0.1)
    with pytest.raises(StateError, match="lr was a schedule when group 0 of the state was saved and is a number here"):
        plain.load_state_dict(scheduled.state_dict())
    with pytest.raises(StateError, match="lr was a number"):
        scheduled.load_state_dict(plain.state_dict())
    scheduled.load_state_dict(scheduled.state_dict())
    plain.load_state_dict(scheduled.state_dict(), hyperparameters=False)


# Bad input.


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (np.zeros(3, int), "params has the type int64"),
        ([np.zeros(2), np.zeros(3, complex)], r"params\[1\] has the type complex128"),
        (np.zeros(3, ">f8"), "foreign byte order"),
        (np.zeros(3, object), "type object"),
        ({"w": [1.0]}, r"params\['w'\]\[0\] is a float, not a NumPy array"),
        ({"w": None}, r"params\['w'\] is a NoneType"),
        (np.broadcast_to(np.zeros(1), (3,)), "read-only"),
        (np.lib.stride_tricks.as_strided(np.zeros(9), (3, 3), (8, 8)), "between its own elements"),
        ([sr.Group(np.zeros(2)), np.zeros(2)], "among groups"),
    ],
)
def test_parameters_that_cannot_be_stepped(params: Any, words: str) -> None:
    with pytest.raises(StructureError, match=words):
        sr.Optimizer(params)


def test_overlapping_parameters_are_named() -> None:
    memory = np.zeros(10)
    with pytest.raises(StructureError, match=r"params\['b'\] overlaps params\['w'\]"):
        sr.Optimizer({"w": memory[:6], "b": memory[5:]})
    with pytest.raises(StructureError, match="overlaps"):
        sr.Optimizer([memory, memory])
    # Interleaved, but apart.
    sr.Optimizer([memory[::2], memory[1::2]])
    grid = np.zeros((4, 10))
    sr.Optimizer([grid[:, :5], grid[:, 5:]])


@hypothesis.given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), min_size=2, max_size=6))
def test_overlap_is_found_exactly(spans: list[tuple[int, int]]) -> None:
    memory = np.zeros(40)
    arrays = [memory[start : start + n] for start, n in spans]
    used = [set(range(start, start + n)) for start, n in spans]
    overlap = any(a & b for i, a in enumerate(used) for b in used[:i])
    if overlap:
        with pytest.raises(StructureError, match="overlaps"):
            sr.Optimizer(arrays, "sgd")
    else:
        sr.Optimizer(arrays, "sgd")


def _snapshot(optimizer: sr.Optimizer) -> Any:
    return copy.deepcopy((optimizer.state_dict(), optimizer.params))


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        (None, "grads is a NoneType"),
        ({"w": np.ones((2, 3))}, r"from the parameters: missing keys \['b'\]$"),
        ({"w": np.ones((2, 3)), "b": [np.ones(2)], "c": 1}, r"from the parameters: unknown keys \['c'\]$"),
        ({"w": np.ones((2, 3)), "c": 1}, r"missing keys \['b'\], unknown keys \['c'\]$"),
        ({"w": np.ones((2, 3)), "b": np.ones(2)}, r"grads\['b'\] is a ndarray"),
        ({"w": np.ones((2, 3)), "b": []}, r"grads\['b'\] has 0 items"),
        ({"w": np.ones((3, 2)), "b": [np.ones(2)]}, r"grads\['w'\] has shape \(3, 2\)"),
        ({"w": np.ones((2, 3), np.float32), "b": [np.ones(2)]}, r"grads\['w'\] has type float32"),
        ({"w": np.ones((2, 3)), "b": [None]}, r"grads\['b'\]\[0\] is None"),
        ({"w": [[1.0] * 3] * 2, "b": [np.ones(2)]}, r"grads\['w'\] is a list"),
    ],
)
def test_gradients_that_do_not_match_change_nothing(grads: Any, words: str) -> None:
    optimizer = sr.Optimizer({"w": np.ones((2, 3)), "b": [np.ones(2)]}, "nadam")
    good = {"w": np.ones((2, 3)), "b": [np.ones(2)]}
    optimizer.step(good)
    before = _snapshot(optimizer)
    with pytest.raises(StructureError, match=words):
        optimizer.step(grads)
    assert repr(_snapshot(optimizer)) == repr(before)
    optimizer.step(good)
    assert optimizer.t == 2


# Many arrays, which are looked at in one call.

MANY = 40


def _many(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((3, 2)) for _ in range(MANY)]


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (None, r"grads\[17\] is None"),
        (np.ones((3, 2), np.float32), r"grads\[17\] has type float32"),
        (np.ones(6), r"grads\[17\] has shape \(6,\)"),
        (np.ma.masked_array(np.ones((3, 2))), r"grads\[17\] is a masked array"),
    ],
)
def test_one_of_many_gradients_that_does_not_match_changes_nothing(odd: Any, words: str) -> None:
    optimizer = sr.Optimizer(_many(0), "adam")
    optimizer.step(_many(1))
    before, grads = _snapshot(optimizer), _many(2)
    with pytest.raises(StructureError, match=words):
        optimizer.step([*grads[:17], odd, *grads[18:]])
    assert repr(_snapshot(optimizer)) == repr(before)
    optimizer.step(grads)
    other = sr.Optimizer(_many(0), "adam")
    other.step(_many(1))
    other.step(grads)
    assert repr(_snapshot(optimizer)) == repr(_snapshot(other))


def test_many_gradients_lie_and_look_otherwise_in_every_step() -> None:
    optimizer, other = (sr.Optimizer(_many(0), "adam") for _ in range(2))
    changes: list[Callable[[Any], Any]] = [
        lambda g: g,
        np.copy,
        np.asfortranarray,
        lambda g: g.view(np.memmap),
        lambda g: np.repeat(g, 2, axis=1)[:, ::2],
    ]
    for turn in range(15):
        grads = _many(turn)
        odd = [changes[turn % 5](g) if i in (0, 17, turn) or turn % 2 else g for i, g in enumerate(grads)]
        optimizer.step(odd)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("steprule.runtime.arrays._compiled", lambda: None)
            other.step([g.copy() for g in grads])
        assert repr(_snapshot(optimizer)) == repr(_snapshot(other))


def test_one_of_many_parameters_that_became_read_only() -> None:
    params = _many(0)
    optimizer = sr.Optimizer(params, "adam")
    optimizer.step(_many(1))
    params[17].flags.writeable = False
    before = _snapshot(optimizer)
    with pytest.raises(StructureError, match=r"params\[17\] has become read-only"):
        optimizer.step(_many(2))
    assert repr(_snapshot(optimizer)) == repr(before)
    params[17].flags.writeable = True
    optimizer.step(_many(2))
    assert optimizer.t == 2


def test_many_gradients_that_are_parameters() -> None:
    params = _many(0)
    expected = [a - b for a, b in zip(params, [*params[1:], params[0]], strict=True)]
    optimizer = sr.Optimizer(params, "sgd", lr=1.0)
    optimizer.step([*params[1:], params[0]])
    assert all(map(np.array_equal, params, expected))


def test_many_keys_are_matched_by_key_not_by_order() -> None:
    names = [f"layer {i}" for i in range(MANY)]
    params = dict(zip(names, _many(0), strict=True))
    expected = {name: params[name] - g for name, g in zip(names, _many(1), strict=True)}
    optimizer = sr.Optimizer(params, "sgd", lr=1.0)
    pairs = list(zip(names, _many(1), strict=True))
    optimizer.step(dict(reversed(pairs)))
    assert all(np.array_equal(params[name], expected[name]) for name in names)
    with pytest.raises(StructureError, match=r"missing keys \['layer 3'\], unknown keys \['layer 40'\]$"):
        optimizer.step({("layer 40" if name == "layer 3" else name): g for name, g in pairs})
    assert optimizer.t == 1


def test_a_schedule_that_fails_changes_nothing() -> None:
    bad = {"now": False}

    def lr(t: int) -> float:
        return math.nan if bad["now"] else 0.1

    optimizer = sr.Optimizer([sr.Group(np.ones(2)), sr.Group(np.ones(2), lr=lr)], "nadam")
    optimizer.step([np.ones(2), np.ones(2)])
    before = _snapshot(optimizer)
    bad["now"] = True
    with pytest.raises(HyperparameterError, match=r"lr must be .* got nan \(group 1\) from its schedule at t=2"):
        optimizer.step([np.ones(2), np.ones(2)])
    assert repr(_snapshot(optimizer)) == repr(before)
    bad["now"] = False
    optimizer.step([np.ones(2), np.ones(2)])
    assert optimizer.t == 2


@pytest.mark.parametrize(
    ("rule", "values", "words"),
    [
        ("adam", {"lr": -0.1}, "lr must be a number of at least 0, got -0.1"),
        ("adam", {"lr": "fast"}, "got 'fast'"),
        ("adam", {"lr": math.inf}, "got inf"),
        ("adam", {"beta1": 1.0}, r"beta1 must be a number in \[0, 1\), got 1.0"),
        ("adam", {"beta_2": 0.9}, "no hyperparameter 'beta_2'. Did you mean 'beta2'"),
        ("adam", {"lr": True}, "got True"),
        ("adam", {"lr": np.ones(3)}, "lr must be"),
        ("adam", {"lr": None}, "got None"),
        ("momentum", {"nesterov": 1}, "nesterov must be False or True, got 1"),
        ("amsgrad", {"correction": "after"}, "Did you mean 'after_max'"),
        ("rprop", {"lr": lambda t: 0.1}, "a schedule would do nothing"),
        ("adagrad", {"initial_accumulator": lambda t: 0.1}, "a schedule would do nothing"),
    ],
)
def test_wrong_hyperparameters(rule: str, values: dict[str, Any], words: str) -> None:
    theta = np.zeros(2)
    with pytest.raises(HyperparameterError, match=words):
        sr.Optimizer(theta, rule, **values).step(np.ones(2))
    assert not theta.any()


def test_an_option_that_does_nothing_is_an_error() -> None:
    @sr.rule
    def plain(theta, g, *, lr: sr.Rate = 0.1, scale: sr.Positive = 1.0, scaled: bool = False):
        return theta - lr * (scale * g if scaled else g)

    sr.Optimizer(np.zeros(2), plain, scaled=True, scale=2.0)
    with pytest.raises(HyperparameterError, match="scale does nothing in 'plain' with scaled=False"):
        sr.Optimizer(np.zeros(2), plain, scale=2.0)
    group = sr.Optimizer(np.zeros(2), plain).groups[0]  # and where it is set later
    with pytest.raises(HyperparameterError, match="scale does nothing in 'plain' with scaled=False"):
        group["scale"] = 2.0
    with pytest.raises(HyperparameterError, match="scale does nothing"):
        group.update(lr=0.5, scale=2.0)
    assert dict(group) == {"lr": 0.1, "scale": 1.0, "scaled": False}
    group.update(scale=2.0, scaled=True)
    assert group["scale"] == 2.0


def test_changes_between_steps_are_checked_at_once() -> None:
    optimizer = sr.Optimizer(np.zeros(2), "rmsprop")
    group = optimizer.groups[0]
    for name, value, words in [
        ("lr", -1, "lr must be"),
        ("lrr", 1, "no hyperparameter 'lrr'"),
        ("momentum", 0.9, "would change the slots"),
        ("centered", True, "would change the slots"),
    ]:
        with pytest.raises(HyperparameterError, match=words):
            group[name] = value
    with pytest.raises(HyperparameterError, match="lr must be"):
        group.update(rho=0.5, lr=-1)
    assert group["rho"] == 0.99
    with pytest.raises(HyperparameterError, match="cannot be removed"):
        del group["lr"]
    rprop = sr.Optimizer(np.zeros(2), "rprop")
    with pytest.raises(HyperparameterError, match="before the first step only"):
        rprop.groups[0]["lr"] = 0.5
    optimizer.step(np.ones(2))
    assert optimizer.t == 1


def test_unknown_backends() -> None:
    with pytest.raises(TargetError, match="no backend is called 'cuda'"):
        sr.Optimizer(np.zeros(2), backend="cuda")


def test_a_group_without_arrays_has_a_state_as_well() -> None:
    def optimizer(psi: float = 0.5) -> sr.Optimizer:
        return sr.Optimizer([sr.Group([]), sr.Group(np.zeros(2), psi=psi), sr.Group([])], "nadam")

    alone, mixed = sr.Optimizer({}, "nadam"), optimizer()
    for _ in range(3):
        alone.step({})
        mixed.step([[], np.ones(2), []])
    for saved, other in ((alone, sr.Optimizer({}, "nadam")), (mixed, optimizer())):
        state = saved.state_dict()
        assert state["t"] == 3
        assert all(0 < group["scalars"]["mu_product"] < 1 for group in state["groups"])
        other.load_state_dict(state)
        assert other.t == 3
        assert (
            other.slots["mu_product"]
            == saved.slots["mu_product"]
            == [g["scalars"]["mu_product"] for g in state["groups"]]
        )
    assert len({*mixed.slots["mu_product"]}) == 2


def test_an_empty_structure_steps() -> None:
    optimizer = sr.Optimizer([], "adam")
    optimizer.step([])
    assert optimizer.t == 1
    grouped = sr.Optimizer([sr.Group([]), sr.Group(np.zeros(2))], "nadam")
    grouped.step([[], np.ones(2)])
    assert grouped.t == 1
    assert "0 parameters" in optimizer.describe()


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(StructureError, match="masked array"):
        sr.Optimizer(np.ma.zeros(3))
    optimizer = sr.Optimizer(np.zeros(3))
    with pytest.raises(StructureError, match=r"filled\(0\)"):
        optimizer.step(np.ma.ones(3))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_options_that_keep_the_slots_may_change_between_steps(name: str, every: bool) -> None:
    rule = CATALOGUE[name]
    options = variants(rule)
    if not every and len(options) > 8:
        options = [own for case, own in SOME_CASES if case == name]
    for k, before in enumerate(options):
        for after in options if every else (options[k - 1],):
            kept, wanted = (rule.trace(rule.variant(rule.resolve(options))) for options in (before, after))
            if {*kept.slots, *kept.scalars} != {*wanted.slots, *wanted.scalars}:
                continue
            theta, expected = np.ones(3), np.ones(3)
            optimizer = sr.Optimizer(theta, rule, **before)
            referee = sr.Optimizer(expected, rule, backend="numpy", **before)
            for one in (optimizer, referee):
                one.step(np.ones(3))
                one.groups[0].update(after)
                one.groups[0].update(before)
                one.groups[0].update(after)
                one.step(np.full(3, 0.5))
            assert_same_bits(theta, expected, f"{before} -> {after}")


def test_states_are_matched_by_the_name_of_the_parameter() -> None:
    saver = sr.Optimizer({"w": np.zeros(2), "b": np.zeros(2)}, "adam")
    saver.step({"w": np.ones(2), "b": np.full(2, 5.0)})
    loader = sr.Optimizer({"b": np.zeros(2), "w": np.zeros(2)}, "adam")
    loader.load_state_dict(saver.state_dict())
    np.testing.assert_array_equal(loader.slots["m"]["b"], saver.slots["m"]["b"])
    assert loader.slots["m"]["b"][0] > loader.slots["m"]["w"][0]


def test_what_is_read_once_comes_with_the_state() -> None:
    saved = sr.Optimizer(np.zeros(2), "adagrad", initial_accumulator=0.5).state_dict()
    optimizer = sr.Optimizer(np.zeros(2), "adagrad")
    optimizer.load_state_dict(saved)
    assert optimizer.groups[0]["initial_accumulator"] == 0.5
    np.testing.assert_array_equal(optimizer.slots["G"], [0.5, 0.5])


def test_slots_of_groups_that_keep_different_ones() -> None:
    optimizer = sr.Optimizer([sr.Group(np.zeros(2), centered=True), sr.Group(np.zeros(3))], "rmsprop")
    slots = optimizer.slots
    assert set(slots) == {"v", "g_avg"}
    assert slots["g_avg"][0].shape == (2,)
    assert slots["g_avg"][1] is None


def test_slots_start_as_a_step_would_store_them() -> None:
    optimizer = sr.Optimizer(np.zeros(2, np.float32), "adagrad", initial_accumulator=1e-40)
    assert not optimizer.slots["G"].any()
    with pytest.raises(HyperparameterError, match="more than float32 can hold"):
        sr.Optimizer(np.zeros(2, np.float32), "adagrad", initial_accumulator=1e300)


def test_a_schedule_may_not_free_the_gradient_that_was_checked() -> None:
    g = np.ones(1000)

    def lr(t: int) -> float:
        if t == 2:
            g.resize(0, refcheck=False)
        return 0.1

    optimizer = sr.Optimizer(np.zeros(1000), "sgd", lr=lr)
    optimizer.step(g)
    with pytest.raises(StructureError, match=r"shape \(0,\)"):
        optimizer.step(g)
    assert optimizer.t == 1


def test_t_and_unknown_attributes_cannot_be_set() -> None:
    optimizer = sr.Optimizer(np.zeros(2))
    with pytest.raises(AttributeError):
        optimizer.t = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        optimizer.lr = 5  # type: ignore[attr-defined]


def test_named_tuples_stay_what_they_are() -> None:
    class Layer(NamedTuple):
        w: Any
        b: Any

    params = Layer(np.zeros(2), np.zeros(1))
    optimizer = sr.Optimizer(params, "sgd", lr=1.0)
    optimizer.step(Layer(np.ones(2), np.ones(1)))
    assert isinstance(optimizer.params, Layer)
    assert optimizer.params.b[0] == -1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.1}, "It is called 'lr'"),
        ({"weight_decay": 0.1}, r"adamw is decoupled\(adam\)"),
        ({"lr": lambda: 0.1}, "cannot be called with t alone"),
        ({"lr": "0.1"}, "got '0.1'"),
        ({"lr": np.array("1")}, "lr must be"),
        ({"lr": 10**400}, "lr must be"),
        ({"lr": np.True_}, "got True"),
    ],
)
def test_more_wrong_hyperparameters(values: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        sr.Optimizer(np.zeros(2), "adam", **values)


def test_numpys_booleans_and_numbers_are_taken() -> None:
    theta = np.zeros(2, np.float32)
    optimizer = sr.Optimizer(theta, "momentum", nesterov=np.True_, lr=np.float64(0.5), mu=np.array(0.5))
    optimizer.step(np.ones(2, np.float32))
    assert theta.tolist() == [-0.75, -0.75]


def test_wrong_rules_say_what_is_wanted() -> None:
    def plain(theta: Any, g: Any) -> Any:
        return theta - g

    for rule, words in [(["adam"], "a name of the catalogue or a Rule"), (plain, "decorate it with @steprule.rule")]:
        with pytest.raises(RuleError, match=words):
            sr.Optimizer(np.zeros(2), rule)  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="Did you mean 'adamw'"):
        sr.Optimizer(np.zeros(2), "AdamW")
    with pytest.raises(RuleError, match="go to an optimizer"):
        sr.rules.adam(lr=0.1)


def test_a_processor_without_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.runtime import jit

    @sr.rule
    def fresh(theta, g, *, lr: sr.Rate = 0.1):
        return theta - lr * g

    monkeypatch.setattr(jit, "has_half", lambda: False)
    with pytest.raises(TargetError, match="no float16 conversions"):
        sr.Optimizer(np.zeros(2, np.float16), fresh)
    sr.Optimizer(np.zeros(2, np.float16), fresh, backend="numpy").step(np.ones(2, np.float16))


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_schedule_may_change_options_of_its_own_step(start: bool, groups: int) -> None:
    # Options that a schedule sets hold for the step that it runs for, in every group and every bit.
    thetas, expected = [np.ones(3) for _ in range(groups)], [np.ones(3) for _ in range(groups)]

    def lr(t: int) -> float:
        if t == 2:
            optimizer.groups[0]["bias_correction"] = not start
        return 0.1

    made = [sr.Group(theta) for theta in thetas]
    made[-1].hyperparameters["lr"] = lr
    optimizer = sr.Optimizer(made, "adam", lr=0.1, bias_correction=start)
    plain = sr.Optimizer([sr.Group(theta) for theta in expected], "adam", lr=0.1, bias_correction=start)
    for t in (1, 2, 3):
        optimizer.step([np.full(3, 0.5)] * groups)
        if t == 2:
            plain.groups[0]["bias_correction"] = not start
        plain.step([np.full(3, 0.5)] * groups)
    for theta, want in zip(thetas, expected, strict=True):
        assert_same_bits(theta, want)


def test_a_schedule_that_makes_another_one_is_refused() -> None:
    def lr(t: int) -> float:
        optimizer.groups[0]["eps"] = lambda t: 1e-8
        return 0.1

    theta = np.ones(3)
    optimizer = sr.Optimizer(theta, "adam", lr=lr)
    with pytest.raises(HyperparameterError, match="eps became a schedule while the schedules ran"):
        optimizer.step(np.ones(3))
    assert optimizer.t == 0
    assert (theta == 1).all()


def test_a_failure_in_the_launch_takes_the_count_back(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = np.ones(3)
    optimizer = sr.Optimizer(theta, "nadam")
    optimizer.step(np.ones(3))
    before = copy.deepcopy(optimizer.state_dict())

    def fail() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optimizer._layout._launch._table, "run", fail)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(np.ones(3))
    assert repr(optimizer.state_dict()) == repr(before)
    optimizer.step(np.ones(3))
    assert optimizer.t == 2


def test_keys_that_look_alike_are_refused() -> None:
    class Key:
        def __repr__(self) -> str:
            return "key"

    with pytest.raises(StructureError, match="keys of a dict must differ in repr"):
        sr.Optimizer({Key(): np.zeros(1), Key(): np.zeros(1)})


def test_numbers_of_other_array_libraries() -> None:
    class Other:
        shape = ()

        def __init__(self, value: Any, dtype: str) -> None:
            self.value, self.dtype = value, dtype

        def __float__(self) -> float:
            return float(self.value)

    assert sr.Optimizer(np.zeros(2), lr=Other(0.5, "torch.float32")).groups[0]["lr"] == 0.5
    with pytest.raises(HyperparameterError, match="lr must be"):
        sr.Optimizer(np.zeros(2), lr=Other(True, "bool"))
    with pytest.raises(HyperparameterError, match="lr must be"):
        sr.Optimizer(np.zeros(2), "rprop").groups[0]["lr"] = np.ones(2)


def test_a_scalar_slot_too_large_for_a_float_changes_nothing() -> None:
    saved = sr.Optimizer(np.zeros(2), "nadam", lr=0.25).state_dict()
    saved["groups"][0]["scalars"]["mu_product"] = 10**400
    optimizer = sr.Optimizer(np.zeros(2), "nadam", lr=0.5)
    with pytest.raises(StateError, match="not numbers"):
        optimizer.load_state_dict(saved)
    assert optimizer.groups[0]["lr"] == 0.5
