"""Muon: torch.optim's for matrices, in numbers, names and errors; and for whole models, with AdamW for the rest."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import _muon as torch_muon
from torch.utils._python_dispatch import TorchDispatchMode

import steprule
import steprule.torch as door
from steprule.errors import HyperparameterError, StateError, StructureError
from steprule.rules.papers.muon import muon
from tests.doors.torch.cases import assert_agree, everything, frozen, one_thread

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SHAPES = ((6, 9), (9, 4), (5, 5), (6, 9), (1, 7), (7, 1))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch's Muon take its products in float64 instead of bfloat16: all else is compared to the last digits."""

    def in_float64(grad: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
        x = grad.double().T if grad.size(0) > grad.size(1) else grad.double()
        x = x / x.norm().clamp(min=eps)
        a, b, c = coefficients
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        whole: Tensor = x.T if grad.size(0) > grad.size(1) else x
        return whole.to(grad.dtype)

    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", in_float64)


def matrices(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def stepped(optimizer: torch.optim.Optimizer, steps: int = 3, start: int = 0) -> list[Tensor]:
    params: list[Tensor] = [param for group in optimizer.param_groups for param in group["params"]]
    for t in range(start, start + steps):
        random = torch.Generator().manual_seed(t)
        for param in params:
            param.grad = torch.randn(param.shape, generator=random, dtype=torch.float64).to(param.dtype)
        optimizer.step()
    return params


CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "plain momentum": {"nesterov": False, "momentum": 0.8},
    "match_rms_adamw": {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.01},
    "original": {"lr": 0.02, "adjust_lr_fn": "original", "weight_decay": 0.0, "ns_steps": 2},
    "others": {"lr": 0.05, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 10.0, "momentum": 0.0},
    "tensor": {"lr": torch.tensor(0.03, dtype=torch.float64)},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)
@pytest.mark.usefixtures(exact.__name__)
def test_fifty_steps_are_those_of_torch(options: dict[str, Any], dtype: torch.dtype) -> None:
    ours, theirs = (stepped(cls(matrices(dtype), **options), 50) for cls in (door.Muon, torch.optim.Muon))
    assert_agree(ours, theirs)


def test_fifty_steps_are_those_of_torch_in_bfloat16_within_its_rounding() -> None:
    """torch multiplies in bfloat16 here, this library in float32: steps are 0.05 of the way they go apart, at most."""
    start = matrices()
    ours, theirs = (stepped(cls(matrices(), lr=0.01, weight_decay=0.0), 50) for cls in (door.Muon, torch.optim.Muon))
    for begun, a, b in zip(start, ours, theirs, strict=True):
        way = (b - begun).norm()
        assert (a - b).norm() < 0.05 * way
        assert way > 0


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_momentum_is_the_average_of_gradients(nesterov: bool, dtype: torch.dtype) -> None:
    """pytorch#194664: torch.optim.Muon divides the buffer of a bfloat16 parameter itself where nesterov=False."""
    params = matrices(dtype)
    optimizer = door.Muon(params, nesterov=nesterov)
    expected = [torch.zeros(shape) for shape in SHAPES]
    for t in range(4):
        stepped(optimizer, 1, t)
        for mean, param in zip(expected, params, strict=True):
            assert param.grad is not None
            mean.mul_(0.95).add_(param.grad.float(), alpha=0.05)
    for mean, param in zip(expected, params, strict=True):
        torch.testing.assert_close(optimizer.state[param]["momentum_buffer"], mean, rtol=1e-6, atol=1e-7)
        assert optimizer.state[param]["momentum_buffer"].dtype is torch.float32


def test_arguments_are_those_of_torch() -> None:
    theirs, ours = (inspect.signature(cls).parameters for cls in (torch.optim.Muon, door.Muon))
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name
    mine, other = (cls(matrices()).param_groups[0] for cls in (door.Muon, torch.optim.Muon))
    assert {k: v for k, v in mine.items() if k != "params"} == {k: v for k, v in other.items() if k != "params"}


REFUSED: dict[str, tuple[dict[str, Any], list[int]]] = {
    "lr": ({"lr": -1.0}, [2, 3]),
    "lr of two": ({"lr": torch.ones(2)}, [2, 3]),
    "momentum": ({"momentum": -0.5}, [2, 3]),
    "weight_decay": ({"weight_decay": -0.5}, [2, 3]),
    "adjust_lr_fn": ({"adjust_lr_fn": "rms"}, [2, 3]),
    "vector": ({}, [3]),
    "kernel": ({}, [2, 3, 3]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_are_those_of_torch(name: str) -> None:
    options, shape = REFUSED[name]
    with pytest.raises(ValueError) as theirs:  # noqa: PT011 (compared)
        torch.optim.Muon([torch.zeros(shape)], **options)
    with pytest.raises(ValueError) as ours:  # noqa: PT011
        door.Muon([torch.zeros(shape)], **options)
    assert str(ours.value).startswith(str(theirs.value))


@pytest.mark.parametrize("kind", ["complex", "sparse"])
def test_complex_and_sparse_are_refused_as_by_torch(kind: str) -> None:
    param = torch.zeros(2, 3, dtype=torch.complex64 if kind == "complex" else torch.float32)
    param.grad = torch.ones_like(param) if kind == "complex" else torch.ones_like(param).to_sparse()
    for cls in (torch.optim.Muon, door.Muon):
        with pytest.raises(RuntimeError, match=f"Muon does not support {kind}"):
            cls([param]).step()
    assert not param.any()


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "ns_steps": (lambda: door.Muon(matrices(), ns_steps=100), "ns_steps"),
    "name": (lambda: door.Muon(matrices(), ns_coefficients="polar"), "'jordan', 'polar_express'"),
    "two": (lambda: door.Muon(matrices(), ns_coefficients=(1.0, 2.0)), "3 numbers"),  # type: ignore[arg-type]
    "no effect": (lambda: door.Muon(matrices(), adamw={"lr": 1.0}), "adamw= has no effect"),
    "unknown": (lambda: door.Muon(net(), adamw={"beta": (0.9, 0.9)}), "Did you mean 'betas'"),
    "value": (lambda: door.Muon(net(), adamw={"eps": -1.0}), "epsilon value: -1"),
    "nothing": (lambda: door.Muon(net(), matrices="layer.*"), "matches no parameter"),
    "vector": (lambda: door.Muon(net(), matrices="*.bias"), "only supports 2D parameters"),
    "linear": (lambda: door.Muon(nn.Linear(3, 4)), "matches no parameter"),
    "lion": (lambda: door.Muon([{"params": matrices(), "rule": "lion"}]), "'muon' or 'adamw', got 'lion'"),
    "betas": (lambda: door.Muon([{"params": matrices(), "rule": "adamw", "ns_steps": 3}]), "has no 'ns_steps'"),
    "typo": (lambda: door.Muon(matrices(), momentumm=0.9), "Did you mean 'momentum'"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_torch_does_not_refuse_is_refused_in_words(name: str) -> None:
    call, words = OTHERS[name]
    with pytest.raises((HyperparameterError, TypeError), match=words):
        call()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.usefixtures(exact.__name__)
def test_state_dicts_go_both_ways(nesterov: bool) -> None:
    begun = torch.optim.Muon(matrices(), nesterov=nesterov, lr=0.03)
    stepped(begun)
    ends = []
    for cls in (torch.optim.Muon, door.Muon):
        params = [param.detach().clone() for group in begun.param_groups for param in group["params"]]
        optimizer: Any = cls(params)
        optimizer.load_state_dict(copy.deepcopy(begun.state_dict()))
        ends.append(stepped(optimizer, 3, 3))
    assert_agree(ends[0], ends[1])
    ours = door.Muon(matrices(), nesterov=nesterov, lr=0.03)
    stepped(ours)
    theirs = torch.optim.Muon([param.detach().clone() for param in stepped(ours, 0)])
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert_agree(stepped(theirs, 3, 3), stepped(ours, 3, 3))


def test_polar_express_has_steps_of_its_own() -> None:
    """After as many steps as there are polynomials the step is the polar factor itself."""
    params = matrices(torch.float64)
    before = [param.detach().clone() for param in params]
    optimizer = door.Muon(params, lr=1.0, ns_coefficients="polar_express", ns_steps=12, weight_decay=0.0)
    stepped(optimizer, 1)
    for param, start in zip(params, before, strict=True):
        assert param.grad is not None
        u, _, v = torch.linalg.svd(param.grad, full_matrices=False)
        scale = max(1, param.shape[0] / param.shape[1]) ** 0.5
        torch.testing.assert_close(start - param.detach(), scale * (u @ v), rtol=0, atol=1e-6)


class Passing(TorchDispatchMode):
    """Looks at torch's operations, and lets them pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_rule_as_torch_operations_is_that_of_kernels(differentiable: bool) -> None:
    expected = stepped(door.Optimizer(matrices(), muon, lr=0.05), 4)
    if differentiable:
        found = stepped(door.Optimizer([p.detach() for p in matrices()], muon, lr=0.05, differentiable=True), 4)
    else:
        with Passing():  # type: ignore[no-untyped-call]
            found = stepped(door.Optimizer(matrices(), muon, lr=0.05), 4)
    assert_agree(found, expected)


def test_gradients_go_through_a_differentiable_step() -> None:
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def loss(rate: Tensor) -> Tensor:
        param = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
        param.grad = torch.tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0]], dtype=torch.float64)
        door.Optimizer([param], muon, lr=rate, differentiable=True).step()
        return param.square().sum()

    assert torch.autograd.gradcheck(loss, [lr])


# Whole models.


class Net(nn.Module):
    """An embedding that the head shares, a convolution, two layers, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(10, 8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 10, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.conv(self.wte(tokens).mT).mT
        return self.lm_head(self.norm(self.second(self.first(x).tanh())))  # type: ignore[no-any-return]


def net() -> Net:
    torch.manual_seed(5)
    return Net()


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 3, start: int = 0) -> None:
    for t in range(start, start + steps):
        tokens = torch.randint(0, 10, (4, 7), generator=torch.Generator().manual_seed(t))
        model.zero_grad()
        model(tokens).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.usefixtures(exact.__name__)
def test_a_model_steps_as_by_two_optimizers_of_torch_in_one_launch() -> None:
    model, other = net(), net()
    ours = door.Muon(model, lr=0.02, adamw={"lr": 3e-3, "betas": (0.8, 0.99)})
    train(model, ours, steps=20)
    weights = [other.first.weight, other.second.weight]
    rest = [param for param in other.parameters() if all(param is not weight for weight in weights)]
    train(
        other,
        torch.optim.Muon(weights, lr=0.02),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.8, 0.99)),
        steps=20,
    )
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5, msg=name)
    assert ours._launch is not None
    assert [group["rule"] for group in ours.param_groups] == ["muon", "adamw"]
    assert ours.param_groups[0]["param_names"] == ["first.weight", "second.weight"]
    told = ours.describe().splitlines()
    assert "rule" in told[1].split()
    assert {line.split()[0]: ("muon" in line) for line in told[2:]} == {
        name: name in ("first.weight", "second.weight") for name, _ in model.named_parameters()
    }


def test_kernels_of_convolutions_are_flattened_where_they_are_selected() -> None:
    model = net()
    kernel = model.conv.weight
    optimizer = door.Muon(model, matrices="conv.weight", weight_decay=0.0, lr=0.1)
    before = kernel.detach().clone()
    train(model, optimizer, steps=1)
    flat = nn.Parameter(before.flatten(1).clone())
    assert kernel.grad is not None
    flat.grad = kernel.grad.flatten(1)
    door.Muon([flat], weight_decay=0.0, lr=0.1).step()
    assert torch.equal(kernel.flatten(1), flat)


@pytest.fixture
def run() -> tuple[Net, door.Muon]:
    model = net()
    optimizer = door.Muon(model, lr=0.02)
    train(model, optimizer)
    return model, optimizer


def test_a_run_of_a_model_goes_on_bit_by_bit(run: tuple[Net, door.Muon], tmp_path: Path) -> None:
    model, optimizer = run
    steprule.save(tmp_path / "run", optimizer)
    copies: list[tuple[Net, Any]] = []
    for way in ("dict", "file", "deepcopy", "pickle"):
        if way in ("deepcopy", "pickle"):
            pair = model, optimizer
            copies.append(copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair)))
            continue
        other = copy.deepcopy(model)
        twin = door.Muon(other, lr=0.5)
        if way == "dict":
            twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        else:
            steprule.load(tmp_path / "run", twin)
        copies.append((other, twin))
    train(model, optimizer, start=3)
    for other, twin in copies:
        train(other, twin, start=3)
        assert everything(twin) == everything(optimizer)


