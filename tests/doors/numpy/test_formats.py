"""Memory formats in the NumPy door: the same bits however a step is run, resumed, sharded or refused."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import steprule as sr
from steprule.formats import GROUP, SLOT_FORMATS
from steprule.launch import strided
from steprule.runtime import launch
from steprule.runtime.driver import driver
from tests.cases import COMBINED, Array, assert_same_bits, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import rotated

RULES = {**CATALOGUE, **COMBINED}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SMALLEST: dict[str, Any] = {"states": "8bit", "weights": "split24", "min_elements": 0}
# Type of the parameters and formats.
Combination = tuple[str, dict[str, Any]]
EIGHT_BIT: Combination = ("float32", {"states": "8bit", "min_elements": 0})
SPLIT24_EIGHT_BIT: Combination = ("bfloat16", SMALLEST)
STOCHASTIC: Combination = ("bfloat16", {"states": "bfloat16", "weights": "stochastic", "min_elements": 0})
HALF_STOCHASTIC: Combination = ("float16", {"states": "8bit", "weights": "stochastic", "min_elements": 0})
HALF_SPLIT24: Combination = ("float16", {"states": "bfloat16", "weights": "split24", "min_elements": 0})
# Together they have every format of both.
COMBINATIONS: list[Combination] = [
    *(("float32", {"states": states, "min_elements": 0}) for states in SLOT_FORMATS),
    *(("bfloat16", {**SMALLEST, "states": one.name}) for one in SLOT_FORMATS.values() if one.signed.is_coded),
    STOCHASTIC,
    ("bfloat16", {"weights": "split32"}),
    HALF_STOCHASTIC,
    HALF_SPLIT24,
    ("float16", {"weights": "split32"}),
]
SHAPES: list[tuple[int, ...]] = [(), (0,), (2, 0, 3), (1,), (300,), (3, 5), (7, 128), (2, 129), (3, 2, 70)]


def combination_id(value: Any) -> str | None:
    """Return the readable id of formats; pytest makes that of other values."""
    if isinstance(value, tuple):
        return f"{value[0]}-{combination_id(value[1])}"
    if not isinstance(value, dict):
        return None
    return "-".join(str(value[name]) for name in ("states", "weights") if name in value)


def fitting(rule: sr.Rule, formats: dict[str, Any]) -> dict[str, Any]:
    """Return the formats without those of slots, for a rule that has none."""
    if {*rule.trace().slots} - rule.points:
        return formats
    return {name: value for name, value in formats.items() if name == "weights"}


def assert_same_plane(a: Array, b: Array, coding: str, what: str) -> None:
    """Assert that planes are equal in every bit; a NaN equals a NaN, also as a code."""
    if a.dtype.kind == "f":
        assert_same_bits(a, b, what)
        return
    assert (a.dtype, a.shape) == (b.dtype, b.shape), what
    for plane in (a, b) if coding.startswith("8bit signed") and a.dtype == np.uint8 else ():
        plane[plane == 129] = 1
    for plane in (a, b) if coding == "bfloat16" else ():
        plane[(plane & 0x7FFF) > 0x7F80] = 0x7FC0
    assert np.array_equal(a, b), f"{what}: {int((a != b).sum())} of {a.size} differ"


def assert_same_state(a: sr.Optimizer, b: sr.Optimizer, what: str = "") -> None:
    """Assert that two optimizers have the same parameters and the same planes."""
    for one, other in zip(a._structure.leaves(a.params), b._structure.leaves(b.params), strict=True):
        assert_same_bits(np.asarray(one), np.asarray(other), f"{what} theta")
    first, second = a.state_dict(), b.state_dict()
    assert (first["t"], first["formats"]) == (second["t"], second["formats"])
    for place, planes in first["slots"].items():
        for name, plane in planes.items():
            coding = first["formats"][place].get(name, "")
            assert_same_plane(plane, second["slots"][place][name], coding, f"{what} {place} {name}")


def arrays(dtype: str, shapes: list[tuple[int, ...]], seed: int = 0) -> list[Array]:
    """Return parameters of these shapes."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def gradients(dtype: str, shapes: list[tuple[int, ...]], t: int) -> list[Array]:
    """Return gradients that depend on t alone."""
    rng = np.random.default_rng([7, t])
    return [wild(rng, int(np.prod(shape)), dtype).reshape(shape) for shape in shapes]


def _pair(params: Any, rule: Any = "adam", **options: Any) -> tuple[sr.Optimizer, sr.Optimizer]:
    """Return an optimizer, and the referee over copies in C order."""
    copies = [np.array(p, order="C") for p in params]
    return sr.Optimizer(params, rule, **options), sr.Optimizer(copies, rule, backend="numpy", **options)


