"""The evaluated point of NumPy arrays: exact when switched there and back, recorded, and never stepped from."""

from __future__ import annotations

import copy
import pickle
import signal
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import steprule as sr
from steprule.errors import CheckpointError, HyperparameterError, StateError, StructureError
from tests.cases import assert_same_bits

Array = NDArray[Any]
TYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
RULES = ["schedule_free_sgd", "schedule_free_adamw", "averaged(adam)", "lookahead(lion)", "schedule_free(adafactor)"]
EIGHT_BIT = {"states": "8bit", "min_elements": 0}
FORMATS: list[dict[str, Any]] = [{}, EIGHT_BIT, {"weights": "split24"}, {"backend": "numpy"}]


def _arrays(dtype: str = "float32", seed: int = 0) -> list[Array]:
    """Return arrays of many layouts: of a matrix, a vector, a number, none, one in Fortran order, and one with gaps."""
    rng = np.random.default_rng(seed)
    made = [np.asarray(rng.normal(size=shape).astype(TYPES[dtype])) for shape in ((40, 128), (3,), (), (0, 4), (130,))]
    fortran = np.asfortranarray(rng.normal(size=(5, 7)).astype(TYPES[dtype]))
    return [*made, fortran, rng.normal(size=(8, 9)).astype(TYPES[dtype])[::2, 1:5]]


def _fail() -> None:
    raise ZeroDivisionError


def _is_training(optimizer: sr.Optimizer) -> bool:
    """Return the mode, which mypy takes for one that does not change."""
    return optimizer.is_training


