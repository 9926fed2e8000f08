"""The same bits everywhere: machine code against the rule itself, run by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

import steprule as sr
from steprule.runtime import launch
from tests.cases import CASES, COMBINED, Array, Direct, assert_same_bits, case_id, same, sees, unlike_defaults, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import FIRST_CASES, SOME_CASES, crossed, rotated

RULES = {**CATALOGUE, **COMBINED}
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def agree(rule: sr.Rule, theta: Array, gradients: list[Array], backend: str = "llvm", **values: Any) -> None:
    """Step a copy by the rule itself and ``theta`` by the backend; compare all bits of all state."""
    direct = Direct(rule, np.array(theta), **values)
    optimizer = sr.Optimizer(theta, rule, backend=backend, **values)
    for t, g in enumerate(gradients, start=1):
        before = g.copy()
        optimizer.step(g)
        direct.step(g)
        assert_same_bits(theta, direct.theta, f"{rule.name} theta at t={t}")
        assert_same_bits(g, before, "the gradient, which is only read")
    for name, slot in optimizer.slots.items():
        if name in rule.numbers:
            assert slot is None or same(float(np.ravel(slot)[0]), direct.slots[name]), f"{rule.name} slot {name}"
        else:
            assert_same_bits(slot, direct.slots[name], f"{rule.name} slot {name}")


def wild_run(n: int, dtype: str, steps: int, seed: int = 0, rule: sr.Rule | None = None) -> tuple[Array, list[Array]]:
    """Return a start and gradients; of a rule with sums half of them are tame, since one NaN is all that is left."""
    rng = np.random.default_rng(seed)
    tame = steps // 2 if rule is not None and sees(rule) != "element" else 0
    start, gradients = (
        rng.standard_normal(n),
        [rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2) + 0.3 for _ in range(tame)],
    )
    return start.astype(dtype), [
        *(g.astype(dtype) for g in gradients),
        *(wild(rng, n, dtype) for _ in range(steps - tame)),
    ]


@pytest.mark.parametrize(("case", "dtype"), rotated(CASES, DTYPES, FIRST_CASES, SOME_CASES), ids=case_id)
def test_every_rule_and_option(case: tuple[str, dict[str, Any]], dtype: str) -> None:
    name, options = case
    theta, gradients = wild_run(1003, dtype, 12, rule=CATALOGUE[name])
    agree(CATALOGUE[name], theta, gradients, **{**unlike_defaults(CATALOGUE[name], options), **options})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_referee(name: str, dtype: str) -> None:
    theta, gradients = wild_run(515, dtype, 8, rule=RULES[name])
    agree(RULES[name], theta, gradients, backend="numpy")


@pytest.mark.parametrize("n", [0, 1, 7, 64, 4097])
@pytest.mark.parametrize("name", RULES)
def test_sizes(name: str, n: int) -> None:
    theta, gradients = wild_run(n, "float32", 5, seed=n, rule=RULES[name])
    agree(RULES[name], theta, gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), crossed([*RULES], ["float32", "float64"], 2))
def test_a_million_elements_on_any_number_of_threads(name: str, dtype: str, threads: int) -> None:
    theta, gradients = wild_run(1_000_003, dtype, 3, rule=RULES[name])
    agree(RULES[name], theta, gradients)


@pytest.mark.parametrize("chunk", [1, 3, 64, 1000, 10**9])
def test_chunks(chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CHUNK", chunk)
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    theta, gradients = wild_run(2500, "float32", 6)
    agree(CATALOGUE["adam"], theta, gradients)


def home(layout: str) -> Array:
    """Return zeros of shape (24, 10, 6) that lie in memory in that way."""
    zeros = np.zeros
    homes: dict[str, Callable[[], Array]] = {
        "C": lambda: zeros((24, 10, 6), np.float32),
        "Fortran": lambda: zeros((24, 10, 6), np.float32, order="F"),
        "transposed": lambda: zeros((10, 24, 6), np.float32).transpose(1, 0, 2),
        "offset": lambda: zeros(2000, np.float32)[7 : 7 + 1440].reshape(24, 10, 6),
        "rows": lambda: zeros((48, 10, 6), np.float32)[::2],
        "columns": lambda: zeros((24, 10, 20), np.float32)[:, :, 1:19:3],
        "backwards": lambda: zeros((24, 10, 6), np.float32)[::-1, :, ::-1],
        "padded": lambda: zeros((24, 16, 8), np.float32)[:, 3:13, 1:7],
    }
    return homes[layout]()


LAYOUTS = ["C", "Fortran", "transposed", "offset", "rows", "columns", "backwards", "padded"]


@pytest.mark.parametrize("gradient", LAYOUTS)
@pytest.mark.parametrize("parameter", LAYOUTS)
def test_layouts(parameter: str, gradient: str) -> None:
    rng = np.random.default_rng(3)
    theta = home(parameter)
    theta[...] = rng.standard_normal(theta.shape)
    gradients = [home(gradient) for _ in range(4)]
    for g in gradients:
        g[...] = wild(rng, theta.size, "float32").reshape(theta.shape)
    agree(CATALOGUE["adam"], theta, gradients)


@pytest.mark.parametrize(("shape", "strides"), [((), ()), ((1, 1200, 1), (9, 4, 77)), ((1, 1), (4, 4))])
def test_axes_that_do_not_move_have_any_stride(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    theta = np.lib.stride_tricks.as_strided(rng.standard_normal(1200).astype(np.float32), shape, strides)
    agree(CATALOGUE["adam"], theta, [wild(rng, theta.size, "float32").reshape(shape) for _ in range(3)])


def test_a_strided_view_leaves_its_neighbours_alone() -> None:
    whole = np.arange(60, dtype=np.float32).reshape(6, 10)
    view = whole[1::2, 2::3]
    outside = np.ones_like(whole, bool)
    outside[1::2, 2::3] = False
    before = whole.copy()
    sr.Optimizer(view, "sgd", lr=1.0).step(np.ones_like(view))
    np.testing.assert_array_equal(whole[outside], before[outside])
    np.testing.assert_array_equal(view, before[1::2, 2::3] - 1)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_gradients_that_are_the_parameters(backend: str) -> None:
    # f(x) = |x|^2 / 2 and f(x, y) = x y: the gradients lie in the parameters themselves.
    x = np.array([3.0, -1.0])
    sr.Optimizer(x, "sgd", lr=0.5, backend=backend).step(x)
    np.testing.assert_array_equal(x, [1.5, -0.5])
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    sr.Optimizer([x, y], "sgd", lr=0.5, backend=backend).step([y, x])
    np.testing.assert_array_equal(x, [-4.0, -8.0])
    np.testing.assert_array_equal(y, [9.5, 19.0])


@pytest.mark.parametrize("n", [3, 64, 65, 200])
def test_one_of_many_gradients_lies_in_a_parameter(n: int) -> None:
    rng = np.random.default_rng(n)
    for crossing in (0, n // 2, n - 1):
        thetas = [rng.standard_normal(5) for _ in range(n)]
        grads = [rng.standard_normal(5) for _ in range(n)]
        other = (crossing + 1) % n
        grads[crossing] = thetas[other]
        expected = [theta - 0.5 * g for theta, g in zip(thetas, grads, strict=True)]
        optimizer = sr.Optimizer(thetas, "sgd", lr=0.5)
        optimizer.step(grads)
        for theta, want in zip(thetas, expected, strict=True):
            np.testing.assert_array_equal(theta, want)


def test_a_gradient_that_lies_across_its_parameter() -> None:
    memory = np.arange(100, dtype=np.float64)
    theta, g = memory[:60], memory[20:80]
    expected = theta - 0.5 * g
    sr.Optimizer(theta, "sgd", lr=0.5).step(g)
    np.testing.assert_array_equal(theta, expected)


def test_a_gradient_that_lies_in_a_slot() -> None:
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    optimizer = sr.Optimizer([x, y], "momentum", lr=0.5, mu=0.5)
    optimizer.step([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    x[...], y[...] = 0.0, 0.0
    slots = optimizer.slots["b"]
    optimizer.step([slots[1], slots[0]])  # b_x = 0.5 [1, 2] + [3, 4], b_y = 0.5 [3, 4] + [1, 2]
    np.testing.assert_array_equal(x, [-1.75, -2.5])
    np.testing.assert_array_equal(y, [-1.25, -2.0])


def test_one_leaf_may_come_to_lie_in_another_between_steps() -> None:
    # One leaf dense, one strided, and only the strided one's gradient moves, into the dense one.
    dense, strided = np.zeros(8), np.zeros((4, 4))[:, ::2]
    optimizer = sr.Optimizer([dense, strided], "sgd", lr=1.0)
    g = np.ones(8)
    optimizer.step([g, np.ones((4, 2))])
    optimizer.step([g, dense.reshape(4, 2)])
    np.testing.assert_array_equal(dense, np.full(8, -2.0))
    np.testing.assert_array_equal(strided, np.zeros((4, 2)))


class Tagged(np.ndarray[Any, Any]):
    """A subclass whose product means something else, as np.matrix's does."""

    def __mul__(self, other: object) -> Any:
        raise AssertionError("the subclass's own product was called")

    __rmul__ = __mul__


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_subclasses_are_stepped_as_plain_arrays(backend: str, tmp_path: Path) -> None:
    theta = np.ones(4).view(Tagged)
    sr.Optimizer(theta, "sgd", lr=0.5, backend=backend).step(np.ones(4).view(Tagged))
    assert theta.view(np.ndarray).tolist() == [0.5] * 4
    mapped = np.memmap(tmp_path / "theta", np.float32, "w+", shape=(5,))
    optimizer = sr.Optimizer(mapped, "sgd", lr=0.5, backend=backend)
    optimizer.step(np.ones(5, np.float32))
    assert optimizer.params is mapped
    assert mapped.tolist() == [-0.5] * 5


