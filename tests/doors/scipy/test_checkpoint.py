"""States of ``steprule.minimize``: read in a callback, saved to a file, and what goes on from them in every bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from numpy.typing import NDArray

import steprule as sr
from steprule.doors.checkpoint import minimized
from steprule.doors.resume import State
from steprule.errors import CheckpointError, StateError, StructureError

Array = NDArray[np.float64]
START = np.array([-1.2, 1.0])


def rosen(x: Array) -> tuple[float, Array]:
    return float(so.rosen(x)), so.rosen_der(x)


def batch(x: Array, target: float) -> tuple[float, Array]:
    return float(0.5 * ((x - target) ** 2).sum()), x - target


class Measured:
    """A noisy objective whose generator can be kept and put back."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def __call__(self, x: Array) -> tuple[float, Array]:
        return float(x @ x + self.rng.normal()), 2 * x + self.rng.normal(size=2)


RUNS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "best": (lambda: rosen, {}),
    "patience": (lambda: rosen, {"lr": 1.5, "patience": 6}),
    "tail": (lambda: rosen, {"average": "tail"}),
    "decaying": (lambda: rosen, {"average": 0.9}),
    "scalar slot": (lambda: rosen, {"rule": "nadam"}),
    "clipped": (lambda: rosen, {"clip_norm": 1.0}),
    "data": (lambda: batch, {"data": [1.0, 2.0, 4.0], "patience": 50, "average": "polyak"}),
    "noisy": (Measured, {"noisy": True}),
}


def same(ours: Any, whole: Any) -> None:
    for field in ("x", "fun", "jac", "fun_error", "status", "success", "message"):
        if field in whole:
            np.testing.assert_array_equal(ours[field], whole[field], err_msg=field)
    np.testing.assert_array_equal(ours.state.x, whole.state.x)


@pytest.mark.parametrize("how", ["file", "pickle", "as it is"])
@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_on_from_what_a_callback_has_kept(run: str, how: str, tmp_path: Path) -> None:
    make, options = RUNS[run]
    kept: list[tuple[int, Any, Any]] = []

    def keep(intermediate_result: Any) -> None:
        state, nit = intermediate_result.state, intermediate_result.nit
        if how == "file":
            sr.save(tmp_path / f"{nit}", state)
        kept.append((nit, pickle.dumps(state) if how == "pickle" else state, copy.deepcopy(getattr(fun, "rng", None))))

    fun = make()
    whole = sr.minimize(fun, START, jac=True, maxiter=20, callback=keep, **options)
    assert [nit for nit, _, _ in kept] == list(range(1, whole.nit + 1))
    for nit, state, rng in kept:
        if how == "file":
            state = sr.load(tmp_path / f"{nit}").state
        elif how == "pickle":
            state = pickle.loads(state)
        fun = make()
        if rng is not None:
            fun.rng = rng
        second = sr.minimize(fun, None, jac=True, maxiter=20 - nit, state=state, **options)
        same(second, whole)
        assert second.nit == whole.nit - nit


def test_a_state_that_is_not_read_is_not_made() -> None:
    made: list[Any] = []
    seen: list[Any] = []

    class Counted(State):
        def __new__(cls, *args: Any) -> Any:
            made.append(args)
            return State(*args)

    def note(intermediate_result: Any) -> None:
        assert "state" not in intermediate_result
        assert "state" in dir(intermediate_result)
        seen.append(intermediate_result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steprule.doors.scipy.State", Counted)
        sr.minimize(rosen, START, jac=True, maxiter=5, callback=note)
    assert len(made) == 1  # of the result
    # Afterwards it would be that of another moment.
    for result in seen:
        with pytest.raises(AttributeError, match="read it while the callback runs"):
            result.state  # noqa: B018
        with pytest.raises(AttributeError, match="nonsense"):
            result.nonsense  # noqa: B018
        assert set(pickle.loads(pickle.dumps(result))) == set(copy.copy(result)) == {"x", "fun", "nit"}
    assert [result.nit for result in seen] == [1, 2, 3, 4, 5]


def test_a_state_that_was_read_stays_with_the_result() -> None:
    seen: list[Any] = []

    def note(intermediate_result: Any) -> None:
        assert intermediate_result["state"] is intermediate_result.state
        seen.append(intermediate_result)

    sr.minimize(rosen, START, jac=True, maxiter=5, callback=note)
    for result in seen:
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(result)).state.x, result.x)


def test_a_file_of_a_state(tmp_path: Path) -> None:
    res = sr.minimize(rosen, START, jac=True, maxiter=50)
    rng = np.random.default_rng(0)
    sr.save(tmp_path / "run", res.state, rng=rng.bit_generator.state, losses=[1.0, 2.0], array=np.arange(3))
    found = sr.load(tmp_path / "run")
    assert repr(found) == "Checkpoint(<state of adam after 50 steps on 2 variables>, extra)"
    assert found.describe() == "steprule.minimize, rule adam, t=50, 2 elements"
    assert (found.rule, found.t) == ("adam", 50)
    np.testing.assert_array_equal(found.params["x"], res.state.x)
    assert found.extra["rng"] == rng.bit_generator.state
    assert found.extra["array"].tolist() == [0, 1, 2]
    handle = sr.save(tmp_path / "later", res.state, background=True)
    assert handle is not None
    handle.result()
    later = sr.load(tmp_path / "later").state
    assert later is not None
    np.testing.assert_array_equal(later.answer, res.x)