def _bits(arrays: list[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def _run(rule: str, dtype: str = "float32", steps: int = 4, **options: Any) -> sr.Optimizer:
    """Return an optimizer after some steps."""
    optimizer = sr.Optimizer(_arrays(dtype), rule, **options)
    for t in range(steps):
        optimizer.step(_arrays(dtype, 100 + t))
    return optimizer


CASES = [
    pytest.param(rule, dtype, options, id=f"{rule}-{dtype}-{options}")
    for rule in RULES
    for dtype in TYPES
    for options in FORMATS
    # Options that have no effect are errors, which is tested elsewhere.
    if not ("weights" in options and dtype in ("float32", "float64"))
    if not ("states" in options and (dtype == "float64" or rule in ("schedule_free_sgd", "schedule_free(adafactor)")))
]


@pytest.mark.parametrize(("rule", "dtype", "options"), CASES)
def test_there_and_back_is_exact(rule: str, dtype: str, options: dict[str, Any]) -> None:
    optimizer = _run(rule, dtype, **options)
    arrays, slots = optimizer.params, copy.deepcopy(optimizer.slots)
    trained, point = _bits(arrays), optimizer.evaluated
    assert _bits(arrays) == trained, "evaluated is a copy"
    assert not any(np.shares_memory(one, own) for one, own in zip(point, arrays, strict=True) if own.size)
    optimizer.eval()
    assert not _is_training(optimizer)
    assert _bits(arrays) == _bits(point) == _bits(optimizer.evaluated) != trained
    optimizer.eval()
    assert _bits(arrays) == _bits(point), "eval() twice is eval() once"
    for array in arrays:
        array[...] = 7
    optimizer.train()
    optimizer.train()
    assert _is_training(optimizer)
    assert _bits(arrays) == trained, "whatever was done to them meanwhile"
    for name, own in optimizer.slots.items():
        for one, other in zip(own, slots[name], strict=True):
            assert np.array_equal(one, other, equal_nan=True)
    # And the run goes on as one that was never evaluated.
    twin = _run(rule, dtype, **options)
    for one in (optimizer, twin):
        one.step(_arrays(dtype, 9))
    assert _bits(arrays) == _bits(twin.params)


@pytest.mark.parametrize("options", [{}, {"backend": "numpy"}], ids=str)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_bits_of_a_nan_come_back(dtype: str, options: dict[str, Any]) -> None:
    """Signalling ones as well, which any conversion makes quiet."""
    exponent, fraction = {"float32": (8, 23), "float64": (11, 52), "float16": (5, 10), "bfloat16": (8, 7)}[dtype]
    one = np.dtype(TYPES[dtype])
    infinity = ((1 << exponent) - 1) << fraction
    sign = 1 << (exponent + fraction)
    words = [
        infinity + 1,
        infinity + 3 + sign,
        infinity + (1 << (fraction - 1)) + 5,
        infinity,
        infinity + sign,
        sign,
        1,
    ]
    x = np.array(words * 9, f"u{one.itemsize}").view(one)
    optimizer = sr.Optimizer(x, "schedule_free_sgd", **options)
    optimizer.step(np.zeros_like(x))
    x[...] = np.array(words * 9, f"u{one.itemsize}").view(one)  # as a load would
    before = x.tobytes()
    for _ in range(3):
        optimizer.eval()
        optimizer.train()
        assert x.tobytes() == before
    optimizer.eval()
    assert np.isnan(x.astype(np.float64)).any()


@pytest.mark.parametrize("weights", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_point_is_rounded_to_nearest(dtype: str, weights: str) -> None:
    """Whatever the weights: what is evaluated is not random."""
    x = np.linspace(-1, 1, 257).astype(TYPES[dtype])
    optimizer = sr.Optimizer(x, "averaged(sgd)", weights=weights, decay=None, lr=0.01)
    for t in range(3):
        optimizer.step(np.cos(np.arange(257) * (t + 1)).astype(TYPES[dtype]))
    average = optimizer.slots["average"]
    assert_same_bits(optimizer.evaluated, average.astype(TYPES[dtype]))
    optimizer.eval()
    assert_same_bits(x, average.astype(TYPES[dtype]))


def test_before_the_first_step_the_point_is_the_parameter() -> None:
    x = np.array([1.0, np.inf, np.nan, 1e-320, -0.0])
    optimizer = sr.Optimizer(x, "schedule_free_adamw")
    assert_same_bits(optimizer.evaluated, x)
    before = x.tobytes()
    optimizer.eval()
    assert x.tobytes() == before
    x[...] = 0
    optimizer.train()
    assert x.tobytes() == before


def test_slots_begin_as_the_parameter_is_at_the_first_step() -> None:
    """Weights may be loaded after the optimizer was made."""
    x, y = np.zeros(3), np.arange(3.0)
    late, twin = sr.Optimizer(x, "schedule_free_sgd"), sr.Optimizer(y, "schedule_free_sgd")
    x[...] = y
    for optimizer in (late, twin):
        optimizer.step(np.ones(3))
    assert_same_bits(x, y)
    assert_same_bits(late.slots["z"], twin.slots["z"])


def test_a_step_from_the_evaluated_point_is_refused() -> None:
    optimizer = _run("schedule_free_adamw")
    optimizer.eval()
    point, state = _bits(optimizer.params), pickle.dumps(optimizer.slots)
    with pytest.raises(StateError, match=r"Call train\(\) first"):
        optimizer.step(_arrays())
    assert _bits(optimizer.params) == point
    assert pickle.dumps(optimizer.slots) == state
    assert optimizer.t == 4
    optimizer.train()
    optimizer.step(_arrays())
    assert optimizer.t == 5


def test_a_block_puts_back_the_mode_it_found() -> None:
    optimizer = _run("averaged(adam)")
    trained = _bits(optimizer.params)
    with optimizer.evaluating():
        point = _bits(optimizer.params)
        with optimizer.evaluating():
            assert _bits(optimizer.params) == point
        assert not _is_training(optimizer), "the inner block found it so"
    assert _bits(optimizer.params) == trained
    with pytest.raises(ZeroDivisionError), optimizer.evaluating():
        _fail()
    assert _is_training(optimizer)
    assert _bits(optimizer.params) == trained
    with optimizer.evaluating():
        optimizer.train()
        assert _bits(optimizer.params) == trained
    optimizer.eval()
    with optimizer.evaluating():
        pass
    assert not _is_training(optimizer)


def test_rules_without_a_point_say_what_has_one() -> None:
    optimizer = sr.Optimizer(np.ones(3))
    for call in (optimizer.eval, lambda: optimizer.evaluating().__enter__()):
        with pytest.raises(StateError, match=r"rule 'adam' is evaluated where it is trained.*averaged\(rule\)"):
            call()
    optimizer.train()
    assert _is_training(optimizer)
    assert_same_bits(optimizer.evaluated, np.ones(3))
    assert "mode" not in optimizer.state_dict()


def test_copies_and_pickles_keep_the_mode() -> None:
    optimizer = _run("schedule_free_adamw", weights="split24", dtype="bfloat16")
    trained = _bits(optimizer.params)
    optimizer.eval()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert not other.is_training
        assert _bits(other.params) == _bits(optimizer.params)
        other.train()
        assert _bits(other.params) == trained
        assert not _is_training(optimizer)
    old = optimizer.__getstate__()
    del old["_trained"]  # of an earlier version
    made = sr.Optimizer.__new__(sr.Optimizer)
    made.__setstate__(old)
    assert made.is_training


STATES = [("float32", {}), ("float64", {}), ("float16", {}), ("bfloat16", {"weights": "split24"})]


@pytest.mark.parametrize(("dtype", "options"), [*STATES, ("bfloat16", EIGHT_BIT)], ids=str)
def test_states_record_the_mode(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    optimizer = _run("schedule_free_adamw", dtype, **options)
    trained, state = _bits(optimizer.params), optimizer.state_dict()
    optimizer.eval()
    point, evaluated = _bits(optimizer.params), optimizer.state_dict()
    assert (state["mode"], evaluated["mode"]) == ("train", "eval")
    sr.save(tmp_path / "run", optimizer, params=True)

    def other(arrays: list[Array]) -> sr.Optimizer:
        return sr.Optimizer(arrays, "schedule_free_adamw", **options)

    by_dict = other(copy.deepcopy(optimizer.params))
    by_dict.load_state_dict(evaluated)
    by_file = other([np.zeros_like(array) for array in optimizer.params])
    sr.load(tmp_path / "run", by_file, params=True)
    for loaded in (by_dict, by_file):
        assert not loaded.is_training
        assert _bits(loaded.params) == point
        with pytest.raises(StateError, match="train"):
            loaded.step(_arrays(dtype))
        loaded.train()
        assert _bits(loaded.params) == trained
    # A state of the other mode is taken as it is; the parameters are to be those of the state.
    by_dict.eval()
    by_dict.load_state_dict(state)
    assert by_dict.is_training
    by_file.load_state_dict(evaluated)
    assert not by_file.is_training


def test_loaded_states_are_copies() -> None:
    optimizer, other = _run("averaged(sgd)"), _run("averaged(sgd)", steps=1)
    trained = _bits(optimizer.params)
    optimizer.eval()
    state = optimizer.state_dict()
    other.load_state_dict(state)
    optimizer.load_state_dict(state)
    for planes in state["slots"].values():
        planes["trained"][...] = 0
    for one in (optimizer, other):
        one.train()
        assert _bits(one.params) == trained


def test_decoded_states_have_what_is_trained_as_numbers() -> None:
    optimizer = _run("schedule_free_adamw", "bfloat16", weights="split24")
    optimizer.eval()
    state = optimizer.state_dict(decode=True)
    assert {state["slots"][place]["trained"].dtype.name for place in state["slots"]} == {"float32"}
    other = _run("schedule_free_adamw", "bfloat16", weights="split24")
    other.load_state_dict(state, convert=True)
    other.train()
    for one, exact in zip(other.params, _run("schedule_free_adamw", "bfloat16", weights="split24").params, strict=True):
        assert_same_bits(one, exact)


def test_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    optimizer = _run("averaged(sgd)")
    optimizer.eval()
    state, point = optimizer.state_dict(), _bits(optimizer.params)
    lacking = {
        **state,
        "slots": {p: {k: v for k, v in own.items() if k != "trained"} for p, own in state["slots"].items()},
    }
    lacking["formats"] = {p: {k: v for k, v in own.items() if k != "trained"} for p, own in state["formats"].items()}
    for wrong, words in [
        ({**state, "mode": "evaluation"}, "mode must be 'train' or 'eval', got 'evaluation'"),
        ({**state, "mode": "train"}, "trained"),
        (lacking, "trained"),
    ]:
        with pytest.raises(StateError, match=words):
            optimizer.load_state_dict(wrong)
    assert not _is_training(optimizer)
    assert _bits(optimizer.params) == point
    plain = sr.Optimizer(np.ones(3), "sgd")
    told = {**plain.state_dict(), "mode": "eval", "t": 1}
    with pytest.raises(StateError, match="rule 'sgd' has none"):
        plain.load_state_dict(told)


def test_earlier_states_are_of_what_is_trained() -> None:
    optimizer = _run("asgd")
    state = optimizer.state_dict()
    del state["mode"]
    optimizer.eval()
    optimizer.load_state_dict(state)
    assert _is_training(optimizer)


def test_a_mode_of_a_later_version_is_refused() -> None:
    from steprule.doors.checkpoint.content import Content, document_of, read_content
    from steprule.doors.state import State

    document, tensors = document_of(Content(State("x", "sgd", [], [], mode="eval")), lambda value: None)
    assert document["mode"] == "eval"
    assert read_content(document, tensors, lambda mark, told: None).state.mode == "eval"
    with pytest.raises(CheckpointError, match="the mode 'later'"):
        read_content({**document, "mode": "later"}, tensors, lambda mark, told: None)


def test_schedules_are_asked_for_the_last_step() -> None:
    asked: list[int] = []

    def beta(t: int) -> float:
        asked.append(t)
        return 0.5 + 0.1 * t

    x = np.arange(3.0)
    optimizer = sr.Optimizer(x, "schedule_free_sgd", beta=beta)
    for _ in range(3):
        optimizer.step(np.ones(3))
    asked.clear()
    y, z = x.copy(), optimizer.slots["z"]
    np.testing.assert_allclose(optimizer.evaluated, y + (1 - 1 / 0.8) * (z - y), rtol=1e-14)
    assert asked == [3]


def test_a_point_without_a_value_changes_nothing() -> None:
    fails = False
    x = np.arange(3.0)
    optimizer = sr.Optimizer(x, "schedule_free_sgd", beta=lambda t: 0.0 if fails else 0.9)
    optimizer.step(np.ones(3))
    before, fails = x.tobytes(), True
    for call in (optimizer.eval, lambda: optimizer.evaluated):
        with pytest.raises(HyperparameterError, match=r"beta must be a number in \(0, 1\), got 0.0 from its schedule"):
            call()
        assert _is_training(optimizer)
        assert x.tobytes() == before


def test_read_only_parameters_are_refused() -> None:
    x = np.arange(3.0)
    optimizer = sr.Optimizer({"w": x}, "averaged(sgd)")
    optimizer.step({"w": np.ones(3)})
    x.flags.writeable = False
    assert optimizer.evaluated["w"].flags.writeable
    with pytest.raises(StructureError, match=r"eval\(\): params\['w'\] has become read-only; nothing was changed"):
        optimizer.eval()
    assert _is_training(optimizer)
    x.flags.writeable = True
    optimizer.eval()
    x.flags.writeable = False
    with pytest.raises(StructureError, match=r"train\(\): params\['w'\] has become read-only"):
        optimizer.train()
    assert not _is_training(optimizer)


def test_nothing_switches_in_the_middle_of_a_step() -> None:
    words: list[str] = []

    def lr(t: int) -> float:
        for call in (optimizer.eval, optimizer.train):
            with pytest.raises(StateError) as raised:
                call()
            words.append(str(raised.value))
        return 0.1

    optimizer = sr.Optimizer(np.ones(3), "averaged(sgd)", lr=lr)
    optimizer.step(np.ones(3))
    assert [text.partition(" was")[0] for text in words] == ["eval()", "train()"]
    assert optimizer.t == 1


def test_groups_with_other_hyperparameters_have_points_of_their_own() -> None:
    a, b = np.arange(4.0), np.arange(4.0)
    groups = [sr.Group(a, beta=0.5), sr.Group(b, beta=0.9)]
    optimizer = sr.Optimizer(groups, "schedule_free_sgd", lr=0.1)
    for t in range(3):
        optimizer.step([np.full(4, t + 1.0), np.full(4, t + 1.0)])
    points = optimizer.evaluated
    for x, point, z, beta in zip((a, b), points, optimizer.slots["z"], (0.5, 0.9), strict=True):
        np.testing.assert_allclose(point, x + (1 - 1 / beta) * (z - x), rtol=1e-14)
    assert not np.allclose(a, b)


def test_a_point_may_depend_on_numbers_that_are_kept() -> None:
    """Of the group, and of each array."""

    @sr.rule(evaluated=lambda theta, k, n, *, lr: theta + lr * k + n)
    def mine(theta, g, k: sr.Scalar, n: sr.PerTensor, *, lr: sr.Rate = 0.5):
        return theta - lr * g, k + 1, n + sr.total(abs(g))

    arrays = [np.zeros(2), np.zeros((2, 3))]
    optimizer = sr.Optimizer(arrays, mine)
    for _ in range(2):
        optimizer.step([np.ones(2), np.ones((2, 3))])
    assert [point.tolist() for point in optimizer.evaluated] == [[4.0] * 2, [[12.0] * 3] * 2]
    optimizer.eval()
    assert arrays[0].tolist() == [4.0, 4.0]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
@pytest.mark.parametrize("layout", ["dense", "strided"])
def test_a_signal_finds_one_point_or_the_other(layout: str) -> None:
    x = np.zeros((64, 4000), np.float32) if layout == "dense" else np.zeros((64, 8000), np.float32)[:, ::2]
    optimizer = sr.Optimizer(x, "averaged(sgd)", lr=1.0, decay=0.5)
    for _ in range(2):
        optimizer.step(np.ones_like(x))
    trained, point = float(x[0, 0]), float(optimizer.evaluated[0, 0])
    assert trained != point
    seen: list[tuple[float, float, bool]] = []

    def handler(number: int, frame: object) -> None:
        seen.append((float(x.min()), float(x.max()), _is_training(optimizer)))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for trial in range(80):
            # Once: a handler that is called again while it runs would never end.
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + 5e-5 * (trial % 20))
            optimizer.eval()
            optimizer.train()
            while len(seen) <= trial:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(seen) <= {(trained, trained, True), (point, point, False)}
    assert _is_training(optimizer)


@pytest.mark.parametrize("rule", ["schedule_free_sgd", "averaged(adam)", "lookahead(sgd)"])
def test_minimize_returns_the_evaluated_point(rule: str) -> None:
    seen: list[float] = []

    def fun(x: Array) -> float:
        return float(((x - 3) ** 2).sum())

    result = sr.minimize(fun, [0.0, 9.0], rule=rule, lr=0.02, maxiter=30, callback=lambda x: seen.append(fun(x)))
    x = np.array([0.0, 9.0])
    optimizer = sr.Optimizer(x, rule, lr=0.02)
    for _ in range(30):
        optimizer.step(2 * (x - 3))
    np.testing.assert_allclose(result.x, optimizer.evaluated, rtol=1e-6)
    assert result.fun == fun(result.x)
    assert len(seen) == 30
    assert sr.minimize(fun, [0.0, 9.0], rule=rule, maxiter=0).x.tolist() == [0.0, 9.0]
