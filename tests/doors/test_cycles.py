"""No optimizer holds itself: with the garbage collector off it goes, and its states with it, when it is dropped."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

import steprule as sr
import steprule.torch as door
from steprule.errors import HyperparameterError, StructureError
from tests.covering import rotated
from tests.doors.torch.cases import CLASSES, OWN, random_gradients, with_slots


@pytest.fixture(scope="module", autouse=True)
def _others_are_left_out() -> None:
    """Let the collector look at what these tests make alone: all that a suite has made takes it a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_collector(_others_are_left_out: None) -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


GUARDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip_norm": {"clip_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "skip": {"nonfinite": "skip"},
    "raise": {"nonfinite": "raise"},
}


def assert_goes(make: Callable[[], Any]) -> None:
    """Assert that an optimizer, and the memory of its state, is not there any more once it is dropped."""
    optimizer = make()
    kept = [weakref.ref(optimizer), *map(weakref.ref, arrays_of(optimizer))]
    assert len(kept) > 1
    del optimizer
    assert [ref() for ref in kept] == [None] * len(kept)


def arrays_of(optimizer: Any) -> Iterator[Any]:
    """Yield the parameters and states of an optimizer."""
    if isinstance(optimizer, sr.Optimizer):
        yield from (array for leaf in optimizer._leaves for array in (leaf.base, *leaf.state))
        return
    yield from (param for group in optimizer.param_groups for param in group["params"])
    yield from (x for entry in optimizer.state.values() for x in entry.values() if isinstance(x, Tensor))


# NumPy


def numpy_optimizer(rule: str = "adamw", shape: tuple[int, ...] = (64, 128), **options: Any) -> sr.Optimizer:
    return sr.Optimizer(np.ones(shape, np.float32), rule, **options)


def stepped(optimizer: sr.Optimizer, steps: int = 2) -> sr.Optimizer:
    for _ in range(steps):
        optimizer.step(np.ones_like(optimizer.params))
    return optimizer


NUMPY: dict[str, dict[str, Any]] = {
    **GUARDS,
    "update_clip": {"update_clip": True},
    "sums over all": {"rule": "prodigy"},
    "rows and columns": {"rule": "came"},
    "schedule": {"lr": lambda t: 0.1 / t},
    "referee": {"backend": "numpy"},
    "8bit": {"states": "8bit"},
    "bfloat16, guarded": {"states": "bfloat16", "clip_norm": 1.0, "nonfinite": "skip"},
}


@pytest.mark.parametrize("options", NUMPY.values(), ids=NUMPY)
@pytest.mark.parametrize("monitored", [False, True], ids=["", "monitored"])
def test_numpy(options: dict[str, Any], monitored: bool) -> None:
    def make() -> sr.Optimizer:
        optimizer = numpy_optimizer(**options)
        if monitored:
            sr.Monitor(optimizer, every=1, to=lambda row: None)
        return stepped(optimizer)

    assert_goes(make)


@pytest.mark.parametrize("monitored", [False, True], ids=["", "monitored"])
def test_numpy_strided(monitored: bool) -> None:
    def make() -> sr.Optimizer:
        optimizer = sr.Optimizer(np.ones((8, 16), np.float32)[:, ::2], "adamw", clip_norm=1.0)
        if monitored:
            sr.Monitor(optimizer, every=1)
        optimizer.step(np.ones((8, 8), np.float32))
        optimizer.step(np.ones((8, 8), np.float32, order="F"))
        return optimizer

    assert_goes(make)


def failed(optimizer: sr.Optimizer) -> sr.Optimizer:
    with pytest.raises(sr.errors.NonFiniteError):
        optimizer.step(np.full_like(optimizer.params, math.nan))
    return optimizer


def saved(optimizer: Any, folder: Path) -> Any:
    sr.save(folder / "run.st", optimizer)
    sr.load(folder / "run.st", optimizer)
    return optimizer


def loaded(optimizer: Any) -> Any:
    optimizer.load_state_dict(optimizer.state_dict())
    return optimizer


def test_numpy_after_copies_loads_files_and_errors(tmp_path: Path) -> None:
    assert_goes(lambda: stepped(copy.deepcopy(stepped(numpy_optimizer()))))
    assert_goes(lambda: stepped(pickle.loads(pickle.dumps(stepped(numpy_optimizer())))))
    assert_goes(lambda: stepped(loaded(stepped(numpy_optimizer()))))
    assert_goes(lambda: stepped(saved(stepped(numpy_optimizer()), tmp_path)))
    assert_goes(lambda: stepped(failed(numpy_optimizer(nonfinite="raise"))))


# PyTorch


def parameter(shape: tuple[int, ...] = (64, 128), dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape, dtype=dtype))


