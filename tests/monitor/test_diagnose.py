"""Diagnoses: on runs that are healthy, on runs made ill, and on readings made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from benchmarks.monitor_runs import HEALTHY, ILL, NAMES, Run, watch

import steprule as sr
from steprule.launch.readings import Reading
from steprule.monitor import Diagnoses
from steprule.monitor.illnesses import ILLNESSES, WINDOW
from steprule.monitor.judge import diagnose, look_back
from steprule.rules.averaging import averaging
from tests.cases import FOR_VECTORS as CATALOGUE


@pytest.mark.parametrize("run", HEALTHY, ids=lambda run: run.name)
def test_healthy_runs_are_silent_at_every_reading(run: Run) -> None:
    outcome = watch(run)
    assert outcome.found == {}
    assert str(outcome.last) == "nothing found"
    assert len(outcome.monitor.rows) >= 10
    assert outcome.loss < 3  # they train


@pytest.mark.parametrize("run", ILL, ids=lambda run: run.name)
def test_ill_runs_are_found_out(run: Run) -> None:
    found = watch(run).found
    assert run.illness in found
    assert set(found) <= {run.illness, *run.also}


def test_every_illness_has_a_run() -> None:
    assert {run.illness for run in ILL} == set(NAMES) == {illness.name for illness in ILLNESSES}


def reading(t: int, name: str = "w", shape: tuple[int, ...] = (10, 10), rule: str = "adam", **changes: Any) -> Reading:
    """Return a healthy reading of 100 elements, with changes: to the sums, or to what is named so."""
    least = {"gradient": 1.0, "nonfinite": 0.0, "zeros": 0.0, "weight": 1.0, "update": 1e-6, "moved": 100.0}
    rest = {"frozen": 0.0, "epsilon": 0.0, "ratio": 100.0, "signal": 20.0, "idle": 0.0}
    slots = {"error m": 1e-4, "square m": 1.0}
    steps = {f"below 4^{power}": 50.0 if power < -1 else 100.0 for power in range(-12, 4)}
    sums = {**least, **rest, **slots, **steps}
    hyperparameters: dict[str, Any] = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    formats = {"theta": "nearest", "m": "8bit"}
    for key, value in changes.items():
        key = key.replace("_", " ") if key.startswith(("error", "square")) else key
        if key in sums:
            sums[key] = value
        elif key == "weights":
            formats["theta"] = value
        else:
            hyperparameters[key] = value
    own = CATALOGUE[rule]
    chosen = {key: value for key, value in hyperparameters.items() if key in own.hyperparameters}
    average = averaging(own, own.variant(own.resolve(chosen)))
    return Reading(name, shape, "bfloat16", formats, rule, t, hyperparameters, average, sums)


def said(readings: Iterable[Sequence[Reading]], clips: bool = False) -> Diagnoses:
    window = list(readings)[-WINDOW:]
    peaks: dict[str, float] = {}
    for one in (one for step in window for one in step):
        peaks[one.name] = max(one.hyperparameters["lr"], peaks.get(one.name, 0.0))
    return diagnose(look_back(window, peaks, clips))


def names(readings: Iterable[Sequence[Reading]], clips: bool = False) -> list[str]:
    return [diagnosis.illness for diagnosis in said(readings, clips)]


ILLS: dict[str, dict[str, Any]] = {
    "non-finite gradients": {"nonfinite": 3.0, "gradient": nan, "ratio": nan},
    "learning rate too high": {"lr": 0.02, "signal": 10.0},
    "learning rate too low": {"update": 1e-10, "signal": 50.0},
    "epsilon too large": {"epsilon": 80.0},
    "weights frozen by rounding": {"frozen": 60.0},
    "dead parameters": {"zeros": 80.0, "idle": 80.0},
    "loss spikes ahead": {"ratio": 2.5**2 * 100},
    "slot precision too low": {"error_m": 0.1},
}


@pytest.mark.parametrize("illness", ILLS)
def test_each_illness_by_itself(illness: str) -> None:
    ill = [[reading(t, **ILLS[illness])] for t in range(200, 700, 100)]
    (found,) = said(ill)
    assert found.illness == illness
    assert found.parameters == ("w",)
    assert found.evidence["readings"] == 5
    assert found.remedy in str(found)
    assert str(found).startswith(f"{illness} (w): ")
    assert names([[reading(t)] for t in range(200, 700, 100)]) == []


@pytest.mark.parametrize(
    ("illness", "changes", "remedy"),
    [
        ("learning rate too low", {"update": (4e-5) ** 2}, "Raise lr by a factor of 10."),
        ("learning rate too low", {"update": (5.8e-7) ** 2}, "Raise lr by a factor of 1,000."),
        ("learning rate too low", {"update": 0.0}, "Raise lr by a factor of 10."),
        ("learning rate too high", {"lr": 0.02}, "Lower lr by a factor of 3 to 10."),
        ("learning rate too high", {"lr": 2.0}, "Lower lr by a factor of 1,000."),
    ],
)
def test_a_factor_follows_from_the_numbers(illness: str, changes: dict[str, Any], remedy: str) -> None:
    ill = [[reading(t, **{**ILLS[illness], **changes})] for t in range(200, 700, 100)]
    assert [(found.illness, found.remedy) for found in said(ill)] == [(illness, remedy)]


@pytest.mark.parametrize("illness", ILLS)
def test_how_many_readings_it_takes(illness: str) -> None:
    times = {"non-finite gradients": 1, "loss spikes ahead": 2, "dead parameters": 5}.get(illness, 3)
    for count in range(6):
        steps = [[reading(t, **(ILLS[illness] if t < 200 + 100 * count else {}))] for t in range(200, 700, 100)]
        assert names(steps) == ([illness] if count >= times else [])


def test_the_first_step_and_too_few_readings_say_nothing() -> None:
    ill: dict[str, Any] = {"epsilon": 80.0}
    assert names([[reading(1, **ill)], [reading(50, **ill)], [reading(100, **ill)]]) == []
    assert names([[reading(t, **ill)] for t in (1, 50, 100, 150)]) == ["epsilon too large"]
    assert names([[reading(1, nonfinite=1.0)]]) == ["non-finite gradients"]


def test_v_warms_up_before_it_lags_behind() -> None:
    for beta2, illness in ((0.999, "v still warming up"), (0.99, "loss spikes ahead")):
        steps = [[reading(t, beta2=beta2, ratio=4.0**2 * 100)] for t in range(200, 700, 100)]
        assert names(steps) == [illness]
        assert names(steps, clips=True) == []  # what one does about it
    grown = [[reading(t, beta2=0.999, ratio=3.0**2 * 100)] for t in range(200, 700, 100)]
    assert names(grown) == []


@pytest.mark.parametrize(
    "uncorrected",
    [
        {"bias_correction": False},
        {"rule": "amsgrad", "correction": "none"},
        {"rule": "rmsprop", "rho": 0.99},
        {"rule": "adan", "beta2": 0.5, "beta3": 0.99, "bias_correction": False},
    ],
    ids=str,
)
def test_a_v_that_is_not_corrected_starts_small(uncorrected: dict[str, Any]) -> None:
    squares = 100 / (1 - 0.99**5)  # of steady gradients
    steps = [[reading(5, ratio=squares, **uncorrected)]] * 3
    assert names(steps) == []
    assert names([[reading(5, ratio=squares)]] * 3) == ["v still warming up"]
    assert names([[reading(5, ratio=16 * squares, **uncorrected)]] * 3) == ["v still warming up"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "adam", "beta2": 0.999}, "lower beta2"),
        ({"rule": "rmsprop", "rho": 0.999}, "lower rho"),
        ({"rule": "adan", "beta2": 0.5, "beta3": 0.999}, "lower beta3"),
        ({"rule": "yogi", "beta2": 0.999}, "lower beta2"),
    ],
    ids=str,
)
def test_the_decay_of_v_is_called_as_the_rule_calls_it(changes: dict[str, Any], told: str) -> None:
    warming = said([[reading(t, ratio=1e6, **changes)] for t in range(200, 700, 100)])
    assert [str(found) for found in warming] == [
        "v still warming up (w): at step 400 the gradients are 100.0 times the root of v, which averages over 1,000 "
        f"steps: they grow faster than it follows. Warm lr up for as many steps, {told}, or pass update_clip=True."
    ]
    assert warming[0].evidence[told.removeprefix("lower ")] == 0.999
    spiking = said([[reading(t, ratio=1e6, **changes)] for t in range(2000, 7000, 1000)])
    assert [found.remedy for found in spiking] == [f"Pass update_clip=True, or {told}."]


def test_a_new_layer_whose_gradients_agree_may_step_far() -> None:
    assert names([[reading(t, lr=0.02, signal=40.0)] for t in range(200, 700, 100)]) == []


def test_idle_elements_are_not_in_the_share_of_epsilon() -> None:
    for idle, found in ((0.0, []), (50.0, ["epsilon too large"])):
        assert names([[reading(t, epsilon=40.0, zeros=50.0, idle=idle)] for t in range(200, 700, 100)]) == found


@pytest.mark.parametrize("cause", ["weights frozen by rounding", "epsilon too large"])
def test_small_updates_that_have_another_cause(cause: str) -> None:
    ill = {**ILLS["learning rate too low"], **ILLS[cause]}
    assert names([[reading(t, **ill)] for t in range(200, 700, 100)]) == [cause]


def test_sums_over_infinite_gradients_are_not_judged() -> None:
    ill = {**ILLS["epsilon too large"], "ratio": 1e9, "nonfinite": 1.0}
    assert names([[reading(t, **ill)] for t in range(200, 700, 100)]) == ["non-finite gradients"]
    mixed = [[reading(t, epsilon=nan if t in (200, 400) else 80.0)] for t in range(200, 700, 100)]
    assert names(mixed) == ["epsilon too large"]


def test_rounding_by_chance_freezes_nothing() -> None:
    for weights, found in (("nearest", True), ("split32", True), ("stochastic", False), ("split24", False)):
        steps = [[reading(t, frozen=99.0, weights=weights)] for t in range(200, 700, 100)]
        assert names(steps) == (["weights frozen by rounding"] if found else [])


def test_rows_of_an_embedding_come_and_go() -> None:
    steps = [[reading(t, zeros=97.0, idle=72.0)] for t in range(200, 700, 100)]
    assert names(steps) == []


def test_gradients_that_touch_other_rows_each_time() -> None:
    sizes = zip(range(200, 700, 100), (10, 9, 10, 8, 10), strict=True)
    assert names([[reading(t, ratio=1000.0, shape=(n, 10))] for t, n in sizes]) == []


def test_schedules_at_their_ends_are_not_too_low() -> None:
    low: dict[str, Any] = {"update": 1e-10, "signal": 50.0}
    assert names([[reading(t, lr=1e-3 / t, **low)] for t in range(1, 6)]) == []
    assert names([[reading(t, lr=1e-6 * t, **low)] for t in range(2, 7)]) == []
    assert names([[reading(t, lr=1e-6, **low)] for t in range(2, 7)]) == ["learning rate too low"]
    falling = [[reading(t, lr=1e-3 - 1e-4 * t, **low)] for t in range(5)]  # from its peak, and above half of it
    assert names(falling) == ["learning rate too low"]


def test_half_of_the_matrices_of_a_rate_must_agree() -> None:
    high: dict[str, Any] = {"lr": 0.02, "signal": 10.0}
    healthy: dict[str, Any] = {"lr": 0.02, "weight": 1e4, "update": 1e-2}
    for good, bad, found in ((1, 1, True), (2, 1, False), (0, 1, True)):
        parts = [(f"good {i}", healthy) for i in range(good)] + [(f"bad {i}", high) for i in range(bad)]
        steps = [[reading(t, name, **changes) for name, changes in parts] for t in range(200, 500, 100)]
        assert names(steps) == (["learning rate too high"] if found else [])
    assert names([[reading(t, shape=(100,), **high)] for t in range(200, 500, 100)]) == []
    two = [[reading(t, "a", **high), reading(t, "b"), reading(t, "c")] for t in range(200, 500, 100)]
    assert [diagnosis.parameters for diagnosis in said(two)] == [("a",)]  # b and c have another rate


def test_rules_without_averages() -> None:
    def bare(t: int, **changes: Any) -> Reading:
        made = reading(t, **changes)
        sums = {
            key: made.sums[key] for key in ("gradient", "nonfinite", "zeros", "weight", "update", "moved", "frozen")
        }
        return dataclasses.replace(made, sums=sums, hyperparameters={"lr": 0.1}, averaging=None, rule="sgd")

    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"update": 0.04}, ["learning rate too high"]),
        ({"zeros": 99.0}, []),
        ({"zeros": 100.0}, ["dead parameters"]),
        ({"weight": 0.0}, []),
    ]
    for changes, expected in cases:
        assert names([[bare(t, **changes)] for t in range(200, 500, 100)]) == expected


@pytest.mark.parametrize("bad", [nan, inf, 0.0])
def test_sums_that_are_no_numbers_are_no_illness(bad: float) -> None:
    keys = ("gradient", "weight", "update", "ratio", "signal", "error_m", "square_m")
    expected = ["loss spikes ahead"] if bad == inf else []
    for key in keys:
        changes: dict[str, Any] = {key: bad}
        found = names([[reading(t, **changes)] for t in range(200, 500, 100)])
        assert found == (expected if key == "ratio" else []), key


def test_what_is_printed() -> None:
    steps = [[reading(t, f"w{i}", epsilon=70.0 + i) for i in range(5)] for t in range(200, 700, 100)]
    found = said(steps)
    assert str(found) == (
        "epsilon too large (w4, w3, w2 and 2 more): eps 1e-08 more than halves the steps of 74% of the elements that "
        "have gradients: it is larger than the root of v. Lower eps, or scale the loss up."
    )
    assert found[0].evidence == {"eps": 1e-8, "epsilon_share": 0.74, "step": 400, "readings": 5}
    assert str(Diagnoses()) == "nothing found"


def test_an_illness_that_is_over_is_forgotten() -> None:
    x = np.ones((4, 4))
    opt = sr.Optimizer(x, "sgd", lr=1e-3)
    monitor = sr.Monitor(opt, every=1)
    opt.step(np.full_like(x, np.inf))
    assert [diagnosis.illness for diagnosis in monitor.diagnose()] == ["non-finite gradients"]
    x[:] = 1.0
    for _ in range(WINDOW):
        opt.step(np.ones_like(x))
    assert str(monitor.diagnose()) == "nothing found"
