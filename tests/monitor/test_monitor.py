"""The monitor: its statistics against NumPy, the bits of the steps that it reads, what it keeps and tells."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import steprule as sr
import steprule.torch
from steprule.formats import SLOT_FORMATS
from steprule.launch.launch import Launch
from steprule.launch.values import GroupValues
from steprule.monitor.statistics import QUANTISATION
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.papers import readings as straight

Array = NDArray[Any]
SHAPE = (37, 24)

RULES: dict[str, tuple[Callable[..., straight.Stepped], dict[str, float]]] = {
    "sgd": (straight.sgd, {"lr": 0.03}),
    "momentum": (straight.momentum, {"lr": 0.03, "mu": 0.9}),
    "lion": (straight.lion, {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99}),
    "rmsprop": (straight.rmsprop, {"lr": 0.01, "rho": 0.9, "eps": 1e-3}),
    "adam": (straight.adam, {"lr": 0.01, "beta1": 0.5, "beta2": 0.95, "eps": 1e-3}),
    "adamw": (straight.adam, {"lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
}


class Door:
    """One parameter and its slots in either door, as NumPy arrays."""

    def __init__(self, name: str, rule: str, theta: Array, **options: Any) -> None:
        self.name = name
        if name == "torch":
            self.param = nn.Parameter(torch.from_numpy(theta.copy()))
            self.opt: Any = steprule.torch.Optimizer([self.param], rule, **options)
        else:
            self.array = theta.copy()
            self.opt = sr.Optimizer(self.array, rule, backend=name, **options)

    def theta(self) -> Array:
        return (self.param.detach().numpy() if self.name == "torch" else self.array).copy()

    def slots(self) -> dict[str, Array]:
        if self.name == "torch":
            found = {key: slot.numpy() for key, slot in self.opt.state[self.param].items() if slot.numel() > 1}
            return {key: slot.copy() for key, slot in found.items()}
        return {key: slot.copy() for key, slot in self.opt.slots.items()}

    def step(self, g: Array) -> None:
        if self.name == "torch":
            self.param.grad = torch.from_numpy(g.copy())
            self.opt.step()
        else:
            self.opt.step(g)


def gradients(dtype: str, steps: int) -> Iterator[Array]:
    """Gradients of many sizes; a fifth of the elements has none, another fifth none after the first step."""
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.uniform(-6, 1, SHAPE)
    part = rng.integers(5, size=SHAPE)
    for t in range(steps):
        g = rng.standard_normal(SHAPE) * scale
        g[(part == 0) | ((part == 1) & (t > 0))] = 0
        yield g.astype(dtype)


def assert_row(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """Shares are quotients of integers and must be equal; sums of floats are in another order."""
    for key, value in expected.items():
        if value is None or key in ("lr", "nonfinite") or key.endswith("_share"):
            assert row[key] == value, key
        else:
            assert row[key] == pytest.approx(value, rel=1e-12, abs=0), key


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("door", ["llvm", "numpy", "torch"])
@pytest.mark.parametrize("rule", RULES)
def test_statistics_are_those_of_the_arrays_before_and_after(rule: str, door: str, dtype: str) -> None:
    formula, options = RULES[rule]
    start = np.random.default_rng(4).standard_normal(SHAPE).astype(dtype)
    door_ = Door(door, rule, start, **options)
    monitor = sr.Monitor(door_.opt, every=1)
    for t, g in enumerate(gradients(dtype, 20), 1):
        theta, slots = door_.theta(), door_.slots()
        slots = slots or {slot: np.zeros_like(theta) for slot in ("m", "v", "b")}
        door_.step(g)
        with np.errstate(all="ignore"):
            did = formula(theta, g, slots, t, **options)
            expected = straight.statistics(theta, g, door_.theta(), did, options["lr"])
        (row,) = monitor.latest
        assert row["step"] == t
        assert_row(row, expected)
    assert row["zero_share"] > 0.3
    if rule in ("adam", "rmsprop", "adamw"):
        assert 0.05 < row["epsilon_share"] < 0.95
    if rule == "adam":
        assert 0.3 < row["idle_share"] < 0.5


@pytest.mark.parametrize("weights", ["nearest", "stochastic"])
def test_frozen_are_those_that_bfloat16_rounds_back(weights: str) -> None:
    generator = torch.Generator().manual_seed(0)
    param = nn.Parameter(torch.randn(SHAPE, generator=generator).bfloat16())
    optimizer = steprule.torch.SGD([param], lr=0.01, weights=weights)
    monitor = sr.Monitor(optimizer, every=1)
    param.grad = torch.randn(SHAPE, generator=generator).relu().bfloat16()  # half of them zero: those do not move
    theta, g = param.detach().float().numpy(), param.grad.float().numpy()
    optimizer.step()
    expected = straight.statistics(
        theta, g, param.detach().float().numpy(), straight.sgd(theta, g, {}, 1, lr=0.01), 0.01
    )
    assert_row(monitor.latest[0], expected)
    assert 0.1 < monitor.latest[0]["frozen_share"] < 0.99


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_the_error_of_slots_in_fewer_bits(states: str, backend: str) -> None:
    formula, options = RULES["adam"]
    start = np.random.default_rng(4).standard_normal(SHAPE).astype(np.float32)
    door = Door(backend, "adam", start, states=states, min_elements=0, **options)
    monitor = sr.Monitor(door.opt, every=1)
    for t, g in enumerate(gradients("float32", 4), 1):
        theta, slots = door.theta(), door.slots()
        door.step(g)
        with np.errstate(all="ignore"):
            exact = formula(theta, g, slots, t, **options).slots
        for slot, kept in door.slots().items():
            true = exact[slot].astype(np.float64)
            off = (kept - exact[slot]).astype(
                np.float64
            )  # as the kernel subtracts, which is exact where codes are near
            error = math.sqrt(np.sum(off**2) / np.sum(true**2))
            assert monitor.latest[0][f"{QUANTISATION}{slot}"] == pytest.approx(error, rel=1e-12)
            assert 1e-4 < error < (0.4 if states == "4bit" else 0.1)


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "8bit": {"states": "8bit", "min_elements": 0, "seed": 3},
    "clipped": {"clip_norm": 0.5, "update_clip": True},
}


@pytest.mark.parametrize("door", ["llvm", "numpy", "torch"])
@pytest.mark.parametrize("config", CONFIGS)
def test_steps_that_are_read_have_the_same_bits(config: str, door: str) -> None:
    start = np.random.default_rng(4).standard_normal((80, 60)).astype(np.float32)
    watched, alone = (Door(door, "adamw", start, **CONFIGS[config]) for _ in range(2))
    monitor = sr.Monitor(watched.opt, every=2)
    rng = np.random.default_rng(1)
    for _ in range(7):
        g = rng.standard_normal((80, 60)).astype(np.float32)
        watched.step(g)
        alone.step(g)
        assert watched.theta().tobytes() == alone.theta().tobytes()
        slots = alone.slots()
        assert {k: v.tobytes() for k, v in watched.slots().items()} == {k: v.tobytes() for k, v in slots.items()}
    assert [row["step"] for row in monitor.rows] == [1, 2, 4, 6]


def test_update_clipping_is_in_the_steps_that_are_counted() -> None:
    x = np.zeros((50, 50))
    opt = sr.Optimizer(x, "adam", lr=0.1, update_clip=True)
    monitor = sr.Monitor(opt, every=1)
    rng = np.random.default_rng(0)
    for size in (1.0, 1.0, 100.0):
        before = x.copy()
        opt.step(size * rng.standard_normal(x.shape))
    steps = np.abs(x - before)
    factor = 1 / monitor.latest[0]["update_rms"]
    assert factor < 0.7
    for percent in (10, 50, 90):
        expected = straight.quantile(steps, 0.1, percent / 100)
        assert monitor.latest[0][f"step_q{percent}"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("spread", "factor"), [(0.0, 4.0), (1.0, 1.6), (2.0, 1.3)])
def test_quantiles_of_steps_are_as_good_as_the_docs_say(spread: float, factor: float) -> None:
    for shift in np.linspace(0, math.log(4), 9):
        g = np.exp(spread * np.random.default_rng(0).standard_normal(5000) - shift - 3)
        opt = sr.Optimizer(np.zeros(5000), "sgd", lr=0.5)
        monitor = sr.Monitor(opt)
        opt.step(g)
        for percent in (10, 50, 90):
            true = np.quantile(0.5 * g, percent / 100)
            assert true / factor < monitor.latest[0][f"step_q{percent}"] < true * factor


def test_steps_beyond_the_scale_and_no_steps() -> None:
    x = np.zeros(8)
    opt = sr.Optimizer(x, "sgd", lr=lambda t: 0.0 if t == 3 else 1.0)
    monitor = sr.Monitor(opt, every=1)
    for g in (1e-9, 100.0, 1.0):
        opt.step(np.full(8, g))
    assert [row["step_q50"] for row in monitor.rows] == [0.0, math.inf, 0.0]
    assert [row["lr"] for row in monitor.rows] == [1.0, 1.0, 0.0]
    assert monitor.rows[0]["update_ratio"] is None  # of weights that are all zero


def test_empty_and_single_parameters() -> None:
    params = {"none": np.zeros((0, 3)), "one": np.array(2.0)}
    opt = sr.Optimizer(params, "adam")
    monitor = sr.Monitor(opt)
    opt.step({"none": np.zeros((0, 3)), "one": np.array(1.0)})
    none, one = monitor.latest
    assert {key for key, value in none.items() if value is None} >= {"update_ratio", "zero_share", "step_q50"}
    assert one["gradient_norm"] == 1.0
    assert one["signal_to_noise"] == pytest.approx(1.0)
    assert str(monitor.diagnose()) == "nothing found"


def test_which_steps_are_read() -> None:
    opt = sr.Optimizer(np.ones(4), "sgd")
    opt.step(np.ones(4))  # before the monitor came
    monitor = sr.Monitor(opt, every=3, keep=2)
    told: list[int] = []
    for _ in range(10):
        opt.step(np.ones(4))
        told += [row["step"] for row in monitor.latest]
    assert told == [2, 2, 4, 4, 4, 7, 7, 7, 10, 10]
    assert [row["step"] for row in monitor.rows] == [7, 10]


@pytest.mark.parametrize("door", ["llvm", "torch"])
def test_skipped_steps_are_not_read(door: str) -> None:
    door_ = Door(door, "adam", np.ones(SHAPE, np.float32), nonfinite="skip")
    monitor = sr.Monitor(door_.opt, every=2)
    good, bad = np.ones(SHAPE, np.float32), np.full(SHAPE, np.nan, np.float32)
    for g in (bad, good, bad, bad, good, good):
        door_.step(g)
    assert door_.opt.skipped == 3
    assert [row["step"] for row in monitor.rows] == [1, 2]
    assert all(row["nonfinite"] == 0 for row in monitor.rows)


def test_names_groups_and_absent_gradients_in_torch() -> None:
    model = nn.Linear(3, 2)
    groups: list[dict[str, Any]] = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias]}]
    optimizer = steprule.torch.AdamW(groups)
    monitor = sr.Monitor(optimizer, every=1)
    model.weight.grad = torch.ones(2, 3)
    optimizer.step()
    assert [(row["name"], row["lr"]) for row in monitor.latest] == [("group 0, 0", 0.1)]
    named = steprule.torch.AdamW(model.named_parameters())
    monitor = sr.Monitor(named)
    model(torch.ones(3)).sum().backward()
    named.step()
    assert [row["name"] for row in monitor.latest] == ["weight", "bias"]


class Writer:
    def __init__(self) -> None:
        self.told: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.told.append((tag, scalar_value, global_step))


def test_rows_go_to_callables_and_to_tensorboard() -> None:
    writer, rows = Writer(), list[dict[str, Any]]()
    opt = sr.Optimizer({"w": np.ones((2, 2))}, "sgd", lr=0.5)
    monitor = sr.Monitor(opt, every=2, to=[rows.append, writer])
    for _ in range(4):
        opt.step({"w": np.ones((2, 2))})
    assert rows == monitor.rows
    assert len(rows) == 3
    assert ("steprule/params['w']/update_ratio", 0.5, 1) in writer.told
    assert {step for _, _, step in writer.told} == {1, 2, 4}
    assert not any("signal_to_noise" in tag for tag, _, _ in writer.told)  # SGD has none
    single = sr.Optimizer(np.ones(2), "sgd")
    sr.Monitor(single, to=rows.append)
    single.step(np.ones(2))
    assert rows[-1]["name"] == "params"


def test_an_error_of_a_callable_comes_after_the_step() -> None:
    def fail(row: dict[str, Any]) -> None:
        raise OSError("disk full")

    x = np.ones(2)
    opt = sr.Optimizer(x, "sgd", lr=0.5)
    monitor = sr.Monitor(opt, to=[fail])
    with pytest.raises(OSError, match="disk full"):
        opt.step(np.ones(2))
    assert x.tolist() == [0.5, 0.5]
    assert opt.t == 1
    assert len(monitor.rows) == 1


@pytest.mark.parametrize("make", [lambda: Door("llvm", "adam", np.ones(3)), lambda: Door("torch", "adam", np.ones(3))])
def test_the_optimizer_is_held_weakly_and_copies_have_no_monitor(make: Callable[[], Door]) -> None:
    door = make()
    monitor = sr.Monitor(door.opt)
    door.step(np.ones(3))
    assert copy.deepcopy(door.opt)._monitor is None
    assert pickle.loads(pickle.dumps(door.opt))._monitor is None
    assert door.opt._monitor is monitor
    del door
    gc.collect()
    assert monitor._optimizer() is None
    monitor.close()
    assert len(monitor.rows) == 1


def test_closing_detaches() -> None:
    opt = sr.Optimizer(np.ones(3), "sgd")
    with sr.Monitor(opt, every=1) as first:
        opt.step(np.ones(3))
    opt.step(np.ones(3))
    second = sr.Monitor(opt, every=1)
    first.close()  # again, which leaves the second alone
    opt.step(np.ones(3))
    assert [row["step"] for row in first.rows] == [1]
    assert [row["step"] for row in second.rows] == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        ({"every": 2.0}, "every must be an integer"),
        ({"keep": True}, "keep must be an integer of at least 1, got True"),
        ({"to": ["file.csv"]}, "to must be callables or objects with add_scalar"),
    ],
)
def test_wrong_options_attach_nothing(options: dict[str, Any], message: str) -> None:
    opt = sr.Optimizer(np.ones(3), "sgd")
    with pytest.raises(sr.errors.HyperparameterError, match=message):
        sr.Monitor(opt, **options)
    assert opt._monitor is None


def test_what_cannot_be_monitored() -> None:
    param = nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match=r"steprule\.torch, got torch\.optim\.adamw\.AdamW"):
        sr.Monitor(torch.optim.AdamW([param]))
    with pytest.raises(TypeError, match=r"got steprule\.doors\.torch\.adams\.AdamW"):
        sr.Monitor(steprule.torch.AdamW)
    optimizer = steprule.torch.AdamW([param])
    sr.Monitor(optimizer)
    with pytest.raises(RuntimeError, match="has a monitor already"):
        sr.Monitor(optimizer)
    with pytest.raises(RuntimeError, match="Monitor reads whole steps"):
        steprule.torch.step_in_backward(optimizer)
    released = steprule.torch.AdamW([nn.Parameter(torch.ones(3))])
    steprule.torch.step_in_backward(released)
    with pytest.raises(RuntimeError, match=r"step_in_backward has none; remove\(\)"):
        sr.Monitor(released)


def test_tables() -> None:
    opt = sr.Optimizer({"w": np.ones((64, 64), np.float32)}, "adam", states="8bit", min_elements=0)
    monitor = sr.Monitor(opt)
    assert "nothing was read yet" in str(monitor)
    assert monitor.latest == monitor.rows == []
    opt.step({"w": np.ones((64, 64), np.float32)})
    text = str(monitor)
    assert "step 1" in text
    assert "params['w']" in text
    assert "error of v" in text
    assert "…" not in text
    assert monitor.__rich__().row_count == monitor.table().row_count == 1
    plain = sr.Optimizer(np.ones(3), "sgd")
    other = sr.Monitor(plain)
    plain.step(np.ones(3))
    assert "signal" not in str(other)  # nothing to tell
    assert repr(other) == "Monitor(every=50, 1 readings)"


def test_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = sr.Optimizer(np.ones(3), "sgd")
    monitor = sr.Monitor(opt)
    opt.step(np.ones(3))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(sr.errors.StepruleError, match=r"pandas is not installed; install it .* or use rows"):
        monitor.frame()
    stand_in = types.SimpleNamespace(DataFrame=lambda rows: ("a frame of", rows))
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    assert monitor.frame() == ("a frame of", monitor.rows)


def test_a_monitor_that_read_nothing_says_so() -> None:
    optimizer = sr.Optimizer(np.ones(3), "adam")
    monitor = sr.Monitor(optimizer)
    assert str(monitor.diagnose()).startswith("nothing was read yet")
    optimizer.step(np.ones(3))
    assert str(monitor.diagnose()) == "nothing found"


def test_a_rate_that_may_be_none_is_read() -> None:
    @sr.rule()
    def maybe(theta: Any, g: Any, *, lr: sr.Rate | None = None) -> Any:
        return theta - (0.1 if lr is None else lr) * g

    optimizer = sr.Optimizer(np.ones(3), maybe)
    monitor = sr.Monitor(optimizer)
    optimizer.step(np.ones(3))
    assert monitor.latest[0]["update_ratio"] == pytest.approx(0.1)


def test_a_signal_after_the_step_loses_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = sr.Optimizer(np.ones(3), "adam")
    monitor = sr.Monitor(optimizer, every=1)
    read = Launch.read

    def interrupted(*args: Any) -> None:
        read(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Launch, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(np.ones(3))
    assert optimizer.t == 1
    assert [row["step"] for row in monitor.rows] == [1]


@pytest.mark.parametrize("door", ["llvm", "torch"])
def test_a_step_that_was_not_taken_is_not_counted(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Door(door, "adam", np.ones(3))
    monitor = sr.Monitor(run.opt, every=2)
    evaluate = GroupValues.evaluate

    def interrupted(*args: Any, **named: Any) -> Any:
        monkeypatch.setattr(GroupValues, "evaluate", evaluate)
        raise KeyboardInterrupt

    for step in range(4):
        if step == 2:  # after a step that was taken by the same launch
            monkeypatch.setattr(GroupValues, "evaluate", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run.step(np.ones(3))
        run.step(np.ones(3))
    assert [row["step"] for row in monitor.rows] == [1, 2, 4]


def skipped_run(door: str, bad: Sequence[bool], **options: Any) -> tuple[Any, sr.Monitor]:
    """Return an optimizer and its monitor after steps, of which some had gradients that were not finite."""
    run = Door(door, "adam", np.ones(SHAPE, np.float32), nonfinite="skip", max_skips=1000)
    monitor = sr.Monitor(run.opt, **options)
    for is_bad in bad:
        run.step(np.full(SHAPE, np.nan if is_bad else 1.0, np.float32))
    return run.opt, monitor


@pytest.mark.parametrize("door", ["llvm", "numpy", "torch"])
def test_skipped_steps_are_told(door: str) -> None:
    optimizer, monitor = skipped_run(door, [bool(t % 10) for t in range(200)])
    (found,) = monitor.diagnose()
    assert (found.illness, found.parameters) == ("steps skipped", ())
    assert found.evidence == {"skipped": 180, "in_a_row": 9, "steps": 200}
    words = "steps skipped: 180 of the last 200 steps were skipped, since gradients were not finite, 9 of them in a row"
    assert str(monitor.diagnose()).startswith(words)
    assert ("skipped=180" if door != "torch" else "skipped: 180 steps whose gradients") in repr(optimizer)


@pytest.mark.parametrize("door", ["llvm", "torch"])
def test_where_all_steps_were_skipped_that_is_the_cause(door: str) -> None:
    for count in (1, 5):
        optimizer, monitor = skipped_run(door, [True] * count)
        assert f"all of the last {count} steps were skipped" in str(monitor.diagnose())
        assert "nothing was read" not in str(monitor.diagnose())
        assert not monitor.diagnose().is_read
    fresh, monitor = skipped_run(door, [])
    assert str(monitor.diagnose()).startswith("nothing was read yet: no step was taken")
    assert "skipped" not in repr(fresh)
    del fresh, optimizer


def test_a_step_that_is_skipped_now_and_then_is_no_illness() -> None:
    assert skipped_run("llvm", [t in (5, 50) for t in range(60)], every=10)[1].diagnose() == []
    assert skipped_run("llvm", [t % 15 == 0 for t in range(1, 100)], every=10)[1].diagnose() == []
    assert len(skipped_run("llvm", [t % 9 == 0 for t in range(1, 100)], every=10)[1].diagnose()) == 1


def test_skips_are_told_of_the_last_readings_and_since_the_monitor_came() -> None:
    optimizer, monitor = skipped_run("llvm", [True] * 50 + [False] * 50, every=10)
    assert monitor.diagnose() == []  # long ago
    later = Door("llvm", "adam", np.ones(SHAPE, np.float32), nonfinite="skip")
    for _ in range(5):
        later.step(np.full(SHAPE, np.inf, np.float32))
    monitor = sr.Monitor(later.opt)
    later.step(np.ones(SHAPE, np.float32))
    assert monitor.diagnose() == []
    del optimizer


class Parts(nn.Module):
    """A layer that the loss depends on, one that it does not, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unused, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(self.frozen(x))))  # type: ignore[no-any-return]


