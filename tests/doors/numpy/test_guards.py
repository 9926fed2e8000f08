"""Guarded steps of the NumPy door: the norm in its order, clipping, skipped steps, and StableAdamW's rate."""

from __future__ import annotations

import copy
import math
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steprule as sr
from steprule.errors import HyperparameterError, NonFiniteError, StructureError
from steprule.rules.hyperparameters import Role
from steprule.runtime import launch
from tests.cases import CASES, COMBINED, SECOND_MOMENT, Array, Direct, assert_same_bits, case_id, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import SOME_CASES, swept
from tests.doors.numpy.test_formats import COMBINATIONS, arrays, assert_same_state, combination_id, fitting, gradients
from tests.papers import guards as paper

RULES = {**CATALOGUE, **COMBINED}
TYPES = ("float16", "float32", "float64")
BAD = (math.inf, -math.inf, math.nan)
# So small that its square is zero: its step shows the factor, every bit of it, and leaves the norm alone.
WITNESS = 2.0**-600
ROUNDS: dict[str, Callable[[float], float]] = {"float16": paper.single, "float32": paper.single, "float64": float}
# The loops write sums and products in another order, so the last bits differ; nothing else may.
RELATIVE = 1e-11


def spread(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float64") -> Array:
    """Return gradients of several sizes, whose sum of squares depends on the order in which they are added."""
    return np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 2, shape)).astype(dtype)


def laid_out(order: str, values: Array) -> Array:
    """Return an array of these values, of three axes, that lies in memory in that way."""
    a, b, c = values.shape
    homes: dict[str, Callable[[], Array]] = {
        "C": lambda: np.zeros((a, b, c), values.dtype),
        "Fortran": lambda: np.zeros((c, b, a), values.dtype).transpose(2, 1, 0),
        "transposed": lambda: np.zeros((b, a, c), values.dtype).transpose(1, 0, 2),
        "columns": lambda: np.zeros((a, b, 2 * c), values.dtype)[:, :, ::2],
        "backwards": lambda: np.zeros((a, b, c), values.dtype)[::-1],
        "unaligned": lambda: np.zeros(values.nbytes + 1, np.uint8)[1:].view(values.dtype).reshape(a, b, c),
    }
    made = homes[order]()
    made[...] = values
    return made


IN_MEMORY: dict[str, tuple[int, ...]] = {"C": (0, 1, 2), "Fortran": (2, 1, 0), "transposed": (1, 0, 2)}
LAYOUTS = [*IN_MEMORY, "columns", "backwards", "unaligned"]


def walked(values: Array, parameter: str = "C", gradient: str = "C") -> list[float]:
    """Return the elements of a gradient in the order in which they are added up."""
    follows = parameter == gradient and parameter in ("Fortran", "transposed")
    numbers = values.transpose(IN_MEMORY[parameter]) if follows else values
    return [float(x) for x in numbers.ravel(order="C")]


def factor_of(grads: list[Array], clip_norm: float, params: list[Array] | None = None, **options: Any) -> float:
    """Return the factor by which a step of plain gradient descent has multiplied the gradients."""
    params = [np.zeros_like(g) for g in grads] if params is None else params
    theta = np.zeros(())
    optimizer = sr.Optimizer([*params, theta], "sgd", lr=1.0, clip_norm=clip_norm, **options)
    optimizer.step([*grads, np.array(WITNESS)])
    return -float(theta) / WITNESS


def formats_of(rule: sr.Rule, formats: dict[str, Any], weights: bool = True) -> dict[str, Any]:
    """Return the formats that a rule has a use for."""
    return {name: x for name, x in fitting(rule, formats).items() if weights or name != "weights"}


def all_guards(name: str, **options: Any) -> dict[str, Any]:
    """Return every guard that a rule takes."""
    own = {"update_clip": True} if any(part in SECOND_MOMENT for part in re.split(r"\W+", name)) else {}
    return {"clip_norm": 0.7, "clip_value": 0.9, **own, **options}


# The norm, in its order.


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, 255, 16_383, 16_384, 16_385, 40_000])
def test_the_norm_of_one_array(n: int, dtype: str, backend: str) -> None:
    for seed in range(3):
        g = spread(np.random.default_rng([seed, n]), (n,), dtype)
        expected = paper.norm_factor([paper.sum_of_squares(walked(g))], 0.01)
        assert factor_of([g], 0.01, backend=backend) == expected


