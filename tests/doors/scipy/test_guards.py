"""Guards of ``steprule.minimize``, and what it makes of differences: steps, workers, and gradients that vanish."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy
import scipy.optimize as so
from numpy.typing import NDArray

import steprule as sr
from steprule.errors import HyperparameterError, NonFiniteError

Array = NDArray[np.float64]
START = np.array([-1.2, 1.0])


def rosen(x: Array) -> tuple[float, Array]:
    return float(so.rosen(x)), so.rosen_der(x)


@pytest.mark.parametrize(
    "guards", [{"clip_norm": 1.0}, {"clip_value": 0.5}, {"update_clip": True}, {"clip_norm": 1.0, "update_clip": True}]
)
def test_clipped_steps_are_those_of_the_optimizer(guards: dict[str, Any]) -> None:
    def slope(x: Array) -> Array:
        return -4 * (x @ x) * x  # grows on the way, so that all guards have something to do

    def fun(x: Array) -> tuple[float, Array]:
        return -(float(x @ x) ** 2), slope(x)

    path: list[Array] = []
    res = sr.minimize(fun, START, jac=True, rule="adam", lr=0.1, maxiter=30, callback=path.append, **guards)
    x = START.copy()
    optimizer = sr.Optimizer(x, "adam", lr=0.1, **guards)
    for found in path:
        optimizer.step(slope(x))
        np.testing.assert_array_equal(found, x)
    free = sr.minimize(fun, START, jac=True, rule="adam", lr=0.1, maxiter=30)
    assert not np.array_equal(free.state.x, res.state.x)
    # The result's gradient, and the test of convergence, are of the objective.
    np.testing.assert_array_equal(res.jac, slope(res.x))


class Broken:
    """|x|^2 / 2, with something not finite at some of the calls."""

    def __init__(self, bad: dict[int, str]) -> None:
        self.bad, self.calls = bad, 0

    def __call__(self, x: Array, *batch: Any) -> tuple[float, Array]:
        self.calls += 1
        what = self.bad.get(self.calls, "")
        gradient = np.array([*x[:-1], np.inf]) if what == "gradient" else x
        return (np.nan if what == "loss" else float(x @ x) / 2), gradient


def test_skipped_evaluations_take_no_step() -> None:
    path: list[Array] = []
    fun = Broken({1: "loss", 3: "gradient", 4: "loss", 7: "gradient"})
    res = sr.minimize(
        fun, START, jac=True, rule="sgd", lr=0.1, maxiter=5, nonfinite="skip", callback=path.append, average="polyak"
    )
    x = START.copy()
    for found in path:
        x = x - 0.1 * x
        np.testing.assert_array_equal(found, x)
    assert (res.status, res.nit, res.skipped, len(path)) == (1, 5, 4, 5)
    np.testing.assert_allclose(res.x, np.mean(path, axis=0))


@pytest.mark.parametrize("noisy", [False, True])
def test_batches_are_skipped(noisy: bool) -> None:
    source: dict[str, Any] = {"noisy": True} if noisy else {"data": range(100)}
    fun, path = Broken({2: "loss", 3: "gradient"}), list[Array]()
    res = sr.minimize(
        fun, START, jac=True, rule="sgd", lr=0.1, maxiter=4, nonfinite="skip", callback=path.append, **source
    )
    assert (res.nit, res.skipped) == (4, 2)
    np.testing.assert_allclose(path[-1], START * 0.9**4)
    assert np.isfinite(res.fun)


@pytest.mark.parametrize("source", [{}, {"data": [1]}, {"noisy": True}])
def test_a_run_that_does_not_recover_stops(source: dict[str, Any]) -> None:
    fun = Broken(dict.fromkeys(range(3, 1000), "gradient"))
    if "noisy" in source:
        with pytest.raises(NonFiniteError, match=r"after 2 iterations: the gradient is not finite in 1 of 2"):
            sr.minimize(fun, START, jac=True, nonfinite="raise", **source)
        return
    res = sr.minimize(fun, START, jac=True, nonfinite="skip", max_skips=3, **source)
    assert (res.status, res.nit, res.skipped, res.success) == (3, 2, 3, False)
    assert "as in the 3 evaluations before, which were skipped" in res.message
    assert "g[1] = inf" in res.message
    assert fun.calls in (6, 7)  # the best is measured again


class BrokenAverage(Broken):
    """|x|^2 / 2, not finite at some of the looks at the average, which a run of three steps takes after four others."""

    def __init__(self, bad: int) -> None:
        super().__init__(dict.fromkeys(range(5, 5 + bad), "loss"))


def test_a_look_at_the_average_follows_the_policy() -> None:
    options: dict[str, Any] = {"jac": True, "rule": "sgd", "lr": 0.1, "maxiter": 3, "average": "polyak"}
    res = sr.minimize(BrokenAverage(2), START, nonfinite="skip", **options)
    np.testing.assert_allclose(res.x, START * (0.9 + 0.81 + 0.729) / 3)
    assert (res.status, res.skipped, res.nfev) == (1, 2, 7)
    for nonfinite, looks in (("skip", 11), ("stop", 1)):
        fun = BrokenAverage(100)
        res = sr.minimize(fun, START, nonfinite=nonfinite, **options)
        assert (res.status, fun.calls) == (3, 4 + looks)
        assert "Not finite at the average of the iterates: the loss is nan; x is the best iterate" in res.message
        np.testing.assert_allclose(res.x, START * 0.729)
    with pytest.raises(NonFiniteError, match="after 3 iterations: the loss is nan"):
        sr.minimize(BrokenAverage(1), START, nonfinite="raise", **options)


def test_gradients_that_are_huge_are_finite() -> None:
    res = sr.minimize(lambda x: (0.0, np.full(2, 1e300)), START, jac=True, lr=0.1, maxiter=3)
    assert (res.status, res.nit) == (1, 3)
    far = sr.minimize(lambda x: (0.0, np.full(2, 1.0)), [1e300, -1e300], jac=True, lr=0.1, maxiter=3)
    assert (far.status, far.nit) == (1, 3)


def test_counts_in_a_row_start_anew() -> None:
    fun = Broken({call: "loss" for call in range(2, 100) if call % 3})
    res = sr.minimize(fun, START, jac=True, nonfinite="skip", max_skips=2, maxiter=10)
    assert (res.status, res.nit) == (1, 10)


def test_raising() -> None:
    with pytest.raises(NonFiniteError, match="after 0 iterations: the loss is nan; check fun there"):
        sr.minimize(Broken({1: "loss"}), START, jac=True, nonfinite="raise")
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="an x that is not finite"):
        sr.minimize(lambda x: (0.0, x), [1e300], jac=True, rule="sgd", lr=1e300, nonfinite="raise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonfinite": "propagate"}, "one of stop, skip, raise, got 'propagate'. A step along NaN .* 'stop' ends"),
        ({"max_skips": 3}, "max_skips=3 does nothing without nonfinite='skip'"),
        ({"nonfinite": "raise", "max_skips": 3}, "max_skips=3 does nothing"),
        ({"nonfinite": "skip", "max_skips": -1}, "integer"),
        ({"clip_norm": 0.0}, "clip_norm must be"),
        ({"rule": "sgd", "update_clip": True}, "use clip_norm"),
        ({"clip_nrm": 1.0}, "no option 'clip_nrm'. Did you mean 'clip_norm'"),
        ({"workers": 2}, "workers is for differences, and does nothing with jac=True"),
        ({"finite_diff_abs_step": 0.1}, "does nothing with jac=True"),
        ({"jac": None, "finite_diff_abs_step": 0}, "must be a number above 0, got 0"),
        ({"jac": "2-point", "finite_diff_abs_step": 1, "finite_diff_rel_step": 1}, "remove the other"),
        ({"jac": None, "workers": 0}, "workers must be a number of threads"),
        ({"jac": None, "workers": True}, "workers must be a number of threads"),
        ({"jac": None, "workers": "all"}, "workers must be a number of threads"),
        ({"options": {"eps": 1e-3}}, r"finite_diff_abs_step here.*method\('adam', eps=0.001\)"),
        ({"rule": "sgd", "options": {"eps": 1e-3}}, "finite_diff_abs_step here"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    fun = Broken({})
    with pytest.raises(HyperparameterError, match=message):
        sr.minimize(fun, START, **{"jac": True, **options})
    assert not fun.calls


def test_eps_of_the_rule_is_a_keyword() -> None:
    minimize: Any = so.minimize
    with pytest.raises(HyperparameterError, match="finite_diff_abs_step"):
        minimize(rosen, START, jac=True, method=sr.scipy.method("adam"), options={"eps": 1e-3})
    through = minimize(rosen, START, jac=True, method=sr.scipy.method("adam", eps=1e-3), options={"maxiter": 5})
    direct = sr.minimize(rosen, START, jac=True, eps=1e-3, maxiter=5)
    np.testing.assert_array_equal(through.x, direct.x)
    other = sr.minimize(rosen, START, jac=True, maxiter=5)
    assert not np.array_equal(other.x, direct.x)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_workers_change_who_calls_and_nothing_else(jac: Any) -> None:
    seen: set[int] = set()
    barrier = threading.Barrier(2, timeout=30)

    def fun(x: Array) -> float:
        if threading.current_thread() is not threading.main_thread():
            barrier.wait()  # passes only when two are evaluated at the same time
            seen.add(threading.get_ident())
        return float(so.rosen(x))

    def mapped(f: Callable[[Any], Any], points: Any) -> list[Any]:
        return [f(point) for point in points]

    alone = sr.minimize(fun, START, jac=jac, lr=0.02, maxiter=5)
    if tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 16):
        with pytest.raises(HyperparameterError, match=r"workers needs SciPy 1\.16, and this is 1\.\d+"):
            sr.minimize(fun, START, jac=jac, maxiter=5, workers=2)
        return
    for workers in (2, np.int64(2), mapped):
        together = sr.minimize(fun, START, jac=jac, lr=0.02, maxiter=5, workers=workers)
        np.testing.assert_array_equal(together.state.x, alone.state.x)
        assert together.nfev == alone.nfev
    assert len(seen) >= 2


def test_the_absolute_step() -> None:
    points: list[float] = []

    def fun(x: Array) -> float:
        points.append(float(x[0]))
        return float(x[0] ** 2)

    sr.minimize(fun, [2.0], maxiter=0, finite_diff_abs_step=0.25)
    assert points == [2.0, 2.25]
    points.clear()
    sr.minimize(fun, [2.0], jac="3-point", maxiter=0, finite_diff_abs_step=0.25)
    assert points == [2.0, 1.75, 2.25]


def single(x: Array) -> float:
    return float(np.square(x.astype(np.float32) - np.float32(3)).sum(dtype=np.float32))


def test_differences_that_see_nothing_are_no_success_and_the_hint_helps() -> None:
    res = sr.minimize(single, [0.5, 4.0])
    assert (res.success, res.status, res.nit) == (False, 4, 0)
    assert "fun is lower at x[0] = 0.501" in res.message
    assert "finite_diff_abs_step=1e-3" in res.message
    better = sr.minimize(single, [0.5, 4.0], finite_diff_abs_step=1e-3, lr=0.05, maxiter=2000, gtol=1e-2)
    np.testing.assert_allclose(better.x, 3, atol=0.01)
    assert better.success
    unused = sr.minimize(lambda x: 7.0, [0.0, 1.0])
    assert (unused.success, unused.status) == (False, 4)
    assert "it may not use x" in unused.message
    through: Any = so.minimize
    assert through(single, [0.5, 4.0], method=sr.scipy.method()).status == 4


def test_a_start_at_the_minimum_is_a_success() -> None:
    for jac in (None, "2-point", "3-point"):
        res = sr.minimize(lambda x: 1 + float(x @ x), [0.0, 0.0], jac=jac)
        assert (res.success, res.nit) == (True, 0), jac
    # At an edge, what lies within the bounds counts.
    edge = sr.minimize(lambda x: float(np.floor(x[0])), [0.0], bounds=[(0, 1)])
    assert not edge.success
    floor = sr.minimize(lambda x: 1 + float(x @ x), [0.0], bounds=[(0, None)])
    assert floor.success
    calls = 0

    def counted(x: Array) -> float:
        nonlocal calls
        calls += 1
        return 1 + float(x @ x)

    assert sr.minimize(counted, [0.0, 0.0]).nfev == calls


def test_gradients_of_the_caller_are_believed() -> None:
    res = sr.minimize(lambda x: (7.0, np.zeros(2)), [0.0, 1.0], jac=True)
    assert (res.success, res.nfev) == (True, 1)


def test_scipy_s_functions_that_give_no_start() -> None:
    scalar: Any = so.minimize_scalar
    method = sr.scipy.method("adam", lr=0.1)
    with pytest.raises(HyperparameterError, match="minimize_scalar gives none"):
        scalar(lambda x: (x - 3.0) ** 2, method=method)
    minimize: Any = so.minimize
    assert minimize(lambda x: (x[0] - 3.0) ** 2, [0.0], method=method).x == pytest.approx([3.0], abs=1e-3)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
@pytest.mark.parametrize("ends", [(0.0, 5e-324), (1.0, np.nextafter(1.0, 2.0)), (1.0, 1.0)])
def test_bounds_with_no_number_between_them_leave_no_room_for_a_difference(ends: Any, jac: Any) -> None:
    res = sr.minimize(
        lambda x: float(((x - 0.5) ** 2).sum()), [0.0, 0.0], jac=jac, bounds=[ends, (0, 1)], lr=0.1, maxiter=3
    )
    assert (res.status, res.nit) == (1, 3)
    assert np.isnan(res.jac).tolist() == [True, False]
    assert ends[0] <= res.x[0] <= ends[1]
