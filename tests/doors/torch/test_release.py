"""Gradient release: each parameter is stepped in the backward pass, to the bits of the ordinary loop."""

from __future__ import annotations

import copy
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

import steprule.torch as door
from steprule.doors.torch.launch import TensorLaunch
from steprule.errors import StateError
from steprule.formats import SLOT_FORMATS
from steprule.torch import SGD, Adam, step_in_backward
from tests.doors.torch.cases import DENSE_ALL, TOGETHER, case_id, everything, one_thread, with_slots

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

FORMATS: list[tuple[torch.dtype, dict[str, Any]]] = [
    (torch.float32, {}),
    *((torch.bfloat16, {"states": states, "weights": "split24", "min_elements": 0}) for states in SLOT_FORMATS),
    (torch.bfloat16, {"weights": "stochastic"}),
    (torch.float16, {"states": "bfloat16", "weights": "split32", "min_elements": 0}),
]


class Model(nn.Module):
    """Tied, frozen and unused parameters, and one that only odd steps use."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter((torch.randn(*shape, generator=random) / 4).to(dtype))

        self.table, self.bias, self.middle = weight(20, 32), weight(32), weight(32, 32)
        self.tied, self.unused, self.frozen = self.table, weight(5, 5), weight(32, 32)
        self.sometimes = weight(4, 300)
        self.frozen.requires_grad_(False)

    def forward(self, t: int) -> Tensor:
        rows = torch.randint(0, 20, (16,), generator=torch.Generator().manual_seed(t))
        hidden = torch.tanh(nn.functional.linear(self.table[rows], self.middle, self.bias) @ self.frozen)
        loss = nn.functional.linear(hidden, self.tied).float().square().mean()
        return loss + self.sometimes.float().sin().mean() if t % 2 else loss


def groups_of(model: Model, formats: dict[str, Any]) -> list[dict[str, Any]]:
    """Return two groups; where there are formats, the first has others than the optimizer."""
    own: dict[str, Any] = {"weights": "nearest"} if "weights" in formats else {}
    own |= {"states": "float32"} if "states" in formats else {}
    return [
        {"params": [model.bias, model.middle], **own},
        {"params": [model.table, model.unused, model.frozen, model.sometimes], "lr": 0.003},
    ]


def released(model: Model | None = None, cls: str = "AdamW", **options: Any) -> tuple[Model, Any, Any]:
    """Return a model, its optimizer and the handle of gradient release."""
    model = model or Model()
    optimizer = getattr(door, cls)(model.parameters(), **options)
    return model, optimizer, step_in_backward(optimizer)


def run(name: str, options: dict[str, Any], dtype: torch.dtype, formats: dict[str, Any], release: bool) -> Any:
    """Return all that a run of eight steps ends with, under a schedule."""
    model = Model(dtype)
    optimizer = getattr(door, name)(groups_of(model, formats), **copy.deepcopy(options), **formats)
    handle = step_in_backward(optimizer) if release else None
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    for t in range(8):
        optimizer.zero_grad()
        model(t).backward()
        assert not release or all(type(p.grad) is not Tensor for p in model.parameters())
        optimizer.step()
        schedule.step()
    if handle is not None:
        handle.remove()
    return everything(optimizer)


CASES = [(*case, *formats) for case in DENSE_ALL for formats in FORMATS[1:2]]
CASES += [(name, {}, *formats) for name in ("AdamW", "SGD", "ADOPT") for formats in FORMATS]


@pytest.mark.parametrize(("name", "options", "dtype", "formats"), CASES, ids=case_id)
def test_it_equals_the_ordinary_loop_in_every_bit(
    name: str, options: dict[str, Any], dtype: torch.dtype, formats: dict[str, Any]
) -> None:
    formats = {key: value for key, value in formats.items() if name != "SGD" or options or key == "weights"}
    formats = with_slots(name, formats)
    if name in TOGETHER:
        with pytest.raises(RuntimeError, match="sums over all tensors, whose gradients must all be there"):
            run(name, options, dtype, formats, release=True)
        return
    assert run(name, options, dtype, formats, release=True) == run(name, options, dtype, formats, release=False)


def test_parameters_that_the_loss_uses_move() -> None:
    model, optimizer, _ = released()
    before = copy.deepcopy(model.state_dict())
    model(1).backward()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"table", "bias", "middle", "sometimes"}
    assert len(optimizer.state) == 4


@pytest.mark.parametrize("release", [False, True])
def test_gradients_are_freed_while_the_backward_pass_goes_on(release: bool) -> None:
    params = [nn.Parameter(torch.ones(64, 128)) for _ in range(8)]
    optimizer = door.AdamW(params, states="8bit", lr=1e-4)
    if release:
        step_in_backward(optimizer)
    made: list[StorageWeakRef] = []
    alive: list[int] = []

    def watch(grad: Tensor) -> None:
        alive.append(sum(not storage.expired() for storage in made))
        made.append(StorageWeakRef(grad.untyped_storage()))

    for param in params:
        param.register_hook(watch)
    loss = torch.zeros(())
    for param in params:  # so the gradients come one after the other
        loss = (param * (1 + loss)).mean()
    loss.backward()
    assert len(made) == len(params)
    assert max(alive) <= 2 if release else alive == list(range(8))
    assert sum(not storage.expired() for storage in made) == (0 if release else 8)


def test_the_stand_in_has_no_memory() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    param = nn.Parameter(torch.zeros(4000, 2000))
    handle = step_in_backward(door.SGD([param], lr=0.1))
    before = resident()
    param.backward(torch.ones(()).expand(4000, 2000))
    assert resident() - before < 32_000_000 / 2
    assert param.grad is not None
    assert (param.grad.shape, param.grad.dtype) == (param.shape, param.dtype)
    assert "spent" in repr(param.grad)
    handle.remove()


def test_a_dropped_optimizer_is_missed_and_not_kept() -> None:
    """A hook of the parameter's that held the optimizer would keep both for good: no collector finds that cycle."""
    param = nn.Parameter(torch.zeros(3))
    handle = step_in_backward(door.SGD([param], lr=0.1))
    param.sum().backward()
    assert torch.equal(param, torch.full((3,), -0.1))
    param.grad = None
    del handle
    with pytest.raises(RuntimeError, match=r"(?s)no longer exists.*Keep the optimizer"):
        param.sum().backward()
    assert torch.equal(param, torch.full((3,), -0.1))


