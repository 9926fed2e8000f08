"""Checkpoints of the NumPy door: resumed in every bit, matched, refused without a change, and in the background."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import steprule as sr
from steprule.checkpoint import snapshot
from steprule.checkpoint import write as _write
from steprule.errors import CheckpointError, StateError
from tests.cases import CASES, COMBINED, Array, assert_same_bits, case_id, unlike_defaults
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.checkpoint.test_fuzz import as_text, parts, put, sealed
from tests.covering import SOME_CASES, swept
from tests.doors.numpy.test_formats import (
    COMBINATIONS,
    EIGHT_BIT,
    SPLIT24_EIGHT_BIT,
    assert_same_state,
    combination_id,
    fitting,
)

HALF = 100
SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 130), "b": (5,), "c": ()}
PLAIN: list[tuple[str, dict[str, Any]]] = [("float32", {}), ("float64", {}), ("float16", {})]
QUICK = [EIGHT_BIT, SPLIT24_EIGHT_BIT]
"""The most common formats, and those of which most numbers follow from random bits."""


def made(rule: Any, dtype: str = "float32", **options: Any) -> sr.Optimizer:
    """Return an optimizer over three arrays, whose numbers depend on nothing."""
    rng = np.random.default_rng(0)
    return sr.Optimizer(
        {k: np.asarray(rng.standard_normal(s)).astype(dtype) for k, s in SHAPES.items()}, rule, **options
    )


def blank(optimizer: sr.Optimizer, rule: Any, **options: Any) -> sr.Optimizer:
    """Return an optimizer over zeros of the same shapes."""
    return sr.Optimizer({k: np.zeros_like(p) for k, p in optimizer.params.items()}, rule, **options)


@functools.cache
def gradients(t: int, shapes: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]) -> dict[str, Array]:
    """Return gradients that depend on t alone."""
    rng = np.random.default_rng([3, t])
    return {k: np.asarray(rng.standard_normal(shape)).astype(dtype) for k, shape, dtype in shapes}


def train(optimizer: sr.Optimizer, until: int) -> sr.Optimizer:
    """Step along gradients that depend on t alone."""
    shapes = tuple((k, p.shape, p.dtype) for k, p in optimizer.params.items())
    for t in range(optimizer.t, until):
        optimizer.step(gradients(t, shapes))
    return optimizer


def everything(optimizer: sr.Optimizer) -> Any:
    """Return all that an optimizer moves and keeps, every bit of it."""
    state = optimizer.state_dict()
    planes = {place: {k: v.tobytes() for k, v in own.items()} for place, own in sorted(state.pop("slots").items())}
    return state, planes, [array.tobytes() for _, array in sorted(optimizer.params.items())]


def check_resume(path: Path, rule: Any, dtype: str, half: int = HALF, **options: Any) -> None:
    """Train straight, and with a stop in between, and compare every bit."""
    straight, stopped = (made(rule, dtype, **options) for _ in range(2))
    sr.save(path, train(stopped, half), True)
    resumed = blank(stopped, rule, **options)
    sr.load(path, resumed, True)
    assert everything(resumed) == everything(stopped)
    assert everything(train(resumed, 2 * half)) == everything(train(straight, 2 * half))


# Resume.


@pytest.mark.parametrize(
    ("dtype", "formats"),
    [*PLAIN, *(pytest.param(*each, marks=[] if each in QUICK else pytest.mark.slow) for each in COMBINATIONS)],
    ids=combination_id,
)
@pytest.mark.dear
def test_every_rule_and_format_resumes_in_every_bit(tmp_path: Path, dtype: str, formats: dict[str, Any]) -> None:
    for name, rule in {**CATALOGUE, **COMBINED}.items():
        check_resume(tmp_path / name, rule, dtype, **fitting(rule, formats))


@pytest.mark.parametrize("case", swept(CASES, SOME_CASES), ids=case_id)
def test_every_variant_resumes(tmp_path: Path, case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    wanted = {**unlike_defaults(CATALOGUE[name], options), **options}
    for option in list(wanted):
        try:
            made(name, **wanted)
        except sr.errors.HyperparameterError:
            del wanted[option]
    check_resume(tmp_path / "x", name, "float32", 5, **wanted)


@pytest.mark.parametrize(("dtype", "formats"), [PLAIN[0], COMBINATIONS[2]], ids=combination_id)
@pytest.mark.dear
def test_the_referee_resumes(tmp_path: Path, dtype: str, formats: dict[str, Any]) -> None:
    for name, rule in CATALOGUE.items():
        options = fitting(rule, formats)
        check_resume(tmp_path / name, rule, dtype, 5, backend="numpy", **options)
        fast = made(rule, dtype, **options)
        sr.load(tmp_path / name, fast, True)
        straight = train(made(rule, dtype, **options), 15)
        assert_same_state(train(fast, 15), straight, name)


_RESUMED = """
import sys
import numpy as np, steprule as sr
from tests.checkpoint.test_resume import blank, everything, made, train
path, rule = sys.argv[1:]
optimizer = blank(made(rule), rule, states="8bit", min_elements=0, seed=3)
sr.load(path, optimizer, True)
sr.save(path + ".end", train(optimizer, 200), True)
"""


@pytest.mark.parametrize("rule", ["adam", "nadam"])
def test_another_process_goes_on(tmp_path: Path, rule: str) -> None:
    options: dict[str, Any] = {"states": "8bit", "min_elements": 0, "seed": 3}
    straight = made(rule, **options)
    sr.save(tmp_path / "x", train(straight, 100), True)
    subprocess.run([sys.executable, "-c", _RESUMED, str(tmp_path / "x"), rule], check=True)
    end = blank(straight, rule, **options)
    sr.load(tmp_path / "x.end", end, True)
    assert everything(end) == everything(train(straight, 200))


def test_the_seed_comes_along(tmp_path: Path) -> None:
    coded: dict[str, Any] = {"states": "8bit", "min_elements": 0}
    straight = train(made("adam", **coded, seed=3), 5)
    sr.save(tmp_path / "x", straight, True)
    resumed, other = (blank(straight, "adam", **coded, seed=4) for _ in range(2))
    sr.load(tmp_path / "x", resumed, True)
    assert everything(train(resumed, 9)) == everything(train(straight, 9))
    sr.load(tmp_path / "x", other, True)
    other.groups[0].seed = 4
    assert everything(train(other, 9))[1:] != everything(straight)[1:], "nothing is proved if the seed does nothing"


def test_schedules_come_from_the_optimizer(tmp_path: Path) -> None:
    def rate(t: int) -> float:
        return 0.1 / t

    sr.save(tmp_path / "x", train(made("adam", lr=rate), 5), True)
    straight = train(made("adam", lr=rate), 9)
    resumed = blank(straight, "adam", lr=rate)
    checkpoint = sr.load(tmp_path / "x", resumed, True)
    assert checkpoint.groups[0]["lr"] == {"schedule": True}
    assert_same_state(train(resumed, 9), straight)
    with pytest.raises(StateError, match=r"lr was a schedule when .* is a number here"):
        sr.load(tmp_path / "x", made("adam"))


def test_hyperparameters_come_along_or_not(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("adam", lr=0.5, eps_inside=True), 2))
    there = made("adam", lr=0.25)
    sr.load(tmp_path / "x", there)
    assert (there.groups[0]["lr"], there.groups[0]["eps_inside"], there.t) == (0.5, True, 2)
    kept = made("adam", lr=0.25)
    sr.load(tmp_path / "x", kept, hyperparameters=False)
    assert (kept.groups[0]["lr"], kept.groups[0]["eps_inside"], kept.t) == (0.25, False, 2)


def test_options_that_choose_slots_are_told(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("rmsprop", centered=True, momentum=0.5), 2))
    with pytest.raises(StateError, match=r"keeps the slots .*'g_avg', 'b'\], .*\['v'\]. Make it with .*centered=True"):
        sr.load(tmp_path / "x", made("rmsprop"))


def test_formats_are_converted_on_request(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("adam"), 5))
    coded = made("adam", states="8bit", min_elements=0)
    with pytest.raises(StateError, match="kept as 8bit"):
        sr.load(tmp_path / "x", coded)
    sr.load(tmp_path / "x", coded, convert=True)
    assert coded.t == 5


def test_a_group_without_parameters_resumes(tmp_path: Path) -> None:
    def optimizer(psi: float) -> sr.Optimizer:
        return sr.Optimizer([sr.Group([]), sr.Group({}, psi=psi)], "nadam")

    saved, other = optimizer(0.1), optimizer(0.1)
    for _ in range(3):
        saved.step([[], {}])
    sr.save(tmp_path / "x", saved)
    assert sr.load(tmp_path / "x", other).t == 3
    assert other.state_dict() == saved.state_dict()


def test_counts_of_skipped_steps_come_along_and_go_back_with_a_failure(tmp_path: Path) -> None:
    saved, other = (made("adam", nonfinite="skip") for _ in range(2))
    saved.step({name: np.full_like(array, np.nan) for name, array in saved.params.items()})
    sr.save(tmp_path / "x", saved)
    coded = made("adam", clip_norm=0.5, nonfinite="skip", states="8bit", min_elements=0)
    for _ in range(2):
        coded.step({name: np.full_like(array, np.nan) for name, array in coded.params.items()})
    with pytest.raises(StateError, match="kept as 8bit"):
        sr.load(tmp_path / "x", coded, hyperparameters=False)
    assert coded.skipped == 2
    sr.load(tmp_path / "x", other)
    assert (other.skipped, other.t) == (1, 0)


def test_other_guards_are_refused(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("adamw", clip_norm=0.1, nonfinite="skip"), 3), True)
    plain = made("adamw", lr=0.25)
    before = everything(plain)
    with pytest.raises(StateError, match=r"saved with .*clip_norm=0\.1.*nonfinite='skip'.*hyperparameters=False"):
        sr.load(tmp_path / "x", plain, True)
    assert everything(plain) == before
    sr.load(tmp_path / "x", plain, True, hyperparameters=False)
    assert (plain.t, plain.groups[0]["lr"]) == (3, 0.25)
    sr.load(tmp_path / "x", made("adamw", clip_norm=0.1, nonfinite="skip"), True)


def test_a_file_that_tells_no_guards_fits_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sr.Optimizer, "_checkpoint_extra", lambda self: {})
        sr.save(tmp_path / "x", train(made("adam"), 2))
    guarded = made("adam", clip_norm=0.1, nonfinite="skip")
    sr.load(tmp_path / "x", guarded)
    assert (guarded.t, guarded.skipped) == (2, 0)


def test_the_seed_belongs_to_the_state(tmp_path: Path) -> None:
    coded: dict[str, Any] = {"states": "8bit", "min_elements": 0}
    straight = train(made("adam", **coded, seed=3), 5)
    sr.save(tmp_path / "x", straight, True)
    for options in ({"hyperparameters": False}, {"convert": True}):
        resumed = blank(straight, "adam", **coded, seed=4)
        sr.load(tmp_path / "x", resumed, True, **options)
        assert resumed.groups[0].seed == 3
        assert everything(resumed) == everything(straight)


# Which is which.


def test_parameters_are_matched_by_name(tmp_path: Path) -> None:
    saved = train(made("adam"), 5)
    sr.save(tmp_path / "x", saved, True)
    turned = sr.Optimizer({k: np.zeros_like(saved.params[k]) for k in "cab"}, "adam")
    sr.load(tmp_path / "x", turned, True)
    assert list(turned.params) == ["c", "a", "b"]
    assert everything(turned)[1:] == everything(saved)[1:]


def test_else_by_place(tmp_path: Path) -> None:
    saved = train(made("adam"), 5)
    sr.save(tmp_path / "x", saved, True)
    listed = sr.Optimizer([np.zeros_like(array) for array in saved.params.values()], "adam")
    sr.load(tmp_path / "x", listed, True)
    for array, other in zip(listed.params, saved.params.values(), strict=True):
        assert_same_bits(array, other)
    assert_same_bits(listed.slots["v"][0], saved.slots["v"]["a"])


def test_an_empty_key_is_a_name(tmp_path: Path) -> None:
    saved = sr.Optimizer({"": np.ones(3, np.float32), "b": np.full(3, 2, np.float32)}, "adam")
    saved.step({"": np.ones(3, np.float32), "b": np.full(3, 5, np.float32)})
    sr.save(tmp_path / "x", saved, True)
    turned = sr.Optimizer({"b": np.zeros(3, np.float32), "": np.zeros(3, np.float32)}, "adam")
    assert sr.load(tmp_path / "x", turned, True).names == ["", "b"]
    for name in ("", "b"):
        assert_same_bits(turned.params[name], saved.params[name])
        assert_same_bits(turned.slots["m"][name], saved.slots["m"][name])
    sr.save(tmp_path / "x", sr.Optimizer(np.ones(3)))
    assert sr.load(tmp_path / "x").names == ["0"]


def test_names_of_nested_places(tmp_path: Path) -> None:
    params = [{"w": np.ones(2), "x": {"y": np.ones(3)}}, np.ones(4)]
    sr.save(tmp_path / "x", sr.Optimizer(params, "adam"), True)
    assert sr.load(tmp_path / "x").names == ["0.w", "0.x.y", "1"]
    sr.save(tmp_path / "x", sr.Optimizer({"a.b": np.ones(2), "a": {"b": np.ones(3)}}, "adam"), True)
    assert sr.load(tmp_path / "x").names == ["0", "1"], "names that are not unique are none"


def test_groups_of_equal_options_stay_apart(tmp_path: Path) -> None:
    def grouped() -> sr.Optimizer:
        return sr.Optimizer([sr.Group({"a": np.ones(2)}), sr.Group({"b": np.ones(3)})], "nadam")

    saved = grouped()
    saved.groups[1]["lr"] = 0.5
    saved.step([{"a": np.ones(2)}, {"b": np.ones(3)}])
    sr.save(tmp_path / "x", saved)
    other = grouped()
    sr.load(tmp_path / "x", other)
    assert [group["lr"] for group in other.groups] == [0.002, 0.5]


def test_rules_with_a_weight_decay_of_zero_are_those_without(tmp_path: Path) -> None:
    sr.save(tmp_path / "adam", train(made("adam", lr=0.1), 3), True)
    decayed = blank(made("adam"), "adamw", weight_decay=0.5)
    sr.load(tmp_path / "adam", decayed, True)
    assert decayed.groups[0]["weight_decay"] == 0
    straight = train(made("adam", lr=0.1), 6)
    for array, other in zip(train(decayed, 6).params.values(), straight.params.values(), strict=True):
        assert_same_bits(array, other)
    sr.save(tmp_path / "adamw", decayed)
    plain = made("adam")
    sr.load(tmp_path / "adamw", plain)
    assert plain.t == 6
    decayed.groups[0]["weight_decay"] = 0.5
    sr.save(tmp_path / "adamw", decayed)
    with pytest.raises(StateError, match=r"for rule 'decoupled\(adam\)' .* this optimizer's is 'adam'"):
        sr.load(tmp_path / "adamw", plain)


REFUSED: list[tuple[Any, str]] = [
    (lambda: made("lion"), "is for rule 'adam'"),
    (lambda: made("adam", "float64"), r"parameter a is float64 of shape \(3, 130\), but in the checkpoint float32"),
    (lambda: sr.Optimizer({"a": np.zeros(3, np.float32)}, "adam"), "3 parameters, this optimizer has 1.*lacks none, "),
    (
        lambda: sr.Optimizer({k: np.zeros(s[::-1], np.float32) for k, s in SHAPES.items()}, "adam"),
        r"parameter a is float32 of shape \(130, 3\)",
    ),
    (
        lambda: sr.Optimizer({k: np.zeros(s, np.float32) for k, s in zip("xyz", SHAPES.values(), strict=True)}, "lion"),
        "for rule 'adam'",
    ),
    (
        lambda: sr.Optimizer({k: np.zeros(s, np.float32) for k, s in zip("xby", SHAPES.values(), strict=True)}, "adam"),
        r"x: nothing was loaded: some parameters have other names.*lacks x, y, and has a, c that are not here. Name",
    ),
    (
        lambda: sr.Optimizer([sr.Group([np.zeros((3, 130), "f")]), sr.Group([np.zeros(5, "f"), np.zeros((), "f")])]),
        "1 parameter groups, this optimizer has 2",
    ),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=range(len(REFUSED)))
def test_a_checkpoint_of_something_else_changes_nothing(tmp_path: Path, make: Any, words: str) -> None:
    sr.save(tmp_path / "x", train(made("adam"), 3), True)
    optimizer = make()
    before = optimizer.state_dict()["t"], [p.copy() for p in optimizer._structure.leaves(optimizer.params)]
    with pytest.raises(StateError, match=words):
        sr.load(tmp_path / "x", optimizer)
    after = optimizer.state_dict()["t"], optimizer._structure.leaves(optimizer.params)
    assert before[0] == after[0]
    assert all((a == b).all() for a, b in zip(before[1], after[1], strict=True))


def test_another_first_row_is_refused_where_bits_depend_on_it(tmp_path: Path) -> None:
    def part(row: int, **formats: Any) -> sr.Optimizer:
        return sr.Optimizer([sr.Group(np.ones((2, 3), np.float32), first_row=row)], "adam", **formats)

    coded: dict[str, Any] = {"states": "8bit", "min_elements": 0}
    sr.save(tmp_path / "x", part(4, **coded))
    sr.load(tmp_path / "x", part(4, **coded))
    with pytest.raises(StateError, match=r"begins at row 2, in the checkpoint at 4.*first_row=4"):
        sr.load(tmp_path / "x", part(2, **coded))


# Parameters and further values.


def test_parameters_by_name_fill_what_is_given(tmp_path: Path) -> None:
    params = {"w": np.arange(6.0).reshape(2, 3).T, "i": np.array([1, 2]), "h": np.ones(2, ml_dtypes.bfloat16)}
    optimizer = made("adam")
    sr.save(tmp_path / "x", optimizer, params)
    there = {name: np.zeros_like(array) for name, array in params.items()}
    checkpoint = sr.load(tmp_path / "x", params=there)
    for name, array in params.items():
        assert there[name].tobytes() == array.tobytes()
    assert_same_bits(checkpoint.params["w"], params["w"])
    assert "params" in repr(checkpoint)
    changes: list[tuple[dict[str, Array], str]] = [
        ({"w": np.zeros((2, 3))}, r"w is F64 of shape \(2, 3\), but was stored as F64 of shape \(3, 2\)"),
        ({"i": np.zeros(2, np.int32)}, "i is I32 of shape"),
        ({"more": np.zeros(2)}, "lacks more, and has none"),
    ]
    for change, words in changes:
        wrong: dict[str, Array] = {name: np.zeros_like(array) for name, array in params.items()}
        wrong.update(change)
        before = everything(optimizer)
        with pytest.raises(StateError, match=words):
            sr.load(tmp_path / "x", optimizer, wrong)
        assert everything(optimizer) == before
        assert not any(array.astype(float).any() for array in wrong.values())


def test_targets_that_cannot_be_filled_are_found_before_anything_changes(tmp_path: Path) -> None:
    saved = train(made("adam"), 3)
    arrays = {"a": np.ones(4), "b": np.ones((2, 3)), "t": np.array(["a", "b"])}
    sr.save(tmp_path / "x", saved, {"a": arrays["a"], "b": arrays["b"]})
    locked = np.zeros((2, 3))
    locked.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(3), (2, 3), (0, 8))
    wrong = {"b is read-only": locked, "b shares memory": shared, "b is of type object": np.full((2, 3), None)}
    for words, array in wrong.items():
        targets = {"a": np.zeros(4), "b": array}
        optimizer = made("adam")
        before = everything(optimizer)
        with pytest.raises(StateError, match=f"x: nothing was loaded: {words}"):
            sr.load(tmp_path / "x", optimizer, targets)
        assert everything(optimizer) == before
        assert not targets["a"].any()


def test_what_the_optimizer_refuses_fills_nothing(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("adam"), 3), {"a": np.ones(4)})
    target = {"a": np.zeros(4)}
    with pytest.raises(StateError, match="kept as 8bit"):
        sr.load(tmp_path / "x", made("adam", states="8bit", min_elements=0), target)
    assert not target["a"].any()


def test_bits_of_bfloat16_fill_an_array_of_them(tmp_path: Path) -> None:
    array = np.array([1.5, -2.0, 1e30], ml_dtypes.bfloat16)
    sr.save(tmp_path / "x", made("adam"), {"h": array})
    for kind in ("<u2", ">u2"):
        bits = np.zeros(3, kind)
        sr.load(tmp_path / "x", params={"h": bits})
        assert bits.astype("<u2").tobytes() == array.tobytes()
    for kind in ("i2", "f2"):
        with pytest.raises(StateError, match="was stored as BF16"):
            sr.load(tmp_path / "x", params={"h": np.zeros(3, kind)})


def test_parameters_that_were_not_stored_are_missed(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", made("adam"))
    with pytest.raises(StateError, match=r"has no parameters; save them with it.*params=True"):
        sr.load(tmp_path / "x", made("adam"), True)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_arrays_of_any_strides(tmp_path: Path, order: str) -> None:
    def array() -> Array:
        whole = np.ones((4, 6, 8), np.float32)
        return {"C": whole, "F": np.asfortranarray(whole), "strided": whole[:, ::2, ::-1]}[order]

    def run(optimizer: sr.Optimizer, until: int) -> sr.Optimizer:
        for t in range(optimizer.t, until):
            optimizer.step(np.random.default_rng(t).standard_normal(optimizer.params.shape).astype("f"))
        return optimizer

    straight = run(sr.Optimizer(array(), "adam", lr=0.1), 6)
    sr.save(tmp_path / "x", run(sr.Optimizer(array(), "adam", lr=0.1), 3), True)
    resumed = sr.Optimizer(array(), "adam")
    sr.load(tmp_path / "x", resumed, True)
    assert_same_state(run(resumed, 6), straight)


EXTRA: dict[str, Any] = {
    "epoch": 3,
    "loss": 0.1,
    "limits": (float("inf"), -float("inf"), -0.0, 5e-324),
    "nested": {"a": [1, None, True, "ü\n\u2028", ()], "$float": {"$dict": 1}, "": {}},
    "huge": 10**4300 - 1,
    "keys": {1: 2, (1, "a"): None, False: {-1.5: float("inf")}, None: [Counter({30: 1, 80: 2}), Counter()]},
}


def test_further_values_come_back_as_they_were(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "ints": np.arange(4, dtype=np.int64),
        "truth": np.array([True, False]),
        "z": np.array([1j, 2]),
    }
    sr.save(tmp_path / "x", made("adam"), **EXTRA, nan=float("nan"), **arrays)
    extra = sr.load(tmp_path / "x").extra
    assert repr({name: extra[name] for name in EXTRA}) == repr(EXTRA)
    assert np.isnan(extra["nan"])
    for name, array in arrays.items():
        assert (extra[name].dtype, extra[name].tolist()) == (array.dtype, array.tolist())


def test_scalars_of_numpy_come_back_as_numbers(tmp_path: Path) -> None:
    extra: dict[str, Any] = {
        "n": np.int64(-3),
        "x": [np.float32(0.1), np.float64(0.1), np.float16(np.inf)],
        "yes": np.bool_(True),
    }
    sr.save(tmp_path / "x", made("adam"), **extra)
    told = sr.load(tmp_path / "x").extra
    assert repr(told) == repr({"n": -3, "x": [float(np.float32(0.1)), 0.1, float("inf")], "yes": True})


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", made("adam"))
    header, document, rest = parts(tmp_path / "x")
    changes: list[dict[str, Any]] = [{"schema": "9" * 10_000}, {"class": ["9" * 10_000]}, {"groups": ["9" * 10_000]}]
    for change in changes:
        header["__metadata__"]["document"] = as_text({**document, **change})
        put(tmp_path / "x", sealed(as_text(header).encode(), rest))
        with pytest.raises(CheckpointError, match=r"9999\.\.\.") as caught:
            sr.load(tmp_path / "x")
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "made_of", [{"$dict": [[[1], 2]]}, {"$dict": [[1, 2], [1, 3]]}, {"$dict": [1]}, {"$counter": 3}, {"$tensor": [1]}]
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, made_of: Any) -> None:
    sr.save(tmp_path / "x", made("adam"), a=1)
    header, document, rest = parts(tmp_path / "x")
    document["extra"]["values"]["a"] = made_of
    header["__metadata__"]["document"] = as_text(document)
    put(tmp_path / "x", sealed(as_text(header).encode(), rest))
    with pytest.raises(CheckpointError, match=r"x: the document has .*; nothing was loaded"):
        sr.load(tmp_path / "x")


_LOOP: list[Any] = []
_LOOP.append(_LOOP)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {frozenset(): 2}}, r"the key frozenset\(\) of extra\['bad'\]\['a'\] is of type frozenset"),
        (object(), "is of type object; nothing was written"),
        ([np.zeros(3)], "is of type ndarray; .*save.*name=array"),
        (np.complex64(1), "is of type complex64"),
        ([10**4300], r"extra\['bad'\]\[0\] is a number of more than 4,300 digits; nothing was written. .*hex"),
        (b"bytes", "is of type bytes"),
        (_LOOP, "nested too deep, or holds itself"),
        ("\ud800", "not valid Unicode"),
        (np.array([None]), "bad is of type object"),
    ],
    ids=["keys", "object", "array in list", "scalar", "digits", "bytes", "loop", "surrogate", "objects"],
)
def test_what_is_no_json_is_refused_before_anything_is_written(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        sr.save(tmp_path / "x", made("adam"), bad=value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ({"parms": True}, "params"),
        ({"param": True}, "params"),
        ({"parasm": True}, "params"),
        ({"Params": None}, "params"),
        ({"keeep": 2}, "keep"),
        ({"kepe": 2}, "keep"),
        ({"KEEP": 2}, "keep"),
        ({"backgroud": True}, "background"),
        ({"back_ground": True}, "background"),
    ],
)
def test_a_misspelt_option_is_not_stored(tmp_path: Path, slip: dict[str, Any], meant: str) -> None:
    place = tmp_path / "run.safetensors"
    further: list[dict[str, Any]] = [{}, {"params": True, "epoch": 3}]
    for more in further:
        with pytest.raises(
            TypeError, match=f"no option '{next(iter(slip))}'. Did you mean '{meant}'.*nothing was writ"
        ):
            sr.save(place, made("adam"), **more, **slip)
        assert not list(tmp_path.iterdir())


def test_further_values_may_have_names_of_their_own(tmp_path: Path) -> None:
    optimizer, place = made("adam"), tmp_path / "run.safetensors"
    names = ("epoch", "step", "loss", "seed", "keeps", "kept", "deep", "kee", "parameters", "grounds", "k", "params_2")
    further: dict[str, Any] = dict.fromkeys(names, 3)
    sr.save(place, optimizer, **further)
    assert sr.load(place).extra == further


def test_what_a_checkpoint_shows(tmp_path: Path) -> None:
    sr.save(tmp_path / "x", train(made("adamw", lr=0.5, **EIGHT_BIT[1]), 4), epoch=1)
    checkpoint = sr.load(tmp_path / "x")
    assert (checkpoint.rule, checkpoint.t, checkpoint.groups[0]["lr"]) == ("adamw", 4, 0.5)
    assert repr(checkpoint) == "Checkpoint(adamw, 3 parameters, t=4, 808 bytes of state, extra)"
    assert checkpoint.slots["a"]["m"].dtype == np.uint8
    lines = checkpoint.describe().splitlines()
    assert lines[0] == "steprule.Optimizer, rule adamw, t=4, 396 elements"
    assert lines[2].split()[:5] == ["a", "3", "x", "130", "float32"]


def test_wrong_arguments(tmp_path: Path) -> None:
    class Wrapper:
        optimizer = made("adam")

    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: sr.save(tmp_path / "x", object()), TypeError, r"of type builtins.object; pass a steprule"),
        (lambda: sr.save(tmp_path / "x", Wrapper()), TypeError, r"pass its \.optimizer"),
        (lambda: sr.save(tmp_path / "x", made("adam"), 3), TypeError, "params is of type int; pass True"),
        (lambda: sr.save(tmp_path / "x", made("adam"), {"a": 3}), TypeError, r"params\['a'\] is of type int"),
        (lambda: sr.save(tmp_path / "x", made("adam"), keep=-1), CheckpointError, "keep must be an integer"),
        (lambda: sr.load(tmp_path / "x"), FileNotFoundError, "there is no checkpoint: "),
        (lambda: sr.load(""), CheckpointError, "the path is empty; give the name of a file"),
        (lambda: sr.save("", made("adam")), CheckpointError, "the path is empty; give the name of a file"),
        (lambda: sr.load("."), CheckpointError, "it is a directory, and no file in it was named"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()
    sr.save(tmp_path / "x", made("adam"), True)
    with pytest.raises(TypeError, match="pass the optimizer as well"):
        sr.load(tmp_path / "x", params=True)


# In the background.


def test_a_background_save_holds_what_was_there_when_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    from steprule.doors.checkpoint import api

    def late(*args: Any) -> None:
        gate.wait(30)
        _write(*args)

    monkeypatch.setattr(api, "write", late)
    optimizer = train(made("adam"), 5)
    before = everything(optimizer)
    handle = sr.save(tmp_path / "x", optimizer, True, background=True)
    assert handle is not None
    assert not handle.done()
    with pytest.raises(TimeoutError, match="still being written"):
        handle.result(timeout=0.01)
    train(optimizer, 8)
    gate.set()
    handle.result()
    assert handle.done()
    other = made("adam")
    sr.load(tmp_path / "x", other, True)
    assert everything(other) == before


def test_a_relative_path_is_that_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    from steprule.doors.checkpoint import api

    def late(*args: Any) -> None:
        gate.wait(30)
        _write(*args)

    monkeypatch.setattr(api, "write", late)
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "before")
    handle = sr.save("x", made("adam"), background=True)
    monkeypatch.chdir(tmp_path / "after")
    gate.set()
    assert handle is not None
    handle.result()
    assert (os.listdir(tmp_path / "before"), os.listdir(tmp_path / "after")) == (["x"], [])


def test_there_is_never_more_than_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.doors.checkpoint import api

    copies: list[int] = [0]
    most: list[int] = []

    def counted(tensors: Any) -> Any:
        copies[0] += 1
        most.append(copies[0])
        return snapshot(tensors)

    def slow(*args: Any) -> None:
        time.sleep(0.02)
        _write(*args)
        copies[0] -= 1

    monkeypatch.setattr(api, "snapshot", counted)
    monkeypatch.setattr(api, "write", slow)

    def work(own: int) -> None:
        for n in range(4):
            sr.save(tmp_path / f"{own}.{n}", made("adam"), background=True)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sr.load(tmp_path / "0.0")
    assert most == [1] * 12
    assert len(os.listdir(tmp_path)) == 12


def test_an_error_holds_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.doors.checkpoint import api

    held: list[Any] = []

    def watched(tensors: Any) -> Any:
        taken = snapshot(tensors)
        held.extend(weakref.ref(one) for one in taken.values())
        return taken

    monkeypatch.setattr(api, "snapshot", watched)
    handle = sr.save(tmp_path / "none" / "x", made("adam"), background=True)
    assert handle is not None
    with pytest.raises(FileNotFoundError):
        handle.result()
    assert held
    assert not any(reference() for reference in held)


def test_load_and_save_wait_for_a_save_of_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.doors.checkpoint import api

    def slow(*args: Any) -> None:
        time.sleep(0.2)
        _write(*args)

    monkeypatch.setattr(api, "write", slow)
    sr.save(tmp_path / "x", train(made("adam"), 1), background=True)
    sr.save(tmp_path / "x", train(made("adam"), 2), background=True, keep=1)
    assert sr.load(tmp_path / "x").t == 2
    assert sr.load(tmp_path / "x.1").t == 1


def test_an_error_that_nobody_asked_for_surfaces_at_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "x"
    sr.save(tmp_path / "other", made("adam"))
    calls: list[Callable[[], Any]] = [
        lambda: sr.load(path),
        lambda: sr.save(path, made("adam")),
        lambda: sr.load(tmp_path / "other"),
        lambda: sr.save(tmp_path / "other", made("adam")),
        lambda: sr.save(tmp_path / "other", made("adam"), background=True),
    ]
    for call in calls:
        (tmp_path / "there").rename(tmp_path / "gone")
        sr.save(path, made("adam"), background=True)
        time.sleep(0.05)
        with pytest.raises(FileNotFoundError, match="Make the directory first") as caught:
            call()
        assert f"save({str(path)!r}, ..., background=True)" in caught.value.__notes__[0]
        (tmp_path / "gone").rename(tmp_path / "there")
        sr.save(path, made("adam"))  # told once
    handle = sr.save(tmp_path / "none" / "x", made("adam"), background=True)
    assert handle is not None
    with pytest.raises(FileNotFoundError):
        handle.result()
    (tmp_path / "none").mkdir()
    sr.save(tmp_path / "none" / "x", made("adam"))  # who asked has been told


_AT_EXIT = """
import sys
import numpy as np, steprule as sr
optimizer = sr.Optimizer(np.ones(3_000_000), "adam")
sr.save(sys.argv[1], optimizer, background=True)
sr.save(sys.argv[1] + "/none", optimizer, background=True)
"""


def test_the_interpreter_finishes_what_is_being_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _AT_EXIT, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sr.load(tmp_path / "x").t == 0
    assert "x/none was not saved" in done.stderr


# Memory.


_PEAK = """
import resource, sys
import numpy as np, steprule as sr
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
theta = np.ones((2_000, 2_500), np.float32)
if sys.argv[2] == "turned":
    theta = theta.T