@settings(max_examples=40)
@given(
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), max_size=12),
    seed=st.integers(0, 2**31),
    dtypes=st.lists(st.sampled_from(TYPES), min_size=12, max_size=12),
    threads=st.sampled_from([1, 2]),
    chunk=st.sampled_from([1, 100, 5_000, None]),
)
def test_the_norm_of_many_arrays(
    shapes: list[tuple[int, ...]], seed: int, dtypes: list[str], threads: int, chunk: int | None
) -> None:
    rng = np.random.default_rng(seed)
    grads = [spread(rng, shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    expected = paper.norm_factor([paper.sum_of_squares(walked(g)) for g in grads], 1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "CHUNK", chunk)
        patch.setattr(launch, "WAKE_ELEMENTS", 1)
        sr.set_num_threads(threads)
        assert factor_of(grads, 1e-3) == expected


@pytest.mark.parametrize("chunk", [1, 1_000, 16_385, 50_000, None])
def test_the_norm_does_not_depend_on_threads_and_chunks(
    chunk: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "CHUNK", chunk)
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    grads = [spread(np.random.default_rng(n), (n,)) for n in (70_001, 3, 16_384, 33_000)]
    assert factor_of(grads, 0.01) == paper.norm_factor([paper.sum_of_squares(walked(g)) for g in grads], 0.01)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("along", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_norm_follows_memory_order(layout: str, along: str, backend: str) -> None:
    for seed in range(4):
        values = spread(np.random.default_rng(seed), (7, 30, 31))
        theta, g = laid_out(layout, np.zeros_like(values)), laid_out(along, values)
        expected = paper.norm_factor([paper.sum_of_squares(walked(values, layout, along))], 0.01)
        assert factor_of([g], 0.01, [theta], backend=backend) == expected
        assert_same_bits(np.ascontiguousarray(g), values, "the gradient, which is only read")


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("layout", ["C", "Fortran", "columns"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 3, 67), (300, 1, 130), (1, 1, 1), (2, 0, 3)], ids=str)
def test_the_norm_with_8_bit_slots_has_the_groups_as_lanes(shape: tuple[int, ...], layout: str, backend: str) -> None:
    values = spread(np.random.default_rng(6), shape, "float32")
    theta, g, witness = laid_out(layout, np.zeros_like(values)), laid_out(layout, values), np.zeros(())
    groups = [sr.Group([theta], states="8bit", min_elements=0), sr.Group([witness])]
    sr.Optimizer(groups, "momentum", lr=1.0, clip_norm=0.01, backend=backend).step([[g], [np.array(WITNESS)]])
    rows = [[float(x) for x in row.ravel()] for row in values]
    assert -float(witness) / WITNESS == paper.norm_factor([paper.sum_of_squares_in_groups(rows)], 0.01)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("layout", ["C", "Fortran"])
def test_the_norm_with_further_bits_of_weights_has_c_order(layout: str, backend: str) -> None:
    values = spread(np.random.default_rng(8), (40, 25, 30), "float16")
    theta, g, witness = laid_out(layout, np.zeros_like(values)), laid_out(layout, values), np.zeros(())
    groups = [sr.Group([theta], weights="split24"), sr.Group([witness])]
    sr.Optimizer(groups, "sgd", lr=1.0, clip_norm=0.01, backend=backend).step([[g], [np.array(WITNESS)]])
    assert -float(witness) / WITNESS == paper.norm_factor([paper.sum_of_squares(walked(values))], 0.01)


def test_the_norm_is_that_of_all_groups() -> None:
    grads = [spread(np.random.default_rng(n), (n,)) for n in (5, 300)]
    params = [np.zeros(5), np.zeros(300)]
    groups = [sr.Group(params[0], lr=1.0), sr.Group({"w": params[1]}, lr=0.5)]
    sr.Optimizer(groups, "sgd", lr=1.0, clip_norm=0.01).step([grads[0], {"w": grads[1]}])
    factor = paper.norm_factor([paper.sum_of_squares(walked(g)) for g in grads], 0.01)
    assert_same_bits(params[0], -np.array([x * factor for x in grads[0]]))
    assert_same_bits(params[1], -np.array([x * factor * 0.5 for x in grads[1]]))


# Clipping.


def stepped(grads: list[Array], clip_value: float | None, clip_norm: float | None) -> list[Array]:
    """Return where a step of plain gradient descent ends that begins at zero with lr=1, by loops."""
    limited: list[list[float]] = []
    for g in grads:
        rounds = ROUNDS[g.dtype.name]
        limit = None if clip_value is None else rounds(clip_value)
        limited.append([paper.clamped(x, limit) for x in walked(g)])
    factor = 1.0 if clip_norm is None else paper.norm_factor(map(paper.sum_of_squares, limited), clip_norm)
    found = []
    for g, numbers in zip(grads, limited, strict=True):
        rounds = ROUNDS[g.dtype.name]
        found.append(np.array([0.0 - rounds(x * rounds(factor)) for x in numbers]).astype(g.dtype).reshape(g.shape))
    return found


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(TYPES),
    special=st.lists(st.sampled_from([*BAD, 0.0, -0.0, 6e-8, 1e-40, -65504.0, 3e38, 0.25]), max_size=3),
    clip_value=st.sampled_from([None, 0.1, 0.25, 3.0, 1e30, 1e100]),
    clip_norm=st.sampled_from([None, 1e-30, 0.3, 1.0, 1e3, 1e300]),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_clipped_gradients(
    backend: str,
    seed: int,
    dtype: str,
    special: list[float],
    clip_value: float | None,
    clip_norm: float | None,
) -> None:
    grads = [spread(np.random.default_rng([seed, n]), (n,), dtype) for n in (3, 140)]
    grads[1][: len(special)] = special
    params = [np.zeros_like(g) for g in grads]
    before = [g.copy() for g in grads]
    optimizer = sr.Optimizer(params, "sgd", lr=1.0, backend=backend, clip_value=clip_value, clip_norm=clip_norm)
    optimizer.step(grads)
    for theta, g, was, expected in zip(params, grads, before, stepped(before, clip_value, clip_norm), strict=True):
        assert_same_bits(theta, expected)
        assert_same_bits(g, was, "the gradient, which is only read")


@pytest.mark.parametrize("size", [5.0, 1e308])
def test_an_infinite_norm_leaves_what_is_finite(size: float) -> None:
    theta = np.ones(12)
    sr.Optimizer(theta, "sgd", lr=1.0, clip_norm=1.0).step(np.array([size, -size] * 5 + [math.inf, size]))
    assert_same_bits(theta, np.array([1.0] * 10 + [math.nan, 1.0]))


def test_a_norm_that_is_no_number_is_propagated() -> None:
    theta = np.ones(3)
    sr.Optimizer(theta, "sgd", lr=1.0, clip_norm=1.0).step(np.array([1.0, math.nan, 0.0]))
    assert np.isnan(theta).all()


@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 3e38), ("float64", 1e200), ("float64", 8e307)])
def test_huge_gradients_are_clipped_and_not_refused(dtype: str, size: float, nonfinite: str, backend: str) -> None:
    theta = {"a": np.zeros(3, dtype), "b": np.zeros((2, 2), dtype)}
    grads = {"a": np.array([size, -size, 0], dtype), "b": np.full((2, 2), size / 2, dtype)}
    optimizer = sr.Optimizer(theta, "sgd", lr=1.0, clip_norm=3.0, nonfinite=nonfinite, backend=backend)
    optimizer.step(grads)
    one = 3.0 / math.sqrt(3.0)  # the norm is sqrt(1 + 1 + 4 / 4) of the size
    step = -np.array([one, -one, 0.0])
    np.testing.assert_allclose(theta["a"], step, rtol=1e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_allclose(theta["b"], np.full((2, 2), -one / 2), rtol=1e-6 if dtype == "float32" else 1e-14)
    assert (optimizer.t, optimizer.skipped) == (1, 0)


def test_huge_gradients_without_clip_norm_are_no_reason_to_skip() -> None:
    theta = np.zeros(2)
    optimizer = sr.Optimizer(theta, "sgd", lr=1.0, nonfinite="skip")
    optimizer.step(np.array([1e200, -1e308]))
    assert_same_bits(theta, np.array([-1e200, 1e308]))


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_limit_that_nothing_reaches_changes_no_bit(name: str) -> None:
    shapes = [(3, 50), (7,)]
    for dtype in ("float32", "float64"):
        free = sr.Optimizer(arrays(dtype, shapes), name)
        bound = sr.Optimizer(arrays(dtype, shapes), name, clip_norm=1e300, clip_value=1e300, nonfinite="skip")
        for t in range(3):
            grads = [spread(np.random.default_rng([t, n]), shape, dtype) for n, shape in enumerate(shapes)]
            free.step(grads)
            bound.step(grads)
        assert_same_state(free, bound, f"{name} {dtype}")


@settings(max_examples=20)
@given(power=st.integers(40, 60), seed=st.integers(0, 2**31), dtype=st.sampled_from(["float32", "float64"]))
def test_clipped_steps_do_not_depend_on_the_scale_of_the_gradients(power: int, seed: int, dtype: str) -> None:
    # 1e-6 is lost in a norm of 2^40, so that every number is scaled by a power of two, exactly.
    grads = [spread(np.random.default_rng([seed, n]), (n,), dtype) * 2.0**40 for n in (3, 140)]
    ends = []
    for scale in (1.0, 2.0 ** (power - 40)):
        optimizer = sr.Optimizer([np.ones(3, dtype), np.ones(140, dtype)], "adam", clip_norm=0.5)
        for _ in range(2):
            optimizer.step([(g * scale).astype(dtype) for g in grads])
        ends.append(optimizer)
    assert_same_state(ends[0], ends[1])


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_gradients_in_the_memory_of_parameters(backend: str) -> None:
    start = spread(np.random.default_rng(4), (2, 64, 64))
    x, y = start.copy()
    optimizer = sr.Optimizer([x, y], "sgd", lr=1.0, clip_norm=0.5, backend=backend)
    optimizer.step([y, x.T])
    other = [start[0].copy(), start[1].copy()]
    sr.Optimizer(other, "sgd", lr=1.0, clip_norm=0.5, backend=backend).step([start[1].copy(), start[0].copy().T])
    assert_same_bits(x, other[0])
    assert_same_bits(y, other[1])


def test_steps_without_parameters() -> None:
    several: list[Any] = [[], np.zeros((0, 3)), {"w": np.zeros(0)}, {"w": []}]
    for params in several:
        optimizer = sr.Optimizer(params, "adam", clip_norm=1.0, nonfinite="skip", update_clip=True)
        optimizer.step(params)
        assert (optimizer.t, optimizer.skipped) == (1, 0)
    theta = np.zeros(2)
    sr.Optimizer([sr.Group([]), sr.Group(theta)], "sgd", lr=1.0, clip_norm=1.0).step([[], np.array([3.0, 4.0])])
    assert_same_bits(theta, np.array([0.0 - x * (1.0 / (5.0 + 1e-6)) for x in (3.0, 4.0)]))


# Machine code and the referee.


@pytest.mark.parametrize("case", swept(CASES, SOME_CASES), ids=case_id)
def test_every_rule_equals_the_referee(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    shapes = [(3, 129), (5,), (), (0,)]
    guards = all_guards(name, **options)
    mine = sr.Optimizer(arrays("float32", shapes), name, **guards)
    referee = sr.Optimizer(arrays("float32", shapes), name, backend="numpy", **guards)
    for t in range(4):
        grads = [spread(np.random.default_rng([t, n]), shape, "float32") for n, shape in enumerate(shapes)]
        if t == 3:
            grads = gradients("float32", shapes, t)
        mine.step(grads)
        referee.step(grads)
        assert_same_state(mine, referee, f"{case_id(case)} t={t}")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_in_formats_equals_the_referee(name: str) -> None:
    shapes = [(3, 129), (2, 200, 2), (5,)]
    dtype, formats = COMBINATIONS[len(name) % len(COMBINATIONS)]
    options = {**formats_of(RULES[name], formats), **all_guards(name)}
    mine = sr.Optimizer(arrays(dtype, shapes), RULES[name], **options)
    referee = sr.Optimizer(arrays(dtype, shapes), RULES[name], backend="numpy", **options)
    for t in range(3):
        grads = [spread(np.random.default_rng([t, n]), shape, dtype) for n, shape in enumerate(shapes)]
        mine.step(grads)
        referee.step(grads)
    assert_same_state(mine, referee, f"{name} {dtype}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_equal_the_referee(layout: str) -> None:
    values = spread(np.random.default_rng(7), (9, 30, 31))
    pair = [
        sr.Optimizer([laid_out(layout, values)], "adamw", backend=backend, **all_guards("adamw", beta2=0.9))
        for backend in ("llvm", "numpy")
    ]
    for t, along in enumerate([layout, *LAYOUTS]):
        g = spread(np.random.default_rng([t, 7]), values.shape)
        for optimizer in pair:
            optimizer.step([laid_out(along, g)])
        assert_same_state(pair[0], pair[1], f"gradient {along}")


@pytest.mark.parametrize(("dtype", "formats"), COMBINATIONS, ids=combination_id)
@pytest.mark.parametrize("chunk", [1, 10**9])
def test_threads_and_chunks_in_formats(
    chunk: int, dtype: str, formats: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(40, 129), (3, 1000), (200, 5), (300,), ()]
    alone = sr.Optimizer(arrays(dtype, shapes), "adamw", **all_guards("adamw"), **formats)
    monkeypatch.setattr(launch, "CHUNK", chunk)
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    mine = sr.Optimizer(arrays(dtype, shapes), "adamw", **all_guards("adamw"), **formats)
    for t in range(3):
        grads = [spread(np.random.default_rng([t, n]), shape, dtype) for n, shape in enumerate(shapes)]
        mine.step(grads)
        alone.step(grads)
    assert_same_state(mine, alone)


# Steps that are refused.


def poisoned(grads: list[Array], rng: np.random.Generator) -> list[Array]:
    """Return copies of gradients with some element that is not finite."""
    bad = [g.copy() for g in grads]
    some = bad[int(rng.choice([i for i, g in enumerate(bad) if g.size]))]
    some.flat[int(rng.integers(some.size))] = rng.choice(BAD)
    return bad


def future(rule: sr.Rule, dtype: str, options: dict[str, Any], bad: bool) -> sr.Optimizer:
    """Return an optimizer after six steps, with others to be skipped between them where bad."""
    shapes = [(3, 129), (5,), ()]
    rng = np.random.default_rng(3)
    optimizer = sr.Optimizer(arrays(dtype, shapes), rule, nonfinite="skip", **options)
    for t in range(6):
        grads = [spread(np.random.default_rng([t, n]), shape, dtype) for n, shape in enumerate(shapes)]
        for _ in range(t % 3 if bad else 0):
            optimizer.step(poisoned(grads, rng))
        optimizer.step(grads)
    assert optimizer.skipped == (6 if bad else 0)
    assert optimizer.guards.in_a_row == 0
    return optimizer


@pytest.mark.parametrize("name", RULES)
def test_skipped_steps_leave_the_future_as_it_was(name: str) -> None:
    for dtype, formats in (("float32", {}), COMBINATIONS[len(name) % len(COMBINATIONS)]):
        options = {**formats_of(RULES[name], formats), **all_guards(name)}
        with_bad, without = (future(RULES[name], dtype, options, bad) for bad in (True, False))
        assert_same_state(with_bad, without, f"{name} {dtype}")
        assert with_bad.t == without.t == 6
        scalars = sorted(RULES[name].scalars)
        assert [with_bad.slots.get(slot) for slot in scalars] == [without.slots.get(slot) for slot in scalars]


@pytest.mark.parametrize(("dtype", "formats"), COMBINATIONS, ids=combination_id)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_skipped_steps_leave_formats_as_they_were(dtype: str, formats: dict[str, Any], backend: str) -> None:
    options = {**formats, "backend": backend, "seed": 3} if "split32" not in formats.values() else formats
    with_bad, without = (future(CATALOGUE["adamw"], dtype, options, bad) for bad in (True, False))
    assert_same_state(with_bad, without)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    layout=st.sampled_from([(1, 1), (2, 1), (1, -1), (3, -1)]),
    dtype=st.sampled_from(TYPES),
    value=st.sampled_from([*BAD, 1e-300, 65504.0, 3.4e38, 1.7e308, -0.0]),
    place=st.integers(0, 10**6),
    limits=st.sampled_from([(None, None), (1.0, None), (None, 1.0), (2.0, 1.0)]),
    backend=st.sampled_from(["llvm", "numpy"]),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_step_is_skipped_just_where_an_element_is_not_finite(
    shape: tuple[int, ...],
    layout: tuple[int, int],
    dtype: str,
    value: float,
    place: int,
    limits: tuple[float | None, float | None],
    backend: str,
) -> None:
    (apart, way), (size, norm) = layout, limits
    g: Array = np.zeros((*shape[:-1], shape[-1] * apart) if shape else (), dtype)
    g = g[..., :: apart * way] if shape else g
    if g.size:
        g.flat[place % g.size] = value
    theta = np.ones_like(g)
    guards: dict[str, Any] = {"clip_value": size, "clip_norm": norm, "nonfinite": "skip"}
    optimizer = sr.Optimizer([theta, np.zeros(3)], "sgd", lr=1.0, backend=backend, **guards)
    optimizer.step([g, np.ones(3)])
    bad = not all(map(math.isfinite, walked(g)))
    assert (optimizer.skipped, optimizer.t) == ((1, 0) if bad else (0, 1))
    assert (optimizer.params[1] == 0.0).all() == bad
    assert not bad or (theta == 1.0).all()


@pytest.mark.parametrize("max_skips", [0, 1, 3, None])
def test_skips_in_a_row_end_in_an_error(max_skips: int | None) -> None:
    given: dict[str, Any] = {} if max_skips is None else {"max_skips": max_skips}
    theta, most = {"w": np.ones(3)}, 10 if max_skips is None else max_skips
    optimizer = sr.Optimizer(theta, "adam", nonfinite="skip", **given)
    bad, good = {"w": np.array([math.inf, 0.0, math.nan])}, {"w": np.ones(3)}
    for _ in range(most):
        optimizer.step(bad)
    if most:
        optimizer.step(good)  # ends the row
        for _ in range(most):
            optimizer.step(bad)
    before, state = theta["w"].copy(), optimizer.state_dict()
    assert optimizer.guards.in_a_row == most
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=re.escape("params['w'] (2 of 3 elements)")):
            optimizer.step(bad)
    assert_same_bits(theta["w"], before)
    np.testing.assert_equal(optimizer.state_dict(), state)
    optimizer.step(good)
    assert (optimizer.t, optimizer.guards.in_a_row) == (2 if most else 1, 0)
    assert optimizer.skipped == 2 * most


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("clips", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}], ids=str)
def test_errors_name_every_parameter_and_change_nothing(clips: dict[str, Any], backend: str) -> None:
    def model() -> Any:
        return {"w": np.ones((40, 30)), "b": [np.ones(3), np.ones((2, 2))[:, ::-1], np.ones(())]}

    params, grads = model(), model()
    optimizer = sr.Optimizer(params, "nadam", nonfinite="raise", backend=backend, **clips)
    optimizer.step(grads)
    grads["w"][:] = math.inf
    grads["b"][1][0, 1] = math.nan
    grads["b"][2][...] = -math.inf
    before, state = copy.deepcopy(params), optimizer.state_dict()
    with pytest.raises(NonFiniteError, match="nothing was stepped") as caught:
        optimizer.step(grads)
    for part in ("params['w'] (1,200 of 1,200", "params['b'][1] (1 of 4", "params['b'][2] (1 of 1"):
        assert part in str(caught.value)
    assert "params['b'][0]" not in str(caught.value)
    np.testing.assert_equal(params, before)
    np.testing.assert_equal(optimizer.state_dict(), state)
    optimizer.step(model())
    assert (optimizer.t, optimizer.skipped) == (2, 0)


