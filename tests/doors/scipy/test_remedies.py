"""Every error of ``minimize`` and ``method`` says what to do; it is done here, and the run then finds the minimum."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from scipy.sparse import csr_array

import steprule as sr
from steprule.doors import (
    batches,
    box,
    callback,
    descent,
    differences,
    iterate,
    method,
    objective,
    resume,
    returned,
    scipy,
    settings,
    stochastic,
)
from steprule.errors import NonFiniteError, StepruleError
from steprule.launch import evaluate
from tests.doors.remedies import Remedy, untried

FILES: tuple[ModuleType, ...] = (
    *(batches, box, callback, descent, differences, evaluate, iterate),
    *(method, objective, resume, returned, scipy, settings, stochastic),
)
TARGET = np.array([1.0, -2.0])


def bowl(x: Any, *args: Any) -> Any:
    return ((x - TARGET) ** 2).sum()


def slope(x: Any, *args: Any) -> Any:
    return 2 * (x - TARGET)


def both(x: Any, *args: Any) -> Any:
    return bowl(x), slope(x)


def shaken(x: Any) -> Any:
    return bowl(x) + 0.001 * np.sin(1e9 * x).sum()


scipy_minimize: Any = so.minimize  # whose type stubs know no method of ours
minimize_scalar: Any = so.minimize_scalar


class Removed:
    """Stands for an argument that is not given."""


def run(**given: Any) -> Any:
    """Minimize the bowl, but for what is given."""
    known = {"fun": bowl, "x0": [0.0, 0.0], "lr": 0.05, "maxiter": 2000, **given}
    known = {name: value for name, value in known.items() if value is not Removed}
    return sr.minimize(known.pop("fun"), known.pop("x0"), **known)


def by_scipy(**given: Any) -> Any:
    method = sr.scipy.method(given.pop("rule", "adam"), lr=0.05, **given.pop("settings", {}))
    return scipy_minimize(bowl, [0.0, 0.0], method=method, **given)


@sr.rule
def clash(theta, g, *, lr: sr.Rate = 0.05, tol: sr.Rate = 0.1):
    return theta - lr * tol * g


@sr.rule
def renamed(theta, g, *, lr: sr.Rate = 0.05, share: sr.Rate = 0.5):
    return theta - lr * share * g


@sr.rule
def divides(theta, g, *, lr: sr.Rate = 0.05, part: sr.NonNegative = 1.0):
    return theta - lr * g * (1 / part)


class Meddling:
    """A schedule that makes a schedule of another hyperparameter while it runs, or before."""

    def __init__(self) -> None:
        self.x = np.zeros(2)
        self.optimizer = sr.Optimizer(self.x, "momentum", lr=self, mu=0.5)
        self.meddles = True

    def __call__(self, t: int) -> float:
        if self.meddles:
            self.optimizer.groups[0]["mu"] = lambda t: 0.5
        return 0.05

    def run(self) -> Any:
        for _ in range(200):
            self.optimizer.step(slope(self.x))
        return SimpleNamespace(x=self.x)


def given(wrong: dict[str, Any], says: str, *right: dict[str, Any], call: Callable[..., Any] = run) -> Remedy:
    """The remedies of a call: the other arguments stay as they are."""
    return Remedy(lambda: call(**wrong), says, tuple(partial(call, **{**wrong, **r}) for r in right))


def alike(first: dict[str, Any], wrong: dict[str, Any], says: str, *right: dict[str, Any]) -> Remedy:
    """The remedies of a call that goes on from another: together they are long enough."""

    def go_on(**more: Any) -> Any:
        return run(x0=None, state=run(**first).state, **more)

    return given(wrong, says, *right, call=go_on)


def batches_of(n: int) -> Iterator[int]:
    return iter(range(n))


def used(n: int) -> Iterator[int]:
    made = batches_of(n)
    list(made)
    return made


def fallible(x: Any) -> Any:
    """Finite near the minimum alone, as of a logarithm; -1 and below is too far."""
    return bowl(x) if np.abs(x - TARGET).max() < 4 else np.nan


MEDDLING = Meddling()


def unmeddled() -> Any:
    MEDDLING.meddles = False
    return MEDDLING.run()


PAIRS = [(-5, 5), (-5, 5)]
PAST = {"maxiter": 5}
DATA = {"data": range(10), "patience": 5, "lr": lambda t: 0.05 / (1 + t / 500)}
REMEDIES: dict[str, Remedy] = {
    # method.py
    "minimize_scalar": Remedy(
        lambda: minimize_scalar(lambda x: (x - 1) ** 2, method=sr.scipy.method("adam", lr=0.05)),
        r"scipy.optimize.minimize\(fun, \[x0\], method=...\)",
        (lambda: scipy_minimize(lambda x: (x - 1) ** 2, [0.0], method=sr.scipy.method("adam", lr=0.05)),),
    ),
    "constraints": given(
        {"constraints": {"type": "ineq", "fun": lambda x: 5 - x[0]}},
        "use bounds=, a penalty in fun, or SciPy's SLSQP or trust-constr",
        {"constraints": (), "bounds": [(None, 5), (None, None)]},
        {"constraints": ()},
        call=by_scipy,
    ),
    # scipy.py
    "twice": given(
        {"lr": 0.05, "options": {"lr": 0.05}},
        "a keyword and in options; remove one",
        {"options": {}},
        {"lr": Removed},
    ),
    # settings.py
    "patience of noise": given(
        {"noisy": True, "jac": slope, "patience": 3},
        "use maxiter, or a callback that raises StopIteration",
        {"patience": None, "maxiter": 500},
    ),
    "hyperparameter like an option": given({"rule": clash}, "rename it", {"rule": renamed}),
    "unknown": given({"lrr": 0.05}, "Did you mean 'lr'", {"lrr": Removed, "lr": 0.05}),
    "unknown in options": given({"options": {"max_iter": 2000}}, "Did you mean 'maxiter'", {"options": {}}),
    "unknown hyperparameter": given({"beta_1": 0.9}, "Did you mean 'beta1'", {"beta_1": Removed, "beta1": 0.9}),
    "constraints of minimize": given({"constraints": ()}, "use bounds=", {"constraints": Removed, "bounds": PAIRS}),
    "hess": given({"hess": slope}, "leave it out", {"hess": Removed}),
    "hessp": given({"hessp": slope}, "leave it out", {"hessp": Removed}),
    "method": given({"method": "Adam"}, "a rule is chosen by rule='adam'", {"method": Removed, "rule": "adam"}),
    "method of SciPy": given({"method": "BFGS"}, "the rule is chosen by rule=", {"method": Removed, "rule": "adam"}),
    "learning_rate": given({"learning_rate": 0.05}, "called lr", {"learning_rate": Removed, "lr": 0.05}),
    "states": given({"states": "8bit"}, "leave it out", {"states": Removed}),
    "eps": given(
        {"options": {"eps": 1e-6}},
        r"finite_diff_abs_step here. .* minimize or method\('adam', eps=1e-06\)",
        {"options": {"finite_diff_abs_step": 1e-6}},
        {"options": {}, "eps": 1e-6},
    ),
    "eps of a method": given(
        {"options": {"eps": 1e-6}},
        r"method\('adam', eps=1e-06\)",
        {"options": {}, "settings": {"eps": 1e-6}},
        call=by_scipy,
    ),
    "noisy": given({"noisy": 1, "jac": slope}, "True or False", {"noisy": True, "maxiter": 500}),
    "noisy data": given({"noisy": True, **DATA}, "taken for noise already; remove it", {"noisy": False}),
    "measurements": given(
        {"measurements": 50},
        "remove it, or give noisy=True, too",
        {"measurements": None},
        {"noisy": True, "jac": slope, "maxiter": 500},
    ),
    "nonfinite": given({"nonfinite": "ignore"}, "one of stop, skip, raise", {"nonfinite": "skip"}),
    "nonfinite of an optimizer": given({"nonfinite": "propagate"}, "stop, skip, raise", {"nonfinite": "stop"}),
    "gtol of data": given({**DATA, "gtol": 1e-3, "patience": None}, "use maxiter, or patience", {**DATA, "gtol": None}),
    "gtol of noise": given({"noisy": True, "jac": slope, "tol": 1}, "use maxiter", {"tol": None, "maxiter": 500}),
    "ftol": given({"ftol": 1e-9}, "give patience=", {"patience": 200}),
    "average": given({"average": "tial"}, "Did you mean 'tail'", {"average": "tail"}),
    "decay": given({"average": 1.0}, r"a decay in \(0, 1\)", {"average": 0.9}),
    "tolerance": given({"gtol": -1e-3}, "at least 0", {"gtol": 1e-3}),
    "count": given({"maxiter": 1.5}, "an integer of at least 0", {"maxiter": 2000}),
    "patience": given({"patience": 0}, "an integer of at least 1", {"patience": 200}),
    # objective.py
    "fun": given({"fun": bowl(TARGET)}, r"a callable, fun\(x, \*args\) -> float", {"fun": bowl}),
    "step without differences": given(
        {"jac": slope, "finite_diff_abs_step": 1e-6},
        "remove it, or name a scheme: jac='2-point'",
        {"finite_diff_abs_step": None},
        {"jac": "2-point"},
    ),
    "workers without differences": given({"jac": slope, "workers": 2}, "remove it, or name", {"workers": None}),
    "no x0": given({"x0": None}, "give the numbers to start from", {"x0": [0.0, 0.0]}),
    "no state": Remedy(
        lambda: run(x0=None), "or the state of a result", (lambda: run(x0=None, state=run(**PAST).state),)
    ),
    "empty x0": given({"x0": []}, r"np.zeros\(n\) for instance", {"x0": np.zeros(2)}),
    "infinite x0": given({"x0": [0, np.inf]}, "element 1 is inf; start from another number", {"x0": [0.0, 5.0]}),
    "jac": given({"jac": "2point"}, "Did you mean '2-point'", {"jac": "2-point"}),
    # differences.py
    "relative step": given(
        {"finite_diff_rel_step": 1e-6},
        "name a scheme: jac='2-point', or give finite_diff_abs_step",
        {"jac": "2-point"},
        {"finite_diff_rel_step": None, "finite_diff_abs_step": 1e-6},
    ),
    "both steps": given(
        {"jac": "2-point", "finite_diff_rel_step": 1e-6, "finite_diff_abs_step": 1e-6},
        "remove the other",
        {"finite_diff_rel_step": None},
        {"finite_diff_abs_step": None},
    ),
    "step": given({"finite_diff_abs_step": 0.0}, "a number above 0", {"finite_diff_abs_step": 1e-6}),
    "workers": given({"workers": 0}, "a number of threads .* or a callable like map", {"workers": 2}, {"workers": map}),
    # stochastic.py, batches.py
    "patience of an iterator": given(
        {**DATA, "data": batches_of(10)},
        "give a list, or a callable that returns an iterable for every pass",
        {"data": [*range(10)]},
        {"data": lambda: batches_of(10)},
    ),
    "no batches": given(
        {**DATA, "data": used(10), "patience": None},
        "make a new one, or give a list, or a callable",
        {"data": batches_of(2000)},
        {"data": [*range(10)]},
        {"data": lambda: batches_of(10)},
    ),
    "differences of noise": given(
        {"noisy": True, "fun": shaken},
        r"give jac, or a step .*: jac='3-point', finite_diff_abs_step=0.1",
        {"jac": slope},
        {"jac": "3-point", "finite_diff_abs_step": 0.1},
    ),
    "data": given({**DATA, "data": 3}, r"one batch alone: data=\[batch\]", {"data": [3], "patience": None}),
    "returned data": given({**DATA, "data": lambda: 3}, r"return \[batch\]", {"data": lambda: [3], "patience": None}),
    "nothing for data": given(
        {**DATA, "data": lambda: None}, "`return` missing", {"data": lambda: [3], "patience": None}
    ),
    # returned.py
    "the loss alone": given({"jac": True}, "leave jac out if it returns the loss alone", {"jac": Removed}),
    "loss and gradient": given({"fun": both}, "pass jac=True", {"jac": True}),
    "no loss": given({"fun": lambda x: None}, "is a `return` missing", {"fun": bowl}),
    "losses": given(
        {"fun": lambda x: (x - TARGET) ** 2},
        "return their sum or mean",
        {"fun": lambda x: ((x - TARGET) ** 2).sum()},
        {"fun": lambda x: ((x - TARGET) ** 2).mean()},
    ),
    "ragged losses": given({"fun": lambda x: [x, 1.0, x]}, "their sum or mean", {"fun": bowl}),
    "text": given({"fun": lambda x: str(bowl(x))}, r"float\(...\)", {"fun": lambda x: float(str(bowl(x)))}),
    "complex loss": given(
        {"fun": lambda x: bowl(x) + 0j}, r"return its \.real", {"fun": lambda x: (bowl(x) + 0j).real}
    ),
    "real loss": given(
        {"fun": lambda x: bowl(x.real), "jac": "cs"},
        "use jac='3-point' if it cannot",
        {"jac": "3-point"},
        {"fun": bowl},
    ),
    "row": given({"jac": lambda x: slope(x)[None]}, r"\.ravel\(\)-ed", {"jac": lambda x: slope(x)[None].ravel()}),
    "short gradient": given({"jac": lambda x: slope(x)[:1]}, "one number for each number of x", {"jac": slope}),
    "no gradient": given({"jac": lambda x: None}, "is a `return` missing", {"jac": slope}),
    "a pair for a gradient": given({"jac": both}, "let fun return both, with jac=True", {"fun": both, "jac": True}),
    "sparse gradient": given(
        {"jac": lambda x: csr_array(slope(x)[None])},
        r"\.toarray\(\).ravel\(\)",
        {"jac": lambda x: csr_array(slope(x)[None]).toarray().ravel()},
    ),
    "complex x0": given(
        {"x0": [0j]},
        r"np.asarray\(..., 'complex128'\).view\('float64'\)",
        {"x0": np.asarray([0j], "complex128").view("float64")},
    ),
    "x0 of text": given({"x0": ["0", "0"]}, "np.asarray", {"x0": np.asarray(["0", "0"], "float64")}),
    "ragged x0": given({"x0": [[0.0], [0.0, 0.0]]}, "lists of one length", {"x0": [[0.0], [0.0]]}),
    # box.py
    "bounds of too many": given({"bounds": [(0, 2)] * 3}, r"\(None, None\) for no", {"bounds": [(0, 2), (None, None)]}),
    "empty bounds": given({"bounds": [(5, -5), (-5, 5)]}, r"give \(min, max\) with min <= max", {"bounds": PAIRS}),
    "no bounds": given(
        {"bounds": 3}, r"\(min, max\) pairs or a scipy", {"bounds": PAIRS}, {"bounds": so.Bounds(-5, 5)}
    ),
    "no pair": given({"bounds": [3, (-5, 5)]}, r"a \(min, max\) pair of numbers or None", {"bounds": PAIRS}),
    # callback.py
    "callback": given(
        {"callback": 3},
        r"callback\(xk\) or callback\(intermediate_result\)",
        {"callback": lambda xk: None},
        {"callback": lambda intermediate_result: None},
    ),
    "parameters of a callback": given(
        {"callback": lambda xk, res: None},
        r"callback\(xk\) or callback\(intermediate_result\), and this one has the parameters \(xk, res\)",
        {"callback": lambda xk: None},
        {"callback": lambda intermediate_result: None},
    ),
    # iterate.py
    "start not finite": given(
        {"fun": fallible, "x0": [9.0, 9.0], "nonfinite": "raise"}, "check fun there", {"fun": bowl}
    ),
    "step not finite": given({"fun": fallible, "lr": 9.0, "nonfinite": "raise"}, "a smaller lr may help", {"lr": 0.05}),
    # resume.py
    "no state of a result": Remedy(
        lambda: run(x0=None, state=run(**PAST)),
        r"result\.state",
        (
            lambda: run(x0=None, state=run(**PAST).state),
            lambda: run(x0=None, state=pickle.loads(pickle.dumps(run(**PAST).state))),
        ),
    ),
    "state of a rule": alike(PAST, {"rule": "sgd"}, "rule='adam', and this one has rule='sgd'; give", {"rule": "adam"}),
    "state of a kind": alike(
        {**PAST, "noisy": True, "jac": slope},
        {"jac": slope},
        r"with noisy=True, and this one has neither data= nor noisy; give the same",
        {"noisy": True, "maxiter": 500},
    ),
    "state of an average": alike(
        {**PAST, "average": "tail"}, {}, "with average='tail', and this one has average=None", {"average": "tail"}
    ),
    "another x0": Remedy(
        lambda: run(x0=[3.0, 3.0], state=run(**PAST).state),
        "give x0=None, or the x of the result",
        (
            lambda: run(x0=None, state=run(**PAST).state),
            lambda: run(x0=run(**PAST).x, state=run(**PAST).state),
        ),
    ),
    # evaluate.py
    "no value": given({"rule": divides, "part": 0.0}, "Choose other values", {"part": 1.0}),
    "meddling": Remedy(MEDDLING.run, "set it between steps", (unmeddled,)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REMEDIES)
def test_what_a_message_says_helps(name: str) -> None:
    fails, says, done = REMEDIES[name]
    with pytest.raises(StepruleError, match=says):
        fails()
    for helped in done:
        x = helped().x
        np.testing.assert_allclose(x, TARGET[: len(x)], atol=0.01)


def test_no_error_is_without_a_remedy_that_is_tried() -> None:
    MEDDLING.__init__()  # type: ignore[misc]
    # For want of an older SciPy.
    assert [text for text in untried(FILES, REMEDIES.values()) if "workers needs SciPy 1.16" not in text] == []


def test_an_older_scipy_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.optimize import _numdiff

    monkeypatch.setattr(_numdiff, "approx_derivative", lambda fun, x0: None)
    with pytest.raises(StepruleError, match="update it, or remove it"):
        run(workers=2)
    monkeypatch.undo()
    for remedy in ({"workers": 2}, {}):
        np.testing.assert_allclose(run(**remedy).x, TARGET, atol=0.01)


def test_a_start_without_differences_is_helped() -> None:
    def rounded(x: Any) -> float:
        return float(np.float32(bowl(x.astype(np.float32))))

    res = run(fun=rounded, x0=[4.0, 4.0])
    assert res.status == 4
    assert "finite_diff_abs_step=1e-3" in res.message
    assert "or give jac" in res.message
    for remedy in ({"finite_diff_abs_step": 1e-3}, {"jac": slope}):
        np.testing.assert_allclose(run(fun=rounded, x0=[4.0, 4.0], **remedy).x, TARGET, atol=0.02)


def test_what_is_not_finite_stops_and_is_helped() -> None:
    res = run(fun=fallible, lr=9.0)
    assert res.status == 3
    assert "a smaller lr may help" in res.message
    np.testing.assert_allclose(run(fun=fallible, lr=0.05).x, TARGET, atol=0.01)
    with pytest.raises(NonFiniteError):
        run(fun=fallible, lr=9.0, nonfinite="raise")


def test_who_is_told_of_noise_is_helped() -> None:
    def noisy(seed: int) -> Callable[[Any], Any]:
        rng = np.random.default_rng(seed)
        return lambda x: bowl(x) + 0.1 * rng.normal()

    with pytest.warns(so.OptimizeWarning, match="pass noisy=True"):
        run(fun=noisy(0), jac=slope, gtol=0.0, maxiter=500)
    np.testing.assert_allclose(run(fun=noisy(0), jac=slope, noisy=True, maxiter=500).x, TARGET, atol=0.01)


@pytest.mark.parametrize("tensor", ["loss", "gradient", "x0"])
def test_tensors_with_a_graph(tensor: str) -> None:
    torch = pytest.importorskip("torch")

    def loss(x: Any) -> Any:
        return ((torch.tensor(x, requires_grad=True) - torch.tensor(TARGET)) ** 2).sum()

    def grad(x: Any) -> Any:
        return torch.tensor(slope(x), requires_grad=True)

    wrong: dict[str, Any]
    wrong, right = {
        "loss": ({"fun": loss}, {"fun": lambda x: loss(x).detach()}),
        "gradient": ({"jac": grad}, {"jac": lambda x: grad(x).detach()}),
        "x0": ({"x0": torch.zeros(2, requires_grad=True)}, {"x0": torch.zeros(2, requires_grad=True).detach()}),
    }[tensor]
    with pytest.raises(StepruleError, match=r"\.detach\(\)-ed"):
        run(**wrong)
    np.testing.assert_allclose(run(**right).x, TARGET, atol=0.01)


def test_the_other_ways_round_constraints() -> None:
    constraint = so.LinearConstraint([[1.0, 0.0]], -np.inf, 5.0)
    for name in ("SLSQP", "trust-constr"):
        res = scipy_minimize(bowl, [0.0, 0.0], jac=slope, method=name, constraints=constraint)
        np.testing.assert_allclose(res.x, TARGET, atol=0.01)
    res = run(fun=lambda x: bowl(x) + 100 * max(0.0, x[0] - 0.5) ** 2)  # x[0] <= 0.5, nearly
    np.testing.assert_allclose(res.x, [0.505, -2.0], atol=0.01)
