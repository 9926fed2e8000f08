"""Memory formats in the NumPy door: resumed, converted, described, refused, and without temporaries."""

from __future__ import annotations

import copy
import pickle
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError, StateError, StructureError
from steprule.formats import GROUP
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits
from tests.doors.numpy.test_formats import (
    BFLOAT16,
    COMBINATIONS,
    EIGHT_BIT,
    HALF_STOCHASTIC,
    SMALLEST,
    SPLIT24_EIGHT_BIT,
    STOCHASTIC,
    arrays,
    assert_same_state,
    combination_id,
    fitting,
)

SHAPES: list[tuple[int, ...]] = [(12, 200), (300,), ()]
EIGHT: dict[str, Any] = {"states": "8bit", "min_elements": 0}


def _made(dtype: str, rule: str = "adam", **options: Any) -> sr.Optimizer:
    """Return an optimizer over the arrays a, b and c."""
    params = dict(zip("abc", arrays(dtype, SHAPES), strict=True))
    return sr.Optimizer(params, rule, **fitting(CATALOGUE[rule], options))


def _train(optimizer: sr.Optimizer, until: int) -> sr.Optimizer:
    """Step along gradients of moderate size that depend on t alone."""
    for t in range(optimizer.t, until):
        rng = np.random.default_rng([1, t])
        optimizer.step(
            {k: np.asarray(rng.standard_normal(p.shape)).astype(p.dtype) for k, p in optimizer.params.items()}
        )
    return optimizer


def _reloaded(optimizer: sr.Optimizer, make: Callable[[], sr.Optimizer]) -> sr.Optimizer:
    """Return a new optimizer that goes on from the pickled state dict of another."""
    new = make()
    for theta, other in zip(new.params.values(), optimizer.params.values(), strict=True):
        theta[...] = other
    new.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    return new


# Resume.


RESUMED = [("adam", *case) for case in COMBINATIONS]
RESUMED += [(name, *case) for name in CATALOGUE if name != "adam" for case in (SPLIT24_EIGHT_BIT, STOCHASTIC)]


@pytest.mark.parametrize(("name", "dtype", "formats"), RESUMED, ids=combination_id)
def test_a_resumed_run_has_the_bits_of_a_straight_one(name: str, dtype: str, formats: dict[str, Any]) -> None:
    straight, half = _train(_made(dtype, name, **formats), 20), _train(_made(dtype, name, **formats), 10)
    loaded = _reloaded(half, lambda: _made(dtype, name, **formats))
    others = {"loaded": loaded, "copied": copy.deepcopy(half), "pickled": pickle.loads(pickle.dumps(half))}
    for way, other in others.items():
        assert_same_state(_train(other, 20), straight, way)
    assert half.t == 10, "a copy shares nothing"


def test_the_seed_comes_with_the_state() -> None:
    straight = _train(_made("bfloat16", **SMALLEST, seed=3), 20)
    loaded = _reloaded(_train(_made("bfloat16", **SMALLEST, seed=3), 10), lambda: _made("bfloat16", **SMALLEST, seed=4))
    assert_same_state(_train(loaded, 20), straight)
    other = _train(_made("bfloat16", **SMALLEST, seed=4), 20)
    assert (other.params["a"] != straight.params["a"]).any(), "nothing is proved if the seed does nothing"


def test_a_state_dict_holds_copies() -> None:
    optimizer = _train(_made("bfloat16", **SMALLEST), 3)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    _train(optimizer, 6)
    optimizer.load_state_dict(state)
    _train(optimizer, 6)
    for place, planes in before["slots"].items():
        for name, plane in planes.items():
            assert np.array_equal(plane, state["slots"][place][name]), f"{place} {name}"


# Conversion.


