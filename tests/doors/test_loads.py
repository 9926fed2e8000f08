"""Loads are whole: interrupted anywhere all is old or all is new, and what is loaded may be the optimizer's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
from steprule.doors.checkpoint.api import load
from steprule.errors import HyperparameterError, StateError
from steprule.torch import Adam
from tests.cases import Array
from tests.tracing import at_line

ROOMS = tuple(
    os.sep + name.replace("/", os.sep)
    for name in (
        *("doors/arrays.py", "doors/dicts.py", "doors/numpy.py", "doors/planes.py", "doors/match.py"),
        *("launch/values.py", "launch/guards.py"),
        *("checkpoint/api.py", "checkpoint/arrays.py", "checkpoint/fill.py"),
        *("torch/base.py", "torch/checkpoint.py", "torch/checkpoint_tensors.py", "torch/loading.py"),
    )
)
"""The files in which a load decides and writes."""


class Interrupted(Exception):  # noqa: N818
    """What the handler raises."""


def _interrupt(call: Callable[[], Any], at: int) -> bool:
    """Call; a signal comes at that line of ``ROOMS``, and its handler raises. Return whether the line was reached."""

    def handler(number: int, frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGINT, handler)
    try:
        with at_line(ROOMS, at, lambda: signal.raise_signal(signal.SIGINT)) as lines:
            call()
    except Interrupted:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    return len(lines) >= at


OPTIONS: list[dict[str, Any]] = [{}, {"states": "8bit", "min_elements": 0, "weights": "stochastic", "seed": 1}]


def _arrays(fill: float, options: dict[str, Any], **hyper: Any) -> sr.Optimizer:
    start = {name: np.full((2, 130), fill, np.float16 if options else np.float32) for name in "ab"}
    groups = [sr.Group({"a": start["a"]}, **hyper), sr.Group({"b": start["b"]}, lr=hyper["lr"] / 2)]
    return sr.Optimizer(groups, "adam", nonfinite="skip", **options)


def _stepped(optimizer: sr.Optimizer, count: int) -> sr.Optimizer:
    for t in range(count):
        optimizer.step([{k: np.full_like(v, 1 + t) for k, v in group.items()} for group in optimizer.params])
    optimizer.step([{k: np.full_like(v, np.inf) for k, v in group.items()} for group in optimizer.params])
    return optimizer


def _everything(optimizer: Any) -> Any:
    if isinstance(optimizer, sr.Optimizer):
        state = optimizer.state_dict()
        planes = {place: {k: v.tobytes() for k, v in own.items()} for place, own in state.pop("slots").items()}
        params = [array.tobytes() for group in optimizer.params for array in group.values()]
        return str(state), planes, params, optimizer.skipped
    state = optimizer.state_dict()
    entries = {k: {n: v.tolist() for n, v in own.items()} for k, own in state["state"].items()}
    params = [param.tolist() for group in optimizer.param_groups for param in group["params"]]
    return str(state["param_groups"]), entries, params, optimizer.skipped


def _tensors(fill: float, count: int, **hyper: Any) -> Adam:
    made = [torch.full((5,), fill, requires_grad=True) for _ in range(2)]
    optimizer = Adam([{"params": [made[0]]}, {"params": [made[1]], "lr": hyper["lr"] / 2}], nonfinite="skip", **hyper)
    for t in range(count + 1):
        for param in made:
            param.grad = torch.full_like(param, 1.0 + t if t < count else torch.inf)
        optimizer.step()
    return optimizer


def _seen(optimizer: Any) -> Any:
    """Return all that an optimizer has, and what it makes of one more step."""
    now = _everything(optimizer)
    if isinstance(optimizer, sr.Optimizer):
        optimizer.step([{k: np.ones_like(v) for k, v in group.items()} for group in optimizer.params])
    else:
        for group in optimizer.param_groups:
            group["params"][0].grad.fill_(1.0)
        optimizer.step()
    return now, _everything(optimizer)


def _assert_whole(make: Callable[[], Any], call: Callable[[Any], Any], stride: int) -> None:
    old = _seen(make())
    call(whole := make())
    new, outcomes = _seen(whole), []
    assert old != new
    for at in range(1, 100_000, stride):
        optimizer = make()
        reached = _interrupt(lambda optimizer=optimizer: call(optimizer), at)  # type: ignore[misc]
        found = _seen(optimizer)
        assert found in (old, new), f"torn at line {at}"
        outcomes.append(found == new)
        if not reached:
            break
    assert outcomes.count(False) > 10
    assert outcomes[-1]
    assert outcomes == sorted(outcomes), "once it is new it stays so"


STRIDES = [7, pytest.param(2, marks=pytest.mark.slow)]
"""How many lines further the next signal comes."""


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("options", OPTIONS, ids=["float32", "8bit"])
def test_a_load_of_arrays_that_is_interrupted(tmp_path: Path, options: dict[str, Any], stride: int) -> None:
    saved = _stepped(_arrays(2.0, options, lr=0.5, beta1=0.8), 3)
    sr.save(tmp_path / "x", saved, True)
    state = saved.state_dict()
    _assert_whole(lambda: _arrays(1.0, options, lr=0.1), lambda new: new.load_state_dict(state), stride)
    _assert_whole(lambda: _arrays(1.0, options, lr=0.1), lambda new: load(tmp_path / "x", new, True), 3 * stride)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_load_of_tensors_that_is_interrupted(tmp_path: Path, stride: int) -> None:
    saved = _tensors(2.0, 3, lr=0.5, betas=(0.8, 0.9))
    sr.save(tmp_path / "x", saved, True)
    state = saved.state_dict()
    _assert_whole(lambda: _tensors(1.0, 1, lr=0.1), lambda new: new.load_state_dict(state), stride)
    _assert_whole(lambda: _tensors(1.0, 1, lr=0.1), lambda new: load(tmp_path / "x", new, True), 3 * stride)


def test_an_option_that_is_set_is_whole_too() -> None:
    _assert_whole(
        lambda: _arrays(1.0, {}, lr=0.1), lambda new: [group.update(lr=0.3, beta1=0.7) for group in new.groups[:1]], 1
    )


# What is loaded is the optimizer's own.


def _own(optimizer: sr.Optimizer) -> dict[str, Any]:
    """Return a state dict whose arrays are the optimizer's own."""
    state = optimizer.state_dict()
    state["slots"] = {leaf.place: dict(leaf.planes) for leaf in optimizer._leaves}
    return state