def test_errors_name_parameters_of_groups() -> None:
    optimizer = sr.Optimizer([sr.Group(np.ones(2)), sr.Group({"w": np.ones(3)})], "sgd", nonfinite="raise")
    with pytest.raises(NonFiniteError, match=re.escape("params[1]['w'] (1 of 3 elements)")):
        optimizer.step([np.ones(2), {"w": np.array([0.0, math.nan, 1.0])}])


def test_a_refused_step_is_asked_of_schedules_again() -> None:
    asked: list[int] = []

    def lr(t: int) -> float:
        asked.append(t)
        return 1.0 / t

    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, "sgd", lr=lr, nonfinite="skip")
    for g in (1.0, math.nan, math.inf, 1.0):
        optimizer.step(np.array([g]))
    assert asked == [1, 2, 2, 2]
    assert_same_bits(theta, np.array([-1.5]))


def test_a_wrong_gradient_is_an_error_before_it_is_a_skip() -> None:
    optimizer = sr.Optimizer([np.ones(2), np.ones(3)], "sgd", nonfinite="skip")
    with pytest.raises(StructureError):
        optimizer.step([np.full(2, math.nan), np.ones(4)])
    assert (optimizer.skipped, optimizer.guards.in_a_row) == (0, 0)


# The update's clipping.