def test_float32_is_converted_to_formats_and_back() -> None:
    plain = _train(_made("float32"), 10)
    for states, bound in (("8bit", 0.5), ("bfloat16", 2.0**-8)):
        coded = _made("float32", states=states, min_elements=0)
        coded.load_state_dict(plain.state_dict(), convert=True)
        assert coded.t == 10
        for slot in ("m", "v"):
            for name, exact in plain.slots[slot].items():
                error = np.abs(coded.slots[slot][name] - exact)
                largest = np.abs(exact) if states == "bfloat16" else np.maximum(np.abs(exact), np.abs(exact).max() / 64)
                assert (error <= bound * largest).all(), f"{states} {slot} {name}"
        back = _made("float32")
        back.load_state_dict(coded.state_dict(), convert=True)
        for slot in ("m", "v"):
            for name in "abc":
                assert_same_bits(back.slots[slot][name], coded.slots[slot][name], f"{states} {slot} {name}")


@pytest.mark.parametrize("name", [name for name, rule in CATALOGUE.items() if {*rule.trace().slots} - rule.points])
def test_converting_what_was_decoded_gives_the_same_codes(name: str) -> None:
    for states in ("8bit", "bfloat16"):
        optimizer = _train(_made("float32", name, states=states, min_elements=0), 6)
        again = _made("float32", name, states=states, min_elements=0)
        again.load_state_dict(optimizer.state_dict(decode=True), convert=True)
        planes, other = (one.state_dict()["slots"]["params['a']"] for one in (optimizer, again))
        for slot in (plane for plane in planes if plane in optimizer.rule.element_slots):
            same = np.ones((12, 200), bool)
            if (
                states == "8bit" and slot not in optimizer.rule.points
            ):  # rounding may have moved the largest over a power of two: another exponent
                lower = planes[f"{slot}.scale"].astype(int) - other[f"{slot}.scale"]
                assert set(np.unique(lower)) <= {-1, 0, 1}
                assert (lower == 0).mean() > 0.5
                same = np.repeat(lower == 0, GROUP, axis=1)[:, :200]
            assert np.array_equal(planes[slot][same], other[slot][same]), f"{states} {slot}"


def test_decoded_states_load_in_a_plain_optimizer_without_conversion() -> None:
    optimizer = _train(_made("float32", **EIGHT), 5)
    plain = _made("float32")
    plain.load_state_dict(optimizer.state_dict(decode=True))
    for name in "abc":
        assert_same_bits(plain.slots["v"][name], optimizer.slots["v"][name], name)
    with pytest.raises(StateError, match="convert=True"):
        optimizer.load_state_dict(plain.state_dict())


def test_states_of_version_1_load() -> None:
    straight, optimizer = _train(_made("float32"), 20), _train(_made("float32"), 10)
    state = {**optimizer.state_dict(), "version": 1}
    del state["formats"]
    for group in state["groups"]:
        del group["seed"]
    optimizer.load_state_dict(state)
    assert_same_state(_train(optimizer, 20), straight)
    coded = _made("float32", **EIGHT)
    with pytest.raises(StateError, match=r"m is kept as 8bit signed.* here, but the state has it as float32"):
        coded.load_state_dict(state)
    coded.load_state_dict(state, convert=True)
    assert coded.t == 10


# Refusals.


def _plane(name: str, new: Any) -> Callable[[dict[str, Any]], None]:
    """Return what replaces a plane of the array a, or removes it."""

    def change(state: dict[str, Any]) -> None:
        planes = state["slots"]["params['a']"]
        del planes[name]
        if new is not None:
            planes[name] = new

    return change


