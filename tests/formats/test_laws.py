"""Laws of the storage formats: what a kept number may be, that rounding is fair, and that random words are random."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from steprule.coding import decode, encode
from steprule.formats import SLOT_FORMATS, Codec, keys, stream
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import NonNegative
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits, unlike_defaults, wild
from tests.formats.test_kernels import Run, keep, rows_and_groups, show, storage_of
from tests.papers import formats as papers

NORMAL = 2.0**-126
LARGEST = float(np.finfo(np.float32).max)
SPACE_16 = 2.0**-24
"""The distance of subnormal float16 numbers."""


def kept(x: Array, state: str = "8bit", dtype: str = "float32", way: str = "nearest", **options: Any) -> Run:
    """Return the tensor after x has been kept as its parameter, as its signed and as its non-negative slot."""
    run = Run(keep, storage_of(keep, state, dtype, way, x="float32"), x.shape, **options)
    run.planes["x"][...] = x
    return run.step(np.zeros(x.shape))


def shown(run: Run, **planes: Array) -> dict[str, Array]:
    """Return what the parameter and the slots stand for."""
    numbers: dict[str, Array] = {}
    for name, g in (("m", 1), ("v", -1)):
        shape = (planes or run.planes)["theta"].shape
        viewer = Run(show, run.storage, shape)
        for plane, array in (planes or run.planes).items():
            viewer.planes[plane][...] = array
        viewer.step(np.full(shape, g))
        numbers[name], numbers["theta"] = viewer.planes["theta"], viewer.planes["x"]
    return numbers


def _plain(x: Array) -> Array:
    return x.astype(np.float64)


def top_of_groups(x: Array) -> Array:
    """Return, for each element, the largest normal finite magnitude in its group (0 if none)."""
    rows, length, groups = rows_and_groups(x.shape)
    size = np.abs(np.where(np.isfinite(x), x, 0)).reshape(rows, length)
    size = np.where(size < NORMAL, 0, size).astype(np.float64)
    padded = np.zeros((rows, groups * 128))
    padded[:, :length] = size
    tops = padded.reshape(rows, groups, 128).max(axis=2)
    each: Array = np.repeat(tops, 128, axis=1)[:, :length].reshape(x.shape)
    return each


# Eight bits: bounds.

floats = st.floats(width=32) | st.sampled_from(
    [0.0, -0.0, NORMAL, -NORMAL, 1.2e-38, 3.4e38, LARGEST, -LARGEST, 1e-45, -1e-40, math.inf, -math.inf, math.nan]
).map(np.float32)


@st.composite
def some_groups(draw: st.DrawFn) -> Array:
    """Return rows of float32 numbers whose exponents lie within a drawn span, with drawn numbers among them."""
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 127, 128, 129, 300])))
    top, span = draw(st.integers(-126, 127)), draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x: Array = rng.uniform(1, 2, shape) * 2.0 ** (top - rng.integers(0, span + 1, shape)) * rng.choice([-1, 1], shape)
    few = draw(hnp.arrays(np.float32, draw(st.integers(0, 6)), elements=floats))
    x.ravel()[rng.permutation(x.size)[: len(few)]] = few[: x.size]
    return x.astype(np.float32)


@hypothesis.given(some_groups(), st.integers(0, 2**32 - 1))
def test_a_signed_slot_is_kept_within_twice_its_size(x: Array, seed: int) -> None:
    """|m'| <= 2 |m|; the sign stays; 0 for subnormals; |m'| >= |m| / 2 down to 2^-19 of the group's largest."""
    m = shown(kept(x, seed=seed))["m"].astype(np.float64)
    finite = np.isfinite(x)
    size = np.where(finite, np.abs(x), 0).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(m), ~finite)
    assert (np.abs(m) <= 2 * size)[finite].all()
    assert (m * np.sign(x) >= 0)[finite].all()
    assert (m == 0)[finite & (size < NORMAL)].all()
    large = finite & (size >= np.maximum(2.0**-19 * top_of_groups(x), NORMAL))
    assert (np.abs(m) >= size / 2)[large].all()


