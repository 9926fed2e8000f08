"""What ``steprule.minimize`` refuses: each message names the value and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
import scipy.sparse

import steprule as sr
from steprule.errors import HyperparameterError, RuleError, StepruleError, StructureError


def fun(x: Any) -> float:
    return float(x @ x)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lrr": 0.1}, "no option 'lrr'. Did you mean 'lr'"),
        ({"max_iter": 3}, "no option 'max_iter'. Did you mean 'maxiter'"),
        ({"beta3": 0.1}, "no option 'beta3'. Did you mean 'beta"),
        ({"constraints": ()}, "penalty"),
        ({"method": "Adam"}, "no option 'method': a rule is chosen by rule='adam'"),
        ({"method": "BFGS"}, "chosen by rule="),
        ({"learning_rate": 0.1}, "(?i)it is called '?lr"),
        ({"epsilon": 0.1}, "It is called 'eps'"),
        ({"b1": 0.1}, "It is called 'beta1'"),
        ({"betas": (0.9, 0.999)}, "They are called 'beta1' and 'beta2'"),
        ({"lr": [0.1, 0.05]}, r"got \[0.1, 0.05\]. What changes from step to step is a schedule.*steprule.schedules"),
        ({"lr": np.array([0.1, 0.05])}, "is a schedule, a callable of the step number t"),
        ({"hess": fun}, "first derivatives only"),
        ({"lr": -1}, "lr must be a number of at least 0, got -1"),
        ({"maxiter": -1}, "maxiter must be an integer of at least 0, got -1"),
        ({"maxiter": 2.5}, "maxiter must be an integer"),
        ({"maxiter": float("inf")}, "maxiter must be an integer"),
        ({"maxiter": True}, "maxiter must be an integer"),
        ({"gtol": -1e-3}, "gtol must be a number of at least 0"),
        ({"gtol": float("nan")}, "gtol must be a number of at least 0"),
        ({"tol": "small"}, "tol must be a number of at least 0, got 'small'"),
        ({"patience": 0}, "patience must be an integer of at least 1, got 0"),
        ({"ftol": 1e-3}, "ftol does nothing without patience"),
        ({"ftol": -1, "patience": 2}, "ftol must be a number of at least 0"),
        ({"average": "polyack"}, "average must be .* Did you mean 'polyak'"),
        ({"average": 1.0}, r"a decay in \(0, 1\), got 1.0"),
        ({"average": True}, "got True"),
        ({"finite_diff_rel_step": 1e-3}, "does nothing with jac=None"),
        ({"finite_diff_rel_step": 1e-3, "jac": fun}, "does nothing with jac"),
        ({"options": {"maxitr": 3}}, "no option 'maxitr'. Did you mean 'maxiter'"),
        ({"options": {"maxiter": 3}, "maxiter": 3}, "maxiter is given twice"),
        ({"options": {"lr": 3}, "lr": 3}, "lr is given twice"),
    ],
)
def test_options(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        sr.minimize(fun, [1.0], **keywords)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([(0, 1)] * 3, "bounds are for 3 variables, but x0 has 2"),
        (so.Bounds([0, 0, 0], [1, 1, 1]), "bounds are for 3 variables"),
        ([(0, 1), (3, 2)], r"bounds\[1\] is \(3.0, 2.0\)"),
        (so.Bounds([0, 3], [1, 2]), r"bounds\[1\] is \(3.0, 2.0\)"),
        ([(0, 1), (float("nan"), 2)], r"bounds\[1\] is \(nan, 2.0\)"),
        ([(0, 1), (np.inf, np.inf)], "which no x can meet"),
        ([(0, 1), 3], r"bounds\[1\] must be a \(min, max\) pair"),
        ([(0, 1), (1, 2, 3)], r"bounds\[1\] must be a \(min, max\) pair"),
        ([(0, 1), ("a", 2)], r"bounds\[1\] must be a \(min, max\) pair"),
        (3, "bounds must be"),
    ],
)
def test_bounds(bounds: Any, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        sr.minimize(fun, [0.0, 0.0], bounds=bounds)


@pytest.mark.parametrize(
    ("x0", "message"),
    [
        ([], "x0 is empty"),
        ([1.0, float("nan")], "element 1 is nan"),
        ([1.0, float("inf")], "element 1 is inf"),
        ([1.0, 1j], "real numbers"),
        (["1", "2"], "real numbers"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        (None, "x0 is None; give"),
    ],
)
def test_x0(x0: Any, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        sr.minimize(fun, x0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "got NoneType None .*`return`"),
        (np.zeros(2), r"one real number, got an array of shape \(2,\)"),
        ("3.0", "one real number, got str"),
        (1j, "one real number"),
        ((1.0, np.zeros(2)), "pass jac=True"),
        ([], "one real number"),
    ],
)
def test_what_fun_returns(value: Any, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        sr.minimize(lambda x: value, [0.0, 0.0])


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (np.zeros(3), r"gradient has shape \(3,\), but x has shape \(2,\); return one number for each"),
        (np.zeros((1, 2)), r"gradient has shape \(1, 2\), but x has shape \(2,\); return it .ravel"),
        (1.0, r"gradient has shape \(1,\)"),
        (None, "gradient must be an array of real numbers, got NoneType"),
        (np.zeros(2, complex), "real numbers, got an array of shape .* complex128"),
        (["a", "b"], "real numbers"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        (scipy.sparse.csr_array(np.zeros((1, 2))), "real numbers"),
    ],
)
def test_gradients(gradient: Any, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        sr.minimize(fun, [0.0, 0.0], jac=lambda x: gradient)
    with pytest.raises(StructureError, match=message):
        sr.minimize(lambda x: (0.0, gradient), [0.0, 0.0], jac=True)


def test_jac() -> None:
    with pytest.raises(StructureError, match=r"jac must be .*got '2point'.*Did you mean '2-point'"):
        sr.minimize(fun, [0.0], jac="2point")
    with pytest.raises(StructureError, match="jac must be"):
        sr.minimize(fun, [0.0], jac=3)
    with pytest.raises(StructureError, match=r"must return \(loss, gradient\), got float 0.0"):
        sr.minimize(fun, [0.0], jac=True)
    # float() throws the imaginary part away, and with it the gradient: x0 would pass for the optimum.
    with pytest.raises(StructureError, match="jac='cs' fun must return a complex number"):
        sr.minimize(lambda x: float((x.real**2).sum()), [1.0], jac="cs")


def test_what_is_no_function() -> None:
    not_callable: Any = 3
    with pytest.raises(StructureError, match="fun must be a callable"):
        sr.minimize(not_callable, [0.0])
    with pytest.raises(StructureError, match="callback must be"):
        sr.minimize(fun, [0.0], callback=not_callable)


def test_rules() -> None:
    with pytest.raises(RuleError, match="Did you mean 'rmsprop'"):
        sr.minimize(fun, [0.0], rule="rmsprob")

    @sr.rule
    def clash(theta, g, *, tol: sr.Rate = 0.1):
        return theta - tol * g

    with pytest.raises(HyperparameterError, match="'tol', which is an option of minimize; rename it"):
        sr.minimize(fun, [0.0], rule=clash)


def test_a_schedule_that_fails_ends_the_run_and_x0_is_untouched() -> None:
    x0 = np.ones(2)
    with pytest.raises(HyperparameterError, match="t=3"):
        sr.minimize(fun, x0, lr=lambda t: 0.1 if t < 3 else float("nan"))
    np.testing.assert_array_equal(x0, np.ones(2))


def test_nothing_is_evaluated_before_all_is_checked() -> None:
    calls: list[Any] = []
    wrong: list[dict[str, Any]] = [{"lr": -1}, {"maxiter": -1}, {"bounds": [(1, 0)]}, {"callback": 3}, {"data": 3}]
    for keywords in wrong:
        with pytest.raises(StepruleError):
            sr.minimize(calls.append, [0.0], **keywords)
    assert calls == []
