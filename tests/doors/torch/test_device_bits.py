"""Steps of the PyTorch door on a device have the bits of steps on the CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.doors.torch import deciding_device, layout, rows
from steprule.launch.machine import MACHINE
from tests.doors.torch.cases import ALL, ROWS, case_id
from tests.doors.torch.device import (
    BRAIN,
    CODED,
    COMPLEX,
    DOUBLE,
    FEW,
    FLOAT,
    HALF,
    MIXED,
    Spy,
    capturable,
    check_both,
    give,
    is_decided,
    parameters,
    placed,
    spying,
)
from tests.doors.torch.tensors import numbers
from tests.doors.torch.test_guards import Tagged
from tests.doors.torch.test_launch import CHANGES, _load
from tests.language.test_sums import RULES as RULES_WITH_SUMS

pytestmark = pytest.mark.apart

STEPS = 4
Options = dict[str, Any]


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


# Classes, formats and guards.


def loop(cls: str, options: Options, specs: Any = MIXED, moves: bool = True, steps: int = STEPS) -> Iterator[Any]:
    params = parameters(specs)
    optimizer = getattr(door, cls)(params, **options)
    for t in range(steps):
        give(params, t, moves=moves, without=[2] if t == 1 else [])
        optimizer.step()
        yield optimizer


def sparse_loop(cls: str, options: Options) -> Iterator[Any]:
    params = parameters([((12, 40), FLOAT), ((5,), FLOAT), ((6, 2, 3), DOUBLE)])
    optimizer = getattr(door, cls)(params, **options)
    for t in range(STEPS):
        for i, param in enumerate(params):
            rows = torch.tensor([[t, 4, t]])
            values = numbers((3, *param.shape[1:]), param.dtype, 10 * t + i)
            param.grad = torch.sparse_coo_tensor(rows, values, param.shape)
        optimizer.step()
        yield optimizer


CLASSES = [*ALL, *((cls, {**options, **own}) for cls, options in ALL if (own := capturable(cls, True)))]


@pytest.mark.parametrize(("cls", "options"), CLASSES, ids=case_id)
@pytest.mark.dear
def test_every_class(cls: str, options: Options, spy: Spy) -> None:
    if cls == "SparseAdam":
        check_both(sparse_loop, cls, options)
    else:
        specs = [spec for spec in MIXED if cls not in ROWS or not spec[1].is_complex]
        check_both(loop, cls, options, specs if "capturable" in options else specs[::-1])
    assert spy.launches


FORMATS: list[tuple[str, Options]] = [
    *(("AdamW", {"states": states, "weights": "split24", "min_elements": 0}) for states in CODED),
    (
        "AdamW",
        {
            "states": {"exp_avg": "8bit", "exp_avg_sq": "bfloat16"},
            "weights": "stochastic",
            "min_elements": 0,
            "seed": 7,
        },
    ),
    ("Lion", {"states": "bfloat16", "weights": "split32", "min_elements": 0, "seed": 2**63 - 1}),
    ("NAdam", {"states": "8bit", "min_elements": 0, "lr": 0.01}),
    ("SGD", {"lr": 0.1, "weights": "stochastic"}),
]


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize(("cls", "options"), FORMATS, ids=case_id)
def test_formats(cls: str, options: Options, decided: bool, spy: Spy) -> None:
    specs = [((5, 260), FLOAT), ((9, 130), BRAIN), ((300,), BRAIN), ((4, 129), HALF)]
    check_both(loop, cls, {**options, **capturable(cls, decided)}, specs, not decided, 3)
    assert spy.launches


def of_other_types(cls: str, options: Options) -> Iterator[Any]:
    params = parameters([((7, 150), FLOAT), ((1100,), BRAIN), ((40,), HALF), ((33,), FLOAT)])
    kinds = [BRAIN, FLOAT, BRAIN, DOUBLE]
    optimizer = getattr(door, cls)(params, **options)
    for t in range(3):
        for i, (param, kind) in enumerate(zip(params, kinds, strict=True)):
            param.grad_dtype = None
            param.grad = numbers(param.shape, kind, 1000 * (t + 1) + i)
        optimizer.step()
        yield optimizer


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"states": "8bit", "min_elements": 0}], ids=case_id)
def test_gradients_of_other_types(options: Options, spy: Spy) -> None:
    check_both(of_other_types, "AdamW", options)
    assert spy.launches


GUARDS: list[tuple[str, Options]] = [
    ("AdamW", {"clip_norm": 0.5}),
    ("AdamW", {"clip_value": 0.3}),
    ("NAdam", {"clip_norm": 3.0, "clip_value": 0.5, "nonfinite": "skip", "max_skips": 2}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nonfinite": "raise", "clip_norm": 1e9}),
    ("Adam", {"nonfinite": "raise", "capturable": True}),
    ("Adam", {"update_clip": True}),
    ("AdamW", {"update_clip": True, "clip_norm": 2.0, "clip_value": 0.7, "nonfinite": "skip", "capturable": True}),
    ("AdamW", {"clip_norm": 1.0, "states": "8bit", "weights": "split24", "min_elements": 0, "nonfinite": "skip"}),
]


@pytest.mark.parametrize(
    ("cls", "options"),
    [*GUARDS[:-2], *(pytest.param(*case, marks=pytest.mark.slow) for case in GUARDS[-2:])],
    ids=case_id,
)
def test_guards(cls: str, options: Options, spy: Spy) -> None:
    decided = []

    def scenario() -> Iterator[Any]:
        for optimizer in loop(cls, {"lr": 0.01, **options}, [*FEW, ((0,), FLOAT)], steps=3):
            decided.append(is_decided(optimizer))
            yield optimizer

    check_both(scenario)
    measures = "clip_norm" in options or "update_clip" in options or options.get("nonfinite") == "skip"
    assert decided[-1] == (measures and options.get("nonfinite") != "raise")
    assert spy.launches


@pytest.mark.parametrize("capturing", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize("guards", [{}, {"clip_norm": 0.5, "nonfinite": "skip"}], ids=case_id)
@pytest.mark.parametrize("name", ["by_norm", pytest.param("layerwise", marks=pytest.mark.slow), "standardized"])
@pytest.mark.dear
def test_rules_with_sums(name: str, guards: Options, capturing: bool, spy: Spy) -> None:
    def steps() -> Iterator[Any]:
        params = parameters(FEW)
        optimizer = door.Optimizer(params, RULES_WITH_SUMS[name], capturable=capturing, **guards)
        for t in range(STEPS):
            give(params, t)
            optimizer.step()
            yield optimizer

    check_both(steps)
    assert spy.launches


def test_norms_of_several_blocks_and_types(spy: Spy) -> None:
    specs: Any = [((130, 200), BRAIN), ((1500,), DOUBLE), ((2, 700), COMPLEX), ((40,), HALF)]
    check_both(loop, "SGD", {"lr": 0.01, "clip_norm": 0.1}, specs, True, 2)
    assert spy.launches


# What changes between steps.

Act = Callable[[Any, list[nn.Parameter], int], None]


def _fill_lr(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    optimizer.param_groups[0]["lr"].fill_(0.1 / (t + 1))


def _set_lr(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    optimizer.param_groups[0]["lr"] = 0.1 / (t + 1)


def _set_betas(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    optimizer.param_groups[0]["betas"] = (0.5 + 0.1 * t, 0.9)


def _set_seed(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    optimizer.param_groups[0]["seed"] = t // 2


def _decay_less(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    optimizer.param_groups[0]["weight_decay"] = (0.1, 0.1, 0.0, 0.0)[t]


def _add_group(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    if t == 2:
        params.append(nn.Parameter(numbers((7, 40), FLOAT, 5)))
        optimizer.add_param_group({"params": [params[-1]], "lr": 0.3, "amsgrad": True})


def _set_count(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    if t == 2:
        optimizer.state[params[0]]["step"].fill_(40.0)


def _come_and_go(optimizer: Any, params: list[nn.Parameter], t: int) -> None:
    for i, param in enumerate(params):
        param.grad = None if (t + i) % 3 == 0 else param.grad


BETWEEN: list[tuple[Act, Options]] = [
    (_fill_lr, {"lr": torch.tensor(0.1)}),
    (_set_lr, {}),
    (_set_betas, {}),
    (_set_seed, {"weights": "stochastic"}),
    (_decay_less, {}),
    (_add_group, {}),
    (_set_count, {}),
    (_come_and_go, {}),
]


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize(("act", "options"), BETWEEN, ids=lambda given: getattr(given, "__name__", ""))
def test_what_changes_between_steps(act: Act, options: Options, decided: bool, spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params = parameters(FEW)
        optimizer = door.AdamW(params, capturable=decided, **{"lr": 0.1, **options})
        for t in range(STEPS):
            give(params, t, moves=False)
            act(optimizer, params, t)
            optimizer.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


@pytest.mark.parametrize("decided", [pytest.param(False, marks=pytest.mark.slow), True], ids=["", "capturable"])
@pytest.mark.parametrize(
    "change", [change for change in CHANGES if change is not _load], ids=lambda change: change.__name__.strip("_")
)
def test_whatever_moves_is_noticed(change: Any, decided: bool, spy: Spy) -> None:
    # What is loaded there is of other shapes; test_device_steps.py loads.
    def scenario() -> Iterator[Any]:
        params = parameters([(shape, FLOAT) for shape in ((3, 4), (5,), (1,), (), (2, 3, 2, 2), (700,))])
        optimizer = door.Adam(params, lr=0.1, capturable=decided)
        for t in range(4):
            give(params, t)
            optimizer.step()
            if t == 1:
                change(optimizer, params)
            yield optimizer

    check_both(scenario)
    assert spy.launches


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
def test_groups_with_other_options(decided: bool, spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params = parameters([((9, 130), FLOAT), ((300,), FLOAT), ((9, 130), BRAIN), ((40,), FLOAT)])
        groups: list[Options] = [
            {"params": params[:1], "states": "8bit", "min_elements": 0},
            {"params": params[1:2], "lr": 0.5, "betas": (0.3, 0.4), "maximize": True},
            {"params": params[2:], "amsgrad": True, "weight_decay": 0.0},
        ]
        optimizer = door.AdamW(groups, lr=0.1, capturable=decided)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for t in range(3):
            give(params, t)
            optimizer.step()
            schedule.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


# Where gradients and parameters lie.

Lie = Callable[[list[Tensor], Any, int], None]


def _steady(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t, moves=False)


def _crosswise(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    params[0].grad, params[1].grad = params[1].detach(), params[0].detach()


def _own_memory(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    params[0].grad = params[0].detach()


def _slot(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    if t > 1:
        params[0].grad = optimizer.state[params[1]]["exp_avg"]
        params[1].grad = optimizer.state[params[1]]["exp_avg_sq"]


def _one_for_all(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    params[0].grad = params[1].grad = params[2].grad


def _other_strides(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    for param in params:
        assert param.grad is not None
        param.grad = param.grad.t().contiguous().t()


def _expanded(params: list[Tensor], optimizer: Any, t: int) -> None:
    for i, param in enumerate(params):
        param.grad = numbers((param.shape[0], 1), param.dtype, 10 * t + i).expand(param.shape)


def _strided(params: list[Tensor], optimizer: Any, t: int) -> None:
    for i, param in enumerate(params):
        param.grad = numbers((param.shape[0], 2 * param.shape[1]), param.dtype, 10 * t + i)[:, ::2]


def _signs_due(params: list[Tensor], optimizer: Any, t: int) -> None:
    for i, param in enumerate(params):
        param.grad = torch._neg_view(numbers(param.shape, param.dtype, 10 * t + i))


def _unaligned(params: list[Tensor], optimizer: Any, t: int) -> None:
    for i, param in enumerate(params):
        memory = numbers((param.numel() + 3,), param.dtype, 10 * t + i)
        param.grad = memory[3:].view(param.shape)


def _not_finite(params: list[Tensor], optimizer: Any, t: int) -> None:
    give(params, t)
    for param, value in zip(params, (math.inf, math.nan, -math.inf), strict=False):
        assert param.grad is not None
        param.grad.view(-1)[t] = value


LYING = [
    _steady,
    _crosswise,
    _own_memory,
    _slot,
    _one_for_all,
    _other_strides,
    _expanded,
    _strided,
    _signs_due,
    _unaligned,
    _not_finite,
]


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize("lie", LYING, ids=lambda lie: lie.__name__)
def test_where_gradients_lie(lie: Lie, decided: bool, spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params: list[Tensor] = [*parameters([((30, 40), FLOAT)] * 3)]
        optimizer = door.Adam(params, lr=0.1, capturable=decided)
        for t in range(STEPS):
            lie(params, optimizer, t)
            optimizer.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


def test_gradients_of_a_guarded_step_that_lie_in_parameters(spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params: list[Tensor] = [*parameters([((30, 40), FLOAT)] * 2)]
        optimizer = door.Adam(params, lr=0.1, clip_norm=0.5)
        for t in range(2):
            _crosswise(params, optimizer, t)
            optimizer.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


def _transposed() -> list[Tensor]:
    return [numbers((40, 30), FLOAT, 1).t(), numbers((7, 5), BRAIN, 2).t()]


def _channels_last() -> list[Tensor]:
    return [
        numbers((2, 3, 9, 7), kind, i).to(memory_format=torch.channels_last) for i, kind in enumerate((FLOAT, HALF))
    ]


def _padded() -> list[Tensor]:
    return [numbers((30, 50), FLOAT, 1)[:, :40], numbers((9,), BRAIN, 2)[::2], numbers((3, 4), COMPLEX, 2)[:, ::2]]


def _overlapping() -> list[Tensor]:
    memory = numbers((2000,), FLOAT, 1)
    return [memory[:1200], memory[700:].view(13, 100), numbers((5,), FLOAT, 2)]


def _off_by_elements() -> list[Tensor]:
    memories = [numbers((1400,), kind, 1) for kind in (FLOAT, BRAIN, HALF, DOUBLE)]
    return [memory[i + 1 : i + 1201].view(10, 120) for i, memory in enumerate(memories)]


PLACES = [_transposed, _channels_last, _padded, _overlapping, _off_by_elements]
KEPT: Options = {"states": "8bit", "min_elements": 0}


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
@pytest.mark.parametrize(
    ("make", "kept"),
    [*((make, {}) for make in PLACES), *((make, KEPT) for make in PLACES if make is not _off_by_elements)],
    ids=case_id,
)
def test_where_parameters_lie(make: Callable[[], list[Tensor]], kept: Options, decided: bool, spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params = make()
        optimizer = door.AdamW(params, lr=0.1, capturable=decided, **kept)
        for t in range(3):
            give(params, t)
            optimizer.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


@pytest.mark.parametrize(("options", "launches"), [({}, 3), ({"capturable": True}, 6)], ids=str)
def test_parameters_that_overlap_are_stepped_in_turns(options: Options, launches: int, spy: Spy) -> None:
    # The interpreter runs one program after the other, as no device does.
    params = _overlapping()
    optimizer = door.AdamW(params, **options)
    for t in range(2):
        give(params, t)
        spy.clear()
        with placed():
            optimizer.step()
        assert len(spy.launches) == launches


@pytest.mark.parametrize("guards", [{}, {"clip_norm": 0.5}], ids=["", "clip_norm"])
@pytest.mark.parametrize("cls", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_gradients(cls: str, guards: Options, spy: Spy) -> None:
    check_both(sparse_loop, cls, {"lr": 0.1, **guards})
    assert spy.launches


# Other ways to step.


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
def test_a_parameter_that_stands_twice(decided: bool, spy: Spy) -> None:
    def scenario() -> Iterator[Any]:
        params = parameters(FEW)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = door.Adam([params[0], params[1], params[0]], lr=0.1, capturable=decided)
        for t in range(3):
            give(params, t)
            optimizer.step()
            yield optimizer

    check_both(scenario)
    assert spy.launches


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
def test_closures_hooks_and_release(decided: bool, spy: Spy) -> None:
    seen: list[str] = []

    def scenario() -> Iterator[Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 3))
        optimizer = door.NAdam(model.parameters(), lr=0.1, capturable=decided)
        batches = [numbers((8, 5), FLOAT, t) for t in range(6)]

        def loss(t: int) -> Tensor:
            optimizer.zero_grad()
            value: Tensor = model(batches[t]).square().sum()
            value.backward()
            return value

        optimizer.step(lambda: loss(0))
        yield optimizer
        hooks = optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
        after = optimizer.register_step_post_hook(lambda *_: seen.append("after"))
        loss(1)
        optimizer.step()
        yield optimizer
        hooks.remove()
        after.remove()
        optimizer.zero_grad()
        with door.step_in_backward(optimizer):
            for t in (2, 3):
                loss(t)
                optimizer.step()
                yield optimizer
        loss(4)
        optimizer.step()
        yield optimizer

    check_both(scenario)
    assert seen == ["before", "after"] * 2
    assert spy.launches


@pytest.mark.parametrize("decided", [False, True], ids=["", "capturable"])
def test_gradients_through_the_step(decided: bool, spy: Spy) -> None:
    results = []

    def scenario() -> Iterator[Any]:
        lr = torch.tensor(0.1, requires_grad=True)
        start = numbers((4,), FLOAT, 1).requires_grad_()
        param = start.clone()
        optimizer = door.Adam([param], lr=lr, differentiable=True, capturable=decided)
        for t in range(3):
            param.grad = numbers((4,), FLOAT, 2 + t)
            optimizer.step()
            yield optimizer
        results.append(torch.autograd.grad(param.square().sum(), [start, lr]))

    check_both(scenario)
    assert not spy.launches
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("options", [{}, {"capturable": True}, {"clip_norm": 0.5, "nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("others", ["a subclass", "on the CPU"])
def test_parameters_of_which_some_have_no_kernel_there(
    others: str, options: Options, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: set[int] = set()
    backend_of = rows.backend_of

    def by_parameter(tensors: Any) -> Any:
        return MACHINE if tensors[0].data_ptr() in away else backend_of(tensors)

    for module in (layout, deciding_device):
        monkeypatch.setattr(module, "backend_of", by_parameter)

    def scenario() -> Iterator[Any]:
        params: list[Tensor] = [*parameters([*FEW, ((50,), FLOAT), ((60,), BRAIN)])]
        if others == "a subclass":
            params[3] = params[3].detach().as_subclass(Tagged)
        else:
            away.update({params[1].data_ptr(), params[3].data_ptr()})
        optimizer = door.AdamW(params, lr=0.1, **options)
        for t in range(STEPS):
            for i, param in enumerate(params):
                param.grad = numbers(param.shape, param.dtype, 10 * t + i).as_subclass(type(param.detach()))
            optimizer.step()
            assert not (optimizer._launch and is_decided(optimizer))
            yield optimizer

    check_both(scenario)
    assert spy.launches


def test_what_is_compared_can_differ(spy: Spy) -> None:
    flips = itertools.count()

    def scenario() -> Iterator[Any]:
        with placed():
            params = parameters(FEW)
            optimizer = door.SGD(params, lr=0.1)
            give(params, 0)
            optimizer.step()
            if next(flips):
                params[1].data.view(torch.int16)[7] ^= 1
            yield optimizer

    with pytest.raises(pytest.fail.Exception, match=r"parameter 1 after step 1: 1 of 1100 differ, first at \(7,\)"):
        check_both(scenario)