@pytest.mark.parametrize("options", [{}, {"states": "8bit", "min_elements": 0}], ids=["float32", "8bit"])
def test_a_state_of_own_arrays_exchanged(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    optimizer = sr.Optimizer([np.ones((2, 130), np.float32) for _ in range(3)], "adam", **options)
    optimizer.step([rng.standard_normal((2, 130)).astype(np.float32) for _ in range(3)])
    before, state = optimizer.state_dict()["slots"], _own(optimizer)
    places = list(state["slots"])
    turned = dict(zip(places, places[1:] + places[:1], strict=True))
    state["slots"] = {place: state["slots"][other] for place, other in turned.items()}
    optimizer.load_state_dict(state)
    found = optimizer.state_dict()["slots"]
    for place, other in turned.items():
        for name, plane in found[place].items():
            assert plane.tobytes() == before[other][name].tobytes(), (place, name)


@pytest.mark.parametrize("view", [lambda a: a[::-1], lambda a: np.roll(a, 1)[:], lambda a: a.view(type(a))])
def test_a_state_of_views_of_own_arrays(view: Callable[[Array], Array]) -> None:
    optimizer = sr.Optimizer(np.ones(8), "adam")
    optimizer.step(np.arange(8.0))
    state = _own(optimizer)
    (place,) = state["slots"]
    m, v = state["slots"][place]["m"], state["slots"][place]["v"]
    expected = view(v).copy(), view(m).copy()
    state["slots"][place] = {"m": view(v), "v": view(m)}
    optimizer.load_state_dict(state)
    assert np.array_equal(optimizer.slots["m"], expected[0])
    assert np.array_equal(optimizer.slots["v"], expected[1])


def test_a_state_of_own_tensors_exchanged() -> None:
    params = [torch.full((5,), float(n), requires_grad=True) for n in range(3)]
    optimizer = Adam(params)
    for n, param in enumerate(params):
        param.grad = torch.full_like(param, n + 1.0)
    optimizer.step()
    state = optimizer.state_dict()  # torch's gives the tensors themselves
    state["state"] = {n: {**state["state"][(n + 1) % 3]} for n in range(3)}
    expected = {n: {k: v.clone() for k, v in own.items()} for n, own in state["state"].items()}
    optimizer.load_state_dict(state)
    for n, own in optimizer.state_dict()["state"].items():
        assert all(torch.equal(own[k], expected[n][k]) for k in own)


def test_a_slot_that_has_become_read_only_is_found_before_anything_changes() -> None:
    optimizer = sr.Optimizer([np.ones(3), np.ones(3)], "adam")
    state = sr.Optimizer([np.ones(3), np.ones(3)], "adam", lr=0.5).state_dict()
    optimizer.slots["v"][1].flags.writeable = False
    with pytest.raises(StateError, match=r"params\[1\]: slot v has become read-only; nothing was loaded"):
        optimizer.load_state_dict(state)
    assert optimizer.groups[0]["lr"] == 0.001


def test_a_group_that_does_not_fit_changes_no_group() -> None:
    groups = [sr.Group([np.ones(3)], lr=0.1), sr.Group([np.ones(3)], lr=0.2)]
    optimizer = sr.Optimizer(groups, "adam")
    state = optimizer.state_dict()
    state["groups"][0]["hyperparameters"]["lr"] = 0.5
    state["groups"][1]["hyperparameters"]["beta1"] = 2.0
    with pytest.raises(StateError, match="do not fit"):
        optimizer.load_state_dict(state)
    with pytest.raises(HyperparameterError):
        optimizer.groups[0].update(lr=0.5, beta1=2.0)
    assert [group["lr"] for group in optimizer.groups] == [0.1, 0.2]
