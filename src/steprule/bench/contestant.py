"""What every contestant can do, whatever library it steps with, and how many bytes it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.bench.work import Array

__all__ = ["BETAS", "DECAY", "EPS", "LR", "Contestant", "kept_bytes"]

LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.01
"""Of AdamW, for every contestant."""


class Contestant(Protocol):
    """An optimizer with its parameters."""

    def step(self) -> object:
        """Take a step along the gradients that it was given, and come back when it is done."""

    def give(self, gradients: Sequence[Array]) -> None:
        """Take these gradients from now on. They are not written."""

    def parameters(self) -> list[NDArray[np.float64]]:
        """Return a copy of the parameters, of which no bit that the optimizer keeps is left out."""

    def kept(self) -> object:
        """Return the parameters and all that the optimizer keeps from step to step."""


def kept_bytes(kept: object) -> int:
    """Return the bytes of the arrays in nested containers and objects, each counted once.

    A tensor counts with its memory, and a tensor made of others, such as one of codes and scales, with theirs.
    """
    found: dict[object, int] = {}
    _look(kept, found, set())
    return sum(found.values())


def _look(item: Any, found: dict[object, int], seen: set[int]) -> None:
    if id(item) in seen or item is None or isinstance(item, (str, bytes, int, float)):
        return
    seen.add(id(item))
    if hasattr(item, "__tensor_flatten__"):
        inner: Sequence[Any] = [getattr(item, name) for name in item.__tensor_flatten__()[0]]
    elif hasattr(item, "untyped_storage"):
        storage = item.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return
    elif hasattr(item, "nbytes"):
        found["array", id(item)] = item.nbytes
        return
    elif isinstance(item, Mapping):
        inner = list(item.values())
    elif isinstance(item, (list, tuple, set)):
        inner = list(item)
    else:
        inner = list(getattr(item, "__dict__", {}).values())
    for one in inner:
        _look(one, found, seen)