def test_parameters_without_a_gradient_are_named() -> None:
    torch.manual_seed(0)
    model = Parts()
    optimizer = steprule.torch.AdamW(model.named_parameters())
    monitor = sr.Monitor(optimizer, every=10)

    def named(steps: int) -> list[set[str]]:
        for _ in range(steps):
            optimizer.zero_grad()
            (model(torch.randn(16, 4)) - torch.randn(16, 1)).square().mean().backward()
            optimizer.step()
        return [set(found.parameters) for found in monitor.diagnose() if "grad is None" in found.what]

    unused = {"unused.weight", "unused.bias"}
    assert named(19) == []  # two readings
    assert named(1) == [unused]
    model.last.requires_grad_(False)
    assert named(40) == [unused]  # of the five readings one is older
    assert named(10) == [unused | {"last.weight", "last.bias"}]
    assert all(row["name"] != "unused.weight" for row in monitor.rows)
    model.last.requires_grad_(True)
    assert named(10) == [unused]


def test_an_unknown_argument_names_the_right_one() -> None:
    optimizer = sr.Optimizer(np.ones(3), "adam")
    with pytest.raises(TypeError, match=r"Monitor has no argument 'evry'. Did you mean 'every'\?"):
        sr.Monitor(optimizer, evry=10)  # type: ignore[arg-type]
    assert optimizer._monitor is None