def _accumulate(model: Model, optimizer: Any) -> None:
    model(1).backward()


def _grad(model: Model) -> Tensor:
    assert model.bias.grad is not None
    return model.bias.grad


def _scaler(model: Model, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)


def _unscale(model: Model, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    scaler.unscale_(optimizer)


NEEDS_ALL: dict[str, Callable[[Model, Any], Any]] = {
    "accumulation": _accumulate,
    "clip_grad_norm_": lambda model, _: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
    "clip_grad_norm_, one by one": lambda model, _: nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False),
    "clip_grad_value_": lambda model, _: nn.utils.clip_grad_value_(model.parameters(), 1.0),
    "GradScaler.step": _scaler,
    "GradScaler.unscale_": _unscale,
    "zero_grad in place": lambda _, optimizer: optimizer.zero_grad(set_to_none=False),
    "reading": lambda model, _: _grad(model).norm(),
    "adding": lambda model, _: _grad(model).add_(1),
}


@pytest.mark.parametrize("use", NEEDS_ALL)
def test_whoever_needs_all_gradients_is_told(use: str) -> None:
    model, optimizer, _ = released(states="8bit", min_elements=0)
    model(1).backward()
    before = everything(optimizer)
    with pytest.raises(RuntimeError, match=r"step_in_backward has used and freed.*[Aa]ccumulation.*zero_grad\(\)"):
        NEEDS_ALL[use](model, optimizer)
    assert everything(optimizer) == before, "nothing was stepped twice"
    optimizer.zero_grad()
    model(1).backward()
    assert everything(optimizer) != before


def test_remove_gives_the_usual_loop_back() -> None:
    model, optimizer, handle = released()
    model(1).backward()
    handle.remove()
    handle.remove()
    assert all(p.grad is None for p in model.parameters())
    before = everything(optimizer)
    model(2).backward()
    model(3).backward()
    assert everything(optimizer) == before
    optimizer.step()
    assert everything(optimizer) != before
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})


def test_the_handle_is_a_context() -> None:
    model = Model()
    optimizer = door.AdamW(model.parameters())
    with step_in_backward(optimizer):
        model(1).backward()
    assert all(p.grad is None for p in model.parameters())
    step_in_backward(optimizer).remove()


