"""Rules that multiply matrices, where a device steps: the products are taken there, and nothing waits for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import steprule.torch as door
from steprule.doors.torch import device_products
from steprule.errors import HyperparameterError
from steprule.launch.values import GroupValues
from steprule.rules.papers.muon import muon
from tests.doors.torch.device import BRAIN, DOUBLE, FLOAT, Spec, Spy, give, parameters, placed, spying

pytestmark = pytest.mark.apart

SPECS: list[Spec] = [
    ((6, 9), FLOAT),
    ((9, 4), FLOAT),
    ((6, 9), FLOAT),
    ((5, 5), DOUBLE),
    ((4, 2, 3), BRAIN),
    ((0, 3), FLOAT),
]
HOST: dict[str, Any] = {"nonfinite": "raise"}
"""With it, this machine decides."""


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return spying(monkeypatch)


def run(specs: list[Spec] = SPECS, steps: int = 3, **options: Any) -> list[Tensor]:
    params = parameters(specs)
    optimizer = door.Optimizer(params, muon, lr=0.1, **options)
    for t in range(steps):
        give(params, t, without=[1] if t == 1 else [])
        optimizer.step()
    return [param.detach() for param in params]


@pytest.mark.parametrize("options", [{}, HOST, {"clip_norm": 1.0, "nonfinite": "skip"}, {"capturable": True}], ids=str)
def test_a_device_steps_as_this_machine_does(options: dict[str, Any], spy: Spy) -> None:
    """Norms are those of parts of the largest element there, so that the last bits may differ."""
    expected = run(**{name: value for name, value in options.items() if name != "capturable"})
    assert not spy.launches
    with placed():
        found = run(**options)
    assert spy.launches
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(
            a, b, rtol=2e-6 if a.dtype is FLOAT else 1e-2 if a.dtype is BRAIN else 1e-13, atol=1e-6
        )


def test_products_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the passes no number of the device is read."""
    multiplied: list[int] = []

    def waiting(*_: object) -> Any:
        raise AssertionError("a number of the device was read")

    def watched(own: Any, multiply: Any = device_products._Stack.multiply) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__"):
                patch.setattr(Tensor, name, waiting)
            multiply(own)
        multiplied.append(own.number)

    monkeypatch.setattr(device_products._Stack, "multiply", watched)
    with placed():
        run(capturable=True, clip_norm=1.0, nonfinite="skip")
    assert multiplied


def test_a_skipped_step_moves_nothing() -> None:
    with placed():
        params = parameters(SPECS)
        optimizer = door.Optimizer(params, muon, capturable=True, nonfinite="skip")
        give(params, 0)
        optimizer.step()
        before = [tensor.clone() for param in params for tensor in (param.detach(), optimizer.state[param]["m"])]
        give(params, 1)
        params[0].grad[0, 0] = torch.inf  # type: ignore[index]
        optimizer.step()
        after = [tensor for param in params for tensor in (param.detach(), optimizer.state[param]["m"])]
    assert all(map(torch.equal, before, after))
    assert optimizer.skipped == 1


def test_products_in_bfloat16_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device has it; here it is told so."""
    plain = run()
    monkeypatch.setattr(device_products, "has_bfloat16", lambda device: True)
    with placed():
        found = run()
    for a, b in zip(found, plain, strict=True):
        if a.dtype is FLOAT and a.numel():
            assert not torch.equal(a, b)
            assert (a - b).abs().max() < 3 * 0.1 * 0.03  # of three steps of 0.1 along what has singular values near 1


def test_what_says_how_to_multiply_is_no_tensor_on_the_device() -> None:
    class Options:
        def tensors(self) -> dict[str, Tensor]:
            return {"eps": torch.tensor(1e-7, device="meta"), "lr": torch.tensor(0.1, device="meta")}

    group = SimpleNamespace(values=GroupValues(muon, {}, " (group 1)"), options=Options())
    numbers = device_products._Numbers(group)  # type: ignore[arg-type]
    assert numbers["ns_steps"] == 5
    with pytest.raises(HyperparameterError, match=r"eps is a tensor on meta \(group 1\).*Make it a number"):
        numbers["eps"]


def test_memory_for_products_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run()
    made: list[int] = []
    empty = torch.empty

    def counting(*size: Any, **options: Any) -> Tensor:
        made.extend(own for own in size if isinstance(own, int))
        return empty(*size, **options)

    monkeypatch.setattr(device_products, "LIMIT", 1)
    with placed():
        monkeypatch.setattr(torch, "empty", counting)
        found = run()
        monkeypatch.undo()
    assert 2 * 6 * 9 + 2 * 6 * 6 in made
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2 if a.dtype is BRAIN else 2e-6, atol=1e-6)


def test_parts_that_are_not_equally_high_are_refused_and_nothing_moves() -> None:
    with placed():
        params = parameters([((6, 9), FLOAT)])
        before = params[0].detach().clone()
        optimizer = door.Optimizer(params, muon, parts=4)
        give(params, 0)
        with pytest.raises(HyperparameterError, match=r"6 rows cannot be cut into 4 parts"):
            optimizer.step()
    assert torch.equal(params[0], before)
    assert not optimizer.state