@pytest.mark.parametrize("door", ["llvm", "torch"])
def test_weights_that_were_spoilt_between_readings_need_a_checkpoint(door: str) -> None:
    run = Door(door, "adam", np.ones(SHAPE, np.float32))
    monitor = sr.Monitor(run.opt, every=5)
    for t in range(1, 11):
        run.step(np.full(SHAPE, np.inf, np.float32) if t == 8 else run.theta())
    (found,) = monitor.diagnose()
    assert "at step 10, and the parameter was so before that step" in found.what
    assert found.remedy.startswith("Go back to a checkpoint")
    just = Door(door, "adam", np.ones(SHAPE, np.float32))
    monitor = sr.Monitor(just.opt, every=5)
    just.step(np.full(SHAPE, np.inf, np.float32))
    (found,) = monitor.diagnose()
    assert "before" not in found.what
    assert found.remedy.startswith("Pass nonfinite='skip'")


@pytest.mark.parametrize("states", SLOT_FORMATS)
def test_random_bits_of_monitored_steps_are_those_of_others_in_every_tile_of_sums(states: str) -> None:
    rng = np.random.default_rng(8)
    start = rng.standard_normal((3, 3001)).astype(np.float32)  # more elements than a tile of sums has
    plain, monitored = (Door("llvm", "adam", start, states=states, seed=5) for _ in range(2))
    sr.Monitor(monitored.opt, every=1)
    for _ in range(3):
        g = rng.standard_normal(start.shape).astype(np.float32)
        for door in (plain, monitored):
            door.opt.step(g)
    assert plain.theta().tobytes() == monitored.theta().tobytes()
    for name, slot in plain.slots().items():
        assert slot.tobytes() == monitored.slots()[name].tobytes(), name


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_moments_in_factors_have_no_ratio_and_no_signal(backend: str) -> None:
    """There is no average of each element's square; everything else is told as of any rule."""
    rng = np.random.default_rng(4)
    for own in (adafactor, came, adam_mini):
        theta = rng.standard_normal(SHAPE)
        optimizer = sr.Optimizer(theta, own, backend=backend, lr=0.01)
        monitor = sr.Monitor(optimizer, every=1)
        for _ in range(3):
            before, g = theta.copy(), rng.standard_normal(SHAPE)
            optimizer.step(g)
            (found,) = monitor.latest
            assert found["update_rms"] is found["signal_to_noise"] is None
            assert found["gradient_norm"] == pytest.approx(np.linalg.norm(g))
            assert found["update_ratio"] == pytest.approx(np.linalg.norm(theta - before) / np.linalg.norm(before))
            assert found["step_q10"] <= found["step_q50"] <= found["step_q90"]
        assert monitor.diagnose() == []
        with pytest.raises(sr.errors.HyperparameterError, match=r"does not keep .*; remove it, or use clip_norm"):
            sr.Optimizer(theta, own, update_clip=True)


@sr.rule
def tangent(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    return theta - (lr * g + lr * sr.mean(g * theta) * theta)


@sr.rule
def tangent_as_product(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    return theta - lr * (g + sr.mean(g * theta) * theta)


def _middle_step(rule: str | sr.Rule, **options: Any) -> float:
    theta, g = np.random.default_rng(6).standard_normal((2, 500))
    optimizer = sr.Optimizer(100 * theta, rule, lr=0.1, **options)
    monitor = sr.Monitor(optimizer, every=1)
    optimizer.step(g)
    return float(monitor.latest[0]["step_q50"])


def test_decay_alone_is_left_out_of_the_sizes_of_steps() -> None:
    assert _middle_step(tangent) == _middle_step(tangent_as_product)  # the term with theta depends on the gradient
    assert _middle_step("adan", weight_decay=0.5) == pytest.approx(_middle_step("adan"), rel=0.06)
    assert _middle_step("adamw", weight_decay=0.5) == _middle_step("adamw", weight_decay=0.0)
