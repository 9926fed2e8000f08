"""Steps that a device takes: launches, waiting, graphs, guards, readings, errors."""

from __future__ import annotations

import copy
import gc
import importlib.util
import io
import math
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import steprule as sr
import steprule.torch as door
from steprule.doors.torch import devices
from steprule.doors.torch import options as torch_options
from steprule.doors.torch.base import Base
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.launch import TensorLaunch
from steprule.errors import NonFiniteError
from steprule.runtime import gpu
from tests.doors.torch.device import (
    BRAIN,
    CODED,
    DOUBLE,
    FEW,
    FLOAT,
    Spec,
    Spy,
    assert_same,
    check_both,
    give,
    is_decided,
    named,
    parameters,
    placed,
    spying,
)
from tests.doors.torch.tensors import numbers

pytestmark = pytest.mark.apart

Options = dict[str, Any]
SMALL: list[Spec] = [((7, 150), FLOAT), ((300,), BRAIN)]
TYPES: list[Spec] = [((40,), FLOAT), ((3, 50), BRAIN), ((3, 5), DOUBLE)]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


@pytest.fixture(autouse=True)
def _captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_captured", {})


HOST: set[int] = set()
"""Where memory begins that is this machine's own, while the rest passes for a device's."""


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    make, new, decide = devices.Mirror.__init__, devices.Mirror._new, Decision.__init__

    def making(mirror: devices.Mirror, host: Tensor, device: torch.device) -> None:
        HOST.add(host.untyped_storage().data_ptr())
        make(mirror, host, device)

    def renewing(mirror: devices.Mirror) -> Tensor | None:
        spare = new(mirror)
        HOST.update([] if spare is None else [spare.untyped_storage().data_ptr()])
        return spare

    def deciding(decision: Decision, *arguments: Any) -> None:
        decide(decision, *arguments)
        HOST.add(decision._copy.untyped_storage().data_ptr())

    monkeypatch.setattr(devices.Mirror, "__init__", making)
    monkeypatch.setattr(devices.Mirror, "_new", renewing)
    monkeypatch.setattr(Decision, "__init__", deciding)
    yield
    HOST.clear()


def is_here(tensor: Tensor) -> bool:
    """Whether a tensor lies in this machine's own memory."""
    return tensor.untyped_storage().data_ptr() in HOST


# One launch.


def steady(options: Options, many: int, spy: Spy) -> tuple[Any, list[Any], list[list[int]]]:
    """Return an optimizer, what a step launches whose gradients lie where they were, and what it and the next copy.

    The next step's gradients have moved.
    """
    params, sizes = parameters(TYPES * many), list[list[int]]()
    optimizer = door.AdamW(params, lr=0.01, **options)
    with placed():
        for t in range(4):
            give(params, t, moves=t == 3)
            launches = [*spy.launches]
            spy.clear()
            optimizer.step()
            sizes.append([*spy.sizes])
    assert spy.launches == launches
    return optimizer, launches, sizes[2:]


@pytest.mark.parametrize("many", [1, 4])
@pytest.mark.parametrize("options", [{}, {"clip_value": 0.5}], ids=str)
def test_a_kernel_is_launched_once_for_all_its_tensors(options: Options, many: int, spy: Spy) -> None:
    optimizer, launches, (lying, moved) = steady(options, many, spy)
    assert not is_decided(optimizer)
    assert len(launches) == len(set(launches)) == len(TYPES)
    assert len(lying) == len(TYPES)  # one copy a table
    assert moved == [size + many for size in lying]


