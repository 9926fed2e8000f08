"""When ``steprule.minimize`` stops on a deterministic objective, and what it returns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so

import steprule as sr
from steprule.doors.box import Box
from steprule.doors.returned import all_finite
from tests.doors.scipy.bowl import CENTRE, Array, Counter, bowl, bowl_both, bowl_slope


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


def test_a_start_that_is_the_optimum_but_for_rounding_converges() -> None:
    # The first losses differ by rounding alone, upwards.
    losses = iter([1.0, 1.0 + 1e-15, 1.0 + 2e-15])
    slopes = iter([1e-4, 1e-4, 1e-6])
    res = sr.minimize(lambda x: (next(losses), np.array([next(slopes)])), [0.0], jac=True)
    assert (res.success, res.nit) == (True, 2)


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


def test_an_average_does_not_round_out_of_the_bounds() -> None:
    slopes = iter([9.0, -9.0, 0.0, 0.0])
    res = sr.minimize(
        lambda x: (0.0, np.array([next(slopes)])),
        [0.0],
        rule="sgd",
        lr=1.0,
        jac=True,
        bounds=[(-1.0, 0.1)],
        maxiter=2,
        average=1e-20,
    )
    # -1 + (0.1 - -1) is 0.10000000000000009.
    assert res.x == [0.1]


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_what_is_finite_and_how_steep_it_is_does_not_hang_on_the_number_of_variables(n: int) -> None:
    for special in ([np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [1e308, 1e308], [-1e308, 1e308], [0.5, -0.75]):
        numbers = np.zeros(n)
        numbers[-len(special) :] = special[-n:]
        assert all_finite(numbers) == bool(np.isfinite(numbers).all())
        if all_finite(numbers):
            assert Box.of(None, n).slope(np.zeros(n), numbers) == np.abs(numbers).max()
            assert Box.of([(-1, 0.125)], n).slope(np.zeros(n), numbers) == np.abs(np.clip(numbers, -0.125, 1)).max()