def test_a_state_of_other_rules_is_refused_and_nothing_changes(run: tuple[Net, door.Muon], tmp_path: Path) -> None:
    _, optimizer = run
    steprule.save(tmp_path / "run", optimizer)
    twice: Any = [{"params": own["params"], "rule": "adamw"} for own in optimizer.param_groups]
    other = door.Muon(twice)
    before = everything(other)
    with pytest.raises(StateError, match=r"group 0 of the state steps by rule 'muon', and here by 'adamw'"):
        other.load_state_dict(optimizer.state_dict())
    with pytest.raises(StateError, match=r"'muon', and here by 'adamw'"):
        steprule.load(tmp_path / "run", other)
    assert everything(other) == before


def test_a_group_that_is_added_has_the_options_of_its_rule() -> None:
    optimizer = door.Muon(net(), adamw={"lr": 0.5}, states="bfloat16", min_elements=0, clip_norm=1.0)
    optimizer.add_param_group({"params": [("a", torch.zeros(3))], "rule": "adamw"})
    optimizer.add_param_group({"params": [("b", torch.zeros(3, 2))], "momentum": 0.5})
    added, plain = optimizer.param_groups[2:]
    assert (added["lr"], added["states"], plain["momentum"], plain["lr"]) == (0.5, "bfloat16", 0.5, 1e-3)
    assert "momentum" not in added
    with pytest.raises(HyperparameterError, match="only supports 2D"):
        optimizer.add_param_group({"params": [("c", torch.zeros(3))]})
    assert len(optimizer.param_groups) == 4