def _format(name: str, told: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state["formats"]["params['a']"].__setitem__(name, told)


DAMAGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_plane("m", None), "has the slots"),
    (_plane("theta.low", None), "has the slots"),
    (_plane("m", np.zeros((200, 12), np.uint8)), r"slot m .*shape \(200, 12\), expected uint8 of shape \(12, 200\)"),
    (_plane("m", np.zeros((12, 200), np.int8)), r"slot m .*int8 .*expected uint8"),
    (_plane("m.scale", np.zeros((12, 1), np.uint8)), r"slot m.scale .*\(12, 1\), expected uint8 of shape \(12, 2\)"),
    (_plane("theta.low", np.zeros((12, 200), np.int16)), r"theta.low .*int16 .*expected int8"),
    (_plane("m", [1, 2]), "is a list, expected uint8"),
    (_format("m", "3bit"), "m in the format '3bit', which this version cannot read"),
    (_format("theta", "split99"), "theta in the format 'split99', which this version cannot read"),
    (lambda state: state.pop("formats"), "lacks the formats of params"),
    (lambda state: state["groups"][0].__setitem__("seed", -1), "the seed -1, which is not an integer"),
    (lambda state: state["groups"][0].__setitem__("seed", 2**63), "which is not an integer"),
    (lambda state: state.__setitem__("version", 5), "version 5, this version reads versions 1 to 4"),
]


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=[re.sub(r"\W+", "-", words) for _, words in DAMAGES])
def test_a_damaged_state_is_refused_and_changes_nothing(damage: Any, words: str, convert: bool) -> None:
    optimizer = _train(_made("bfloat16", **SMALLEST), 5)
    state = _train(copy.deepcopy(optimizer), 9).state_dict()
    before = copy.deepcopy(optimizer)
    damage(state)
    with pytest.raises(StateError, match=words):
        optimizer.load_state_dict(state, convert=convert)
    assert_same_state(optimizer, before)
    assert_same_state(_train(optimizer, 7), _train(before, 7), "and it goes on")


def _big(dtype: Any = np.float32) -> Array:
    return np.zeros((64, 128), dtype)


WRONG: list[tuple[Any, str, dict[str, Any], type[Exception], str]] = [
    (_big(), "adam", {"states": "8bits"}, HyperparameterError, "states must be one of .*'8bits'. Did you mean '8bit'"),
    (_big(), "adam", {"states": None}, HyperparameterError, "states must be one of .*None"),
    (_big(), "adam", {"states": {"mm": "8bit"}}, HyperparameterError, "states names 'mm', .*slots are m, v"),
    (_big(), "adam", {"states": {"m": "3bit"}}, HyperparameterError, "states must be one of .*'3bit'"),
    (
        _big(),
        "nadam",
        {"states": {"mu_product": "8bit"}},
        HyperparameterError,
        "'mu_product', which is not kept for each element",
    ),
    (_big(), "sgd", {"states": "8bit"}, HyperparameterError, "'8bit' has no effect: the rule keeps no slots"),
    (_big(), "adam", {"states_": "8bit"}, HyperparameterError, "'states_'. Did you mean 'states'"),
    (_big(BFLOAT16), "adam", {"weights": "split"}, HyperparameterError, "weights must be one of .*'split'"),
    (_big(), "adam", {"weights": "split24"}, HyperparameterError, "weights='split24' has no effect: no parameter is"),
    (_big(), "adam", {"states": "8bit", "min_elements": -1}, HyperparameterError, "min_elements must be .*-1"),
    (_big(), "adam", {"states": "8bit", "min_elements": 1.5}, HyperparameterError, "min_elements must be .*1.5"),
    (_big(), "adam", {"states": "8bit", "min_elements": True}, HyperparameterError, "min_elements must be .*True"),
    (_big(), "adam", {"min_elements": 0}, HyperparameterError, "min_elements=0 has no effect"),
    (_big(), "adam", {"seed": 0}, HyperparameterError, "seed=0 has no effect: nothing is rounded stochastically"),
    (_big(), "adam", {"states": "8bit", "seed": -1}, HyperparameterError, "seed must be an integer .*-1"),
    (_big(), "adam", {"states": "8bit", "seed": 2**63}, HyperparameterError, "seed must be an integer"),
    (_big(), "adam", {"states": "8bit", "seed": 1.0}, HyperparameterError, "seed must be an integer .*1.0"),
    (_big(float), "adam", {"states": "8bit"}, StructureError, "type float64.*'8bit' is for.*states='float32'"),
    (_big(), "adagrad", {"states": "8bit", "initial_accumulator": 1e300}, HyperparameterError, "starts at 1e.300"),
    ([sr.Group(_big(), first_row=3)], "adam", {}, HyperparameterError, "first_row=3 has no effect"),
    ([sr.Group(_big(), states="3bit")], "adam", {}, HyperparameterError, r"'3bit' \(group 0\)"),
]