@hypothesis.given(some_groups(), st.integers(0, 2**32 - 1))
def test_a_non_negative_slot_is_kept_as_at_least_its_half(x: Array, seed: int) -> None:
    """v / 2 <= v' <= max(2 v, 2^-23 of the group's largest) for normal v; 0 stays 0; what is not a number is inf."""
    x = np.where(np.isfinite(x), np.abs(x), x)
    v = shown(kept(x, seed=seed))["v"].astype(np.float64)
    finite = np.isfinite(x)
    size = np.where(finite, x, 0).astype(np.float64)
    np.testing.assert_array_equal(np.isinf(v), ~finite)
    assert (v == 0)[finite & (size < NORMAL)].all()
    normal = finite & (size >= NORMAL)
    assert (v >= size / 2)[normal].all()
    assert (v <= np.maximum(2 * size, 2.0**-23 * top_of_groups(x)))[normal].all()


@hypothesis.given(some_groups(), st.integers(0, 2**32 - 1))
def test_a_signed_slot_in_four_bits_is_kept_within_twice_its_size_or_the_least_code(x: Array, seed: int) -> None:
    """|m'| <= max(2 |m|, 2^-5 of the group's largest); the sign stays; 0 for subnormals; |m'| >= |m| / 2 above that."""
    m = shown(kept(x, "4bit", seed=seed))["m"].astype(np.float64)
    finite, top = np.isfinite(x), top_of_groups(x)
    size = np.where(finite, np.abs(x), 0).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(m), ~finite)
    assert (np.abs(m) <= np.maximum(2 * size, np.maximum(2.0**-5 * top, NORMAL)))[finite].all()
    assert (m * np.sign(x) >= 0)[finite].all()
    assert (m == 0)[finite & (size < NORMAL)].all()
    large = finite & (size >= np.maximum(2.0**-5 * top, NORMAL))
    assert (np.abs(m) >= size / 2)[large].all()


@hypothesis.given(some_groups(), st.integers(0, 2**32 - 1))
def test_a_non_negative_slot_in_four_bits_is_kept_as_at_least_its_half(x: Array, seed: int) -> None:
    """v / 2 <= v' <= max(2 v, 2^-8 of the group's largest) for normal v; 0 stays 0; what is not a number is inf."""
    x = np.where(np.isfinite(x), np.abs(x), x)
    v = shown(kept(x, "4bit", seed=seed))["v"].astype(np.float64)
    finite = np.isfinite(x)
    size = np.where(finite, x, 0).astype(np.float64)
    np.testing.assert_array_equal(np.isinf(v), ~finite)
    assert (v == 0)[finite & (size < NORMAL)].all()
    normal = finite & (size >= NORMAL)
    assert (v >= size / 2)[normal].all()
    assert (v <= np.maximum(2 * size, np.maximum(2.0**-8 * top_of_groups(x), NORMAL)))[normal].all()


@pytest.mark.parametrize("above", range(40))
def test_the_smallest_normal_numbers_are_kept_as_any(above: int) -> None:
    """The smallest normal numbers beside one that is up to 2^39 times as large: the bounds hold there, too."""
    low = NORMAL * (1 + np.random.default_rng(above).random((200, 127)) * np.resize([1e-3, 1.0], 127))
    x = np.concatenate([low, np.full((200, 1), NORMAL * 2.0**above)], axis=1).astype(np.float32)
    numbers = shown(kept(x, seed=above))
    assert np.isfinite(numbers["v"]).all()
    assert np.isfinite(numbers["m"]).all()
    assert (numbers["v"].astype(np.float64) >= x / 2.0).all()
    assert (np.abs(numbers["m"].astype(np.float64)) <= x * 2.0).all()


@pytest.mark.parametrize("largest", [NORMAL, 1.2e-38, 2.0**-102, 1e-30, 3.4e38, LARGEST])
def test_scales_at_the_ends_of_the_range(largest: float) -> None:
    """The largest of a group is kept within a 16th of itself, in a non-negative slot within a 32nd; zeros stay zeros.

    The smallest normal numbers within a factor of 2.
    """
    x = np.array([[largest, -largest, largest, 0, -0.0]], np.float32)
    size, is_small = np.abs(_plain(x))[:, :3], largest < 2.0**-102
    for seed in range(100):
        m = _plain(shown(kept(x, seed=seed))["m"])
        v = _plain(shown(kept(np.abs(x), seed=seed))["v"])
        assert (np.abs(m[:, :3] * np.sign(x[:, :3]) - size) <= size / (1 if is_small else 16)).all()
        assert (np.abs(v[:, :3] - size) <= size / (1 if is_small else 32)).all()
        assert (v[:, :3] >= size / 2).all()
        assert (m[:, :3] != 0).all()
        assert (m[:, 3:] == 0).all()
        assert (v[:, 3:] == 0).all()


