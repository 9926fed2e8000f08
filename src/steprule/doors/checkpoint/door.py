"""Which module knows an optimizer, or an array, without importing torch or JAX to find out."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from steprule.doors.checkpoint import arrays
from steprule.doors.numpy import Optimizer
from steprule.doors.resume import State

__all__ = ["array_kind", "door_of", "is_of_torch"]

_TORCH, _JAX = "steprule.doors.torch.checkpoint", "steprule.doors.jax.checkpoint"
_KINDS = "a steprule.Optimizer, one of steprule.torch, or a steprule.jax.Training"


def door_of(optimizer: Any) -> Any:
    """Return the module that knows optimizers of this kind.

    Raises:
        TypeError: when none does.
    """
    if isinstance(optimizer, Optimizer):
        return arrays
    if is_of_torch(optimizer):
        return importlib.import_module(_TORCH)
    if type(optimizer).__module__ == "steprule.doors.jax.training":
        return importlib.import_module(_JAX)
    if isinstance(optimizer, State):
        raise TypeError("a state of minimize takes nothing over: it is what steprule.load(path).state returns")
    kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    parts = [f"its .{name}" for name in ("optimizer", "state") if _is_known(getattr(optimizer, name, None))]
    raise TypeError(f"optimizer is of type {kind}; pass {[*parts, _KINDS][0]}")


def _is_known(value: Any) -> bool:
    """Whether a value can be saved as an optimizer is."""
    return isinstance(value, Optimizer | State) or is_of_torch(value)


def is_of_torch(optimizer: Any) -> bool:
    """Whether an optimizer is one of steprule.torch."""
    return any(kind.__module__ == "steprule.doors.torch.base" for kind in type(optimizer).__mro__)


def array_kind(value: Any) -> Any:
    """Return the module that knows arrays of this kind; None for what is not an array."""
    if isinstance(value, np.ndarray):
        return arrays
    if any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(value).__mro__):
        return importlib.import_module(_TORCH)
    of_jax = type(value).__module__.startswith(("steprule.doors.jax.places", "jax", "jaxlib"))
    return importlib.import_module(_JAX) if of_jax else None
