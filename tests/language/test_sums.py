"""Rules that see more than one element: sums over a tensor, and what is made of them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import steprule as sr
import steprule.torch as door
from steprule import rule
from steprule.engine import plan
from steprule.errors import HyperparameterError, NonFiniteError, RuleError
from steprule.formats import FORMATS, SLOT_FORMATS
from steprule.language import mean, norm, rms, size, total, where
from steprule.language.sums import BLOCK, rounded_once
from steprule.rules import FirstMoment, NonNegative, Scalar, SecondMoment
from steprule.rules.combinators import decoupled, l2, maximize, update_clip
from steprule.runtime import launch
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import assert_same_bits
from tests.launch.c_backend import CBackend
from tests.papers import guards as paper

SHAPES = [(3, 129), (2 * BLOCK + 77,), (5,), (), (0, 3), (40, 60)]


@rule
def by_norm(theta: Any, g: Any, *, lr: float = 0.1, eps: float = 1e-8) -> Any:
    """One sum."""
    return theta - lr / (math.sqrt(total(g * g)) + eps) * g


@rule
def layerwise(
    theta: Any, g: Any, m: Any, v: NonNegative, *, t: int, lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99
) -> Any:
    """Two sums in one pass, the step's and the parameter's, as LAMB has them."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = (m / (1 - beta1**t)) / (sr.sqrt(v / (1 - beta2**t)) + 1e-6)
    size, length = math.sqrt(total(theta * theta)), math.sqrt(total(step * step))
    ratio = where((size > 0) & (length > 0), size / (length + 1e-30), 1.0)
    return theta - lr * ratio * step, m, v


@rule
def standardized(theta: Any, g: Any, m: Any, drift: Scalar, *, lr: float = 0.1, beta: float = 0.9, t: int) -> Any:
    """A sum of what another sum is in, and a scalar slot."""
    centred = g - mean(g)
    scaled = centred / (sr.sqrt(mean(centred * centred)) + 1e-6)
    m = beta * m + (1 - beta) * scaled
    return theta - lr * m - drift * 1e-3, m, 0.5 * drift + 1 / t