@pytest.mark.parametrize(("params", "rule", "options", "error", "words"), WRONG, ids=[str(w[-1]) for w in WRONG])
def test_wrong_formats(params: Any, rule: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        sr.Optimizer(params, rule, **options)


def test_float64_in_a_group_that_asks_for_nothing_less() -> None:
    groups = [sr.Group(np.zeros((4, 4)), states="float32"), sr.Group(np.zeros((4, 4), np.float32))]
    table = sr.Optimizer(groups, "adam", **EIGHT).describe()
    assert re.search(r"params\[0\] .*m: float64, v: float64 +24", table)
    assert re.search(r"params\[1\] .*m: 8bit, v: 8bit +6.5", table)


# What is said, what is allocated, and what a bad number does.


def test_describe_tells_formats_and_bytes() -> None:
    params = [np.zeros((512, 512), BFLOAT16), np.zeros(512, BFLOAT16), np.zeros((60, 60), BFLOAT16)]
    optimizer = sr.Optimizer(params, "adamw", states="8bit", weights="split24")
    title, _, *lines = optimizer.describe().splitlines()
    own = 512 * 512 * (2 + 1 + 2) + 2 * 512 * 4 + (512 + 3600) * (2 + 1 + 8)
    total = 512 * 512 + 512 + 3600
    assert f"{own:,} bytes" in title
    assert f"{own / total:.2f} bytes per parameter ({own / total + 2:.2f} with gradients)" in title
    assert "weights: split24, m: 8bit, v: 8bit" in lines[0]
    assert lines[0].endswith(" 5.02")
    for line in lines[1:]:
        assert "weights: split24, m: float32, v: float32" in line
        assert line.endswith(" 11")


@pytest.mark.parametrize(("dtype", "formats"), COMBINATIONS, ids=combination_id)
def test_a_step_makes_no_temporary(dtype: str, formats: dict[str, Any]) -> None:
    homes = [np.zeros((1000, 1000), dtype), np.zeros((1000, 2000), dtype)[:, ::2], np.zeros((1000, 1000), dtype, "F")]
    grads = [np.ones((1000, 1000), dtype)] * 3
    optimizer = sr.Optimizer(homes, "adam", **formats)
    optimizer.step(grads)
    tracemalloc.start()
    optimizer.step(grads)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < grads[0].nbytes / 10


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["adam", "lion", "rmsprop", "momentum", "adan", "yogi", "adagrad"])
def test_neighbours_of_a_bad_number_get_the_bits_beside_a_zero(name: str, bad: float) -> None:
    for dtype, formats in (EIGHT_BIT, SPLIT24_EIGHT_BIT, HALF_STOCHASTIC):
        hit, spared = (sr.Optimizer(arrays(dtype, [(4, 300)])[0], name, **formats) for _ in range(2))
        rest = np.ones((4, 300), bool)
        rest[1, 150] = False
        for t in range(6):
            g = np.random.default_rng(t).standard_normal((4, 300)).astype(dtype)
            g[1, 150] = 0
            spared.step(g)
            g[1, 150] = bad if t in (0, 2, 5) else 0
            hit.step(g)
        assert not np.isfinite(hit.slots[next(iter(hit.slots))][1, 150]), "the bad number must be seen at all"
        assert_same_bits(hit.params[rest], spared.params[rest], dtype)
        for plane, array in hit.state_dict()["slots"]["params"].items():
            other = spared.state_dict()["slots"]["params"][plane]
            at = rest if array.shape == rest.shape else ...
            assert np.array_equal(array[at], other[at]), f"{dtype} {plane}"