def test_unaligned_memory() -> None:
    def unaligned(values: Array) -> Array:
        raw = np.zeros(values.nbytes + 1, np.uint8)
        view = raw[1:].view(values.dtype)
        view[...] = values
        return view

    theta, gradients = wild_run(333, "float32", 3)
    agree(CATALOGUE["adam"], unaligned(theta), [unaligned(g) for g in gradients])
    agree(CATALOGUE["adam"], theta, [unaligned(g) for g in gradients])


def test_kernels_only_see_aligned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = launch.Table.run

    def watch(table: launch.Table) -> None:
        seen.extend(table.addresses.ravel().tolist())
        run(table)

    monkeypatch.setattr(launch.Table, "run", watch)
    raw = np.zeros(400 * 4 + 1, np.uint8)
    theta = np.zeros(400, np.float32)
    sr.Optimizer(theta, "adam").step(raw[1:].view(np.float32))
    assert seen
    assert all(address % 4 == 0 for address in seen)


def test_a_gradient_that_lies_badly_once_slows_down_no_later_step() -> None:
    theta, raw = np.zeros(400, np.float32), np.zeros(400 * 4 + 1, np.uint8)
    optimizer = sr.Optimizer(theta, "adam")
    optimizer.step(raw[1:].view(np.float32))
    assert [row.is_direct for row in optimizer._layout._launch.rows] == [True]