def test_where_it_would_be_wrong() -> None:
    model, optimizer, handle = released()
    with pytest.raises(RuntimeError, match="active on this optimizer already; remove"):
        step_in_backward(optimizer)
    with pytest.raises(RuntimeError, match="new group; remove"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    handle.remove()
    model(1).backward()
    with pytest.raises(RuntimeError, match=r"gradients already.*zero_grad\(\)"):
        step_in_backward(optimizer)
    with pytest.raises(RuntimeError, match="differentiable=True"):
        released(differentiable=True)
    with pytest.raises(TypeError, match=r"takes an optimizer of steprule.torch, got a AdamW"):
        step_in_backward(torch.optim.AdamW(model.parameters()))  # type: ignore[arg-type]


def test_a_closure_steps_once() -> None:
    model, optimizer, _ = released()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(1)
        loss.backward()
        return loss

    assert optimizer.step(closure) is not None
    assert {float(entry["step"]) for entry in optimizer.state.values()} == {1.0}


def test_a_parameter_that_is_thawed_later_is_stepped_as_usual() -> None:
    model, optimizer, _ = released()
    before = model.frozen.detach().clone()
    model.frozen.requires_grad_(True)
    model(1).backward()
    optimizer.step()
    assert not torch.equal(model.frozen, before)


def test_states_are_saved_and_loaded_in_between() -> None:
    straight, halves = (released(states="8bit", min_elements=0) for _ in range(2))
    for t in range(6):
        for model, optimizer, _ in (straight, halves):
            optimizer.zero_grad()
            model(t).backward()
            if model is halves[0] and t == 2:
                optimizer.load_state_dict(optimizer.state_dict())
    assert everything(halves[1]) == everything(straight[1])


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_copies_step_as_usual(copied: Callable[[Any], Any]) -> None:
    model, optimizer, _ = released()
    optimizer.zero_grad()
    model_copy, other = copied((model, optimizer))
    before = everything(other)
    model_copy(1).backward()
    assert everything(other) == before, "hooks belong to the original"
    other.step()
    model(1).backward()
    assert everything(other) == everything(optimizer)


def test_an_error_of_the_step_comes_out_of_the_backward_pass_and_changes_nothing() -> None:
    model, optimizer, _ = released()
    optimizer.param_groups[0]["lr"] = -1.0
    before = everything(optimizer)
    with pytest.raises(ValueError, match=r"Invalid learning rate: -1.0"):
        model(1).backward()
    assert everything(optimizer) == before


def test_learning_rate_schedules_do_not_warn() -> None:
    model, optimizer, _ = released(cls="SGD", lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for t in range(2):
            optimizer.zero_grad()
            model(t).backward()
            optimizer.step()
            schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Let a signal handler run once, before the next launch."""
    take = TensorLaunch.take
    before = signal.getsignal(signal.SIGUSR1)

    def arrange(handler: Callable[[], Any]) -> None:
        def interrupted(*args: Any, **named: Any) -> None:
            monkeypatch.setattr(TensorLaunch, "take", take)
            signal.raise_signal(signal.SIGUSR1)
            take(*args, **named)

        monkeypatch.setattr(TensorLaunch, "take", interrupted)
        signal.signal(signal.SIGUSR1, lambda number, frame: handler())

    yield arrange
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("what", ["step", "load"])
def test_a_handler_that_steps_or_loads_in_the_backward_pass_is_refused(what: str, signalled: Any) -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = Adam([param], lr=0.1)
    saved = optimizer.state_dict()
    do: Any = {"step": optimizer.step, "load": lambda: optimizer.load_state_dict(saved)}[what]

    def refused() -> None:
        with pytest.raises(StateError, match="while a step of this optimizer is under way"):
            do()

    with step_in_backward(optimizer):
        signalled(refused)
        param.sum().backward()
        assert optimizer.state[param]["step"] == 1
    do()  # and afterwards not


def test_a_parameter_that_stands_twice_is_stepped_twice_or_not_at_all(signalled: Any) -> None:
    param = nn.Parameter(torch.ones(3))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = SGD([param, param], lr=0.25)

    def stop() -> None:
        raise KeyboardInterrupt

    with step_in_backward(optimizer):
        signalled(stop)
        with pytest.raises(KeyboardInterrupt):
            param.sum().backward()
    assert param.tolist() == [0.5] * 3