def moments_of(name: str, options: dict[str, Any], gradients: list[list[float]]) -> tuple[list[list[float]], float]:
    """Return what a rule's update is compared to after each step, by loops, and its epsilon."""
    o: dict[str, Any] = {**{k: h.default for k, h in CATALOGUE[name].hyperparameters.items()}, **options}
    beta2 = o.get("rho" if name == "rmsprop" else "beta2", 0.0)
    usual = lambda: paper.averages(gradients, beta2, o.get("bias_correction", True))  # noqa: E731
    found: dict[str, Callable[[], list[list[float]]]] = {
        **dict.fromkeys(("adam", "adamw", "nadam", "radam", "ademamix", "schedule_free_adamw"), usual),
        "amsgrad": lambda: paper.largest_averages(gradients, beta2, o["correction"]),
        "yogi": lambda: paper.additive(gradients, beta2, o["initial_accumulator"], o["bias_correction"]),
        "rmsprop": lambda: paper.averages(gradients, beta2, False),
        # ADOPT divides by what the step before left, at first by nothing.
        "adopt": lambda: [[0.0] * len(gradients[0]), *paper.from_the_first(gradients, beta2)[:-1]],
        "adan": lambda: paper.ahead(gradients, beta2, o["beta3"], o["bias_correction"]),
    }
    return found.get(name, lambda: told_by(CATALOGUE[name], o, gradients))(), o["eps"]