optimizer = sr.Optimizer(theta, "adam")
sr.save(sys.argv[1], sr.Optimizer(np.ones(3), "adam"), True)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
sr.save(sys.argv[1], optimizer, True)
print(peak() - before, sum(array.nbytes for array in optimizer.slots.values()))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of memory as Linux tells it")
@pytest.mark.parametrize("order", ["plain", "turned"])
def test_saving_copies_no_array(tmp_path: Path, order: str) -> None:
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "x"), order]
    grown, state = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert state == 40_000_000
    assert grown < 18_000_000, "three blocks of 4 MiB, and no array of 20 MB"


def test_a_path_leads_a_load_where_it_led_the_save(tmp_path: Path) -> None:
    """Also through a directory that is not there."""
    path = tmp_path / "none" / ".." / "x"
    sr.save(path, sr.Optimizer(np.ones(3), "adam"))
    assert sr.load(path).t == 0


@pytest.mark.parametrize("names", [("rescale",), ("rescale", "eps_root", "eps_hat")], ids=str)
def test_a_state_from_before_a_rule_had_an_option(names: tuple[str, ...]) -> None:
    """The option has its default then, which is what there was; numbers have no such meaning."""
    g = np.linspace(-1, 2, 5)
    theta = np.ones(5)
    optimizer = sr.Optimizer(theta, sr.cautious("adam"))
    optimizer.step(g)
    state, there = optimizer.state_dict(), theta.copy()
    for name in names:
        del state["groups"][0]["hyperparameters"][name]
    other = sr.Optimizer(there, sr.cautious("adam"), lr=0.5)
    other.load_state_dict(state)
    for own in (optimizer, other):
        own.step(g)
    assert theta.tobytes() == there.tobytes()
    del state["groups"][0]["hyperparameters"]["beta1"]
    with pytest.raises(StateError, match="has the hyperparameters"):
        other.load_state_dict(state)