def test_zero_stays_zero_beside_any_number() -> None:
    """Zeros and subnormals beside every power of two, in every round of the dice, are 0 afterwards."""
    largest = 2.0 ** np.arange(-126, 128, dtype=np.float64)[:, None]
    rest = np.resize([0, -0.0, 1e-45, -1e-45, 1.1e-38, -1.1e-38], (254, 127))
    x = np.concatenate([largest, rest], axis=1).astype(np.float32)
    numbers = shown(kept(x))
    np.testing.assert_array_equal(numbers["m"][:, 1:], 0)
    np.testing.assert_array_equal(shown(kept(np.abs(x)))["v"][:, 1:], 0)


@hypothesis.given(some_groups(), st.integers(0, 2**32 - 1))
def test_neighbours_of_what_is_not_finite_do_not_notice(x: Array, seed: int) -> None:
    some = np.random.default_rng(seed).random(x.shape) < 0.3
    x = np.where(some, np.resize([np.nan, np.inf, -np.inf], x.shape), x).astype(np.float32)
    with_them, without = kept(x, seed=seed), kept(np.where(np.isfinite(x), x, 0), seed=seed)
    for name in ("m", "v"):
        assert_same_bits(with_them.planes[f"{name}.scale"], without.planes[f"{name}.scale"])
        a, b = (np.where(np.isfinite(x), run.planes[name], 0) for run in (with_them, without))
        assert_same_bits(a, b)


@rule
def stay(theta, g, m, v: NonNegative):
    return theta + g, m, v


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slot", ["m", "v"])
def test_what_is_kept_is_kept_as_it_is(slot: str, seed: int, backend: str) -> None:
    """Every code of every scale is kept as itself, beside one that has the group's exponent."""
    codes = [*range(3, 127), 128, *range(131, 255)] if slot == "m" else list(range(3, 255))
    rows = [[126 if slot == "m" else 254, 0, 1, *codes[part::3]] for part in range(3)]
    row = np.concatenate([np.pad(r, (0, 128 - len(r))) for r in rows])
    scales = np.arange(20 if slot == "m" else 24, 255)[:, None]
    run = Run(stay, storage_of(stay, "8bit"), (scales.size, row.size), backend, seed=seed)
    run.set(**{slot: row, f"{slot}__scale": scales})
    assert (np.abs(shown(run)[slot])[:, row & 0x7F > 1] >= NORMAL).all()
    before = {name: plane.copy() for name, plane in run.planes.items()}
    run.step(np.zeros(run.shape))
    assert_same_bits(run.planes[f"{slot}.scale"], before[f"{slot}.scale"])
    assert_same_bits(run.planes[slot], before[slot])


@pytest.mark.parametrize("slot", ["m", "v"])
def test_the_largest_numbers_are_kept_as_they_are(slot: str) -> None:
    """The last code of the last scale stands for 2^128 - 2^106, and not for infinity."""
    last = 127 if slot == "m" else 255
    run = Run(stay, storage_of(stay, "8bit"), (100, 1)).set(**{slot: last, f"{slot}__scale": 254})
    assert (shown(run)[slot] == 2.0**128 - 2.0**106).all()
    for _ in range(50):
        run.step()
    assert (run.planes[slot] == last).all()
    assert (run.planes[f"{slot}.scale"] == 254).all()