@pytest.mark.parametrize(
    ("options", "stages", "decides", "many"),
    [
        ({"capturable": True}, 1, 0, 4),
        ({"clip_norm": 0.5}, 2, 1, 3),
        ({"nonfinite": "skip", "clip_value": 0.5}, 2, 1, 1),
        pytest.param({"update_clip": True}, 2, 0, 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_decided_step_launches_its_kernels_and_their_preludes(
    options: Options, stages: int, decides: int, many: int, spy: Spy
) -> None:
    optimizer, launches, (lying, moved) = steady(options, many, spy)
    assert is_decided(optimizer)
    assert len(launches) == 2 * stages * len(TYPES) + decides
    assert lying == []
    assert moved == [many] * stages * len(TYPES)


def test_hyperparameters_are_copied_when_they_have_changed(spy: Spy) -> None:
    optimizer, _, _ = steady({"capturable": True}, 2, spy)
    for lr, copies in ((0.5, 1), (0.5, 0)):
        optimizer.param_groups[0]["lr"] = lr
        spy.clear()
        with placed():
            optimizer.step()
        # One set of numbers for the three kernels, which take the same.
        assert len(spy.sizes) == copies


# No waiting.

_VIEWS = {"aten::detach", "aten::select", "aten::slice", "aten::view", "aten::alias", "aten::lift_fresh"}
_ON_ITS_WAY = {*_VIEWS, "aten::copy_", "aten::clone"}


class Refusing(TorchDispatchMode):
    """Refuses operations that are not known to go on without waiting for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        assert name in _ON_ITS_WAY, f"{name} within a step"
        return func(*args, **(kwargs or {}))


_ASKING = ("item", "tolist", "cpu", "numpy", "nonzero", "__array__", "__bool__", "__float__", "__int__")


def during_steps(patch: pytest.MonkeyPatch, mode: TorchDispatchMode) -> None:
    """Let a mode be at work in steps, but not while torch's guards look at tensors: they would see it."""

    def covered(kind: Any, name: str) -> None:
        given = getattr(kind, name)

        def call(self: Any, *arguments: Any) -> Any:
            with mode:
                return given(self, *arguments)

        patch.setattr(kind, name, call)

    covered(Base, "_refresh")
    covered(TensorLaunch, "factor")
    covered(Base, "_run")


@contextmanager
def refusing() -> Iterator[None]:
    """Refuse to wait, and to lay out a step anew."""

    def refused(name: str) -> Any:
        given = getattr(Tensor, name)

        def ask(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
            assert is_here(tensor), f"{name} of a tensor within a step"
            return given(tensor, *arguments, **named)

        return ask

    def anew(*_: Any) -> None:
        raise AssertionError("a steady step was laid out anew")

    with pytest.MonkeyPatch.context() as patch:
        for name in _ASKING:
            patch.setattr(Tensor, name, refused(name))
        patch.setattr(Base, "_step_anew", anew)
        during_steps(patch, Refusing())  # type: ignore[no-untyped-call]
        yield


@contextmanager
def numbers_taken_once() -> Iterator[None]:
    """Let the hyperparameters of groups that are tensors be asked for their numbers once, as on another device."""
    known: dict[int, Any] = {}
    number = torch_options._number

    def once(value: Any) -> Any:
        return known.setdefault(id(value), number(value)) if id(value) not in known else known[id(value)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_options, "_number", once)
        yield


UNASKED: list[tuple[str, Options, bool]] = [
    ("AdamW", {"capturable": True}, True),
    ("NAdam", {"capturable": True}, True),
    ("AdamW", {"clip_norm": 0.5}, True),
    ("AdamW", {"nonfinite": "skip"}, True),
    ("AdamW", {"update_clip": True, "clip_value": 1.0}, True),
    ("SGD", {"clip_norm": 0.5, "momentum": 0.9}, True),
    ("AdamW", {"capturable": True, "lr": torch.tensor(0.1)}, True),
    ("AdamW", {"lr": 0.1}, False),
    *(("NAdam", {"states": states, "min_elements": 0}, False) for states in CODED),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weights": "stochastic"}, False),
]


@pytest.mark.parametrize(
    ("scaled", "moves"), [(False, False), (False, True), (True, True)], ids=["", "moving", "scaled"]
)
@pytest.mark.parametrize(("cls", "options", "decided"), UNASKED)
def test_nothing_waits(
    cls: str,
    options: Options,
    decided: bool,
    scaled: bool,
    moves: bool,
) -> None:
    params = parameters([((7, 30), FLOAT), ((90,), BRAIN)])
    optimizer = getattr(door, cls)(params, **options)
    if scaled:
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    before = params[0].detach().clone()
    with numbers_taken_once():
        for t in range(3):
            give(params, t, moves=moves)
            with placed(), refusing() if t else nullcontext():
                optimizer.step()
            assert not torch.equal(before, params[0])
            before.copy_(params[0].detach())
    assert is_decided(optimizer) == (decided or scaled)


def test_who_reads_a_tensor_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Tensor] = []

    def number(value: Tensor) -> float:
        read.append(value)
        return 0.5

    monkeypatch.setattr(torch_options, "_number", number)
    lr, here = torch.empty((), device="meta"), torch.tensor(0.5)
    own = door.AdamW(parameters(FEW))._options_of([{**door.AdamW(parameters(FEW)).param_groups[0]}])[0]
    for home, tensor, times in [(None, lr, 2), (lr.device, lr, 0), (torch.device("cuda:1"), lr, 2), (None, here, 2)]:
        own.deciding_device = home
        del read[:]
        assert [own._number(tensor), own._number(tensor)] == [0.5, 0.5]
        assert len(read) == times, f"{home} decides, and {tensor.device} was read {len(read)} times"


def test_what_waits_is_refused() -> None:
    asked: list[Callable[[Tensor], object]] = [
        lambda x: x.item(),
        lambda x: x.tolist(),
        float,
        bool,
        torch.nonzero,
        torch.linalg.vector_norm,
    ]
    for ask in asked:
        one, mode = torch.ones(()), Refusing()  # type: ignore[no-untyped-call]
        with refusing(), mode, pytest.raises(AssertionError, match="within a step"):
            ask(one)


# Graphs.


class Recording(TorchDispatchMode):
    """Keeps what a graph would: launches and copies, by the memory that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[Callable[[], object]] = []
        self.arguments: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        is_done_here = all(map(is_here, [arg for arg in args if isinstance(arg, Tensor)][:1]))
        assert is_done_here or name in _VIEWS or name == "aten::copy_", f"{name} is not captured here"
        if name == "aten::copy_" and not is_done_here:
            self.work.append(lambda: func(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        for do in self.work:
            do()


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Recording]:
    """Return what captures a step."""
    launch = gpu.launch

    def capturing(optimizer: Any) -> Recording:
        recording = Recording()

        def launching(function: Any, programs: int, threads: int, *arguments: int, **constants: Any) -> None:
            recording.work.append(lambda: launch(function, programs, threads, *arguments, **constants))
            recording.arguments += arguments
            launch(function, programs, threads, *arguments, **constants)

        with monkeypatch.context() as patch:
            patch.setattr(gpu, "launch", launching)
            patch.setattr(devices, "is_capturing", lambda device: True)
            # A graph that is captured for the second time reads memory that is made for it.
            patch.setattr(Tensor, "pin_memory", lambda tensor: torch.from_numpy(tensor.numpy().copy()))
            patch.setattr(torch_options, "_number", lambda value: 0.5 if isinstance(value, Tensor) else value)
            during_steps(patch, recording)
            with placed():
                optimizer.step()
        return recording

    return capturing


GRAPHS: list[tuple[str, Options]] = [
    ("AdamW", {"lr": torch.tensor(0.1), "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05}),
    ("ASGD", {"lr": 0.05, "t0": 3}),
    ("Lion", {"lr": 0.01, "weights": "stochastic"}),
    *(
        ("AdamW", {"lr": torch.tensor(0.1), "states": states, "weights": "split24", "min_elements": 0})
        for states in CODED
    ),
    ("AdamW", {"lr": torch.tensor(0.1), "clip_norm": 0.5, "nonfinite": "skip"}),
    ("Adam", {"lr": 0.05, "update_clip": True}),
]


def _graph_steps(cls: str, given: Options, step: Callable[[Any, int], None]) -> Iterator[Any]:
    """Take seven steps along gradients that lie where they are."""
    specs: list[Spec] = [((9, 130), FLOAT), ((300,), BRAIN)]
    params, options = parameters(specs), copy.deepcopy(given)
    optimizer = getattr(door, cls)(params, capturable=True, **options)
    for t in range(7):
        give(params, t, moves=False)
        if isinstance(options["lr"], Tensor):
            options["lr"].fill_(0.1 / (t + 1))
        if options.get("nonfinite") == "skip" and t in (3, 5):
            assert params[0].grad is not None
            params[0].grad[3, 4] = math.inf
        step(optimizer, t)
        yield optimizer


@pytest.mark.parametrize(("cls", "options"), GRAPHS)
@pytest.mark.dear
def test_replays_are_steps(cls: str, options: Options, capture: Callable[[Any], Recording]) -> None:
    graph: list[Recording] = []

    def replayed(optimizer: Any, t: int) -> None:
        if t == 2:
            graph.append(capture(optimizer))
        elif t in (3, 5):  # among ordinary steps
            graph[0].replay()
        else:
            with placed():
                optimizer.step()

    actual = _graph_steps(cls, options, replayed)
    for t, expected in enumerate(_graph_steps(cls, options, lambda optimizer, t: optimizer.step())):
        optimizer = next(actual)
        assert_same(named(optimizer), named(expected), f"after step {t + 1}")
    assert optimizer.skipped == expected.skipped == (2 if options.get("nonfinite") else 0)


def test_a_replay_follows_the_scaler(capture: Callable[[Any], Recording]) -> None:
    ends = []
    for is_graph in (False, True):
        params = parameters(FEW)
        optimizer: Any = door.AdamW(params, lr=0.1, clip_norm=0.5)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
        graph = None
        for t in range(6):
            optimizer.grad_scale.fill_(2.0**t)
            optimizer.found_inf.fill_(float(t == 4))
            give(params, t, moves=False)
            if is_graph and t == 2:
                graph = capture(optimizer)
            elif graph is not None:
                graph.replay()
            elif is_graph:
                with placed():
                    optimizer.step()
            else:
                optimizer.step()
        ends.append(named(optimizer))
        assert float(ends[-1]["step of 0"]) == 5
    assert_same(ends[1], ends[0])


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}], ids=str)
def test_a_replay_and_the_steps_after_it_have_numbers_of_their_own(
    options: Options, capture: Callable[[Any], Recording]
) -> None:
    params, others = parameters(SMALL), parameters(SMALL)
    optimizer, twin = (door.AdamW(own, capturable=True, **options) for own in (params, others))
    graph: Recording | None = None
    there: dict[str, list[Tensor | None]] = {}
    # Where the gradients lie and lr is of a graph, or of ordinary steps, whose host does not see the replays between.
    for t, kind in enumerate(("eager", "graph", "eager", "graph", "eager", "graph", "graph", "eager")):
        for own in (params, others):
            for param, grad in zip(own, there.get(kind, [None] * len(own)), strict=True):
                param.grad = grad if own is params else None
            give(own, t, moves=False)
        there[kind] = [param.grad for param in params]
        for one in (optimizer, twin):
            one.param_groups[0]["lr"] = 0.1 if kind == "graph" else 0.02
        if kind == "eager":
            with placed():
                optimizer.step()
        elif graph is None:
            graph = capture(optimizer)
        else:
            graph.replay()
        twin.step()
        assert_same(named(optimizer), named(twin), f"after step {t + 1}")


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"update_clip": True}], ids=str)
def test_gradients_that_lie_elsewhere_in_a_graph(options: Options, capture: Callable[[Any], Recording]) -> None:
    params, others = parameters(FEW), parameters(FEW)
    optimizer, twin = (door.AdamW(own, lr=0.1, capturable=True, **options) for own in (params, others))
    for t in range(2):
        give(params, t)
        give(others, t)
        with placed():
            optimizer.step()
        twin.step()
    give(params, 2)
    give(others, 2)
    graph = capture(optimizer)
    twin.step()
    for t in (3, 4):
        give(params, t, moves=False)
        give(others, t)
        graph.replay()
        twin.step()
    assert_same(named(optimizer), named(twin))


@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.5, "nonfinite": "skip"}, {"update_clip": True}, {"lr": torch.tensor(0.1)}], ids=str
)
def test_what_a_graph_reads_is_kept(options: Options, capture: Callable[[Any], Recording]) -> None:
    params = parameters(FEW)
    optimizer: Any = door.AdamW(params, capturable=True, **options)
    give(params, 0)
    with placed():
        optimizer.step()
    arguments = {number for number in capture(optimizer).arguments if number > 2**20}
    spans = {(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) for t in _kept(devices._captured)}
    assert arguments
    for number in arguments:
        assert any(start <= number < start + size for start, size in spans), hex(number)


def _kept(root: Any) -> list[Tensor]:
    """Return the tensors that something keeps alive."""
    seen: dict[int, Any] = {}
    left = [root]
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, type) or callable(item) or type(item).__name__ == "module":
            continue
        seen[id(item)] = item
        left += gc.get_referents(item)
    return [item for item in seen.values() if isinstance(item, Tensor)]


@pytest.mark.parametrize("first", [False, True], ids=["", "first"])
@pytest.mark.parametrize("options", [{}, {"nonfinite": "raise"}], ids=str)
def test_a_graph_of_numbers_that_change_is_refused(
    options: Options, first: bool, capture: Callable[[Any], Recording], spy: Spy
) -> None:
    params = parameters(FEW)
    optimizer = door.AdamW(params, **options)
    give(params, 0)
    if not first:
        with placed():
            optimizer.step()
    before = named(optimizer)
    with pytest.raises(RuntimeError, match=r"nothing was captured\. Make the optimizer with capturable=True"):
        capture(optimizer)
    assert_same(named(optimizer), before)
    assert not (first and spy.launches)


def test_a_first_step_is_not_captured(capture: Callable[[Any], Recording], spy: Spy) -> None:
    params = parameters(FEW)
    optimizer = door.AdamW(params, capturable=True)
    give(params, 0)
    before = named(optimizer)
    with pytest.raises(RuntimeError, match=r"would start the state anew; nothing was captured\. Take a few"):
        capture(optimizer)
    assert_same(named(optimizer), before)
    assert not spy.launches


def test_a_graph_of_numbers_that_stay(capture: Callable[[Any], Recording]) -> None:
    ends = []
    for is_graph in (False, True):
        params = parameters(FEW)
        optimizer = door.SGD(params, lr=0.1, weight_decay=0.1)
        give(params, 0)
        with placed():
            optimizer.step()
        graph = None
        for t in range(1, 4):
            give(params, t, moves=False)
            if graph is not None:
                graph.replay()
            elif is_graph:
                graph = capture(optimizer)
            else:
                optimizer.step()
        ends.append(named(optimizer))
    assert_same(ends[1], ends[0])


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"clip_norm": 0.5, "nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("is_read", [False, True], ids=["", "read"])
def test_an_optimizer_goes_when_it_is_dropped(options: Options, is_read: bool) -> None:
    """With the garbage collector off."""
    params = parameters(FEW)
    gc.collect()
    gc.disable()
    try:
        optimizer = door.AdamW(params, **options)
        if is_read:
            sr.Monitor(optimizer, every=1)
        with placed():
            for t in range(3):
                give(params, t)
                optimizer.step()
        assert is_decided(optimizer) == bool(options)
        kept = [weakref.ref(optimizer), *(weakref.ref(x) for entry in optimizer.state.values() for x in entry.values())]
        del optimizer
        assert [ref() for ref in kept] == [None] * len(kept)
    finally:
        gc.enable()


# Guards that the device decides by.


def poisoned(params: list[Any], t: int) -> None:
    param = params[t % 2]
    param.grad.view(-1)[5] = (math.inf, math.nan, -math.inf)[t % 3]


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        ("NAdam", {}),
        *(("NAdam", {"clip_norm": 0.5, "states": states, "min_elements": 0}) for states in CODED),
        ("Adam", {"clip_value": 0.1, "weights": "split24"}),
        pytest.param("AdamW", {"update_clip": True, "clip_value": 1.0}, marks=pytest.mark.slow),
        pytest.param("Lion", {"clip_norm": 0.5, "weights": "stochastic"}, marks=pytest.mark.slow),
    ],
)
def test_a_step_that_is_skipped_changes_nothing(cls: str, options: Options) -> None:
    params, others = parameters(SMALL), parameters(SMALL)
    optimizer, twin = (getattr(door, cls)(own, lr=0.05, nonfinite="skip", **options) for own in (params, others))
    skipped = 0
    for t in range(6):
        give(params, t, moves=t > 3)
        is_bad = t in (0, 2, 3)
        if is_bad:
            poisoned(params, t)
        before = named(optimizer)
        with placed():
            optimizer.step()
        assert is_decided(optimizer)
        if is_bad:
            skipped += 1
            assert_same({k: v for k, v in named(optimizer).items() if k in before}, before)
        else:
            give(others, t)
            twin.step()
            assert_same(named(optimizer), named(twin), f"after step {t + 1}")
        assert optimizer.skipped == skipped
        assert optimizer.guards.in_a_row == (1, 0, 1, 2, 0, 0)[t]


class Late:
    """An event that comes when it is asked for the third time: two steps later."""

    def __init__(self) -> None:
        self._asked = 0

    def query(self) -> bool:
        self._asked += 1
        return self._asked > 2


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
def test_too_many_skips_in_a_row_end_in_an_error(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from_device = devices.from_device
    if late:
        monkeypatch.setattr(devices, "from_device", lambda *numbers: from_device(*numbers) or Late())
    params = parameters([((30,), FLOAT)])
    optimizer = door.AdamW(params, lr=0.1, nonfinite="skip", max_skips=2)
    taken = 0
    with placed():
        give(params, 0)
        optimizer.step()
        before = named(optimizer)

        def skip() -> None:
            nonlocal taken
            for t in range(1, 20):
                give(params, t)
                poisoned([params[0]] * 2, t)
                optimizer.step()
                taken += 1

        with pytest.raises(NonFiniteError, match=r"steps in a row.*max_skips=2"):
            skip()
        assert_same(named(optimizer), before)
        assert taken == 3 or (late and 3 < taken < 9)
        assert (optimizer.skipped, optimizer.guards.in_a_row) == (taken, taken)
        give(params, 20)
        optimizer.step()
        assert (optimizer.skipped, optimizer.guards.in_a_row) == (taken, 0)
    assert float(optimizer.state[params[0]]["step"]) == 2


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"clip_norm": 0.5, "nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("cls", ["NAdam", "AdamW"])
def test_a_scaler_of_the_device(cls: str, options: Options) -> None:
    scales, decided = list[float](), list[bool]()

    def scenario() -> Iterator[Any]:
        params = parameters([((7, 30), FLOAT), ((90,), FLOAT)])
        optimizer = getattr(door, cls)(params, lr=0.05, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        for t in range(6):
            optimizer.zero_grad(set_to_none=t % 2 == 0)
            losses = [(param * numbers(param.shape, FLOAT, 10 * t + i)).sum() for i, param in enumerate(params)]
            scaler.scale(torch.stack(losses).sum()).backward()
            if t in (2, 3):  # not the first: where the device decides, that leaves a state of zeros
                poisoned(params, t)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
            decided.append(is_decided(optimizer))
            yield optimizer
        assert (optimizer.skipped, optimizer.guards.in_a_row) == (0, 0)
        assert float(optimizer.state[params[0]]["step"]) == 4

    check_both(scenario)
    assert scales[:6] == scales[6:]
    assert len({*scales}) > 2
    assert decided == [False] * 6 + [True] * 6


# Going on elsewhere.


def _by_state_dict(optimizer: Any, make: Callable[[Any], Any], tmp_path: Path) -> Any:
    params = [nn.Parameter(param.detach().clone()) for param in optimizer.param_groups[0]["params"]]
    twin = make(params)
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    twin.load_state_dict(torch.load(saved))
    # What a state dict, as torch has it, does not hold.
    twin.guards.skipped, twin.guards.in_a_row = optimizer.skipped, optimizer.guards.in_a_row
    return twin


def _by_checkpoint(optimizer: Any, make: Callable[[Any], Any], tmp_path: Path) -> Any:
    params = [nn.Parameter(param.detach().clone()) for param in optimizer.param_groups[0]["params"]]
    twin = make(params)
    sr.save(tmp_path / "run.safetensors", optimizer)
    sr.load(tmp_path / "run.safetensors", twin)
    return twin


def _by_pickle(optimizer: Any, make: Callable[[Any], Any], tmp_path: Path) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


def _by_copy(optimizer: Any, make: Callable[[Any], Any], tmp_path: Path) -> Any:
    return copy.deepcopy(optimizer)


_AWAY = [(_by_state_dict, "device to CPU"), (_by_checkpoint, "device to CPU"), (_by_copy, "device to device")]
_BACK = [(_by_state_dict, "CPU to device"), (_by_checkpoint, "CPU to device"), (_by_pickle, "device to device")]


@pytest.mark.parametrize(
    ("way", "where"),
    [*_AWAY, *(pytest.param(*item, marks=pytest.mark.slow) for item in _BACK)],
    ids=lambda given: given if isinstance(given, str) else given.__name__,
)
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        ("NAdam", {"capturable": True}),
        ("AdamW", {"clip_norm": 0.5, "nonfinite": "skip", "max_skips": 3}),
        *(
            ("AdamW", {"states": states, "weights": "split24", "min_elements": 0, "capturable": True})
            for states in CODED
        ),
    ],
)
def test_a_run_goes_on_elsewhere(cls: str, options: Options, way: Any, where: str, tmp_path: Path) -> None:
    def make(params: Any) -> Any:
        return getattr(door, cls)(params, lr=0.05, **options)

    source, _, target = where.partition(" to ")
    params, others = parameters(SMALL), parameters(SMALL)
    optimizer, untouched = make(params), make(others)

    def take(one: Any, t: int, is_placed: bool) -> None:
        own = one.param_groups[0]["params"]
        give(own, t)
        if "nonfinite" in options and t in (1, 2, 4):
            poisoned(own, t)
        with placed() if is_placed else nullcontext():
            one.step()

    for t in range(3):
        take(optimizer, t, source == "device")
        take(untouched, t, False)
    ones = [optimizer, way(optimizer, make, tmp_path)] if way is _by_copy else [way(optimizer, make, tmp_path)]
    for t in range(3, 6):
        take(untouched, t, False)
        for one in ones:
            take(one, t, target == "device")
            assert_same(named(one), named(untouched), f"after step {t + 1}")
            counts = one.skipped, one.guards.in_a_row
            assert counts == (untouched.skipped, untouched.guards.in_a_row), f"after step {t + 1}"
    assert "nonfinite" not in options or untouched.skipped == 3


def test_capturable_and_not(tmp_path: Path) -> None:
    def make(params: Any, capturable: bool = False) -> Any:
        return door.NAdam(params, lr=0.05, capturable=capturable)

    params, others = parameters(FEW), parameters(FEW)
    optimizer, untouched = make(params), make(others)
    for t in range(6):
        if t:
            wanted = t % 2 == 1
            saved = optimizer.state_dict()
            saved["param_groups"][0]["capturable"] = wanted
            optimizer = make(params, wanted)
            optimizer.load_state_dict(saved)
            saved["param_groups"][0]["capturable"] = False
        for own in (params, others):
            give(own, t)
        with placed():
            optimizer.step()
        untouched.step()
        actual = {**named(optimizer), "capturable of group 0": False}
        assert_same(actual, named(untouched), f"after step {t + 1}")
        assert is_decided(optimizer) == (t % 2 == 1)


# Readings.


@pytest.mark.parametrize(
    ("cls", "options", "decided"),
    [
        ("AdamW", {"weight_decay": 0.1, "capturable": True}, True),
        ("SGD", {"momentum": 0.9}, False),
        pytest.param("AdamW", {"weight_decay": 0.1}, False, marks=pytest.mark.slow),
        pytest.param("NAdam", {"capturable": True}, True, marks=pytest.mark.slow),
        pytest.param(
            "Adam", {"clip_norm": 0.5, "nonfinite": "skip", "update_clip": True}, True, marks=pytest.mark.slow
        ),
        pytest.param("Adam", {"nonfinite": "raise", "update_clip": True}, False, marks=pytest.mark.slow),
        *(
            pytest.param("Lion", {"states": states, "min_elements": 0, "clip_norm": 2.0}, True, marks=pytest.mark.slow)
            for states in CODED
        ),
    ],
)
def test_readings_are_those_of_the_cpu(cls: str, options: Options, decided: bool) -> None:
    rows = []
    specs: list[Spec] = [((0,), FLOAT), *SMALL, ((0,), FLOAT)]

    def scenario() -> Iterator[Any]:
        params = parameters(specs)
        optimizer = getattr(door, cls)(params, lr=0.05, **options)
        monitor = sr.Monitor(optimizer, every=2)
        for t in range(4):
            give(params, t, moves=t % 2 == 0)
            if options.get("nonfinite") == "skip" and t == 3:
                poisoned(params[1:], t)
            optimizer.step()
            yield optimizer
        rows.append(monitor.rows)
        assert is_decided(optimizer) == (decided and len(rows) == 2)

    check_both(scenario)
    assert len(rows[0]) >= 2 * len(SMALL)
    assert [list(row) for row in rows[1]] == [list(row) for row in rows[0]]
    for found, wanted in zip(rows[1], rows[0], strict=True):
        for key, value in wanted.items():
            is_nan = isinstance(value, float) and math.isnan(value)
            assert (is_nan and math.isnan(found[key])) or found[key] == value, f"{key} of {wanted['name']}"


def test_a_step_that_was_to_be_read_and_is_skipped_leaves_the_next_to_be_read() -> None:
    seen = []

    def scenario() -> Iterator[Any]:
        params = parameters(SMALL)
        optimizer = door.AdamW(params, nonfinite="skip")
        monitor = sr.Monitor(optimizer, every=2)
        for t in range(5):
            give(params, t)
            if t == 1:
                poisoned(params, t)
            optimizer.step()
            yield optimizer
        seen.append([row["step"] for row in monitor.rows])

    check_both(scenario)
    assert seen[0] == seen[1]
    assert set(seen[1]) == {1, 2, 4}


# Where kernels cannot be had.


@pytest.fixture
def _no_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find_spec = importlib.util.find_spec

    def found(name: str, *arguments: Any) -> Any:
        return None if name == "triton" else find_spec(name, *arguments)

    def forget() -> None:
        for known in (devices._lacking, devices._warn):
            known.cache_clear()

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr(devices, "KINDS", {"meta"})
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.mark.usefixtures("_no_triton")
def test_without_triton_one_warning_and_operations_of_torch(spy: Spy) -> None:
    params = [torch.zeros(shape, device="meta") for shape in ((3, 4), (5,))]
    first, second = (door.AdamW(params, capturable=wanted) for wanted in (False, True))
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.warns(UserWarning, match=r"'meta'.*Triton is not installed.*pip install triton"):
        first.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second.step()
        first.step()
    assert first.state[params[0]]["exp_avg"].device.type == "meta"
    assert float(first.state[params[0]]["step"]) == 2
    assert float(second.state[params[1]]["step"]) == 1
    assert not spy.launches


@pytest.mark.parametrize(("version", "is_fit"), [("3.5.1", False), ("3.6.0", True), ("3.10.0", True), ("4.0", True)])
def test_old_tritons(version: str, is_fit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.__version__", version)
    devices._lacking.cache_clear()
    try:
        assert devices._lacking() == ("" if is_fit else f"Triton {version} is older than 3.6")
    finally:
        devices._lacking.cache_clear()


@pytest.mark.parametrize(
    ("capability", "hip", "kernels"), [((6, 1), None, False), ((7, 0), None, True), ((1, 0), "6.2", True)]
)
def test_old_gpus(capability: tuple[int, int], hip: str | None, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    devices._is_new_enough.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert devices.has_kernels(torch.device("cuda", 0)) is kernels
    finally:
        devices._is_new_enough.cache_clear()


class CompileError(Exception):
    """What Triton raises."""


COMPILED: list[tuple[Options, bool, int]] = [
    ({}, False, 2),
    ({"nonfinite": "raise"}, True, 6),
    ({"capturable": True}, True, 8),
    ({"clip_norm": 0.5, "update_clip": True}, False, 13),
]
"""Options, whether a monitor reads, and how many kernels there are for parameters of two types."""


@pytest.mark.parametrize(("options", "monitored", "kernels"), COMPILED, ids=str)
def test_a_kernel_that_cannot_be_compiled_changes_nothing(
    options: Options, monitored: bool, kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, others = parameters(FEW[:2]), parameters(FEW[:2])
    optimizer, twin = door.AdamW(params, lr=0.05, **options), door.AdamW(others, lr=0.05, **options)
    monitor = sr.Monitor(optimizer) if monitored else None
    before = named(optimizer)
    give(params, 0)
    give(others, 0)
    left = 0

    def prepare(*_: Any, **__: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CompileError

    for number in range(kernels):
        left = number
        monkeypatch.setattr(gpu, "prepare", prepare)
        with placed(), pytest.raises(CompileError):
            optimizer.step()
        assert_same(named(optimizer), before)
        assert not optimizer.state
    left = kernels
    with placed():
        optimizer.step()
    twin.step()
    assert_same(named(optimizer), named(twin))
    assert monitor is None or len(monitor.rows) == 2


@pytest.mark.parametrize(("options", "monitored", "kernels"), COMPILED, ids=str)
def test_every_kernel_is_compiled_before_anything_has_changed(
    options: Options, monitored: bool, kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, launched = list[Any](), list[Any]()
    launch = gpu.launch
    params = parameters(FEW[:2])
    start = [param.detach().clone() for param in params]

    def launching(function: Any, programs: int, threads: int, *arguments: int, **constants: Any) -> None:
        launched.append((function, threads, sorted(constants.items())))
        launch(function, programs, threads, *arguments, **constants)

    def preparing(function: Any, threads: int, *arguments: int, **constants: Any) -> None:
        assert all(map(torch.equal, params, start))
        made.append((function, threads, sorted(constants.items())))

    monkeypatch.setattr(gpu, "launch", launching)
    monkeypatch.setattr(gpu, "prepare", preparing)
    optimizer = door.AdamW(params, lr=0.05, **options)
    monitor = sr.Monitor(optimizer) if monitored else None
    give(params, 0)
    with placed():
        optimizer.step()
    assert len(made) == kernels
    assert launched
    assert all(kernel in made for kernel in launched)
    assert monitor is None or len(monitor.rows) == 2
