"""What tests of the PyTorch door on a device share: Triton interprets kernels, and the CPU passes for a device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steprule.torch as door
import tests.backends.triton.interpreter  # noqa: F401  (gives the interpreter the functions of a vendor's library)
from steprule.doors.torch import devices
from steprule.formats import SLOT_FORMATS
from steprule.runtime import gpu
from tests.doors.torch.tensors import numbers

COUNTED = ("k", "lr_max", "weight_sum", "scheduled_lr")
CODED = [one.name for one in SLOT_FORMATS.values() if one.signed.is_coded]
"""The formats of slots that are kept as codes."""
FLOAT, HALF, BRAIN, DOUBLE, COMPLEX = torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64
Spec = tuple[tuple[int, ...], torch.dtype]
# Without elements, of no dimension, one more than a chunk of a kernel, rows that are no multiple of a group.
MIXED: list[Spec] = [
    ((0,), FLOAT),
    ((), FLOAT),
    ((1025,), FLOAT),
    ((9, 130), BRAIN),
    ((127,), HALF),
    ((3, 5), DOUBLE),
    ((4, 3), COMPLEX),
    ((1,), BRAIN),
]
FEW: list[Spec] = [((7, 150), FLOAT), ((1100,), BRAIN), ((3,), FLOAT)]


@contextmanager
def placed() -> Iterator[None]:
    """Let tensors in this machine's memory be tensors on a device that has kernels."""
    devices.KINDS.add("cpu")
    try:
        yield
    finally:
        devices.KINDS.discard("cpu")


@dataclass
class Spy:
    """What went to the device.

    Attributes:
        launches: the kernels that were launched.
        sizes: how many numbers were copied there, copy by copy.
    """

    launches: list[Any] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def clear(self) -> None:
        self.launches.clear()
        self.sizes.clear()


def spying(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Look at all launches and copies to the device from now on."""
    spy, launch, send = Spy(), gpu.launch, devices.to_device

    def launching(function: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        spy.launches += [function] * bool(programs)
        launch(function, programs, *arguments, **constants)

    def sending(numbers: Tensor, home: Tensor) -> None:
        spy.sizes.append(numbers.numel())
        send(numbers, home)

    monkeypatch.setattr(gpu, "launch", launching)
    monkeypatch.setattr(devices, "to_device", sending)
    return spy


def parameters(specs: Iterable[Spec] = MIXED) -> list[nn.Parameter]:
    return [nn.Parameter(numbers(shape, dtype, 100 + i)) for i, (shape, dtype) in enumerate(specs)]


def give(params: Iterable[Tensor], t: int, *, moves: bool = True, without: Sequence[int] = ()) -> None:
    """Give parameters the gradients of step t.

    Args:
        params: the parameters.
        t: the number of the step.
        moves: whether they lie elsewhere than those before.
        without: the places of parameters that get none.
    """
    for i, param in enumerate(params):
        new = numbers(param.shape, param.dtype, 1000 * (t + 1) + i)
        if i in without:
            param.grad = None
        elif moves or param.grad is None:
            param.grad = torch.empty_like(param).copy_(new) if param.numel() else new
        else:
            param.grad.copy_(new)


def capturable(cls: str, wanted: bool) -> dict[str, bool]:
    """Return the option of that name, where the class has it and it is wanted."""
    return {"capturable": True} if wanted and "capturable" in inspect.signature(getattr(door, cls)).parameters else {}


# Comparisons.


def named(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return copies of all that an optimizer moves and keeps, by what messages call it."""
    found: dict[str, Any] = {}
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for i, param in enumerate(params):
        found[f"parameter {i}"] = param.detach().clone()
    # Not by state_dict(): parameters that were taken out of their group keep their state.
    for i, entry in enumerate(optimizer.state.values()):
        found |= {f"{key} of {i}": value for key, value in entry.items()}
    for i, group in enumerate(optimizer.param_groups):
        # What a device counts groups do not say before they are asked; it is in the states.
        found |= {f"{key} of group {i}": value for key, value in group.items() if key not in ("params", *COUNTED)}
    return {key: value.detach().clone() if isinstance(value, Tensor) else value for key, value in found.items()}


def assert_same(actual: Mapping[str, Any], expected: Mapping[str, Any], what: str = "") -> None:
    """Assert that two results of ``named`` are equal in every bit; a NaN equals a NaN."""
    assert actual.keys() == expected.keys(), what
    for key, value in expected.items():
        found = actual[key]
        assert type(found) is type(value), f"{key} {what}"
        if not isinstance(value, Tensor):
            assert found == value, f"{key} {what}"
            continue
        # As plain tensors: a subclass need not know all this.
        found, value = found.as_subclass(Tensor), value.as_subclass(Tensor)
        assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride()), f"{key} {what}"
        wrong = _differ(found, value)
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            pair = _reals(found)[at].item(), _reals(value)[at].item()
            count, size = int(wrong.sum()), wrong.numel()
            pytest.fail(f"{key} {what}: {count} of {size} differ, first at {at}: {pair[0]!r} instead of {pair[1]!r}")


def _reals(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor.resolve_neg()


def _differ(a: Tensor, b: Tensor) -> Tensor:
    a, b = _reals(a), _reals(b)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    kind = kinds[a.element_size()]
    both_nan = (a != a) & (b != b)
    return ~both_nan & (a.contiguous().view(kind) != b.contiguous().view(kind))


History = list[dict[str, Any]]
Scenario = Callable[..., Iterator[Any]]
"""Yields an optimizer after each of its steps."""


def history(scenario: Scenario, *arguments: Any) -> History:
    """Return what an optimizer held after each of its steps."""
    return [named(optimizer) for optimizer in scenario(*arguments)]


def check_both(scenario: Scenario, *arguments: Any) -> History:
    """Assert that steps on a device have the bits of steps on the CPU, and return these."""
    expected = history(scenario, *arguments)
    with placed():
        actual = history(scenario, *arguments)
    assert len(actual) == len(expected)
    for t, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert_same(found, wanted, f"after step {t + 1}")
    assert _moved(expected), "nothing moved"
    return expected


def _moved(steps: History) -> bool:
    first, last = ({k: v for k, v in step.items() if k.startswith("parameter")} for step in (steps[0], steps[-1]))
    alike = [k for k in first if k in last and (first[k].shape, first[k].dtype) == (last[k].shape, last[k].dtype)]
    return not alike or any(
        bool(_differ(first[k].as_subclass(Tensor), last[k].as_subclass(Tensor)).any()) for k in alike
    )


def is_decided(optimizer: Any) -> bool:
    """Whether the device decided about the last step, whose launch is kept for the next."""
    assert optimizer._launch is not None
    found: bool = optimizer._launch.device_decides
    return found
