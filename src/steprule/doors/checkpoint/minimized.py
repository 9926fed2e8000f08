"""Checkpoints of runs of ``minimize``: a state, taken apart into a document and named arrays, and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from steprule.checkpoint import stored
from steprule.doors.checkpoint.content import Content
from steprule.doors.layout import Array
from steprule.doors.resume import State
from steprule.doors.state import State as OptimizerState
from steprule.errors import CheckpointError

__all__ = ["content_of", "state_of"]

_MADE_BY = "steprule.minimize"
_KEY = "minimize"


def content_of(state: State) -> Content:
    """Return what a checkpoint says of a state; arrays are the state's own."""
    arrays: dict[str, Array] = {}
    told = _split({field.name: getattr(state, field.name) for field in fields(state)}, (), arrays)
    params = {name: stored(array, name) for name, array in arrays.items()}
    return Content(OptimizerState(_MADE_BY, state.rule, [], []), params, more={_KEY: told})


def state_of(content: Content) -> State | None:
    """Return the state that a checkpoint holds; None where it is of an optimizer.

    Raises:
        CheckpointError: when its parts are not those of a state.
    """
    if content.state.made_by != _MADE_BY:
        return None
    told = content.more.get(_KEY)
    if not isinstance(told, dict) or set(told) != {field.name for field in fields(State)}:
        raise CheckpointError("the document lacks the parts of a state of minimize")
    for name, one in content.params.items():
        _put(told, name, one.array())
    state = State(**told)
    whole = (state.optimizer, state.progress, state.optimizer.get("t") if isinstance(state.optimizer, dict) else None)
    if not all(isinstance(part, kind) for part, kind in zip(whole, (dict, dict, int), strict=True)) or any(
        not isinstance(x, np.ndarray) or x.dtype != np.float64 or x.ndim != 1 for x in (state.x, state.answer)
    ):
        raise CheckpointError("the document has a state of minimize without its x, its steps or its progress")
    return state


def _split(value: Any, path: tuple[str, ...], arrays: dict[str, Array]) -> Any:
    """Return dicts without their arrays, which go to ``arrays`` by their path, and leave None."""
    if isinstance(value, Mapping):
        return {key: _split(item, (*path, key), arrays) for key, item in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    arrays[".".join(path)] = value
    return None


def _put(told: dict[str, Any], name: str, array: Array) -> None:
    """Put an array back where it was."""
    *path, last = name.split(".")
    inner: Any = told
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or inner.get(last, "") is not None:
        raise CheckpointError(f"the document has no place for the array {name!r}")
    inner[last] = array