def told_by(rule: sr.Rule, values: dict[str, Any], gradients: list[list[float]]) -> list[list[float]]:
    """Return what a rule's function calls v_hat, for a second moment v, or v where it has none, in each step: its own
    variables when it returns. For rules that have no loop of their own for it."""
    told: list[list[float]] = []
    moment = rule.slot_of(Role.SECOND_MOMENT) or ""

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is rule.function.__code__:
            told.append(np.asarray(frame.f_locals.get(f"{moment}_hat", frame.f_locals[moment])).tolist())

    direct = Direct(rule, np.zeros(len(gradients[0])), **values)
    sys.setprofile(look)
    try:
        for g in gradients:
            direct.step(np.array(g))
    finally:
        sys.setprofile(None)
    return told


def test_a_rule_tells_its_second_moment_as_the_loops_do() -> None:
    gradients = rising(5, 6).tolist()
    for name in ("adam", "radam", "yogi"):
        values = {key: hyper.default for key, hyper in CATALOGUE[name].hyperparameters.items()}
        told = told_by(CATALOGUE[name], values, gradients)
        np.testing.assert_allclose(told, moments_of(name, {}, gradients)[0], rtol=RELATIVE)


def rising(n: int, steps: int, seed: int = 0) -> Array:
    """Return gradients some of which rise, so that updates are clipped, and others fall, so that they are not."""
    rng = np.random.default_rng(seed)
    noise = 1 + 0.3 * rng.standard_normal((steps, n))
    numbers: Array = rng.standard_normal(n) * noise * np.linspace(1, 5, steps)[:, None] ** rng.choice([-2, 3], n)
    return numbers


