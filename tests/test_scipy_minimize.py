"""``steprule.minimize`` on deterministic objectives: trajectories, gradients, bounds, stopping, results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import steprule as sr

Array = NDArray[np.float64]
CENTRE = np.array([1.0, -2.0, 3.0])
CURVATURE = np.array([1.0, 10.0, 0.5])


def bowl(x: Any) -> Any:
    return 0.5 * (CURVATURE * (x - CENTRE) ** 2).sum()


def bowl_slope(x: Array) -> Array:
    slope: Array = CURVATURE * (x - CENTRE)
    return slope


def bowl_both(x: Array) -> tuple[float, Array]:
    return bowl(x), bowl_slope(x)


class Counter:
    """Counts the calls of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


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
    ours = sr.minimize(so.rosen, [0.3, 0.7], maxiter=0)
    theirs = so.minimize(so.rosen, [0.3, 0.7], method="BFGS", options={"maxiter": 0})
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

    res = sr.minimize(both, [0.0, 0.0, 0.0], jac=True, lr=5.0, maxiter=7)
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


def test_maxiter_is_no_success() -> None:
    res = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=1e-3, maxiter=25)
    assert res.success is False
    assert res.status == 1
    assert res.message == "Maximum number of iterations has been exceeded."
    assert (res.nit, res.nfev, res.njev) == (25, 26, 26)
    none = sr.minimize(bowl_both, np.zeros(3), jac=True, maxiter=0)
    assert (none.success, none.status, none.nit, none.nfev) == (False, 1, 0, 1)
    assert sr.minimize(bowl_both, np.zeros(3), jac=True, rule="sgd", lr=0.0).nit == 10_000


def test_a_start_at_the_optimum_takes_no_step() -> None:
    res = sr.minimize(bowl_both, CENTRE, jac=True)
    assert (res.success, res.status, res.nit, res.nfev) == (True, 0, 0, 1)
    np.testing.assert_array_equal(res.x, CENTRE)


@pytest.mark.parametrize("name", ["gtol", "tol"])
def test_gtol_is_the_largest_element_of_the_gradient(name: str) -> None:
    options: dict[str, Any] = {name: 0.5}
    seen: list[Array] = []
    res = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=0.02, callback=seen.append, **options)
    norms = [np.abs(bowl_slope(x)).max() for x in seen]
    assert norms[-1] <= 0.5 < min(norms[:-1])
    np.testing.assert_array_equal(res.x, seen[-1])


def test_a_flat_place_that_is_worse_is_passed_over() -> None:
    # The third gradient is 0, but the point is worse than the start.
    losses = iter([1.0, 0.5, 3.0, 0.25])
    slopes = iter([1.0, 1.0, 0.0, 1.0])
    res = sr.minimize(lambda x: (next(losses), np.array([next(slopes)])), [0.0], jac=True, maxiter=3)
    assert (res.success, res.status, res.fun) == (False, 1, 0.25)


def test_the_best_point_is_returned_not_the_last() -> None:
    seen: list[Array] = []
    res = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=1.5, maxiter=40, callback=seen.append)
    losses = [bowl(x) for x in seen]
    assert losses[-1] > min(losses)
    assert res.fun == min(losses)
    np.testing.assert_array_equal(res.x, seen[int(np.argmin(losses))])
    np.testing.assert_array_equal(res.jac, bowl_slope(res.x))


def test_patience_counts_iterations_without_relative_improvement() -> None:
    losses = [10.0, 9.0, 8.9999, 9.5, 8.9995, 1.0]
    walk = iter(losses)
    res = sr.minimize(lambda x: (next(walk), np.ones(1)), [0.0], jac=True, patience=3, ftol=1e-3)
    assert (res.success, res.status, res.nit) == (True, 0, 4)
    assert "3 iterations" in res.message
    assert res.fun == 8.9995
    slow = iter([1.0 - 0.01 * k for k in range(60)])
    # Steps of 0.01 do not count one by one, but add up.
    res = sr.minimize(lambda x: (next(slow), np.ones(1)), [0.0], jac=True, patience=5, ftol=0.03, maxiter=50)
    assert res.status == 1


def test_both_signatures_of_callback() -> None:
    plain: list[Array] = []
    named: list[so.OptimizeResult] = []

    def by_name(*, intermediate_result: so.OptimizeResult) -> None:
        named.append(intermediate_result)

    res = sr.minimize(bowl_both, np.zeros(3), jac=True, maxiter=5, callback=plain.append)
    sr.minimize(bowl_both, np.zeros(3), jac=True, maxiter=5, callback=by_name)
    assert len(plain) == res.nit == 5
    assert [r.nit for r in named] == [1, 2, 3, 4, 5]
    for xk, result in zip(plain, named, strict=True):
        np.testing.assert_array_equal(xk, result.x)
        assert result.fun == bowl(xk)
    assert all(isinstance(r, so.OptimizeResult) for r in named)


