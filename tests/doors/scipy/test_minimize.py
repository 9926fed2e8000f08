"""``steprule.minimize`` on deterministic objectives: trajectories, gradients, starts and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from hypothesis import example, given
from hypothesis import strategies as st

import steprule as sr
from tests.doors.scipy.bowl import CENTRE, CURVATURE, Array, Counter, bowl, bowl_both, bowl_slope


def adam_path(x0: list[float], steps: int, lr: float, beta1: float, beta2: float, eps: float) -> list[Array]:
    x, m, v = np.array(x0), np.zeros(len(x0)), np.zeros(len(x0))
    path = []
    for t in range(1, steps + 1):
        g = bowl_slope(x)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        x = x - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        path.append(x)
    return path


def test_the_path_is_adam_s_in_every_bit() -> None:
    seen: list[Array] = []
    sr.minimize(
        bowl_both, [0.0, 0.0, 0.0], jac=True, lr=0.03, beta1=0.8, beta2=0.95, maxiter=200, gtol=0, callback=seen.append
    )
    expected = adam_path([0.0, 0.0, 0.0], 200, 0.03, 0.8, 0.95, 1e-8)
    np.testing.assert_array_equal(np.array(seen), np.array(expected))


def test_a_schedule_is_asked_with_t_from_1() -> None:
    asked: list[int] = []

    def lr(t: int) -> float:
        asked.append(t)
        return 0.1 / t

    seen: list[Array] = []
    sr.minimize(bowl_both, [9.0, 9.0, 9.0], jac=True, rule="sgd", lr=lr, maxiter=3, callback=seen.append)
    assert asked == [1, 2, 3]
    x = np.full(3, 9.0)
    for t, found in enumerate(seen, 1):
        x = x - (0.1 / t) * bowl_slope(x)
        np.testing.assert_array_equal(found, x)


def test_rosenbrock() -> None:
    res = sr.minimize(so.rosen, [-1.2, 1.0], jac=so.rosen_der, lr=0.02)
    assert res.success
    assert res.status == 0
    np.testing.assert_allclose(res.x, 1.0, atol=1e-3)
    assert np.abs(so.rosen_der(res.x)).max() <= 1e-5


@pytest.mark.parametrize("rule", ["sgd", "momentum", "rmsprop", "adam", "adamax", "nadam", "rprop", "yogi", "adan"])
def test_a_quadratic_converges(rule: str) -> None:
    res = sr.minimize(bowl_both, np.zeros(3), rule=rule, jac=True, lr=0.05, maxiter=20_000)
    assert res.success, res
    np.testing.assert_allclose(res.x, CENTRE, atol=1e-4)
    np.testing.assert_array_equal(res.jac, bowl_slope(res.x))
    assert res.fun == bowl(res.x)
    assert np.abs(res.jac).max() <= 1e-5
    assert res.nfev == res.njev == res.nit + 1


def test_a_rule_of_one_s_own() -> None:
    @sr.rule
    def half(theta, g, *, lr: sr.Rate = 0.5):
        return theta - lr * g

    res = sr.minimize(lambda x: (float(x @ x) / 2, x), [4.0], rule=half, jac=True, maxiter=2)
    assert res.x.tolist() == [1.0]


@pytest.mark.parametrize("jac", [None, False, "2-point", "3-point", "cs", bowl_slope, True])
def test_gradients_of_every_kind_agree(jac: Any) -> None:
    fun, slope = Counter(bowl_both if jac is True else bowl), Counter(bowl_slope)
    given = slope if jac is bowl_slope else jac
    res = sr.minimize(fun, [0.0, 0.0, 0.0], jac=given, lr=0.1, gtol=1e-4)
    assert res.success
    np.testing.assert_allclose(res.x, CENTRE, atol=1e-3)
    assert res.nfev == fun.calls
    assert res.njev == res.nit + 1
    if jac is bowl_slope:
        assert slope.calls == res.njev
    each = {None: 4, False: 4, "2-point": 4, "3-point": 7, "cs": 4}.get(jac if jac is not bowl_slope else True, 1)
    assert res.nfev == each * (res.nit + 1)


def test_default_differences_are_those_of_scipy_s_bfgs() -> None:
    ours = sr.minimize(so.rosen, [3.0, 700.0], maxiter=0)
    theirs = so.minimize(so.rosen, [3.0, 700.0], method="BFGS", options={"maxiter": 0})
    np.testing.assert_array_equal(ours.jac, theirs.jac)
    assert (ours.nfev, ours.njev) == (theirs.nfev, theirs.njev)


def test_relative_step_of_differences_is_used() -> None:
    res = sr.minimize(lambda x: float(x[0] ** 2), [1.0], jac="2-point", finite_diff_rel_step=0.5, maxiter=0)
    assert res.jac.tolist() == [2.5]


def test_args_a_tuple_or_a_single_one() -> None:
    def fun(x: Array, centre: float, scale: float = 1.0) -> float:
        return float(scale * ((x - centre) ** 2).sum())

    assert sr.minimize(fun, [0.0], 2.0, lr=0.1).x == pytest.approx([2.0], abs=1e-4)
    res = sr.minimize(fun, [0.0], (2.0, 3.0), jac=lambda x, centre, scale: 2 * scale * (x - centre), lr=0.1)
    assert res.x == pytest.approx([2.0], abs=1e-4)


def test_fun_may_return_an_array_of_one_and_write_to_its_x() -> None:
    def fun(x: Array) -> Array:
        value = np.array([[((x - 1) ** 2).sum()]])
        x[...] = np.nan
        return value

    res = sr.minimize(fun, [0.0, 0.0], lr=0.1)
    assert res.success
    assert isinstance(res.fun, float)
    np.testing.assert_allclose(res.x, 1.0, atol=1e-4)


def test_a_gradient_buffer_that_is_filled_again_and_again() -> None:
    buffer = np.zeros(3)

    def both(x: Array) -> tuple[float, Array]:
        buffer[...] = bowl_slope(x)
        return bowl(x), buffer

    best = sr.minimize(both, [0.0, 0.0, 0.0], jac=True, lr=1.5, maxiter=40)
    assert not np.array_equal(best.x, best.state.x)  # others came after it, and filled the buffer
    mean = sr.minimize(both, [0.0, 0.0, 0.0], jac=True, lr=5.0, maxiter=7, average="polyak")
    both(np.zeros(3))
    for res in (best, mean):
        np.testing.assert_array_equal(res.jac, bowl_slope(res.x))


READ_ONLY = np.array([2.0, 2.0])
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "x0",
    [
        np.array([2.0, 2.0]),
        READ_ONLY,
        np.array([2, 2]),
        [2, 2],
        np.array([2.0, 2.0], np.float32),
        np.array(2.0),
        3,
        np.full((2, 3), 2.0),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(8.0)[::2],
    ],
    ids=["array", "read-only", "integers", "list", "float32", "0-d", "scalar", "matrix", "fortran", "strided"],
)
def test_x0_of_any_shape_and_type_is_not_changed(x0: Any) -> None:
    before = np.array(x0)
    shapes = set()

    def fun(x: Array) -> tuple[float, Array]:
        shapes.add((x.shape, x.dtype))
        return float(x @ x), 2 * x

    first = sr.minimize(fun, x0, jac=True, maxiter=0)
    np.testing.assert_array_equal(first.x, before.flatten())
    res = sr.minimize(fun, x0, jac=True, lr=0.1)
    np.testing.assert_array_equal(np.array(x0), before)
    assert shapes == {((before.size,), np.dtype(np.float64))}
    assert res.success
    np.testing.assert_allclose(res.x, 0.0, atol=1e-4)


def test_bounds_that_are_active_at_the_solution() -> None:
    bounds = [(None, 0.5), (-1.0, 1.0), (0.0, None)]
    theirs = so.minimize(bowl_both, np.zeros(3), jac=True, bounds=bounds, method="L-BFGS-B")
    for kind in (bounds, so.Bounds([-np.inf, -1.0, 0.0], [0.5, 1.0, np.inf]), np.array([[-9, 0.5], [-1, 1], [0, 9]])):
        res = sr.minimize(bowl_both, np.zeros(3), jac=True, bounds=kind, lr=0.1)
        assert res.success
        np.testing.assert_allclose(res.x, theirs.x, atol=1e-4)
        assert res.x[0] == 0.5
        assert res.x[1] == -1.0
        # The gradient itself does not vanish there: only its projection may be small.
        assert np.abs(res.jac).max() > 0.1


def test_bounds_that_hold_for_all_variables() -> None:
    for bounds in (so.Bounds(0.25, 0.75), [(0.25, 0.75)]):
        res = sr.minimize(bowl_both, np.zeros(3), jac=True, bounds=bounds, lr=0.1)
        np.testing.assert_allclose(res.x, [0.75, 0.25, 0.75])


@given(
    ends=st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=3, max_size=3),
    x0=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
    lr=st.floats(1e-3, 10),
    jac=st.sampled_from([True, None, "3-point"]),
    average=st.sampled_from([None, "polyak", 0.9]),
)
# Here the differences' own x + h rounds to 0, an ulp below the bound.
@example(ends=[(0.0, 0.0), (0.0, 0.0), (1.4e-242, 6.9e-27)], x0=[0.0, 0.0, 1.0], lr=1.0, jac=None, average=None)
# Here its step is 0.
@example(ends=[(0.0, 0.0), (0.0, 0.0), (1e-323, 5e-324)], x0=[0.0, 0.0, 0.0], lr=1.0, jac="3-point", average=None)
def test_no_point_lies_outside_of_the_bounds(ends: Any, x0: Any, lr: float, jac: Any, average: Any) -> None:
    low = np.array([least for least, _ in ends])
    high = low + np.array([width for _, width in ends])
    seen: list[Array] = []

    def fun(x: Array) -> Any:
        seen.append(x)
        return bowl_both(x) if jac is True else bowl(x)

    res = sr.minimize(
        fun, x0, jac=jac, bounds=so.Bounds(low, high), lr=lr, maxiter=12, average=average, callback=seen.append
    )
    points = np.array([*seen, res.x])
    assert (points >= low).all()
    assert (points <= high).all()


def test_a_variable_fixed_by_its_bounds() -> None:
    bounds = [(None, None), (0.25, 0.25), (None, None)]
    res = sr.minimize(bowl, [0.0, 7.0, 0.0], bounds=bounds, lr=0.1)
    assert res.success
    np.testing.assert_allclose(res.x, [1.0, 0.25, 3.0], atol=1e-4)
    # Differences have no room there, so no derivative is claimed.
    assert np.isnan(res.jac).tolist() == [False, True, False]
    known = sr.minimize(bowl_both, [0.0, 7.0, 0.0], jac=True, bounds=bounds, lr=0.1)
    assert known.jac[1] == CURVATURE[1] * (0.25 + 2.0)
    fixed = sr.minimize(bowl, [0.0, 0.0, 0.0], bounds=so.Bounds(1.0, 1.0))
    assert (fixed.success, fixed.nit, fixed.x.tolist()) == (True, 0, [1.0, 1.0, 1.0])


def test_the_projected_gradient_is_not_rounded_away_beside_a_large_x() -> None:
    # x - clip(x - g) is exactly 0 here, although g is 1.
    res = sr.minimize(lambda x: (float(x[0]), np.ones(1)), [1e20], jac=True, bounds=[(0, None)], maxiter=3)
    assert not res.success