def moved(optimizer: Any, steps: int = 2) -> Any:
    name = type(optimizer).__name__
    for t in range(steps):
        random_gradients([p for group in optimizer.param_groups for p in group["params"]], t, name)
        optimizer.step()
    return optimizer


TORCH: dict[str, dict[str, Any]] = {
    **GUARDS,
    "tensor lr": {"lr": torch.tensor(0.1)},
    "differentiable": {"differentiable": True},
    "8bit, guarded": {"states": "8bit", "clip_norm": 1.0, "nonfinite": "skip"},
    "capturable": {"capturable": True},
}


LACKING = {
    "SGD": {"capturable"},
    "Adagrad": {"capturable"},
    "SparseAdam": {"states", "differentiable", "capturable"},
    "Adafactor": {"differentiable", "capturable"},
}


@pytest.mark.parametrize(("cls", "kind"), rotated(CLASSES, [*TORCH], ("AdamW", "SGD")))
def test_torch(cls: str, kind: str) -> None:
    options = TORCH[kind]
    if cls == "SGD" and "states" in options:  # without momentum there are none
        options = {**options, "momentum": 0.9}
    if LACKING.get(cls, set()) & set(options):
        with pytest.raises(TypeError, match="argument"):
            getattr(door, cls)([parameter()], **options)
        return

    def make() -> Any:
        p: Tensor = parameter()
        p = p.detach() if kind == "differentiable" else p
        return moved(getattr(door, cls)([p], **options))

    if "states" in options and with_slots(cls, options) != options:
        with pytest.raises(HyperparameterError, match=r"has no effect: (no parameter|the rule) "):
            make()
        return
    if cls in OWN and "all" in OWN[cls].trace().sees and "differentiable" in options:
        with pytest.raises(StructureError, match="sums over all tensors"):
            make()
        return
    assert_goes(make)


def monitored(optimizer: Any) -> Any:
    sr.Monitor(optimizer, every=1, to=lambda row: None)
    return optimizer


def scheduled(optimizer: Any) -> Any:
    schedule = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.1, 1), lr_scheduler.OneCycleLR(optimizer, 0.1, 9)], [1]
    )
    moved(optimizer)
    schedule.step()
    return optimizer


def hooked(optimizer: Any) -> Any:
    optimizer.register_step_post_hook(lambda *_: None)
    optimizer.register_load_state_dict_post_hook(lambda *_: None)
    return optimizer


def scaled(optimizer: Any) -> Any:
    scaler = torch.amp.GradScaler("cpu")
    (param,) = optimizer.param_groups[0]["params"]
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(param.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    return optimizer


def refused(optimizer: Any) -> Any:
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(HyperparameterError):
        moved(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    return optimizer


def closed(optimizer: Any) -> Any:
    (param,) = optimizer.param_groups[0]["params"]

    def closure() -> Tensor:
        loss: Tensor = param.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


def strided(optimizer: Any) -> Any:
    (param,) = optimizer.param_groups[0]["params"]
    param.grad = torch.ones(1, 1).expand(param.shape)
    optimizer.step()
    return optimizer


def widened(optimizer: Any) -> Any:
    optimizer.float32_state_dict()
    optimizer.describe()
    optimizer.add_param_group({"params": [parameter()]})
    return optimizer


class Mine(door.AdamW):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


WAYS: dict[str, Callable[[Any], Any]] = {
    "monitor": monitored,
    "schedules": scheduled,
    "hooks": hooked,
    "scaler": scaled,
    "error": refused,
    "closure": closed,
    "strided": strided,
    "reports": widened,
    "load": loaded,
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
}


@pytest.mark.parametrize("guards", [{}, {"clip_norm": 1.0}, {"update_clip": True}], ids=["plain", "norm", "update"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", [door.AdamW, Mine], ids=["AdamW", "subclass"])
def test_torch_whatever_was_done_to_it(cls: Any, way: str, guards: dict[str, Any]) -> None:
    assert_goes(lambda: moved(WAYS[way](moved(cls([parameter()], **guards)))))


def test_torch_files(tmp_path: Path) -> None:
    assert_goes(lambda: moved(saved(moved(door.AdamW([parameter()])), tmp_path)))


@pytest.mark.parametrize("removed", [False, True], ids=["at work", "removed"])
def test_torch_gradient_release(removed: bool) -> None:
    def make() -> Any:
        param = parameter()
        optimizer = door.AdamW([param])
        handle = door.step_in_backward(optimizer)
        param.sum().backward()
        if removed:
            handle.remove()
        return optimizer

    assert_goes(make)


def test_this_finds_cycles() -> None:
    class Cyclic(door.SGD):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.own = self.step

    with pytest.raises(AssertionError):
        assert_goes(lambda: Cyclic([parameter()]))
    gc.collect()