@rule
def by_spread(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    """A sum that is asked for by another sum alone."""
    return theta - lr * g / (math.sqrt(mean((g - mean(g)) ** 2)) + 1e-6)


@rule
def by_squares(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    """Squares that are taken in float64, beside sums of the same numbers."""
    return theta - lr * norm(theta) / (rms(g) + abs(total(g)) / size(g) + 1e-30) * g


@rule
def by_size(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    """No sum, and so no pass before the step, but a number of each tensor."""
    return theta - lr / size(g) * g


RULES = {r.name: r for r in (by_norm, layerwise, standardized, by_spread, by_squares, by_size)}


def rounding(*shape: int) -> Any:
    """Return numbers whose sum depends on the order: their magnitudes differ, and those of float32 would be exact."""
    rng = np.random.default_rng(shape)
    return rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 30, shape)


def starts(dtype: str, order: str = "C") -> list[Any]:
    rng = np.random.default_rng(7)
    return [np.asarray(rng.standard_normal(shape), dtype, order=order) for shape in SHAPES]  # type: ignore[call-overload]


def grads_of(t: int, dtype: str, arrays: list[Any]) -> list[Any]:
    rng = np.random.default_rng([11, t])
    made = [rng.standard_normal(array.shape) * 10.0 ** rng.uniform(-3, 3) for array in arrays]
    return [np.asarray(g, dtype, order="F" if a.flags.f_contiguous else "C") for g, a in zip(made, arrays, strict=True)]


def by_the_rule(some: Any, arrays: list[Any], steps: int, **values: Any) -> list[Any]:
    """Return the arrays after some steps of the rule called on them: what it means."""
    arrays = [array.copy(order="K") for array in arrays]
    slots = [[0.0 if n in some.scalars else np.zeros_like(array) for n in some.slots] for array in arrays]
    for t in range(1, steps + 1):
        for k, g in enumerate(grads_of(t, str(arrays[0].dtype), arrays)):
            with np.errstate(all="ignore"):
                arrays[k], *slots[k] = some(arrays[k], g, *slots[k], t=t, **values)
    return arrays


@pytest.mark.parametrize("backend", ["llvm", "numpy", "c"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_steps_are_the_rule_called_on_arrays(name: str, dtype: str, backend: str, threads: int) -> None:
    for order in ("C", "F"):
        arrays = starts(dtype, order)
        expected = by_the_rule(RULES[name], arrays, 3)
        optimizer = sr.Optimizer(arrays, RULES[name], backend=CBackend() if backend == "c" else backend)
        for t in range(1, 4):
            optimizer.step(grads_of(t, dtype, arrays))
        for array, one in zip(arrays, expected, strict=True):
            assert_same_bits(array, one, f"{name} {order} {array.shape}")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("chunk", [1, 1_000, BLOCK + 1, 3 * BLOCK - 1])
def test_sums_do_not_depend_on_how_arrays_are_cut(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large array is cut by the number of threads, and nowhere but between blocks."""
    monkeypatch.setattr(launch, "CHUNK", chunk)
    arrays = [rounding(5 * BLOCK + 77), rounding(3, 2 * BLOCK)]
    expected = by_the_rule(RULES[name], arrays, 2)
    optimizer = sr.Optimizer(arrays, RULES[name])
    for t in (1, 2):
        optimizer.step(grads_of(t, "float64", arrays))
    for array, one in zip(arrays, expected, strict=True):
        assert_same_bits(array, one, f"{name} {chunk}")


def straight_layerwise(theta: list[float], gradients: list[list[float]]) -> list[float]:
    m, v = [0.0] * len(theta), [0.0] * len(theta)
    for t, g in enumerate(gradients, start=1):
        step = []
        for i, gi in enumerate(g):
            m[i] = 0.9 * m[i] + (1 - 0.9) * gi
            v[i] = 0.99 * v[i] + (1 - 0.99) * gi * gi
            step.append((m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.99**t)) + 1e-6))
        size = math.sqrt(math.fsum(x * x for x in theta))
        length = math.sqrt(math.fsum(x * x for x in step))
        ratio = size / length if size > 0 and length > 0 else 1.0
        theta = [x - 0.01 * ratio * s for x, s in zip(theta, step, strict=True)]
    return theta


def test_the_papers_loop() -> None:
    rng = np.random.default_rng(3)
    x, gradients = rng.standard_normal(300), rng.standard_normal((6, 300))
    expected = straight_layerwise(x.tolist(), gradients.tolist())
    optimizer = sr.Optimizer(x, layerwise)
    for g in gradients:
        optimizer.step(g)
    np.testing.assert_allclose(x, expected, rtol=1e-13)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("name", RULES)
def test_strided_arrays_have_the_bits_of_their_copies(name: str, backend: str) -> None:
    base = rounding(2, 300, 140).astype(np.float32)
    views = [base[0, :, ::2], base[1, ::3, 1::2].T]
    copies = [np.ascontiguousarray(view) for view in views]
    expected = by_the_rule(RULES[name], copies, 2)
    pair = [sr.Optimizer(arrays, RULES[name], backend=backend) for arrays in (views, copies)]
    for t in (1, 2):
        g = grads_of(t, "float32", copies)
        for optimizer in pair:
            optimizer.step(g)
    for view, copy, one in zip(views, copies, expected, strict=True):
        assert_same_bits(view.copy(), copy, name)
        assert_same_bits(copy, one, name)
    assert total(views[1]) == total(copies[1])


@pytest.mark.parametrize("name", ["layerwise", "standardized"])
@pytest.mark.parametrize("formats", [{"states": states} for states in SLOT_FORMATS], ids=str)
def test_low_precision_slots(name: str, formats: dict[str, Any]) -> None:
    found = []
    for backend in ("llvm", "numpy"):
        arrays = starts("float32")
        optimizer = sr.Optimizer(arrays, RULES[name], backend=backend, min_elements=0, seed=5, **formats)
        for t in range(1, 4):
            optimizer.step(grads_of(t, "float32", arrays))
        found.append(arrays)
    for one, other in zip(*found, strict=True):
        assert_same_bits(one, other, name)


@pytest.mark.parametrize("name", RULES)
def test_torch_has_numpys_bits(name: str) -> None:
    arrays = starts("float32")
    params = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]
    mine, theirs = sr.Optimizer(arrays, RULES[name]), door.Optimizer(params, RULES[name])
    for t in range(1, 4):
        grads = grads_of(t, "float32", arrays)
        for param, g in zip(params, grads, strict=True):
            param.grad = torch.from_numpy(g)
        mine.step(grads)
        theirs.step()
    for array, param in zip(arrays, params, strict=True):
        assert_same_bits(array, param.detach().numpy(), f"{name} {array.shape}")


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_groups_whose_variants_take_other_sums(backend: str) -> None:
    @rule
    def chosen(theta: Any, g: Any, *, lr: float = 0.1, normalized: bool = True, centred: bool = False) -> Any:
        g = g - mean(g) if centred else g
        return theta - lr * (g / math.sqrt(total(g * g) + 1e-9) if normalized else g)

    options = [(True, True), (False, False), (True, False), (False, True)]
    arrays = [np.full((2, 3), 1.0 + k) for k in range(4)]
    grads = [np.arange(6.0).reshape(2, 3) - k for k in range(4)]
    named = [sr.Group([x], normalized=n, centred=c) for x, (n, c) in zip(arrays, options, strict=True)]
    optimizer = sr.Optimizer(named, chosen, backend=backend)
    expected = [chosen(x, g, normalized=n, centred=c)[0] for x, g, (n, c) in zip(arrays, grads, options, strict=True)]
    optimizer.step([[g] for g in grads])
    for array, one in zip(arrays, expected, strict=True):
        assert_same_bits(array, one, "groups")


def test_parameters_that_have_taken_other_numbers_of_steps_have_sums_of_their_own() -> None:
    """Those of one count read their scalars together, and need not be neighbours."""
    begun = [(0, 1, 2, 3, 4), (1, 3), (0, 3, 4), (0, 1, 2, 3, 4)]
    rng = np.random.default_rng(5)
    grads = [[torch.from_numpy(rng.standard_normal(6)) for _ in range(5)] for _ in begun]

    def stepped(together: list[list[int]]) -> list[Any]:
        params = [torch.nn.Parameter(torch.arange(6, dtype=torch.float64) + k) for k in range(5)]
        optimizers = [door.Optimizer([params[k] for k in some], layerwise, lr=0.1) for some in together]
        for places, own in zip(begun, grads, strict=True):
            for k, param in enumerate(params):
                param.grad = own[k] if k in places else None
            for optimizer in optimizers:
                optimizer.step()
        return [param.detach().numpy() for param in params]

    for own, one in zip(stepped([[*range(5)]]), stepped([[k] for k in range(5)]), strict=True):
        assert_same_bits(own, one, "together, and one by one")


def test_a_schedule_and_guards_are_in_the_sums() -> None:
    arrays = starts("float64")
    optimizer = sr.Optimizer(arrays, by_norm, lr=lambda t: 0.1 / t, clip_norm=0.5, nonfinite="skip")
    for t in (1, 2):
        grads = grads_of(t, "float64", arrays)
        squares = math.fsum(total(g * g) for g in grads)
        factor = 0.5 / (math.sqrt(rounded_once([total(g * g) for g in grads])) + 1e-6)
        assert squares > 1
        expected = [by_norm(x, g * factor, lr=0.1 / t)[0] for x, g in zip(arrays, grads, strict=True)]
        optimizer.step(grads)
        for array, one in zip(arrays, expected, strict=True):
            assert_same_bits(array, one, f"t={t}")
    before = [array.copy() for array in arrays]
    grads[0][0, 0] = math.nan
    optimizer.step(grads)
    assert optimizer.skipped == 1
    assert all(map(np.array_equal, before, arrays))
    with pytest.raises(NonFiniteError):
        sr.Optimizer(arrays, by_norm, nonfinite="raise").step(grads)


@pytest.mark.parametrize("name", RULES)
def test_a_step_that_is_read_has_the_same_bits(name: str) -> None:
    pair = [starts("float32"), starts("float32")]
    optimizers = [sr.Optimizer(arrays, RULES[name]) for arrays in pair]
    monitor = sr.Monitor(optimizers[0], every=1)
    for t in (1, 2):
        before = [array.copy() for array in pair[0]]
        for optimizer, arrays in zip(optimizers, pair, strict=True):
            optimizer.step(grads_of(t, "float32", arrays))
    for one, other in zip(*pair, strict=True):
        assert_same_bits(one, other, name)
    moved = np.linalg.norm(pair[0][1].astype(float) - before[1]) / np.linalg.norm(before[1].astype(float))
    assert monitor.latest[1]["update_ratio"] == pytest.approx(moved, rel=1e-6)


def test_where_a_number_has_no_value_nothing_moves() -> None:
    @rule
    def careless(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
        return theta - lr / total(g * g) * g

    x, y = np.ones(3), np.ones(3)
    optimizer = sr.Optimizer([x, y], careless)
    with pytest.raises(HyperparameterError, match=r"'careless' has no value at .*total0=0.0.*guard the expression"):
        optimizer.step([np.ones(3), np.zeros(3)])
    assert (x == 1).all()
    assert optimizer.t == 0
    optimizer.step([np.ones(3), np.ones(3)])
    assert optimizer.t == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda theta, g, lr: theta - lr * total(lr) * g, "of a number of every element"),
        (lambda theta, g, lr: theta - lr * mean(total(g)) * g, "of a number of every element"),
        (lambda theta, g, lr: theta - lr * total(g > 0) * g, "of a number of every element"),
        (lambda theta, g, lr: theta - lr * g if total(g) > 0 else theta, "whether a symbol is true"),
    ],
)
def test_what_cannot_be_summed(body: Any, message: str) -> None:
    with pytest.raises(RuleError, match=message):

        @rule
        def wrong(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
            return body(theta, g, lr)


def test_a_scalar_slot_takes_no_sum() -> None:
    with pytest.raises(RuleError, match="'s' is a Scalar"):

        @rule
        def wrong(theta: Any, g: Any, s: Scalar, *, lr: float = 0.1) -> Any:
            return theta - lr * s * g, total(g)


def test_a_slot_may_be_a_sum() -> None:
    @rule
    def summing(theta: Any, g: Any, s: Any, *, lr: float = 0.1) -> Any:
        return theta - lr * s * g, total(g * g)

    x = np.ones(5, np.float32)
    optimizer = sr.Optimizer(x, summing)
    optimizer.step(np.full(5, 2.0, np.float32))
    assert optimizer.slots["s"].tolist() == [20.0] * 5


def test_a_monitor_reads_what_takes_sums_of_its_own() -> None:
    @rule
    def half(theta: Any, g: Any, m: FirstMoment, v: SecondMoment, *, lr: float = 0.1, beta: float = 0.9) -> Any:
        m, v = beta * m + (1 - beta) * g, beta * v + (1 - beta) * g * g
        m_hat = m / (total(abs(m)) + 1)  # a Monitor reads it, the step does not
        root = sr.sqrt(v) + 1e-8
        del m_hat
        return theta - lr * m / root / (1 + math.sqrt(total(theta * theta))), m, v

    @rule
    def unused(theta: Any, g: Any, m: FirstMoment, v: SecondMoment, *, lr: float = 0.1, beta: float = 0.9) -> Any:
        m, v = beta * m + (1 - beta) * g, beta * v + (1 - beta) * g * g
        m_hat = m / (total(abs(m)) + 1)
        return theta - lr * where(v > 1e300, m_hat, m) / (sr.sqrt(v) + 1e-8), m, v

    for some in (half, unused):
        for backend in ("llvm", "numpy"):
            x, y, g = np.linspace(1, 2, 9), np.linspace(1, 2, 9), np.linspace(-1, 1, 9)
            alone, read = sr.Optimizer(x, some, backend=backend), sr.Optimizer(y, some, backend=backend)
            monitor = sr.Monitor(read, every=1)
            for _ in range(3):
                alone.step(g)
                read.step(g)
            assert_same_bits(x, y, some.name)
            assert math.isfinite(monitor.latest[0]["signal_to_noise"])


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("first", [math.inf, math.nan, 1.0])
def test_many_tensors_raise_where_few_do(first: float, count: int) -> None:
    @rule
    def divided(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
        return theta - lr * (total(g) / total(theta)) * g

    arrays = [np.zeros(2) for _ in range(count)]
    with pytest.raises(HyperparameterError, match=r"total1=0\.0: float division by zero"):
        sr.Optimizer(arrays, divided).step([np.array([first, 1.0])] * count)
    assert not any(array.any() for array in arrays)


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize(
    ("of", "says"),
    [
        (lambda a, b: math.sqrt(b), "math domain error"),
        (lambda a, b: a + math.sqrt(b - a), "math domain error"),
        (lambda a, b: where(b < 0, 1 / (b + a), math.sqrt(b)), "division by zero"),
    ],
    ids=["a root", "a root of a difference", "a branch that is not taken"],
)
def test_many_tensors_have_no_value_where_few_have_none(of: Any, says: str, count: int) -> None:
    """NumPy would go on with NaN."""

    @rule
    def rooted(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
        return theta - lr * of(total(g * g), total(g)) * g

    arrays = [np.ones(2) for _ in range(count)]
    grads = [np.array([1.0, 2.0])] * (count - 1) + [np.array([-1.0, 0.0])]
    with pytest.raises(HyperparameterError, match=says):
        sr.Optimizer(arrays, rooted).step(grads)
    assert all((array == 1).all() for array in arrays)


@pytest.mark.parametrize("name", [*RULES, "clipped"])
def test_many_tensors_have_the_bits_of_each_alone(name: str) -> None:
    some = update_clip(CATALOGUE["adamw"]) if name == "clipped" else RULES[name]
    rng = np.random.default_rng(2)
    starts = [rng.standard_normal(k + 1).astype(np.float32) for k in range(70)]
    together, alone = [x.copy() for x in starts], [x.copy() for x in starts]
    optimizer, each = sr.Optimizer(together, some), [sr.Optimizer(x, some) for x in alone]
    with np.errstate(all="raise"):
        for scale in (1.0, 1e-30, 1e10, 1.0):
            grads = [(scale * rng.standard_normal(x.size)).astype(np.float32) for x in starts]
            grads[3][:] = 0
            optimizer.step(grads)
            for own, g in zip(each, grads, strict=True):
                own.step(g)
    for one, two in zip(together, alone, strict=True):
        assert_same_bits(one, two, name)


def test_a_sum_that_is_decided_away_takes_no_pass() -> None:
    @rule
    def chosen(theta: Any, g: Any, *, lr: float = 0.1, scaled: bool = False) -> Any:
        return theta - lr * where(scaled, mean(g * g), 1.0) * g

    for scaled in (False, True):
        recipe = plan(chosen, chosen.variant(chosen.resolve({"scaled": scaled})), FORMATS["float32"])
        assert len(recipe.before) == scaled


@pytest.mark.parametrize("name", ["_total0", "_size", "_clip_factor"])
def test_names_of_the_steps_own_numbers(name: str) -> None:
    body: dict[str, Any] = {}
    exec(f"def wrong(theta, g, *, lr=0.1, {name}=3.0): return theta - lr * {name} * g", body)
    with pytest.raises(RuleError, match=f"'{name}' is a number of the step's own"):
        rule(body["wrong"])


# The sums themselves.


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.7e308, 1.7e308, math.inf], math.inf),
        ([-math.inf, 1.7e308, 1.7e308], -math.inf),
        ([1.7e308, 1.7e308, math.inf, -math.inf], math.nan),
        ([1.7e308, 1.7e308, math.nan], math.nan),
    ],
)
def test_what_overflows_on_the_way_to_infinity(numbers: list[float], expected: float) -> None:
    np.testing.assert_array_equal(rounded_once(numbers), expected)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
@example([2.0**1023, 2.0**1023, -(2.0**1023), 2.0**970, 5e-324])
@example([1.7e308, 1.7e308, -1.7e308, -1.7e308, 1e-310])
@example([1.7e308] * 9)
def test_sums_are_rounded_once(numbers: list[float]) -> None:
    exact = sum(map(Fraction, numbers), Fraction(0))
    limit = Fraction(2) ** 1024 - Fraction(2) ** 970  # from there on the nearest number is infinite
    expected = float(exact) if abs(exact) < limit else math.inf if exact > 0 else -math.inf
    assert rounded_once(numbers) == expected


def test_sums_of_what_is_not_finite() -> None:
    assert rounded_once([math.inf, 1.0]) == math.inf
    assert math.isnan(rounded_once([math.inf, -math.inf]))
    assert math.isnan(rounded_once([math.nan, 1.0]))
    assert rounded_once([]) == 0


def straight_total(x: Any) -> float:
    """Return the sum in the documented order, by plain loops."""
    partial = []
    for start in range(0, len(x), 16_384):
        lanes = [0.0] * 128
        for i, value in enumerate(x[start : start + 16_384]):
            lanes[i % 128] += value
        width = 128
        while width > 1:
            width //= 2
            lanes = [lanes[k] + lanes[k + width] for k in range(width)]
        partial.append(lanes[0])
    return math.fsum(partial)


@pytest.mark.parametrize("size", [0, 1, 127, 129, 16_384, 16_385, 50_000])
def test_the_order_of_sums(size: int) -> None:
    x = rounding(size)
    assert total(x) == straight_total(x.tolist())
    assert total(x[::-1]) == straight_total(x[::-1].tolist())
    assert mean(x) == total(x) / max(1, size)
    assert type(total(x)) is float


LAYOUTS: dict[str, tuple[Any, bool]] = {
    "C": (rounding(40, 70), True),
    "Fortran": (rounding(70, 40).T, True),
    "axes in some other order": (rounding(7, 40, 10).transpose(1, 0, 2), True),
    "gaps": (rounding(40, 140)[:, ::2], False),
    "gaps, transposed": (rounding(140, 40)[::2].T, False),
    "backwards": (rounding(40, 70)[::-1], False),
    "repeated": (np.broadcast_to(rounding(40, 1), (40, 70)), False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_sums_is_that_of_memory_where_there_are_no_gaps_else_of_the_axes(layout: str) -> None:
    x, is_dense = LAYOUTS[layout]
    of_memory = sorted(np.ndindex(*x.shape), key=lambda at: sum(i * s for i, s in zip(at, x.strides, strict=True)))
    of_axes = list(np.ndindex(*x.shape))
    sums = [straight_total([float(x[at]) for at in order]) for order in (of_axes, of_memory)]
    if layout not in ("C", "gaps", "repeated"):
        assert sums[0] != sums[1], "these numbers would hide it"
    assert total(x) == sums[is_dense]


# Clipped updates, a combinator over a mean.


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("name", ["adamw", "adopt", "adan", "rmsprop", "amsgrad"])
def test_the_option_is_the_combinator(name: str, backend: str) -> None:
    pair = [starts("float32"), starts("float32")]
    mine = sr.Optimizer(pair[0], name, update_clip=True, backend=backend)
    theirs = sr.Optimizer(pair[1], update_clip(CATALOGUE[name]), backend=backend)
    plain = starts("float32")
    other = sr.Optimizer(plain, name, backend=backend)
    for t in range(1, 5):
        for optimizer, arrays in ((mine, pair[0]), (theirs, pair[1]), (other, plain)):
            optimizer.step(grads_of(t, "float32", arrays))
    for one, two in zip(*pair, strict=True):
        assert_same_bits(one, two, name)
    assert any(not np.array_equal(one, two) for one, two in zip(pair[0], plain, strict=True))


@pytest.mark.parametrize(
    "make", [lambda r: r, decoupled, l2, lambda r: maximize(l2(r))], ids=["plain", "decoupled", "l2", "maximize, l2"]
)
def test_a_clipped_rule_called_on_arrays(make: Any) -> None:
    some = update_clip(make(CATALOGUE["adam"]))
    arrays = starts("float32")
    expected = by_the_rule(some, arrays, 4)
    optimizer = sr.Optimizer(arrays, some)
    for t in range(1, 5):
        optimizer.step(grads_of(t, "float32", arrays))
    for array, one in zip(arrays, expected, strict=True):
        assert_same_bits(array, one, some.name)


def test_clipped_updates_as_the_paper_has_them() -> None:
    rng = np.random.default_rng(5)
    x, gradients = (
        rng.standard_normal(50),
        rng.standard_normal((8, 50)) * np.array([1, 1, 30, 1, 1, 200, 1, 1])[:, None],
    )
    some = update_clip(CATALOGUE["adam"])
    optimizer = sr.Optimizer(x.copy(), some)
    mine = optimizer.params
    v = [0.0] * 50
    m, theta = [0.0] * 50, x.tolist()
    for t, g in enumerate(gradients.tolist(), start=1):
        optimizer.step(np.array(g))
        for i in range(50):
            m[i] = 0.9 * m[i] + (1 - 0.9) * g[i]
            v[i] = 0.999 * v[i] + (1 - 0.999) * g[i] * g[i]
        v_hat = [a / (1 - 0.999**t) for a in v]
        lr = 0.001 * paper.update_factor(g, v_hat, 1e-8)
        theta = [x - lr * (a / (1 - 0.9**t)) / (math.sqrt(b) + 1e-8) for x, a, b in zip(theta, m, v_hat, strict=True)]
    np.testing.assert_allclose(mine, theta, rtol=1e-12)


@rule
def fixed(theta: Any, g: Any, v: SecondMoment, *, beta: float = 0.9) -> Any:
    v = beta * v + (1 - beta) * g * g
    return theta - 0.1 * g / (sr.sqrt(v) + 1e-8), v


def test_where_there_is_nothing_to_clip() -> None:
    with pytest.raises(RuleError, match="'fixed' has no lr that could be lowered; use clip_norm"):
        update_clip(fixed)
    with pytest.raises(RuleError, match="'sgd' keeps no SecondMoment; use clip_norm"):
        update_clip("sgd")
    with pytest.raises(HyperparameterError, match="update_clip lowers lr, which rule 'fixed' does not use; remove it"):
        sr.Optimizer(np.ones(3), fixed, update_clip=True)
    with pytest.raises(HyperparameterError, match="clips its updates itself; remove update_clip"):
        sr.Optimizer(np.ones(3), l2(update_clip("adam")), update_clip=True)


def test_a_variant_without_lr_steps_as_ever() -> None:
    @rule
    def maybe(theta: Any, g: Any, v: SecondMoment, *, lr: float | None = None, beta: float = 0.9) -> Any:
        v = beta * v + (1 - beta) * g * g
        return theta - (0.1 if lr is None else lr) * g / (sr.sqrt(v) + 1e-8), v

    x, y, g = np.ones(3), np.ones(3), np.array([9.0, 0.1, 2.0])
    for theta, some in ((x, maybe), (y, update_clip(maybe))):
        sr.Optimizer(theta, some).step(g)
    assert_same_bits(x, y, "without lr")
    sr.Optimizer(x, maybe, lr=0.3, update_clip=True).step(g)
    with pytest.raises(HyperparameterError, match="update_clip lowers lr, which rule 'maybe' does not use"):
        sr.Optimizer(x, maybe, update_clip=True)


def test_a_second_moment_may_be_a_mean_itself() -> None:
    @rule
    def shared(theta: Any, g: Any, v: SecondMoment, *, lr: float = 0.1, beta2: float = 0.9, eps: float = 1e-8) -> Any:
        v = beta2 * v + (1 - beta2) * mean(g * g)
        return theta - lr * g / (sr.sqrt(v) + eps), v

    x, y = np.ones(5), np.ones(5)
    optimizers = sr.Optimizer(x, shared, update_clip=True), sr.Optimizer(y, update_clip(shared), backend="numpy")
    for scale in (1.0, 100.0):
        for optimizer in optimizers:
            optimizer.step(scale * np.arange(5.0))
    assert_same_bits(x, y, "shared")


def test_what_is_read_of_clipped_steps() -> None:
    x = np.ones(50)
    optimizer = sr.Optimizer(x, decoupled("adam"), update_clip=True)
    monitor = sr.Monitor(optimizer, every=1)
    for _ in range(2):
        optimizer.step(np.full(50, 1e-9))
        assert monitor.latest[0]["epsilon_share"] == 1.0


WORDS: list[tuple[Any, Any]] = [
    (total, lambda x: math.fsum(x)),
    (mean, lambda x: math.fsum(x) / len(x)),
    (norm, lambda x: math.sqrt(math.fsum(v * v for v in x))),
    (rms, lambda x: math.sqrt(math.fsum(v * v for v in x) / len(x))),
    (size, len),
]


@pytest.mark.parametrize(("word", "meant"), WORDS)
@pytest.mark.parametrize("over", ["tensor", "all"])
def test_words_for_sums_are_what_they_are_called(word: Any, meant: Any, over: Any) -> None:
    """In float64, whatever the array's type: neither squares of 1e-30 nor of 1e30 are numbers of float32."""
    for scale in (1e-30, 1.0, 1e30):
        x = (np.random.default_rng(5).standard_normal(3_000) * scale).astype(np.float32)
        found = word(x, over)
        assert type(found) in (float, int)
        assert math.isclose(found, meant(x.astype(np.float64).tolist()), rel_tol=1e-12, abs_tol=1e-12 * scale)


@pytest.mark.parametrize("word", [word for word, _ in WORDS])
def test_words_for_sums_know_over_what(word: Any) -> None:
    with pytest.raises(RuleError, match=r"tensor\" or over=\"all\" .*got 'rows'"):
        word(np.ones(3), over="rows")
    with pytest.raises(RuleError, match=r"tensor\" or over=\"all\" .*got 'rows'"):
        rule(lambda theta, g: theta - word(g, over="rows"))


def test_nothing_sums_to_nothing() -> None:
    assert [word(np.ones((0, 3))) for word, _ in WORDS] == [0, 0, 0, 0, 1]


def test_slots_that_are_numbers_depend_on_numbers() -> None:
    def body(value: Any) -> Any:
        def wrong(theta: Any, g: Any, v: sr.PerTensor, d: Scalar) -> Any:
            new = value(theta, g, v, d)
            return theta - g, new[0], new[1]

        wrong.__annotations__ |= {"v": sr.PerTensor, "d": Scalar}
        return wrong

    made = rule(body(lambda theta, g, v, d: (v + norm(g) + d, d + total(g * v, over="all"))))
    assert (*made.scalars, *made.per_tensor, *made.element_slots) == ("d", "v")
    theta, v, d = made(np.ones(4), np.full(4, 2.0), 1.0, 0.5)
    assert (theta.tolist(), v, d) == ([-1.0] * 4, 5.5, 8.5)
    for value, message in [
        (lambda theta, g, v, d: (g, d), "'v' is PerTensor, but g is a number of every element; take a sum"),
        (lambda theta, g, v, d: (v, d + v), "'d' is a Scalar.* not on sums over the tensor: .*over='all', or"),
        (lambda theta, g, v, d: (v, d + norm(g)), "'d' is a Scalar.* not on sums over the tensor: "),
        (lambda theta, g, v, d: (v, d + g), "'d' is a Scalar.* not on elements: "),
    ]:
        with pytest.raises(RuleError, match=message):
            rule(body(value))


@pytest.mark.parametrize("over", ["tensor", "row"])
@pytest.mark.parametrize("word", [total, mean, norm, rms])
def test_complex_numbers_are_refused(word: Any, over: Any) -> None:
    """NumPy would drop their imaginary parts."""
    with pytest.raises(RuleError, match=r"real numbers, got complex64; sum its parts: x\.view\('float32'\)"):
        word(np.ones((2, 3), np.complex64), over=over)
