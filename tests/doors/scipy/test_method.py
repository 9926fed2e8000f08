"""Rules as methods of SciPy's own ``minimize``, and what importing the door costs."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.typing import NDArray

import steprule as sr
from steprule.errors import HyperparameterError, RuleError

Array = NDArray[np.float64]

minimize: Any = so.minimize
"""SciPy's, without its type stubs, which know its own methods only."""


def valley(x: Array, steep: float = 10.0) -> float:
    return float((x[0] - 1) ** 2 + steep * (x[1] + 2) ** 2)


def valley_slope(x: Array, steep: float = 10.0) -> Array:
    return np.array([2 * (x[0] - 1), 2 * steep * (x[1] + 2)])


def valley_both(x: Array, steep: float = 10.0) -> tuple[float, Array]:
    return valley(x, steep), valley_slope(x, steep)


def same(a: Any, b: Any) -> None:
    assert set(a) == set(b)
    assert (a.state.x == b.state.x).all()
    assert repr(a.state.optimizer) == repr(b.state.optimizer)
    for field in set(a) - {"state"}:
        np.testing.assert_array_equal(a[field], b[field], err_msg=field)


@pytest.mark.parametrize(("fun", "jac"), [(valley_both, True), (valley, valley_slope), (valley, None)])
def test_it_is_the_same_run(fun: Any, jac: Any) -> None:
    bounds = [(None, None), (-1.5, None)]
    theirs: list[Array] = []
    ours: list[Array] = []
    through = minimize(
        fun,
        [0.0, 0.0],
        (5.0,),
        jac=jac,
        bounds=bounds,
        method=sr.scipy.method("adam", lr=0.1, beta1=0.8),
        callback=theirs.append,
        options={"maxiter": 100},
    )
    direct = sr.minimize(
        fun, [0.0, 0.0], (5.0,), jac=jac, bounds=bounds, lr=0.1, beta1=0.8, callback=ours.append, maxiter=100
    )
    same(through, direct)
    np.testing.assert_array_equal(np.array(theirs), np.array(ours))
    assert isinstance(through, so.OptimizeResult)
    assert through.x[1] == -1.5


def test_scipy_s_tol_is_gtol() -> None:
    res = minimize(valley_both, [0.0, 0.0], jac=True, method=sr.scipy.method("adam", lr=0.1), tol=1e-2)
    assert res.success
    assert 1e-5 < np.abs(res.jac).max() <= 1e-2


def test_options_of_scipy_take_precedence() -> None:
    method = sr.scipy.method("adam", lr=0.1, maxiter=7)
    assert minimize(valley_both, [0.0, 0.0], jac=True, method=method).nit == 7
    res = minimize(valley_both, [0.0, 0.0], jac=True, method=method, options={"maxiter": 3, "lr": 0.5})
    same(res, sr.minimize(valley_both, [0.0, 0.0], jac=True, maxiter=3, lr=0.5))


def test_callbacks_and_stop_iteration() -> None:
    seen: list[float] = []

    def callback(intermediate_result: so.OptimizeResult) -> None:
        seen.append(intermediate_result.fun)
        if len(seen) == 4:
            raise StopIteration

    res = minimize(valley_both, [0.0, 0.0], jac=True, method=sr.scipy.method(), callback=callback)
    assert (res.success, res.status, res.nit) == (False, 99, 4)
    assert seen[-1] == res.fun


def test_jac_true_calls_fun_once_a_point() -> None:
    calls = 0

    def fun(x: Array) -> tuple[float, Array]:
        nonlocal calls
        calls += 1
        return valley_both(x)

    res = minimize(fun, [0.0, 0.0], jac=True, method=sr.scipy.method("adam", lr=0.1), options={"maxiter": 20})
    assert res.nfev == res.njev == calls == 21


def test_jac_true_with_batches_where_x_stays() -> None:
    # SciPy remembers loss and gradient by x alone; at the bound it would hand out the batch before.
    seen: list[float] = []

    def fun(x: Array, batch: float) -> tuple[float, Array]:
        seen.append(batch)
        return float(batch * x[0]), np.array([batch])

    res = minimize(
        fun,
        [0.0],
        jac=True,
        bounds=[(0, 1)],
        method=sr.scipy.method("sgd", lr=0.1, data=[1.0, 1.0, -1.0]),
        options={"maxiter": 3},
    )
    assert seen == [1.0, 1.0, -1.0]
    assert res.x == [0.1]


def test_the_user_s_own_object_with_a_derivative_is_left_alone() -> None:
    class Model:
        fun = None

        def __call__(self, x: Array) -> float:
            return valley(x)

        def derivative(self, x: Array) -> Array:
            return valley_slope(x)

    model = Model()
    assert minimize(model, [0.0, 0.0], jac=model.derivative, method=sr.scipy.method("adam", lr=0.1)).success


def test_basinhopping_takes_it() -> None:
    hop: Any = so.basinhopping
    res = hop(
        lambda x: (
            float(np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0]),
            np.array([-14.5 * np.sin(14.5 * x[0] - 0.3) + 2 * x[0] + 0.2]),
        ),
        [1.0],
        niter=30,
        seed=1,
        minimizer_kwargs={"method": sr.scipy.method("adam", lr=0.02), "jac": True, "options": {"maxiter": 300}},
    )
    assert res.x == pytest.approx([-0.195], abs=1e-3)


def test_second_derivatives_are_not_used_and_it_says_so() -> None:
    method = sr.scipy.method("adam", lr=0.1)
    for name, what in (("hess", "Hessian information"), ("hessp", "Hessian-vector product")):
        with pytest.warns(RuntimeWarning, match=f"does not use {what}"):
            minimize(valley_both, [0.0, 0.0], jac=True, method=method, **{name: lambda x, p=None: np.eye(2)})


@pytest.mark.parametrize(
    "constraints",
    [
        {"type": "eq", "fun": lambda x: x[0]},
        [{"type": "eq", "fun": lambda x: x[0]}],
        so.LinearConstraint([[1.0, 1.0]], 0, 1),
    ],
)
def test_constraints_are_refused(constraints: Any) -> None:
    with pytest.raises(HyperparameterError, match="cannot handle constraints"):
        minimize(valley, [0.0, 0.0], method=sr.scipy.method(), constraints=constraints)


def test_mistakes_show_when_the_method_is_made() -> None:
    with pytest.raises(RuleError, match="Did you mean 'adam'"):
        sr.scipy.method("adm")
    with pytest.raises(HyperparameterError, match=r"no option 'maxitr'.*Did you mean 'maxiter'"):
        sr.scipy.method("adam", maxitr=3)
    with pytest.raises(HyperparameterError, match="beta1 must be"):
        sr.scipy.method("adam", beta1=1.0)
    with pytest.raises(HyperparameterError, match="no option 'xtol'"):
        minimize(valley, [0.0, 0.0], method=sr.scipy.method(), options={"xtol": 1})


def test_it_names_itself() -> None:
    assert repr(sr.scipy.method("adam", lr=0.1)) == "steprule.scipy.method('adam', lr=0.1)"


def test_importing_the_door_imports_no_scipy_optimize() -> None:
    code = (
        "import sys, steprule, steprule.scipy; m = steprule.scipy.method('adam', lr=1); steprule.minimize; "
        "sys.exit('scipy.optimize' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_docstring_s_example_runs() -> None:
    failed, tried = doctest.testmod(sys.modules["steprule.doors.scipy"])
    assert tried > 0
    assert failed == 0
