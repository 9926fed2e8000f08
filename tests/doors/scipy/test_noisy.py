"""``steprule.minimize`` on an objective that gives another loss at every call."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.typing import NDArray

import steprule as sr
from steprule.doors.iterate import Average
from steprule.errors import HyperparameterError, NonFiniteError

Array = NDArray[np.float64]


class Noisy:
    """|x - 1|^2 with noise on loss and gradient, which notes what it gave."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.points: list[Array] = []
        self.losses: list[float] = []

    def loss(self, x: Array) -> float:
        self.points.append(x)
        self.losses.append(float((x - 1) @ (x - 1) + 0.3 * self.rng.normal()))
        return self.losses[-1]

    def __call__(self, x: Array) -> tuple[float, Array]:
        return self.loss(x), 2 * (x - 1) + 0.3 * self.rng.normal(size=4)


def true_loss(x: Array) -> float:
    return float((x - 1) @ (x - 1))


def tail(path: list[Array]) -> Array:
    """The mean that the tail average stands for, by the blocks as they are described."""
    begun, before = 0, 0
    for count in range(1, len(path)):
        if 3 * (count - begun) >= begun:
            begun, before = count, begun
    mean: Array = np.mean(path[before:], axis=0)
    return mean


def test_the_answer_is_the_mean_of_the_last_iterates_and_its_loss_is_measured_anew() -> None:
    fun, path = Noisy(0), list[Array]()
    res = sr.minimize(fun, np.zeros(4), jac=True, lr=0.05, maxiter=300, noisy=True, callback=path.append)
    np.testing.assert_allclose(res.x, tail(path), rtol=1e-12)
    assert (res.success, res.status, res.nit) == (True, 0, 300)
    assert (
        res.message == "Optimization terminated successfully: all steps were taken, and a noisy run has no other end."
    )
    assert "jac" not in res
    anew = fun.losses[300:]
    assert len(anew) == 30
    assert all(np.array_equal(x, res.x) for x in fun.points[300:])
    assert res.fun == np.mean(anew)
    assert res.fun_error == pytest.approx(np.std(anew) / np.sqrt(29))
    assert res.nfev == res.njev == len(fun.losses)


def test_it_is_nearer_and_honest() -> None:
    noisy = [sr.minimize(Noisy(s), np.zeros(4), jac=True, lr=0.05, maxiter=1000, noisy=True) for s in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", so.OptimizeWarning)
        plain = [sr.minimize(Noisy(s), np.zeros(4), jac=True, lr=0.05, maxiter=1000) for s in range(20)]
    far, near = (np.mean([true_loss(res.x) for res in runs]) for runs in (plain, noisy))
    assert near < far / 10
    off = np.array([(res.fun - true_loss(res.x)) / res.fun_error for res in noisy])
    # 20 numbers of mean 0 and variance 1.
    assert abs(off.mean()) < 3 / np.sqrt(20)
    assert 0.4 < off.std() < 1.8


def test_without_it_luck_is_told() -> None:
    fun = Noisy(0)
    with pytest.warns(so.OptimizeWarning, match=r"fun gave -0\.\d+ and then .* noisy=True") as caught:
        res = sr.minimize(fun, np.zeros(4), jac=True, lr=0.05, maxiter=300)
    assert caught[0].filename == __file__
    assert res.fun == fun.losses[-1]
    np.testing.assert_array_equal(fun.points[-1], res.x)
    best = int(np.argmin(fun.losses[:301]))
    np.testing.assert_array_equal(fun.points[best], res.x)
    assert res.nfev == 302


def test_who_gives_the_same_again_is_not_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        res = sr.minimize(lambda x: (true_loss(x), 2 * (x - 1)), np.zeros(4), jac=True, lr=1.5, maxiter=20)
        assert res.fun == true_loss(res.x)
        # A last bit that depends on the order of threads is no noise.
        bits = iter([0.0, 1e-16] * 50)
        sr.minimize(lambda x: (true_loss(x) + 1 + next(bits), 2 * (x - 1)), np.zeros(4), jac=True, lr=1.5, maxiter=20)


def test_an_average_of_ones_own() -> None:
    path: list[Array] = []
    res = sr.minimize(Noisy(0), np.zeros(4), jac=True, maxiter=50, noisy=True, average="polyak", callback=path.append)
    np.testing.assert_allclose(res.x, np.mean(path, axis=0), rtol=1e-12)


@pytest.mark.parametrize("count", [*range(1, 40), 1000])
def test_the_tail_is_from_a_quarter_to_a_half(count: int) -> None:
    average, path = Average("tail"), [np.array([float(i) ** 2]) for i in range(count)]
    for x in path:
        average.add(x)
    assert average.value is not None
    np.testing.assert_allclose(average.value, tail(path), rtol=1e-12)
    if count >= 20:
        kept = np.count_nonzero(tail(list(np.eye(count))))
        assert 0.25 <= kept / count <= 0.5


def test_differences_of_noise() -> None:
    fun = Noisy(0)
    for jac in (None, "2-point", "3-point"):
        with pytest.raises(HyperparameterError, match=r"finite_diff_abs_step=0\.1"):
            sr.minimize(fun.loss, np.zeros(4), jac=jac, noisy=True)
    assert not fun.losses
    res = sr.minimize(fun.loss, np.zeros(4), lr=0.05, maxiter=1000, noisy=True, finite_diff_abs_step=0.1)
    # Forward differences are off by h, so x by h / 2.
    assert true_loss(res.x + 0.05) < 0.05
    assert res.nfev == len(fun.losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gtol": 1e-3}, "gtol and tol do nothing with noisy"),
        ({"tol": 1e-3}, "gtol and tol do nothing with noisy"),
        ({"patience": 3}, "patience does nothing with noisy"),
        ({"data": [1.0]}, "noisy does nothing with data="),
        ({"noisy": 1}, "noisy must be True or False, got 1"),
        ({"noisy": False, "measurements": 10}, "measurements does nothing without noisy=True"),
        ({"noisy": False, "data": [1.0], "measurements": 0}, "measurements does nothing without noisy=True"),
        ({"measurements": -1}, "measurements must be an integer of at least 0, got -1"),
        ({"measurements": 2.5}, "measurements must be an integer"),
    ],
)
def test_what_does_nothing_with_noise(options: dict[str, Any], message: str) -> None:
    fun = Noisy(0)
    with pytest.raises(HyperparameterError, match=message):
        sr.minimize(fun, np.zeros(4), jac=True, **{"noisy": True, **options})
    assert not fun.losses