@pytest.mark.parametrize("states", ["8bit", "4bit", "bfloat16"])
def test_momentum_may_be_narrow(states: str) -> None:
    params = [nn.Parameter(torch.randn(24, 40, generator=torch.Generator().manual_seed(1)))]
    wide = [nn.Parameter(params[0].detach().clone())]
    optimizer = door.Muon(params, lr=0.05, states=states, min_elements=0)
    stepped(optimizer, 4)
    stepped(door.Muon(wide, lr=0.05), 4)
    way = (wide[0] - params[0]).norm() / wide[0].norm()
    assert 0 < way < {"8bit": 0.02, "4bit": 0.2, "bfloat16": 0.005}[states]
    assert states in optimizer.describe()


@pytest.mark.parametrize("matrix", ["zeros", "nan", "rank 1", "long"])
def test_odd_matrices(matrix: str) -> None:
    """Zeros decay, a NaN spoils its own matrix alone, rank 1 and 20,000 x 3 step."""
    param = nn.Parameter(torch.ones(20_000, 3) if matrix == "long" else torch.ones(4, 3))
    other = nn.Parameter(torch.ones_like(param))
    grads = {
        "zeros": torch.zeros(4, 3),
        "nan": torch.full((4, 3), torch.nan),
        "rank 1": torch.outer(torch.arange(4.0), torch.arange(3.0)),
        "long": torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)),
    }
    param.grad, other.grad = grads[matrix], torch.eye(*param.shape)
    door.Muon([param, other], lr=0.1).step()
    assert other.isfinite().all()
    if matrix == "nan":
        assert param.isnan().all()
    elif matrix == "zeros":
        torch.testing.assert_close(param.detach(), torch.full((4, 3), 0.99))
    else:
        scale = (param.shape[0] / 3) ** 0.5
        singular = torch.linalg.svdvals((0.99 - param.detach()).double()) / (0.1 * scale)
        assert 0.6 < singular[0] < 1.3
        assert (singular[1] < 1e-5) == (matrix == "rank 1")