@pytest.mark.parametrize("case", swept([case for case in CASES if case[0] in SECOND_MOMENT], SOME_CASES), ids=case_id)
def test_the_update_is_clipped_by_a_lower_learning_rate(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    betas = [key for key in CATALOGUE[name].hyperparameters if key.startswith("beta")]
    average = {"rmsprop": "rho", "ademamix": "beta2"}.get(name) or betas[-1]
    options = {**options, average: 0.95}
    # Iterates of schedule-free rules are weighted by the rate that is given: here all alike, whatever it is.
    weights: dict[str, Any] = {"weight_lr_power": 0.0} if "weight_lr_power" in CATALOGUE[name].hyperparameters else {}
    paths = [rising(9, 12), rising(4, 12, 1)]
    theta, plain = ([np.linspace(-2, 3, 9), np.full((2, 2), 0.5)] for _ in range(2))
    optimizer = sr.Optimizer(theta, name, update_clip=True, **options, **weights)
    by_hand = [sr.Optimizer(x, name, **options, **weights) for x in plain]
    lr, clipped = optimizer.groups[0]["lr"], []
    for t in range(12):
        optimizer.step([paths[0][t], paths[1][t].reshape(2, 2)])
        for own, path in zip(by_hand, paths, strict=True):
            moments, eps = moments_of(name, options, path[: t + 1].tolist())
            clipped.append(paper.update_factor(path[t].tolist(), moments[t], eps))
            own.groups[0]["lr"] = lr * clipped[-1]
            own.step(path[t].reshape(own.params.shape))
        for mine, expected in zip(theta, plain, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=RELATIVE)
    assert min(clipped) < 0.95, "nothing is shown by updates that were not clipped"


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("options", [{}, {"beta2": 0.9, "weight_decay": 0.3, "eps": 0.05, "lr": 0.02}], ids=str)
def test_stable_adamw_equals_its_paper(options: dict[str, Any], backend: str) -> None:
    gradients = rising(7, 20)
    theta = np.linspace(-2, 3, 7)
    path = paper.run_stable_adamw(theta.tolist(), gradients.tolist(), **options)
    optimizer = sr.Optimizer(theta, "adamw", update_clip=True, backend=backend, **options)
    for g, expected in zip(gradients, path, strict=True):
        optimizer.step(g)
        np.testing.assert_allclose(theta, expected, rtol=RELATIVE)


def test_the_update_is_measured_after_the_gradient_is_clipped() -> None:
    gradients = rising(7, 20) * 20
    theta = np.linspace(-2, 3, 7)
    limited = [[paper.clamped(x, 30.0) for x in g] for g in gradients.tolist()]
    factors = [paper.norm_factor([paper.sum_of_squares(g)], 5.0) for g in limited]
    given = [[x * factor for x in g] for g, factor in zip(limited, factors, strict=True)]
    path = paper.run_stable_adamw(theta.tolist(), given, beta2=0.9)
    optimizer = sr.Optimizer(theta, "adamw", update_clip=True, beta2=0.9, clip_norm=5.0, clip_value=30.0)
    for g, expected in zip(gradients, path, strict=True):
        optimizer.step(g)
        np.testing.assert_allclose(theta, expected, rtol=RELATIVE)
    assert np.abs(gradients).max() > 30
    assert min(factors) < 0.5


@pytest.mark.parametrize("value", BAD)
def test_an_update_that_is_not_finite_is_not_clipped(value: float) -> None:
    grads = [np.full(4, 3.0), np.array([1.0, value, 1e3, -2.0])]
    ends = []
    for update_clip in (True, False):
        optimizer = sr.Optimizer(np.ones(4), "adam", update_clip=update_clip, beta2=0.9)
        for g in grads:
            optimizer.step(g)
        ends.append(optimizer)
    assert_same_state(ends[0], ends[1])
    assert np.isfinite(ends[0].params).sum() == 3


def test_tiny_gradients_without_epsilon_are_clipped_alike() -> None:
    ends = []
    for size in (1.0, 2.0**-100):
        theta = np.zeros(2)
        optimizer = sr.Optimizer(theta, "rmsprop", update_clip=True, eps=0.0)
        for x in (1.0, 3.0):
            optimizer.step(np.array([size, size * x]))
        ends.append(theta)
    assert_same_bits(ends[0], ends[1])


def test_a_ratio_too_large_to_be_squared_is_not_clipped() -> None:
    # Adan looks ahead to g + beta2 (g - g_prev), which is zero at the second step, where g is not.
    ends = []
    for update_clip in (True, False):
        optimizer = sr.Optimizer(np.ones(2), "adan", update_clip=update_clip, beta2=0.5, beta3=0.0)
        for x in (3.0 * 2.0**500, 2.0**500):
            optimizer.step(np.array([x, 1.0]))
        ends.append(optimizer)
    assert_same_state(ends[0], ends[1])
    assert np.isfinite(ends[0].params).all()


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adopt"])
def test_gradients_of_zero_are_no_reason_to_clip(name: str) -> None:
    ends = []
    for update_clip in (True, False):
        theta = np.ones((2, 3), np.float32)
        optimizer = sr.Optimizer(theta, name, update_clip=update_clip)
        for _ in range(3):
            optimizer.step(np.zeros((2, 3), np.float32))
        ends.append(optimizer)
    assert_same_state(ends[0], ends[1])


def test_the_update_follows_schedules_and_groups() -> None:
    paths = [rising(5, 10), rising(5, 10, 1)]
    theta = [np.ones(5), np.ones(5)]
    rates: list[Callable[[int], float]] = [lambda t: 0.01 * t, lambda t: 0.3 / t]
    groups = [sr.Group(x, lr=lr) for x, lr in zip(theta, rates, strict=True)]
    optimizer = sr.Optimizer(groups, "adamw", beta2=0.9, update_clip=True)
    other = [sr.Optimizer(np.ones(5), "adamw", beta2=0.9, update_clip=True) for _ in theta]
    for t in range(10):
        optimizer.step([path[t] for path in paths])
        for own, path, lr in zip(other, paths, rates, strict=True):
            own.groups[0]["lr"] = lr(t + 1)
            own.step(path[t])
    for x, own in zip(theta, other, strict=True):
        assert_same_bits(x, own.params)


@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - set(SECOND_MOMENT)))
def test_rules_without_a_second_moment_refuse_to_clip_updates(name: str) -> None:
    with pytest.raises(HyperparameterError, match="update_clip.*" + name):
        sr.Optimizer(np.ones(3), name, update_clip=True)