@pytest.mark.parametrize("state", ["8bit", "4bit", "bfloat16"])
@pytest.mark.parametrize("name", ["momentum", "adam", "adamax", "lion", "rmsprop"])
def test_slots_of_a_dead_unit_fade_to_zero(name: str, state: str) -> None:
    """Once gradients are zero, all slots stay finite on their way to zero, and no parameter becomes infinite or NaN."""
    some, rng = CATALOGUE[name], np.random.default_rng(0)
    faster: dict[str, Any] = {"beta1": 0.9, "beta2": 0.9} if name == "lion" else {}
    run = Run(some, storage_of(some, state), (2, 200), **faster)
    run.step(rng.standard_normal(run.shape) * (rng.random(run.shape) < 0.7))
    for t in range(1000):
        run.step(np.zeros(run.shape))
        assert np.isfinite(run.planes["theta"]).all(), f"after {t} steps"


# Steps.


@rule
def keep_both(theta, g, x, y, m, v: NonNegative):
    return theta + g, x, y, x, y


@pytest.mark.parametrize("eps", [0.0, 1e-8])
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 10**6), st.integers(-50, 30), st.integers(0, 40))
def test_a_step_from_kept_slots_is_at_most_2_sqrt_2_times_as_long(
    eps: float, seed: int, t: int, top: int, span: int
) -> None:
    """Adam's step at g = 0 from m and v kept in eight bits is at most 2 sqrt(2) (1 + 1e-6) times that from m and v.

    For v above 2^-100, and v = 0 where eps is not 0.
    """
    rng, adam, shape = np.random.default_rng(seed), CATALOGUE["adam"], (8, 150)
    m = (rng.standard_normal(shape) * 2.0 ** (top / 2 - rng.integers(0, span + 1, shape))).astype(np.float32)
    v = (rng.uniform(1, 2, shape) * 2.0 ** (top - rng.integers(0, span + 1, shape))).astype(np.float32)
    if eps:
        v[:, ::7] = 0
    run = Run(keep_both, storage_of(keep_both, "8bit", x="float32", y="float32"), shape, seed=seed)
    run.planes["x"][...], run.planes["y"][...] = m, v
    run.step(np.zeros(shape))
    steps = []
    for state, planes in (("8bit", run.planes), ("float32", {"m": m, "v": v})):
        one = Run(adam, storage_of(adam, state), shape, eps=eps)
        for name in set(one.planes) & set(planes) - {"theta", "g"}:
            one.planes[name][...] = planes[name]
        one.t = t
        steps.append(np.abs(_plain(one.step(np.zeros(shape)).planes["theta"])))
    kept_step, plain_step = steps
    assert np.isfinite(plain_step).all()
    assert (kept_step <= 2 * math.sqrt(2) * (1 + 1e-6) * plain_step).all()


def test_every_step_of_training_is_the_float32_step_and_what_is_kept_keeps_the_bound() -> None:
    """theta moves by the float32 step from the slots as they stand; the slots then keep the bound of 2 sqrt(2)."""
    adam, shape, rng = CATALOGUE["adam"], (5, 300), np.random.default_rng(0)
    run = Run(adam, storage_of(adam, "8bit"), shape, seed=1, eps=0.0)
    size = 10.0 ** rng.uniform(-3, 0, shape)
    for t in range(1, 40):
        before = shown(run)
        plain = Run(adam, storage_of(adam, "float32"), shape, eps=0.0).set(**before)
        plain.t = t - 1
        g = rng.standard_normal(shape) * size
        run.step(g)
        plain.step(g)
        assert_same_bits(run.planes["theta"], plain.planes["theta"], f"theta at {t=}")
        after = shown(run)
        step, exact = (np.abs(_plain(x["m"])) / np.sqrt(_plain(x["v"])) for x in (after, plain.planes))
        assert (step <= 2 * math.sqrt(2) * exact).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["adamw", "adam", "momentum", "lion", "sgd", "rmsprop", "adagrad"])
def test_split32_is_training_in_float32(name: str, dtype: str) -> None:
    """50 steps on the same gradients: parameters, put together again, and slots are equal in every bit."""
    some, rng, shape = CATALOGUE[name], np.random.default_rng(2), (9, 77)
    split = Run(some, storage_of(some, "float32", dtype, "split32"), shape, lr=1e-3)
    plain = Run(some, storage_of(some, "float32"), shape, lr=1e-3)
    split.set(theta=rng.uniform(1, 2, shape) * rng.choice([-1, 1], shape))
    plain.planes["theta"][...] = shown_parameter(split)
    for t in range(50):
        split.step(rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 1, shape))
        g = split.planes["g"]
        plain.step((g.astype(np.uint32) << 16).view(np.float32) if g.dtype == np.uint16 else g)
        assert_same_bits(shown_parameter(split), plain.planes["theta"], f"{t=}")
        for slot in split.planes.keys() - {"theta", "theta.low", "g"}:
            assert_same_bits(split.planes[slot], plain.planes[slot], slot)
    assert (split.planes["theta.low"] != 0).mean() > 0.9