def test_gradients_are_only_read_and_a_failing_step_changes_nothing() -> None:
    params = matrices()
    optimizer = door.Muon(params)
    stepped(optimizer, 1)
    grads = [frozen(param.grad) for param in params]
    before = everything(optimizer)
    optimizer.param_groups[0]["ns_steps"] = 0
    with pytest.raises(HyperparameterError, match="ns_steps"):
        optimizer.step()
    optimizer.param_groups[0]["ns_steps"] = 5
    assert everything(optimizer) == before
    optimizer.step()
    assert [frozen(param.grad) for param in params] == grads


def test_vectors_are_refused_by_every_class_for_matrices() -> None:
    with pytest.raises(StructureError, match=r"is a vector of 3, and rule 'muon' steps matrices.*routes="):
        door.Optimizer([torch.zeros(3)], muon)
    with pytest.raises(StructureError, match=r"is a vector of 3, and rule 'normuon' steps matrices"):
        door.NorMuon([torch.zeros(3)])
    with pytest.raises(StructureError, match=r"one number, and rule 'muon' steps matrices"):
        door.Optimizer([{"params": [torch.zeros(())], "rule": muon}])


def test_normuon_steps_matrices_with_the_options_of_its_class() -> None:
    """Row by row it has one size: the class is the rule."""
    params = stepped(door.NorMuon(matrices(), lr=0.05, weight_decay=0.1), 3)
    assert_agree(params, stepped(door.Optimizer(matrices(), "normuon", lr=0.05, weight_decay=0.1), 3))
    assert not torch.equal(params[0], stepped(door.Muon(matrices(), lr=0.05), 3)[0])
