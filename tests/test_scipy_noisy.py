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
from steprule.errors import HyperparameterError

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
    assert (res.success, res.status, res.nit) == (False, 1, 300)
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