# Options.


@pytest.mark.parametrize(
    "options",
    [
        *({"clip_norm": value} for value in (0, 0.0, -1, math.inf, math.nan, "x", True, [1.0])),
        *({"clip_value": value} for value in (0, 0.0, -1, math.inf, math.nan, "x", True, [1.0])),
        *({"nonfinite": value} for value in ("ignore", "", None, True, 3, ["skip"])),
        *({"max_skips": 3, "nonfinite": value} for value in ("propagate", "raise")),
        *({"max_skips": value, "nonfinite": "skip"} for value in (-1, 1.0, True, "3", math.nan)),
        *({"update_clip": value} for value in (1, 0, None, "yes", 1.0)),
        {"max_skips": 3},
    ],
    ids=str,
)
def test_options_out_of_range_or_without_effect(options: dict[str, Any]) -> None:
    with pytest.raises(HyperparameterError, match=next(iter(options))):
        sr.Optimizer(np.ones(3), "adam", **options)


def test_the_word_of_minimize() -> None:
    with pytest.raises(
        HyperparameterError, match=r"one of propagate, skip, raise, got 'stop'\. .* 'raise' ends the run"
    ):
        sr.Optimizer(np.zeros(3), "adam", nonfinite="stop")


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "nonfinite", "max_skips"])
def test_guards_of_all_gradients_are_for_all_groups(name: str) -> None:
    own: dict[str, Any] = {name: {"nonfinite": "skip"}.get(name, 1)}
    with pytest.raises(HyperparameterError, match=name):
        sr.Optimizer([sr.Group(np.ones(3), **own)], "adam")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_keep_the_guards(copied: Callable[[Any], Any]) -> None:
    shapes = [(3, 129), (5,)]
    options = all_guards("adamw", nonfinite="skip", max_skips=3)
    optimizer = sr.Optimizer(arrays("float32", shapes), "adamw", **options)
    bad = [np.full(shape, math.nan, np.float32) for shape in shapes]
    for t in range(3):
        optimizer.step(gradients_of(shapes, t))
    optimizer.step(bad)
    optimizer.step(bad)
    twin = copied(optimizer)
    twin.step(bad)
    with pytest.raises(NonFiniteError):
        twin.step(bad)
    assert (optimizer.skipped, twin.skipped) == (2, 3)
    for t in range(3):
        optimizer.step(gradients_of(shapes, t))
        twin.step(gradients_of(shapes, t))
    assert_same_state(optimizer, twin)