def test_numbers_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    res = sr.minimize(lambda x: (np.nan, np.array([np.inf, np.nan])), START, jac=True)
    sr.save(tmp_path / "run", res.state)
    state = sr.load(tmp_path / "run").state
    assert state is not None
    np.testing.assert_array_equal(state.progress["here"]["gradient"], res.state.progress["here"]["gradient"])
    assert np.isnan(state.progress["here"]["loss"])
    same(sr.minimize(rosen, None, jac=True, maxiter=5, state=state), sr.minimize(rosen, START, jac=True, maxiter=5))


def test_what_a_state_does_not_take(tmp_path: Path) -> None:
    res: Any = sr.minimize(rosen, START, jac=True, maxiter=3)
    optimizer, path, x = sr.Optimizer(np.ones(2)), tmp_path / "run", np.ones(2)
    with pytest.raises(TypeError, match=r"OptimizeResult; pass its \.state"):
        sr.save(path, res)
    for params in (True, {"x": x}):
        with pytest.raises(TypeError, match="params does nothing with the state of a run of minimize"):
            sr.save(path, res.state, params)
    with pytest.raises(
        CheckpointError, match=r"more is the state of a run .*: steprule\.save\(path, more\); nothing was"
    ):
        sr.save(path, optimizer, more=res.state)
    assert not path.exists()
    sr.save(path, res.state)
    with pytest.raises(TypeError, match=r"it is what steprule\.load\(path\)\.state returns"):
        sr.load(path, res.state)
    for arguments in ((optimizer,), (None, {"x": x}), (optimizer, True)):
        with pytest.raises(StateError, match=r"minimize\(fun, None, state=steprule\.load\(path\)\.state"):
            sr.load(path, *arguments)
    assert (optimizer.t, x.tolist()) == (0, [1.0, 1.0])
    sr.save(path, optimizer)
    assert sr.load(path).state is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda content: content.more.clear(),
        lambda content: content.more.update(minimize=[]),
        lambda content: content.more["minimize"].pop("progress"),
        lambda content: content.more["minimize"].update(progress=3),
        lambda content: content.more["minimize"].update(optimizer=None),
        lambda content: content.more["minimize"]["optimizer"].update(t="many"),
        lambda content: content.more["minimize"].update(x=3.0),
        lambda content: content.params.pop("x"),
        lambda content: content.params.update(x=content.params["answer"], y=content.params["x"]),
        lambda content: content.params.update({"x.y": content.params["x"]}),
        lambda content: content.params.update({"progress.here.x.y": content.params["x"]}),
        lambda content: content.params.update({"no.where": content.params["x"]}),
    ],
)
def test_a_document_that_tells_no_state_is_refused(wrong: Callable[[Any], object]) -> None:
    content = minimized.content_of(sr.minimize(rosen, START, jac=True, maxiter=3).state)
    assert minimized.state_of(copy.deepcopy(content)) is not None
    wrong(content)
    with pytest.raises(CheckpointError, match="the document"):
        minimized.state_of(content)


def test_a_run_that_has_run_out_of_patience_has_done_so_when_it_goes_on() -> None:
    options: dict[str, Any] = {"jac": True, "lr": 1.5, "patience": 6}
    whole = sr.minimize(rosen, START, **options)
    again = sr.minimize(rosen, None, state=whole.state, **options)
    assert (again.success, again.nit) == (True, 0)
    assert again.message == whole.message
    longer = sr.minimize(rosen, None, state=whole.state, **{**options, "patience": 8})
    assert whole.nit + longer.nit == sr.minimize(rosen, START, **{**options, "patience": 8}).nit


def test_callbacks_with_more_parameters() -> None:
    seen: list[Any] = []

    def note(intermediate_result: Any, every: int = 2) -> None:
        if intermediate_result.nit % every == 0:
            seen.append(intermediate_result.nit)

    for callback in (note, partial(note, every=3)):
        sr.minimize(rosen, START, jac=True, maxiter=6, callback=callback)
    assert seen == [2, 4, 6, 3, 6]
    sr.minimize(rosen, START, jac=True, maxiter=2, callback=lambda xk, more=None: seen.append(xk.shape))
    assert seen[-2:] == [(2,), (2,)]
    sr.minimize(rosen, START, jac=True, maxiter=2, callback=print)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda xk, state: None, r"this one has the parameters \(xk, state\): missing a required argument: 'state'"),
        (lambda: None, r"the parameters \(\): too many positional arguments"),
        (lambda intermediate_result, state: None, "missing a required argument: 'state'"),
        (lambda *, xk: None, "callback must be callback"),
    ],
)
def test_callbacks_that_cannot_be_called(callback: Any, message: str) -> None:
    calls: list[Any] = []
    with pytest.raises(StructureError, match=message):
        sr.minimize(calls.append, START, jac=True, callback=callback)
    assert not calls