def test_through_scipy() -> None:
    minimize: Any = so.minimize
    options: dict[str, Any] = {"maxiter": 100, "noisy": True}
    res = minimize(Noisy(3), np.zeros(4), jac=True, method=sr.scipy.method("adam", lr=0.05), options=options)
    direct = sr.minimize(Noisy(3), np.zeros(4), jac=True, lr=0.05, **options)
    np.testing.assert_array_equal(res.x, direct.x)
    assert res.fun == direct.fun


class Shots:
    """|x|^2 and a little more at every call, not finite at some of them; what it gives is noted."""

    def __init__(self, bad: set[int], value: float = np.nan) -> None:
        self.bad, self.value, self.given = bad, value, list[float]()

    def __call__(self, x: Array) -> tuple[float, Array]:
        call = len(self.given) + 1
        self.given.append(self.value if call in self.bad else float(x @ x) + 0.01 * call)
        return self.given[-1], 2 * x


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_measurement_that_is_not_finite_is_taken_again(value: float) -> None:
    fun = Shots({3, 52, 53, 55}, value)
    res = sr.minimize(fun, [1.0, 2.0], jac=True, lr=0.1, maxiter=50, noisy=True, nonfinite="skip")
    assert (res.success, res.nit, res.skipped) == (True, 50, 4)
    assert res.fun == np.mean(np.array(fun.given)[[53, *range(55, 64)]])
    assert res.nfev == len(fun.given) == 64
    # What counts is how many there are in a row.
    apart = sr.minimize(
        Shots({51, 53, 55, 57}), [1.0], jac=True, lr=0.1, maxiter=50, noisy=True, nonfinite="skip", max_skips=1
    )
    assert (apart.success, apart.skipped) == (True, 4)
    few = sr.minimize(
        Shots({52, 53, 54}), [1.0], jac=True, lr=0.1, maxiter=50, noisy=True, nonfinite="skip", max_skips=2
    )
    assert (few.success, few.status, few.skipped) == (False, 3, 2)
    assert "the loss is nan at the final x, in measurement 2 of 10, as in the 2 evaluations before" in few.message
    assert few.message.endswith("; fun is the mean of the 1 before.")
    assert few.fun == few.x @ few.x + 0.01 * 51