def shown_parameter(run: Run) -> Array:
    """Return what the parameter's planes stand for."""
    viewer = Run(show, storage_of(show, "float32", run.storage.parameter.name, run.storage.weights), run.shape)
    for name in ("theta", "theta.low"):
        if name in run.planes:
            viewer.planes[name][...] = run.planes[name]
    return viewer.step(np.zeros(run.shape)).planes["x"]


def _float16_edges() -> Array:
    """Return numbers about the edges of float16: its powers of two, its halves, its subnormals."""
    rng = np.random.default_rng(3)
    edges = np.concatenate([2.0 ** np.arange(-25, 16), np.arange(0, 40) * SPACE_16 / 2, [65504, 2.0**-14 - 2.0**-26]])
    near = edges[:, None] * (1 + rng.uniform(-1, 1, 400) * 2.0 ** -rng.integers(9, 24, 400))
    below = 2.0**-14 - rng.uniform(0, 3, (20, 400)) * SPACE_16
    any_of_them = rng.uniform(1, 2, (60, 400)) * 2.0 ** rng.integers(-30, 15, (60, 400))
    x: Array = np.minimum(np.concatenate([near, below, any_of_them]), 65504) * rng.choice([-1, 1], (163, 400))
    return x.astype(np.float32)


def test_float16_with_a_distance_of_16_bits() -> None:
    """Exact from 2^-14 to 65504, within 2^-40 below."""
    x = _float16_edges()
    error = np.abs(_plain(shown(kept(x, "float32", "float16", "split32"))["theta"]) - x)
    assert (error[np.abs(x) >= 2.0**-14] == 0).all()
    assert (error <= 2.0**-40).all()


@pytest.mark.parametrize("seed", range(4))
def test_float16_with_a_distance_of_8_bits(seed: int) -> None:
    """Within 2^-16 of the number from 2^-14 to 65504, within 2^-32 below."""
    x = _float16_edges()
    error = np.abs(_plain(shown(kept(x, "float32", "float16", "split24", seed=seed))["theta"]) - x)
    size = np.abs(_plain(x))
    assert (error <= np.where(size >= 2.0**-14, 2.0**-16 * size, 2.0**-32)).all()


def test_bfloat16_with_distances() -> None:
    """split32 keeps every finite number and infinity exactly; split24 is within 2^-15 of the number."""
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2**32, (100, 1000), dtype=np.uint32).view(np.float32)
    x = np.where(np.isnan(x) | (np.abs(x) < NORMAL), np.float32(1), x)
    assert_same_bits(shown(kept(x, "float32", "bfloat16", "split32"))["theta"], x)
    x = np.where(np.abs(x) > 1e38, np.float32(1), x)
    close = _plain(shown(kept(x, "float32", "bfloat16", "split24"))["theta"])
    assert (np.abs(close / x - 1) <= 2.0**-15).all()


@pytest.mark.parametrize(
    "codec", [c for f in SLOT_FORMATS.values() for c in dict.fromkeys(f.codecs)], ids=lambda c: c.id
)
def test_states_that_are_converted_are_rounded_to_nearest_and_halves_away_from_zero(codec: Codec) -> None:
    """Between two numbers that a format has, those below the middle become the lower one."""
    rows = np.ones((4001, 128), np.float32)  # beside a one, on which the scale of a group depends
    rows[:, 1] = np.geomspace(1e-2, 1, 4001)
    found = np.unique(decode(codec, encode(codec, rows), rows.shape)[:, 1])
    low, high = found[:-1], found[1:]
    assert len(low) > 5
    for part, expected in ((-1 / 16, low), (0.0, high), (1 / 16, high)):
        own = np.ones((len(low), 128), np.float32)
        own[:, 1] = (low + high) / 2 + part * (high - low)
        assert np.array_equal(decode(codec, encode(codec, own), own.shape)[:, 1], expected), part