def gradients_of(shapes: list[tuple[int, ...]], t: int) -> list[Array]:
    """Return gradients that depend on t alone."""
    return [spread(np.random.default_rng([t, n]), shape, "float32") for n, shape in enumerate(shapes)]


def test_guards_after_a_change_of_options() -> None:
    theta = np.ones(4)
    optimizer = sr.Optimizer(theta, "momentum", lr=1.0, mu=0.5, clip_norm=0.5, nonfinite="skip")
    optimizer.step(np.full(4, 3.0))
    optimizer.step(np.full(4, math.nan))
    optimizer.groups[0]["nesterov"] = True
    optimizer.step(np.full(4, math.nan))
    optimizer.step(np.full(4, 3.0))
    g = 3.0 * paper.norm_factor([36.0], 0.5)
    b = 0.5 * g + g
    assert_same_bits(theta, np.full(4, 1.0 - g - (g + 0.5 * b)))
    assert (optimizer.skipped, optimizer.t) == (2, 2)


def test_a_resumed_run_is_guarded_alike() -> None:
    shapes = [(3, 129), (5,)]
    guards = all_guards("adamw", nonfinite="skip")
    first = sr.Optimizer(arrays("float32", shapes), "adamw", **guards)
    for t in range(3):
        first.step(gradients_of(shapes, t))
    other = sr.Optimizer([np.array(p) for p in first.params], "adamw", **guards)
    other.load_state_dict(first.state_dict())
    for t in range(3, 6):
        first.step(gradients_of(shapes, t))
        other.step(gradients_of(shapes, t))
    assert_same_state(first, other)


def test_wild_gradients_equal_the_referee() -> None:
    shapes = [(40, 129), (300,), ()]
    for guards in (all_guards("adam"), {"clip_norm": 1.0}, {"update_clip": True}, {"clip_value": 2.0}):
        for dtype in TYPES:
            mine, referee = (
                sr.Optimizer(arrays(dtype, shapes), "adam", backend=backend, **guards) for backend in ("llvm", "numpy")
            )
            for t in range(3):
                rng = np.random.default_rng(t)
                grads = [wild(rng, math.prod(shape), dtype).reshape(shape) for shape in shapes]
                mine.step(grads)
                referee.step(grads)
                assert_same_state(mine, referee, f"{guards} {dtype}")


def test_a_norm_beyond_float64_is_clipped() -> None:
    theta = np.zeros(2)
    sr.Optimizer(theta, "sgd", lr=1.0, clip_norm=1.0).step(np.array([1.7e308, 1.7e308]))
    np.testing.assert_allclose(theta, -np.sqrt(0.5), rtol=1e-15)


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "nonfinite", "max_skips", "update_clip"])
def test_options_are_fixed(name: str) -> None:
    optimizer = sr.Optimizer(np.zeros(3), "adam", clip_norm=1.0, nonfinite="skip")
    before = getattr(optimizer.guards, name)
    with pytest.raises(AttributeError, match=f"{name} is fixed when the optimizer is made"):
        setattr(optimizer.guards, name, -1)
    assert getattr(optimizer.guards, name) == before


def test_options_are_refused_in_groups() -> None:
    for name, value in (("clip_norm", 1.0), ("nonfinite", "skip"), ("backend", "numpy"), ("seed", 3)):
        with pytest.raises(HyperparameterError, match=f"{name} is for all groups together"):
            sr.Group([np.zeros(3)], **{name: value})  # type: ignore[arg-type]


@sr.rule()
def with_choices(
    theta: Any,
    g: Any,
    v: sr.SecondMoment,
    *,
    lr: sr.Rate = 1e-3,
    beta: sr.Decay = 0.9,
    eps: sr.NonNegative = 1e-8,
    uses_eps: bool = False,
    uses_lr: bool = True,
) -> Any:
    v = beta * v + (1 - beta) * g**2
    root = sr.sqrt(v) + eps if uses_eps else sr.sqrt(v)
    return theta - (lr if uses_lr else 1.0) * g / root, v


def test_a_variant_without_epsilon_clips_its_updates() -> None:
    theta = np.zeros(2)
    sr.Optimizer(theta, with_choices, update_clip=True, lr=1.0).step(np.array([1.0, 1.0]))
    np.testing.assert_allclose(theta, -1.0, rtol=1e-15)  # 1 / sqrt(0.1), divided by as much


def test_a_variant_without_lr_is_refused_at_once_and_later() -> None:
    with pytest.raises(HyperparameterError, match="update_clip lowers lr, which rule 'with_choices' does not use"):
        sr.Optimizer(np.zeros(2), with_choices, update_clip=True, uses_lr=False)
    theta = np.zeros(2)
    optimizer = sr.Optimizer(theta, with_choices, update_clip=True)
    optimizer.groups[0]["uses_lr"] = False
    for _ in range(2):
        with pytest.raises(HyperparameterError, match="update_clip lowers lr"):
            optimizer.step(np.ones(2))
    assert not theta.any()
    assert optimizer.t == 0
    optimizer.groups[0]["uses_lr"] = True
    optimizer.step(np.ones(2))
    np.testing.assert_allclose(theta, -1e-3, rtol=1e-14)