@pytest.mark.parametrize(
    ("name", "combination"),
    rotated(RULES, [SPLIT24_EIGHT_BIT, HALF_SPLIT24]),
    ids=combination_id,
)
def test_every_rule_equals_the_referee(name: str, combination: Combination) -> None:
    dtype, formats = combination
    mine, referee = _pair(arrays(dtype, SHAPES), RULES[name], **fitting(RULES[name], formats))
    for t in range(3):
        grads = gradients(dtype, SHAPES, t)
        mine.step(grads)
        referee.step(grads)
    assert_same_state(mine, referee, f"{name} {dtype}")


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("shape", [(0,), (0, 4), (2, 0, 3)], ids=str)
def test_arrays_of_no_elements(shape: tuple[int, ...], backend: str) -> None:
    optimizer = sr.Optimizer(np.zeros(shape, BFLOAT16), "adam", backend=backend, **SMALLEST)
    optimizer.step(np.zeros(shape, BFLOAT16))
    assert optimizer.slots["m"].shape == shape
    optimizer.load_state_dict(optimizer.state_dict(decode=True), convert=True)
    assert optimizer.t == 1


@pytest.mark.parametrize(
    ("combination", "chunk"),
    rotated(COMBINATIONS, [1, 64, 10**9]),
    ids=combination_id,
)
def test_threads_and_chunks(
    combination: Combination, chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, formats = combination
    monkeypatch.setattr(launch, "CHUNK", chunk)
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    shapes = [(40, 129), (3, 1000), *((n, 5) for n in range(1, 70)), (300,), ()]
    mine, referee = _pair(arrays(dtype, shapes), **formats)
    for t in range(3):
        mine.step(gradients(dtype, shapes, t))
        referee.step(gradients(dtype, shapes, t))
    assert_same_state(mine, referee)


def _home(layout: str, dtype: str) -> Array:
    """Return zeros of shape (24, 10, 60) that lie in memory in that way."""
    size = np.dtype(dtype).itemsize
    homes: dict[str, Callable[[], Array]] = {
        "C": lambda: np.zeros((24, 10, 60), dtype),
        "Fortran": lambda: np.zeros((24, 10, 60), dtype, order="F"),
        "transposed": lambda: np.zeros((10, 24, 60), dtype).transpose(1, 0, 2),
        "columns": lambda: np.zeros((24, 10, 200), dtype)[:, :, 1:181:3],
        "backwards": lambda: np.zeros((24, 10, 60), dtype)[::-1, :, ::-1],
        "unaligned": lambda: np.zeros(14_400 * size + 1, np.uint8)[1:].view(dtype).reshape(24, 10, 60),
    }
    return homes[layout]()


LAYOUTS = ["C", "Fortran", "transposed", "columns", "backwards", "unaligned"]
ORDERED = [("bfloat16", SMALLEST), ("bfloat16", {"weights": "split32"}), ("float32", {"states": {"m": "8bit"}})]


@pytest.mark.parametrize(("dtype", "formats"), ORDERED, ids=["smallest", "split32", "mixed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_parameters_and_gradients(layout: str, dtype: str, formats: dict[str, Any]) -> None:
    # Every gradient has another layout, so what is kept must not depend on how a step was walked.
    theta = _home(layout, dtype)
    theta[...] = arrays(dtype, [theta.shape])[0]
    mine, referee = _pair([theta], **formats)
    for t, along in enumerate([layout, *LAYOUTS, layout]):
        g = _home(along, dtype)
        g[...] = gradients(dtype, [g.shape], t)[0]
        before = g.copy()
        mine.step([g])
        referee.step([before])
        assert_same_bits(g, before, "the gradient, which is only read")
        assert_same_state(mine, referee, f"gradient {along}")


@pytest.mark.parametrize("n", [1, GROUP - 1, GROUP, GROUP + 1, 8192, 8193, 20_000])
def test_strided_vectors(n: int) -> None:
    for theta in (np.zeros(2 * n, np.float32)[::2], np.zeros(n, np.float32)[::-1]):
        theta[...] = arrays("float32", [(n,)])[0]
        mine, referee = _pair([theta], states="8bit", min_elements=0)
        for t in range(2):
            mine.step(gradients("float32", [(n,)], t))
            referee.step(gradients("float32", [(n,)], t))
        assert_same_state(mine, referee, str(theta.strides))


@pytest.mark.parametrize(("dtype", "formats"), ORDERED, ids=["smallest", "split32", "mixed"])
def test_gradients_in_the_memory_of_parameters(dtype: str, formats: dict[str, Any]) -> None:
    whole = arrays(dtype, [(64, 200)])[0]
    even, odd, square, across = whole[:, ::2], whole[:, 1::2], *arrays(dtype, [(64, 64), (6400,)], 1)
    mine, referee = _pair([even, odd, square, across[:6000].reshape(60, 100)], **formats)
    for _ in range(3):
        along = [odd, even, square.T, across[400:].reshape(60, 100)]
        copies = [g.copy() for g in along]
        mine.step(along)
        referee.step(copies)
        assert_same_state(mine, referee)


def test_kernels_see_aligned_gradients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    call = driver().call

    def watch(kernel: int, table: int, *rest: int) -> None:
        seen.extend(ctypes.cast(table, ctypes.POINTER(ctypes.c_int64))[:2])
        call(kernel, table, *rest)

    monkeypatch.setattr(strided, "driver", lambda: dataclasses.replace(driver(), call=watch))
    g = np.zeros(64 * 64 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(64, 64)
    sr.Optimizer(np.zeros((64, 128), np.float32)[:, ::2], "adam", states="8bit", min_elements=0).step(g)
    assert seen
    assert all(address % 4 == 0 for address in seen)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize(("dtype", "formats"), COMBINATIONS, ids=combination_id)
def test_bits_do_not_depend_on_how_arrays_lie_in_memory(dtype: str, formats: dict[str, Any], backend: str) -> None:
    """Scales, and random bits, are those of an element by its place among the axes."""
    shape = (6, 4, 70)
    (plain,) = arrays(dtype, [shape])
    layouts = {
        "Fortran": np.array(plain, order="F"),
        "other axes": np.array(plain.transpose(1, 0, 2), order="C").transpose(1, 0, 2),
        "gaps": np.repeat(plain, 2, axis=2)[:, :, ::2],
        "backwards": np.array(plain[::-1], order="C")[::-1],
    }
    expected = sr.Optimizer(plain, "adam", backend=backend, **formats)
    others = {name: sr.Optimizer(own, "adam", backend=backend, **formats) for name, own in layouts.items()}
    for t in range(3):
        (g,) = gradients(dtype, [shape], t)
        expected.step(g)
        for name, optimizer in others.items():
            optimizer.step(np.array(g, order="F") if name == "Fortran" else g)
    for name, optimizer in others.items():
        assert_same_bits(np.array(layouts[name], order="C"), plain, name)
        for key, plane in expected.state_dict()["slots"]["params"].items():
            own = optimizer.state_dict()["slots"]["params"][key]
            assert_same_plane(np.array(own, order="C"), plane, "", f"{name} {key}")


@pytest.mark.parametrize("cut", [1, 100, 128, 299])
@pytest.mark.parametrize("weights", ["stochastic", "split24"])
@pytest.mark.parametrize("states", ["float32", "bfloat16"])
def test_shards_of_vectors_step_to_the_bits_of_the_whole(states: str, weights: str, cut: int) -> None:
    formats: dict[str, Any] = {"states": states, "weights": weights, "min_elements": 0, "seed": 7}
    if states == "float32":
        del formats["min_elements"]
    (theta,) = arrays("bfloat16", [(300,)])
    parts = [slice(0, cut), slice(cut, None)]
    own = [theta[part].copy() for part in parts]
    whole = sr.Optimizer(theta, "adamw", **formats)
    shards = [
        sr.Optimizer([sr.Group([x], first_row=part.start)], "adamw", **formats)
        for x, part in zip(own, parts, strict=True)
    ]
    for t in range(4):
        (g,) = gradients("bfloat16", [(300,)], t)
        whole.step(g)
        for shard, part in zip(shards, parts, strict=True):
            shard.step([[g[part]]])
    assert_same_bits(np.concatenate(own), theta)


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_shards_step_to_the_bits_of_the_whole(cut: int) -> None:
    shapes = [(12, 5, 60), (12, 7)]
    whole = sr.Optimizer(arrays("bfloat16", shapes), "adamw", seed=7, **SMALLEST)
    parts = [slice(0, cut), slice(cut, None)]
    own = [[p[part].copy() for p in arrays("bfloat16", shapes)] for part in parts]
    shards = [
        sr.Optimizer([sr.Group(params, first_row=part.start)], "adamw", seed=7, **SMALLEST)
        for params, part in zip(own, parts, strict=True)
    ]
    for t in range(4):
        grads = gradients("bfloat16", shapes, t)
        whole.step(grads)
        for shard, part in zip(shards, parts, strict=True):
            shard.step([[g[part] for g in grads]])
    for index, theta in enumerate(whole.params):
        assert_same_bits(np.concatenate([params[index] for params in own]), theta)
        planes = [shard.state_dict()["slots"][f"params[0][{index}]"] for shard in shards]
        for name, plane in whole.state_dict()["slots"][f"params[{index}]"].items():
            assert_same_plane(np.concatenate([part[name] for part in planes]), plane, "8bit signed", name)