@pytest.mark.parametrize("way", ["stochastic", "split24", "split32", "nearest"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_that_can_be_kept_exactly_are(dtype: str, way: str) -> None:
    """All numbers of the type, whatever the random bits."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    as_type = Run(show, storage_of(show, "float32", dtype), (1 << 16,))
    as_type.planes["theta"].view(np.uint16)[...] = bits
    x = as_type.step(np.zeros(1 << 16)).planes["x"].reshape(256, 256)
    for seed in range(3):
        assert_same_bits(shown(kept(x, "float32", dtype, way, seed=seed))["theta"], x)


def test_rows_can_be_kept_apart() -> None:
    """A tensor in two shards of rows, each with the index of its first element, is the tensor in every bit."""
    adamw, rng = CATALOGUE["adamw"], np.random.default_rng(5)
    storage = storage_of(adamw, "8bit", "bfloat16", "split24")
    whole, first, second = (
        Run(adamw, storage, (rows, 200), seed=3, number=7, first=start * 200, **unlike_defaults(adamw))
        for rows, start in ((6, 0), (2, 0), (4, 2))
    )
    for _ in range(4):
        g = wild(rng, 1200, "float32").reshape(6, 200)
        whole.step(g)
        first.step(g[:2])
        second.step(g[2:])
    for name, plane in whole.planes.items():
        assert_same_bits(np.concatenate([first.planes[name], second.planes[name]]), plane, name)


# Statistics.

ERRORS = 5.0
"""How many standard errors a mean may lie off. Seeds are fixed, so tests do not fail by chance."""
LEFT = 0.01
"""How far a bit of a word may lie off besides, over 65,536 neighbours: one multiplication leaves that much order."""


def _spread(numbers: Array, x: float) -> tuple[float, float]:
    """Return the neighbours of x among which the dice chose, which must be all that occur."""
    low, high = float(numbers.min()), float(numbers.max())
    assert low < x < high, f"{x} is not between {low} and {high}"
    assert np.isin(numbers, [low, high]).all(), f"more than two neighbours of {x}"
    return low, high


# What is kept (theta, m or v), as what, and a number between two neighbours. For eight bits the group's largest is 1.5.
FAIR = [
    *(("theta", "bfloat16", "stochastic", x) for x in (1 + 0.3 / 128, -1 - 0.9 / 128, 3.3e-5, -2.00001, 1e30)),
    *(("theta", "float16", "stochastic", x) for x in (1 + 0.3 / 1024, -0.1, 6.2e-5, 60001.0)),
    *(("theta", "float16", "stochastic", x * SPACE_16) for x in (0.01, 0.3, -0.5, 3.7, -100.2, 1023.4)),
    *(("theta", "bfloat16", "split24", x) for x in (1 + 0.3 / 2**15, -3.000001, 1e-20, 1 + 127.3 / 2**15)),
    *(("theta", "float16", "split24", x) for x in (1 + 0.3 / 2**18, -3.000001, 1e-3, -1 - 127.3 / 2**18)),
    # Below 2^-14 the remainder beyond 2^-37 is rounded to the nearest.
    *(("theta", "float16", "split24", x * 2.0**-37) for x in (99, 2469, -1701, 4075, -637209, 8382991)),
    *(("m", "bfloat16", "", x) for x in (1 + 0.3 / 128, -1 - 0.9 / 128, 3.3e-5, -1.00001, 1.2e-38)),
    *(("v", "bfloat16", "", x) for x in (1 + 0.3 / 128, 7e-12)),
    *(("m", "8bit", "", x) for x in (1.01, -1.3, 0.77, -0.3, 0.051, -0.0123, 0.003, 0.97, -1e-4, 3.9e-3, 2.3e-6)),
    *(("v", "8bit", "", x) for x in (1.01, 1.37, 0.77, 0.3, 0.051, 1.1e-3, 1.3e-5, 4e-7, 9.5e-7, 1.5e-7)),
    # The least code of a signed slot is 2^-5 here: smaller numbers become that or zero.
    *(("m", "4bit", "", x) for x in (1.01, -1.3, 0.77, -0.3, 0.051, -0.0313, 0.01, -0.0003)),
    *(("v", "4bit", "", x) for x in (1.01, 1.37, 0.77, 0.3, 0.051, 0.11, 0.0045)),
]


def _fair_run(what: str, form: str, way: str, x: float, shape: tuple[int, int], **options: Any) -> Run:
    numbers = np.full(shape, x, np.float32)
    if form in ("8bit", "4bit"):
        numbers[:, ::128] = 1.5
    states = (form, "float32", "nearest") if what != "theta" else ("float32", form, way)
    return kept(numbers, *states, **options)


def _fair_id(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(("what", "form", "way", "x"), FAIR, ids=_fair_id)
def test_rounding_is_fair_over_elements(what: str, form: str, way: str, x: float) -> None:
    """The mean over 2^17 elements of one step is the number, within 5 standard errors."""
    number = float(np.float32(x))
    for seed in range(3):
        numbers = _plain(shown(_fair_run(what, form, way, x, (1024, 128), seed=seed, number=seed))[what])[:, 1:]
        low, high = _spread(numbers, number)
        error = math.sqrt((number - low) * (high - number) / numbers.size)
        assert abs(numbers.mean() - number) <= ERRORS * error


@pytest.mark.parametrize(("what", "form", "way", "x"), FAIR, ids=_fair_id)
def test_rounding_is_fair_over_steps(what: str, form: str, way: str, x: float) -> None:
    """So is each element's mean over 500 steps; the means of 63 elements spread as those of independent dice do."""
    steps, number = 500, float(np.float32(x))
    run = _fair_run(what, form, way, x, (1, 64), seed=11)
    planes: dict[str, list[Array]] = {name: [] for name in run.planes}
    for _ in range(steps):
        run.step()
        for name, plane in run.planes.items():
            planes[name].append(plane.copy())
    together = {name: np.concatenate(parts) for name, parts in planes.items()}
    numbers = _plain(shown(run, **together)[what])[:, 1:]
    low, high = _spread(numbers, number)
    errors = (numbers.mean(axis=0) - number) / math.sqrt((number - low) * (high - number) / steps)
    assert np.abs(errors).max() <= ERRORS
    assert abs(errors.mean()) <= ERRORS / math.sqrt(errors.size)
    assert abs((errors**2).mean() - 1) <= ERRORS * math.sqrt(2 / errors.size)


@pytest.mark.parametrize(
    ("dtype", "way", "unit", "steps"),
    [
        ("bfloat16", "stochastic", 2.0**-7, 100),
        ("bfloat16", "split24", 2.0**-15, 2000),
        ("float16", "stochastic", 2.0**-10, 100),
        ("float16", "split24", 2.0**-18, 2000),
        ("float16", "stochastic", SPACE_16, 100),
        ("float16", "split24", 2.0**-32, 2000),
    ],
)
@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_small_steps_add_up(dtype: str, way: str, unit: float, steps: int, direction: float, side: float) -> None:
    """Steps of 5/16 of what is kept: 1000 parameters have moved by their sum, within 5 standard errors."""
    sgd, shape, start = CATALOGUE["sgd"], (8, 125), side * (1.5 if unit > SPACE_16 else 300 * SPACE_16)
    run = Run(sgd, storage_of(sgd, "float32", dtype, way), shape, lr=unit * 5 / 16).set(theta=np.full(shape, start))
    for _ in range(steps):
        run.step(np.full(shape, -direction))
    moved = (_plain(shown_parameter(run)) - start) / (direction * unit)
    error = math.sqrt(steps * 5 / 16 * 11 / 16 / moved.size)
    assert abs(moved.mean() - steps * 5 / 16) <= ERRORS * error


# Random words.

COUNT = 1 << 16


def _words(index: Array, seed: int = 0, t: int = 1, tensor: int = 0, number: int = 0) -> Array:
    """Return the random words of elements, by the same formula as ``tests.papers.formats``."""
    k0, k1 = keys(seed, t)
    a = index.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32((k0 + number * 0x85EBCA77) & papers.ALL)
    b = (a ^ (a >> np.uint32(16)) ^ np.uint32(k1 ^ stream(tensor))) * np.uint32(0x7FEB352D)
    return b ^ (b >> np.uint32(16))


def _bits(words: Array) -> Array:
    return (words[:, None] >> np.arange(32, dtype=np.uint32) & 1).astype(np.int8)


def _assert_fair_bits(words: Array, left: float = LEFT) -> None:
    """Each of the 32 bits is 1 in half of the words, within 5 standard errors and what may be left of order."""
    off = _bits(words).mean(axis=0) - 0.5
    assert np.abs(off).max() <= ERRORS / (2 * math.sqrt(words.size)) + left, off


INDEX = np.arange(COUNT)


def test_the_words_are_those_of_the_loops() -> None:
    for i in (0, 1, 77, COUNT - 1):
        for number in (0, 1, 2):
            expected = papers.random_word(i, stream(4), keys(3, 2), number)
            assert _words(INDEX, 3, 2, 4, number)[i] == expected


@pytest.mark.parametrize("start", [0, 12345, 2**31])
@pytest.mark.parametrize("t", [1, 2, 1000])
def test_bits_are_fair_over_elements(t: int, start: int) -> None:
    for seed in range(4):
        for tensor in range(3):
            _assert_fair_bits(_words(INDEX + start, seed, t, tensor))


def test_bits_are_fair_over_steps() -> None:
    steps = 1 << 13
    index = np.array([0, 1, 2, 127, 128, 10**6])
    words = np.array([_words(index, 7, t) for t in range(1, steps)])
    for k in range(index.size):
        _assert_fair_bits(words[:, k], left=0)
        _assert_fair_bits(words[1:, k] ^ words[:-1, k], left=0)


def test_words_of_others_are_others() -> None:
    """The bits in which two words differ are fair: of other seeds, steps, tensors, numbers and neighbours."""
    for seed in range(3):
        base = _words(INDEX, seed)
        others = [
            *(_words(INDEX, seed + d) for d in (1, 2, 100)),
            *(_words(INDEX, seed, 1 + d) for d in (1, 2, 100)),
            *(_words(INDEX, seed, 1, d) for d in (1, 2, 100)),
            *(_words(INDEX, seed, 1, 0, d) for d in (1, 2, 3)),
            *(_words(INDEX + d, seed) for d in (1, 2, 3, 127, 128, 1000, 1024, 4096, 65536)),
        ]
        for other in others:
            _assert_fair_bits(base ^ other)


def test_bits_of_a_word_are_independent() -> None:
    """Of any two bits of a word, in elements and neighbours, the product is fair; and so are the pairs of two slots."""
    for seed in range(3):
        words = _words(INDEX, seed, 5)
        for lag in (0, 1, 128):
            a, b = (1 - 2 * _bits(x).astype(np.float64) for x in (words, _words(INDEX + lag, seed, 5)))
            errors = a.T @ b / math.sqrt(COUNT)
            if lag == 0:
                np.fill_diagonal(errors, 0)
            # Of 1,024 pairs a few lie off further than any single one may.
            assert np.abs(errors).max() <= ERRORS + 1
        for first, second in ((words & 0xFFFF, words >> 16), (words & 0x1FFF, words >> 19)):
            size = 16 if first.max() > 0x1FFF else 13
            cells = (first >> (size - 5)) * 32 + (second >> (size - 5))
            counts = np.bincount(cells.astype(np.int64), minlength=1024)
            chi = float(((counts - COUNT / 1024) ** 2).sum() / (COUNT / 1024))
            assert abs(chi - 1023) <= ERRORS * math.sqrt(2 * 1023)


def test_keys_and_streams() -> None:
    """Words of 32 bits, all different: for seeds, steps and tensors, also for negative and large seeds."""
    pairs = {keys(seed, t) for seed in (*range(40), 2**31, 2**40, 2**63) for t in (*range(1, 100), 10**6, 2**33)}
    assert len(pairs) == 43 * 101
    words = {word for pair in pairs for word in pair}
    assert len(words) > 2 * len(pairs) - 20
    streams = [stream(number) for number in range(10**4)]
    assert len(set(streams)) > 10**4 - 5
    for word in (*words, *streams):
        assert isinstance(word, int)
        assert 0 <= word < 2**32
