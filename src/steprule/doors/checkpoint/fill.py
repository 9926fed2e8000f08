"""What is filled with the stored parameters: all of it checked before any of it is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from steprule.checkpoint import Stored
from steprule.doors.checkpoint.content import Content
from steprule.doors.checkpoint.door import array_kind
from steprule.doors.match import difference
from steprule.errors import StateError

__all__ = ["Fill", "pairs_of"]

Fill = Callable[[], None]
"""What fills, and cannot fail."""


def pairs_of(content: Content, places: Sequence[int] | None, targets: Mapping[str, Any]) -> list[Fill]:
    """Return what is to be filled with what; nothing of it can fail any more.

    Args:
        content: of the checkpoint.
        places: where those of the optimizer are in the checkpoint, if the targets are its own.
        targets: the arrays or tensors to fill, by name.

    Raises:
        StateError: when they do not fit, or cannot be written to.
    """
    if not targets:
        return []
    if not content.params:
        raise StateError("the checkpoint has no parameters; save them with it: steprule.save(..., params=True)")
    stored = content.params
    if places is not None and content.has_own:
        own = list(stored.values())
        stored = {n: own[place] for n, place in zip(targets, places, strict=True)}
    if set(stored) != set(targets):
        words = difference(list(targets), list(stored))
        raise StateError(f"the parameters stored are not those to be filled{words}")
    return [_fill(name, target, stored[name]) for name, target in targets.items()]


def _fill(name: str, target: Any, one: Stored) -> Fill:
    knows = array_kind(target)
    dtypes, shape = knows.look(target, name)
    if one.dtype not in dtypes or one.shape != shape:
        raise StateError(f"{name} is {dtypes[0]} of shape {shape}, but was stored as {one.dtype} of shape {one.shape}")
    return partial(knows.fill, target, one)