@pytest.mark.parametrize("named", [False, True])
def test_stop_iteration_in_the_callback_as_in_scipy(named: bool) -> None:
    def stop_third() -> Any:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1
            if count == 3:
                raise StopIteration

        if named:
            return lambda intermediate_result: step()
        return lambda xk: step()

    ours = sr.minimize(so.rosen, [-1.2, 1.0], callback=stop_third())
    theirs = so.minimize(so.rosen, [-1.2, 1.0], method="BFGS", callback=stop_third())
    for field in ("success", "status", "message", "nit"):
        assert ours[field] == theirs[field]


def test_other_exceptions_of_the_user_s_code_come_through() -> None:
    def bad(x: Array) -> float:
        raise StopIteration("mine")

    with pytest.raises(StopIteration, match="mine"):
        sr.minimize(bad, [0.0])
    with pytest.raises(ZeroDivisionError):
        sr.minimize(bowl, np.zeros(3), callback=lambda xk: 1 / 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_ends_the_run_with_the_best_point(value: float, where: str) -> None:
    calls = 0

    def fun(x: Array) -> tuple[float, Array]:
        nonlocal calls
        calls += 1
        loss, slope = bowl_both(x)
        if calls > 4:
            loss, slope = (value, slope) if where == "loss" else (loss, np.array([1.0, value, 1.0]))
        return loss, slope

    res = sr.minimize(fun, np.zeros(3), jac=True)
    assert (res.success, res.status, res.nit) == (False, 3, 4)
    assert "Not finite after 4 iterations" in res.message
    assert ("g[1]" in res.message) == (where == "gradient")
    assert res.fun == bowl(res.x)
    assert np.isfinite(res.x).all()
    assert np.isfinite(res.jac).all()
    at_once = sr.minimize(fun, np.zeros(3), jac=True)
    assert (at_once.success, at_once.status, at_once.nit) == (False, 3, 0)
    np.testing.assert_array_equal(at_once.x, np.zeros(3))


def test_a_step_that_overflows() -> None:
    with np.errstate(over="ignore"):
        res = sr.minimize(lambda x: (0.0, np.full(1, 1e300)), [0.0], rule="sgd", lr=1e300, jac=True)
    assert (res.success, res.status, res.x.tolist()) == (False, 3, [0.0])


def test_averages_are_what_they_say() -> None:
    seen: list[Array] = []
    fun = Counter(bowl_both)
    res = sr.minimize(fun, np.zeros(3), jac=True, lr=0.5, maxiter=30, callback=seen.append, average="polyak")
    np.testing.assert_allclose(res.x, np.mean(seen, axis=0), rtol=1e-13)
    assert res.fun == bowl(res.x)
    np.testing.assert_array_equal(res.jac, bowl_slope(res.x))
    assert res.nfev == res.njev == fun.calls == res.nit + 2
    decayed = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=0.5, maxiter=30, average=0.9)
    weights = 0.9 ** np.arange(29, -1, -1)
    np.testing.assert_allclose(decayed.x, weights @ np.array(seen) / weights.sum(), rtol=1e-12)


def test_with_an_average_success_is_about_the_average() -> None:
    res = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=0.1, average=0.5)
    assert res.success
    assert np.abs(bowl_slope(res.x)).max() <= 1e-5
    # The mean of all iterates remembers the start for long after the iterates have converged.
    slow = sr.minimize(bowl_both, np.zeros(3), jac=True, lr=0.1, average="polyak", maxiter=2000)
    assert not slow.success


def test_an_average_where_the_loss_is_not_finite() -> None:
    # Finite at every iterate, but not between them.
    def fun(x: Array) -> tuple[float, Array]:
        return (math.nan if abs(x[0]) < 0.4 else abs(float(x[0]))), np.sign(x)

    res = sr.minimize(fun, [0.5], rule="sgd", lr=1.0, jac=True, maxiter=4, average="polyak")
    assert (res.success, res.status) == (False, 3)
    assert "average" in res.message
    assert res.fun == 0.5


def test_disp_prints_what_scipy_prints(capsys: pytest.CaptureFixture[str]) -> None:
    sr.minimize(bowl_both, CENTRE, jac=True, disp=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Optimization terminated successfully")
    assert [line.strip().split(":")[0] for line in lines[1:]] == [
        "Current function value",
        "Iterations",
        "Function evaluations",
        "Gradient evaluations",
    ]
    with pytest.warns(so.OptimizeWarning, match="Maximum number of iterations"):
        sr.minimize(bowl_both, np.zeros(3), jac=True, maxiter=1, disp=True)
    sr.minimize(bowl_both, np.zeros(3), jac=True, maxiter=1)
    assert capsys.readouterr().out.count("Iterations") == 1