def test_gradients_may_move_and_change_layout_between_steps() -> None:
    theta, gradients = wild_run(600, "float32", 8)
    theta = theta.reshape(20, 30)
    shaped = [g.reshape(20, 30) for g in gradients]
    mixed = [
        np.asfortranarray(g) if i % 3 == 1 else np.repeat(g, 2, 1)[:, ::2] if i % 3 == 2 else g
        for i, g in enumerate(shaped)
    ]
    agree(CATALOGUE["amsgrad"], theta, mixed)


@hypothesis.given(
    theta=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(max_dims=4, max_side=6, min_dims=0, min_side=0),
    ),
    name=st.sampled_from(sorted(RULES)),
    data=st.data(),
)
def test_any_shape_and_value(theta: Array, name: str, data: st.DataObject) -> None:
    elements = hnp.from_dtype(theta.dtype, allow_nan=True, allow_infinity=True, allow_subnormal=True)
    gradients = [data.draw(hnp.arrays(theta.dtype, theta.shape, elements=elements)) for _ in range(3)]
    agree(RULES[name], theta, gradients)


@hypothesis.given(
    shape=hnp.array_shapes(max_dims=3, max_side=7),
    name=st.sampled_from(["adam", "rprop", "nadam"]),
    data=st.data(),
)
def test_any_view(shape: tuple[int, ...], name: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    home = rng.standard_normal(shape).astype(np.float32)
    axes = data.draw(st.permutations(range(len(shape))))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False))
    theta = home.transpose(axes) if data.draw(st.booleans()) else home[index]
    hypothesis.assume(isinstance(theta, np.ndarray))  # a full index gives a number, not a view
    gradients = [wild(rng, theta.size, "float32").reshape(theta.shape) for _ in range(2)]
    gradients.append(np.asfortranarray(gradients[0]))
    agree(CATALOGUE[name], theta, gradients)


def test_many_arrays_of_all_types_in_one_launch(threads: int) -> None:
    rng = np.random.default_rng(8)
    sizes = [0, 1, 7, 1000, 40_000, 3]
    thetas = {d: [rng.standard_normal(n).astype(d) for n in sizes] for d in DTYPES}
    direct = {d: [Direct(CATALOGUE["adamw"], a.copy(), lr=0.1) for a in arrays] for d, arrays in thetas.items()}
    optimizer = sr.Optimizer(thetas, "adamw", lr=0.1)
    for _ in range(4):
        grads = {d: [wild(rng, n, d) for n in sizes] for d in DTYPES}
        optimizer.step(grads)
        for d in DTYPES:
            for mine, one, g in zip(thetas[d], direct[d], grads[d], strict=True):
                one.step(g)
                assert_same_bits(mine, one.theta, d)
