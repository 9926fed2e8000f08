"""The launch of the PyTorch door is used again while nothing has moved, and laid out anew when anything has."""

from __future__ import annotations

import copy
import weakref
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steprule.doors.torch import native, staleness
from steprule.doors.torch.base import Base
from steprule.launch.launch import Launch
from steprule.runtime import Table
from steprule.torch import SGD, Adam, NAdam
from tests.doors.torch.cases import assert_equal, one_thread, tensors_of
from tests.tracing import at_line

SHAPES = [(3, 4), (5,), (1,), (), (2, 3, 2, 2), (70_000,)]


def made(make: Callable[..., Base] = Adam, **options: Any) -> tuple[Base, list[torch.nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    return make(params, **options), params


def gradients(params: list[torch.nn.Parameter], t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


@pytest.mark.parametrize("make", [SGD, Adam, NAdam])
def test_a_steady_loop_is_laid_out_once(make: Callable[..., Base], layouts: list[Base]) -> None:
    optimizer, params = made(make, lr=torch.tensor(0.1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for t in range(6):
        optimizer.zero_grad(set_to_none=t % 2 == 0)
        gradients(params, t)
        optimizer.step()
        scheduler.step()
    assert len(layouts) == 1


def _replace_a_slot(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[0]]["exp_avg"] = torch.full_like(params[0], 0.5)


def _replace_a_state(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[1]] = {key: value + 1 for key, value in optimizer.state[params[1]].items()}


def _forget_a_state(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    del optimizer.state[params[1]]


def _move_a_slot(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[0]]["exp_avg_sq"].data = optimizer.state[params[0]]["exp_avg_sq"] * 2


def _share_a_slot(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[5]]["exp_avg"].share_memory_()


def _set_a_step_count(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[2]]["step"].fill_(40.0)


def _replace_a_step_count(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.state[params[2]]["step"] = torch.tensor(2.0)


def _move_a_parameter(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.clone() + 1


def _transpose_a_parameter(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    params[0].data = params[0].data.view(4, 3)
    for name in ("exp_avg", "exp_avg_sq"):
        state = optimizer.state[params[0]]
        state[name] = state[name].view(4, 3)


def _turn_a_parameter(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    """The same memory and the same shape, in other strides."""
    params[4].data = params[4].data.as_strided((2, 3, 2, 2), (12, 4, 1, 2))


def _swap_a_parameter(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    torch.utils.swap_tensors(params[1], torch.nn.Parameter(torch.arange(5.0)))


def _widen_a_parameter(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    params[1].data = params[1].data.double()


def _replace_the_list(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][1:]


def _change_the_list(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    """Another parameter of one element, equal to the old, which a comparison of tensors would not tell apart."""
    new = torch.nn.Parameter(params[2].detach().clone())
    params[2] = optimizer.param_groups[0]["params"][2] = new


def _replace_the_group(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.5}


def _add_a_group(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    params.append(torch.nn.Parameter(torch.ones(4)))
    optimizer.add_param_group({"params": [params[-1]], "lr": 0.25})


def _ask_for_another_kernel(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.1


def _load(optimizer: Base, params: list[torch.nn.Parameter]) -> None:
    other, others = made()
    gradients(others, 7)
    other.step()
    optimizer.load_state_dict(other.state_dict())


CHANGES = [
    _replace_a_slot,
    _replace_a_state,
    _forget_a_state,
    _move_a_slot,
    _share_a_slot,
    _set_a_step_count,
    _replace_a_step_count,
    _move_a_parameter,
    _transpose_a_parameter,
    _turn_a_parameter,
    _swap_a_parameter,
    _widen_a_parameter,
    _replace_the_list,
    _change_the_list,
    _replace_the_group,
    _add_a_group,
    _ask_for_another_kernel,
    _load,
]


@pytest.mark.usefixtures(one_thread.__name__)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_whatever_moves_is_noticed(change: Callable[[Base, Any], None], layouts: list[Base]) -> None:
    (optimizer, params), (twin, untouched) = made(), made()
    for t in range(5):
        gradients(params, t)
        gradients(untouched, t)
        optimizer.step()
        twin._launch = None  # the twin lays out every step anew
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, untouched))
        if t == 2:
            assert layouts.count(optimizer) == 1
            change(optimizer, params)
            change(twin, untouched)
    assert layouts.count(optimizer) == 2


GRADIENTS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "missing": lambda grad: None,
    "transposed": lambda grad: grad.t().contiguous().t(),
    "expanded": lambda grad: grad[:1].expand(3, 4),
    "negative": lambda grad: torch.complex(grad, grad).conj().imag,
    "its own parameter's memory": lambda grad: grad,
}


@pytest.mark.usefixtures(one_thread.__name__)
@pytest.mark.parametrize("kind", GRADIENTS)
def test_a_gradient_of_another_kind_is_noticed(kind: str, layouts: list[Base]) -> None:
    (optimizer, params), (twin, untouched) = made(), made()
    for t in range(6):
        for own in (params, untouched):
            gradients(own, t)
            grad = own[0].grad
            assert grad is not None
            own[0].grad = GRADIENTS[kind](grad) if t in (2, 3) else grad
            if kind.startswith("its own") and t in (2, 3):
                own[0].grad = own[0].data
        if untouched[0].grad is not None:
            untouched[0].grad = untouched[0].grad.clone(memory_format=torch.contiguous_format)
        optimizer.step()
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, untouched))
    assert len(layouts) >= 3 or kind.startswith("its own")


def test_a_crossed_gradient_is_read_before_it_is_stepped() -> None:
    a, b = (torch.nn.Parameter(torch.arange(1.0, 9.0) * k) for k in (1, -3))
    c, d = (torch.nn.Parameter(p.detach().clone()) for p in (a, b))
    one, other = SGD([a, b], lr=0.1), SGD([c, d], lr=0.1)
    for _ in range(3):
        a.grad, b.grad = b.data, a.data
        c.grad, d.grad = d.data.clone(), c.data.clone()
        one.step()
        other.step()
        assert_equal([a.data, b.data], [c.data, d.data])


def test_without_the_interface_of_torch_the_bits_are_the_same(
    monkeypatch: pytest.MonkeyPatch, layouts: list[Base]
) -> None:
    assert native._compiled() is not None
    (optimizer, params), (twin, others) = made(NAdam), made(NAdam)
    for t in range(3):
        gradients(params, t)
        optimizer.step()
    monkeypatch.setattr(native, "_compiled", lambda: None)
    for t in range(3):
        gradients(others, t)
        twin.step()
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    assert (layouts.count(optimizer), layouts.count(twin)) == (1, 3)


def test_gradients_are_not_kept_alive() -> None:
    optimizer, params = made()
    for t in range(3):
        gradients(params, t)
        alive = [weakref.ref(param.grad) for param in params]
        optimizer.step()
        optimizer.zero_grad()
        assert not any(reference() is not None for reference in alive)


def test_options_changed_where_they_lie_are_seen() -> None:
    betas = (torch.tensor(0.9), torch.tensor(0.99))
    edits: list[tuple[dict[str, Any], Callable[[Any], object]]] = [
        ({"betas": betas}, lambda group: group["betas"][0].fill_(0.1)),
        ({"betas": [0.9, 0.99]}, lambda group: group["betas"].__setitem__(0, 0.1)),
        ({"lr": np.array(0.1)}, lambda group: group["lr"].fill(0.5)),
    ]
    for options, change in edits:
        (optimizer, params), (twin, others) = made(**options), made(**copy.deepcopy(options))
        for t in range(4):
            gradients(params, t)
            gradients(others, t)
            if t == 2:
                change(optimizer.param_groups[0])
                change(twin.param_groups[0])
            optimizer.step()
            twin._options, twin._launch = [], None
            twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("make", [SGD, Adam, NAdam])
def test_an_interrupt_before_anything_moved_leaves_everything(
    make: Callable[..., Base], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"momentum": 0.9, "dampening": 0.5} if make is SGD else {}
    (optimizer, params), (twin, others) = made(make, **options), made(make, **options)
    for t in range(steps):
        for own, mine in ((optimizer, params), (twin, others)):
            gradients(mine, t)
            own.step()
    before, keys = tensors_of(optimizer, params), len(optimizer.state)

    def interrupt(self: Table) -> None:
        raise KeyboardInterrupt

    optimizer.param_groups[0]["maximize"] = True
    gradients(params, steps)
    monkeypatch.setattr(Table, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    monkeypatch.undo()
    assert_equal(tensors_of(optimizer, params), before)
    assert len(optimizer.state) == keys
    twin.param_groups[0]["maximize"] = True
    for t in range(steps, steps + 3):
        for own, mine in ((optimizer, params), (twin, others)):
            gradients(mine, t)
            own.step()
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))


@pytest.mark.parametrize("after", range(40))
def test_an_interrupt_at_any_line_leaves_a_step_whole_or_untaken(after: int) -> None:
    """A signal is raised at the nth line of ours in a step that asks for another kernel."""
    (optimizer, params), (twin, others) = made(SGD, momentum=0.9), made(SGD, momentum=0.9)
    for own, mine in ((optimizer, params), (twin, others)):
        gradients(mine, 0)
        own.step()
        own.param_groups[0]["maximize"] = True
    gradients(params, 1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with at_line(("/doors/torch/", "/launch/"), 7 * after, interrupt) as lines:
        try:
            optimizer.step()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted == (0 < 7 * after <= len(lines))
    if interrupted and torch.equal(params[0], others[0]):
        optimizer.step()  # it had not been taken
    for t in (1, 2, 3):
        gradients(others, t)
        twin.step()
        if t > 1:
            gradients(params, t)
            optimizer.step()
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))


def test_what_only_looks_like_a_list_or_a_dict_will_do(layouts: list[Base]) -> None:
    (optimizer, params), (twin, others) = made(), made()
    optimizer.param_groups[0]["params"] = tuple(params)
    for t in range(4):
        for own, mine in ((optimizer, params), (twin, others)):
            gradients(mine, t)
            own.step()
        if t == 1:
            optimizer.state[params[0]] = UserDict(optimizer.state[params[0]])
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    assert layouts.count(optimizer) == 4


def test_a_parameter_that_stands_in_a_group_twice_is_stepped_twice_as_by_torch() -> None:
    results = []
    for make in (torch.optim.Adam, Adam):
        param = torch.nn.Parameter(torch.ones(3))
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = make([param, param], lr=0.1)
        for t in range(3):
            gradients([param], t)
            optimizer.step()
        results.append([param.detach(), optimizer.state[param]["step"]])
    torch.testing.assert_close(results[1], results[0])


def test_without_guards_of_torch_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch, layouts: list[Base]) -> None:
    (optimizer, params), (twin, others) = made(), made()
    monkeypatch.setattr(staleness, "_tensor_guards", lambda: None)
    for t in range(3):
        gradients(params, t)
        optimizer.step()
    monkeypatch.undo()
    for t in range(3):
        gradients(others, t)
        twin.step()
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    assert layouts.count(optimizer) == 3


class Tagged(torch.Tensor):
    """A subclass from a module that is not torch's."""


def test_the_rule_runs_on_subclasses_of_tensors() -> None:
    plain = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    tagged = plain.detach().clone().as_subclass(Tagged)
    results = []
    for param in (plain.detach().clone(), tagged):
        optimizer = Adam([param], differentiable=True)
        param.grad = torch.ones(5).as_subclass(type(param))
        optimizer.step()
        results.append(param.as_subclass(torch.Tensor))
    assert_equal(results[:1], results[1:])


def test_a_signal_while_the_addresses_of_gradients_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = torch.ones(3), torch.full((3,), 5.0)
    param = torch.nn.Parameter(torch.zeros(3))
    optimizer = SGD([param], lr=1.0, clip_norm=100.0)
    set_gradients = Launch.set_gradients

    def interrupted(*args: Any) -> None:
        monkeypatch.setattr(Launch, "set_gradients", set_gradients)
        raise KeyboardInterrupt

    param.grad = first
    optimizer.step()
    optimizer.step()
    monkeypatch.setattr(Launch, "set_gradients", interrupted)
    param.grad = other
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    param.grad = first  # where the launch has seen it before
    optimizer.step()
    assert param.tolist() == [-3.0] * 3


LOOKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "another type": lambda own: own.view(torch.bfloat16 if own.dtype == torch.float16 else torch.int32),
    "an axis less": lambda own: own.view(16),
    "an axis more": lambda own: own.view(4, 4, 1),
    "other sizes": lambda own: own.view(2, 8),
    "a size less": lambda own: own[:, :3],
    "other strides": lambda own: own.t(),
    "elsewhere": torch.clone,
}


@pytest.mark.parametrize("kind", LOOKS)
@pytest.mark.parametrize("name", ["parameter", "exp_avg", "exp_avg_sq"])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_each_parameter_and_slot_is_compared(kind: str, name: str, place: int) -> None:
    params = [torch.nn.Parameter(torch.ones(4, 4, dtype=torch.float16)) for _ in range(20)]
    optimizer = Adam(params, lr=0.1)
    for _ in range(2):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    launch = optimizer._launch
    assert launch is not None
    states, grads = list(optimizer.state.values()), [param.grad for param in params]
    assert launch._staleness.is_unchanged(states, grads)
    own = params[place] if name == "parameter" else optimizer.state[params[place]][name]
    kept = own.data
    own.data = LOOKS[kind](kept)
    assert not launch._staleness.is_unchanged(states, grads)
    own.data = kept
    assert launch._staleness.is_unchanged(states, grads)


NUMBER_LOOKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "another type": lambda memory: memory.view(torch.float64)[0],
    "an axis more": lambda memory: memory[:2],
}


@pytest.mark.parametrize("kind", NUMBER_LOOKS)
@pytest.mark.parametrize("name", ["parameter", "momentum_buffer"])
def test_a_parameter_and_a_slot_of_no_axes_are_compared(kind: str, name: str) -> None:
    memory = torch.ones(4)
    param = torch.nn.Parameter(torch.ones(()))
    optimizer = SGD([param], lr=1.0, momentum=0.9)
    for _ in range(2):
        param.grad = torch.ones(())
        optimizer.step()
        own = param if name == "parameter" else optimizer.state[param]["momentum_buffer"]
        own.data = memory[0]
    optimizer.step()
    launch = optimizer._launch
    assert launch is not None
    assert launch._staleness.is_unchanged(list(optimizer.state.values()), [param.grad])
    own.data = NUMBER_LOOKS[kind](memory)  # in the same place
    assert not launch._staleness.is_unchanged(list(optimizer.state.values()), [param.grad])


def test_a_parameter_of_no_axes_that_is_another_type_in_the_same_place_is_stepped_as_one() -> None:
    memory = torch.zeros(4)
    param = torch.nn.Parameter(memory[0])
    optimizer = SGD([param], lr=1.0)
    param.grad = torch.ones(())
    for _ in range(3):
        optimizer.step()
    memory.zero_()
    param.data = memory.view(torch.float64)[0]
    optimizer.step()
    assert (param.dtype, param.item(), memory[2:].tolist()) == (torch.float64, -1.0, [0.0, 0.0])
