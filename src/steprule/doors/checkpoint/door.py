"""Which module knows an optimizer: that of arrays, or that of tensors, without importing torch to find out."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from steprule.doors.checkpoint import arrays
from steprule.doors.numpy import Optimizer
from steprule.doors.resume import State

__all__ = ["door_of", "is_of_torch", "is_tensor", "torch_door"]


def door_of(optimizer: Any) -> Any:
    """Return the module that knows optimizers of this kind.

    Raises:
        TypeError: when none does.
    """
    if isinstance(optimizer, Optimizer):
        return arrays
    if is_of_torch(optimizer):
        return torch_door()
    if isinstance(optimizer, State):
        raise TypeError("a state of minimize takes nothing over: it is what steprule.load(path).state returns")
    kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    parts = [f"its .{name}" for name in ("optimizer", "state") if _is_known(getattr(optimizer, name, None))]
    raise TypeError(
        f"optimizer is of type {kind}; pass {[*parts, 'a steprule.Optimizer, or one of steprule.torch'][0]}"
    )


def _is_known(value: Any) -> bool:
    """Whether a value can be saved as an optimizer is."""
    return isinstance(value, Optimizer | State) or is_of_torch(value)


def is_of_torch(optimizer: Any) -> bool:
    """Whether an optimizer is one of steprule.torch."""
    return any(kind.__module__ == "steprule.doors.torch.base" for kind in type(optimizer).__mro__)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(value).__mro__)


def torch_door() -> ModuleType:
    """Import what knows tensors, for somebody who has some."""
    return importlib.import_module("steprule.doors.torch.checkpoint")
