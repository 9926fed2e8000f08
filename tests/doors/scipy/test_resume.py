"""``steprule.minimize`` goes on from the state of a result: two runs take the steps of one, in every bit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.typing import NDArray

import steprule as sr
from steprule.errors import HyperparameterError, StateError

Array = NDArray[np.float64]
START = np.array([-1.2, 1.0])


def rosen(x: Array) -> tuple[float, Array]:
    return float(so.rosen(x)), so.rosen_der(x)


def same(ours: Any, whole: Any) -> None:
    for field in ("x", "fun", "jac", "status", "success", "message"):
        if field in whole:
            np.testing.assert_array_equal(ours[field], whole[field], err_msg=field)
    np.testing.assert_array_equal(ours.state.x, whole.state.x)


@pytest.mark.parametrize("rule", ["adam", "nadam", "rprop", "momentum"])
@pytest.mark.parametrize("average", [None, "polyak", "tail", 0.9])
def test_two_runs_are_one(rule: str, average: Any) -> None:
    options: dict[str, Any] = {"jac": True, "rule": rule, "lr": sr.schedules.cosine(1e-3, 200), "average": average}
    if rule == "rprop":
        options["lr"] = 1e-3
    paths: tuple[list[Array], list[Array]] = ([], [])
    whole = sr.minimize(rosen, START, maxiter=60, callback=paths[0].append, **options)
    first = sr.minimize(rosen, START, maxiter=23, callback=paths[1].append, **options)
    kept = copy.deepcopy(first.state)
    for _ in range(2):  # a state can be used again
        del paths[1][23:]
        second = sr.minimize(rosen, None, maxiter=37, state=first.state, callback=paths[1].append, **options)
        np.testing.assert_array_equal(np.array(paths[0]), np.array(paths[1]))
        same(second, whole)
        assert second.nit == 37
    assert pickle.dumps(kept) == pickle.dumps(first.state)
    third = sr.minimize(rosen, first.x, maxiter=37, state=pickle.loads(pickle.dumps(first.state)), **options)
    same(third, whole)


@pytest.mark.parametrize("split", range(1, 12))
def test_patience_and_the_best_are_remembered(split: int) -> None:
    options: dict[str, Any] = {"jac": True, "lr": 1.5, "patience": 6}
    whole = sr.minimize(rosen, START, **options)
    assert whole.status == 0
    first = sr.minimize(rosen, START, maxiter=min(split, whole.nit - 1), **options)
    second = sr.minimize(rosen, None, state=first.state, **options)
    same(second, whole)
    assert first.nit + second.nit == whole.nit


def test_a_callback_that_stops_the_run_costs_nothing() -> None:
    def stop(intermediate_result: so.OptimizeResult) -> None:
        if intermediate_result.nit == 5:
            raise StopIteration

    options: dict[str, Any] = {"jac": True, "lr": 1.5, "patience": 6}
    whole = sr.minimize(rosen, START, **options)
    first = sr.minimize(rosen, START, callback=stop, **options)
    assert first.status == 99
    same(sr.minimize(rosen, None, state=first.state, **options), whole)


def test_a_smaller_tolerance_goes_on_where_the_larger_was_met() -> None:
    def bowl(x: Array) -> tuple[float, Array]:
        return float(x @ x), 2 * x

    coarse = sr.minimize(bowl, [1.0], jac=True, lr=0.01, gtol=1e-1)
    assert coarse.success
    again = sr.minimize(bowl, None, jac=True, lr=0.01, gtol=1e-1, state=coarse.state)
    assert (again.success, again.nit) == (True, 0)
    fine = sr.minimize(bowl, None, jac=True, lr=0.01, gtol=1e-3, state=coarse.state)
    assert coarse.nit + fine.nit == sr.minimize(bowl, [1.0], jac=True, lr=0.01, gtol=1e-3).nit


@pytest.mark.parametrize("split", range(1, 10))
@pytest.mark.parametrize("average", [None, "tail"])
def test_batches_go_on_within_a_pass(split: int, average: Any) -> None:
    data = [1.0, 2.0, 4.0, 3.0]

    def fun(x: Array, batch: float) -> tuple[float, Array]:
        return float(0.5 * (x[0] - batch) ** 2), x - batch

    for source in (data, lambda: iter(data)):
        options: dict[str, Any] = {"jac": True, "data": source, "average": average, "patience": 50}
        whole = sr.minimize(fun, [9.0], maxiter=10, **options)
        first = sr.minimize(fun, [9.0], maxiter=split, **options)
        same(sr.minimize(fun, None, maxiter=10 - split, state=first.state, **options), whole)
    iterator, all_at_once = iter(data * 3), iter(data * 3)
    whole = sr.minimize(fun, [9.0], jac=True, maxiter=10, data=all_at_once, average=average)
    first = sr.minimize(fun, [9.0], jac=True, maxiter=split, data=iterator, average=average)
    same(sr.minimize(fun, None, jac=True, maxiter=10 - split, data=iterator, state=first.state, average=average), whole)


def test_noise_goes_on() -> None:
    def fun(x: Array) -> tuple[float, Array]:
        return float(x @ x), 2 * x + 0.1

    options: dict[str, Any] = {"jac": True, "lr": 0.1, "noisy": True}
    whole = sr.minimize(fun, START, maxiter=50, **options)
    first = sr.minimize(fun, START, maxiter=20, **options)
    same(sr.minimize(fun, None, maxiter=30, state=first.state, **options), whole)


def test_through_scipy() -> None:
    minimize: Any = so.minimize
    method = sr.scipy.method("adam", lr=0.01)
    whole = minimize(rosen, START, jac=True, method=method, options={"maxiter": 50})
    first = minimize(rosen, START, jac=True, method=method, options={"maxiter": 20})
    second = minimize(rosen, first.x, jac=True, method=method, options={"maxiter": 30, "state": first.state})
    same(second, whole)


def test_what_does_not_belong() -> None:
    state = sr.minimize(rosen, START, jac=True, maxiter=3).state
    assert repr(state) == "<state of adam after 3 steps on 2 variables>"
    with pytest.raises(StateError, match="rule='adam', and this one has rule='sgd'"):
        sr.minimize(rosen, None, jac=True, rule="sgd", state=state)
    with pytest.raises(StateError, match="neither data= nor noisy, and this one has noisy=True"):
        sr.minimize(rosen, None, jac=True, noisy=True, state=state)
    with pytest.raises(StateError, match="average=None, and this one has average='tail'"):
        sr.minimize(rosen, None, jac=True, average="tail", state=state)
    with pytest.raises(StateError, match="got a dict"):
        sr.minimize(rosen, None, jac=True, state={})  # type: ignore[arg-type]
    with pytest.raises(HyperparameterError, match="x0 does nothing with state"):
        sr.minimize(rosen, [0.0, 0.0], jac=True, state=state)