def test_a_measurement_that_is_not_finite_raises_or_is_told() -> None:
    with pytest.raises(
        NonFiniteError, match=r"after 50 iterations: the loss is nan at the final x, in measurement 2 of"
    ):
        sr.minimize(Shots({52}), [1.0, 2.0], jac=True, lr=0.1, maxiter=50, noisy=True, nonfinite="raise")
    fun = Shots({54})
    res = sr.minimize(fun, [1.0, 2.0], jac=True, lr=0.1, maxiter=50, noisy=True)
    assert (res.success, res.status, res.nfev) == (False, 3, 54)
    assert res.message == (
        "Not finite after 50 iterations: the loss is nan at the final x, in measurement 4 of 10; fun is the mean of "
        "the 3 before, and nonfinite='skip' measures again."
    )
    assert res.fun == np.mean(fun.given[50:53])
    assert res.fun_error == np.std(fun.given[50:53], ddof=1) / np.sqrt(3)
    first = sr.minimize(Shots({51}), [1.0], jac=True, lr=0.1, maxiter=50, noisy=True)
    assert np.isnan(first.fun)
    assert np.isnan(first.fun_error)
    assert "; fun is nan, and" in first.message


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_run_that_ends_in_nan_is_not_measured_where_it_ended(nonfinite: str, steps: int) -> None:
    fun = Shots(set(range(steps + 1, 1000)))
    res = sr.minimize(fun, [1.0, 2.0], jac=True, lr=0.1, noisy=True, nonfinite=nonfinite)
    assert (res.success, res.status, res.nit) == (False, 3, steps)
    assert np.isnan(res.fun)
    # At the mean of seven iterates nothing has been seen before; one look there tells that it is no better.
    assert res.nfev == steps + (11 if nonfinite == "skip" else 1) + (steps > 1)
    assert ("in measurement 1 of 10" in res.message) == (steps > 1)


def test_basin_hopping_takes_its_lowest_minimum() -> None:
    def fun(x: Array) -> tuple[float, Array]:
        return float((x[0] ** 2 - 1) ** 2 + 0.5 * x[0]), 4 * x * (x**2 - 1) + 0.5

    hop: Any = so.basinhopping
    method = sr.scipy.method("adam", lr=0.05, noisy=True)
    inner = {"jac": True, "method": method, "options": {"maxiter": 200}}
    res = hop(fun, [1.0], niter=20, stepsize=2.0, rng=0, minimizer_kwargs=inner)
    assert res.fun == pytest.approx(-0.5148, abs=1e-3)
    assert res.success
    assert res.minimization_failures == 0


def test_runs_in_parts_are_one_run() -> None:
    def fun(x: Array, rng: np.random.Generator) -> tuple[float, Array]:
        return float(x @ x + rng.normal()), 2 * x + rng.normal(size=2)

    for part in (1, 30, 299):
        rngs = [np.random.default_rng(7) for _ in range(2)]
        options: dict[str, Any] = {"jac": True, "lr": 0.1, "noisy": True}
        whole = sr.minimize(fun, [1.0, 2.0], rngs[0], maxiter=300, **options)
        first = sr.minimize(fun, [1.0, 2.0], rngs[1], maxiter=part, measurements=0, **options)
        assert first.nfev == part
        second = sr.minimize(fun, None, rngs[1], maxiter=300 - part, state=first.state, **options)
        np.testing.assert_array_equal(second.x, whole.x)
        # As many measurements as the whole run has, of the same numbers.
        assert (second.fun, second.fun_error) == (whole.fun, whole.fun_error)
        assert rngs[0].normal() == rngs[1].normal()


def test_without_measurements_fun_is_of_the_last_steps() -> None:
    for steps in (20, 300):
        fun = Noisy(0)
        res = sr.minimize(fun, np.zeros(4), jac=True, lr=0.05, maxiter=steps, noisy=True, measurements=0)
        assert res.success
        assert res.fun == pytest.approx(np.mean(fun.losses[-100:]), rel=1e-12)
        assert np.isnan(res.fun_error)
        assert res.nfev == len(fun.losses) == steps


def test_as_many_measurements_as_are_asked_for() -> None:
    for count in (1, 2, 500):
        fun = Noisy(0)
        res = sr.minimize(fun, np.zeros(4), jac=True, lr=0.05, maxiter=20, noisy=True, measurements=count)
        assert res.fun == np.mean(fun.losses[20:])
        assert len(fun.losses) == 20 + count
        assert np.isnan(res.fun_error) == (count == 1)


def test_the_callback_gets_the_loss_of_the_point_before() -> None:
    seen: list[float] = []

    def note(intermediate_result: so.OptimizeResult) -> None:
        seen.append(intermediate_result.fun)

    fun = Noisy(0)
    sr.minimize(fun, np.zeros(4), jac=True, maxiter=5, noisy=True, measurements=0, callback=note)
    assert seen == fun.losses


def test_workers_beside_noise_are_warned_of() -> None:
    fun = Noisy(0)
    options: dict[str, Any] = {"finite_diff_abs_step": 0.1, "workers": map, "maxiter": 2}
    with pytest.warns(so.OptimizeWarning, match=r"default_rng\(\)") as caught:
        sr.minimize(fun.loss, np.zeros(4), noisy=True, **options)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr.minimize(true_loss, np.zeros(4), **options)
