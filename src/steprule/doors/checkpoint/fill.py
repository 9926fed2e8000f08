"""What is filled with the stored parameters: all of it checked before any of it is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from steprule.checkpoint import Stored
from steprule.doors.checkpoint import arrays
from steprule.doors.checkpoint.content import Content
from steprule.doors.checkpoint.door import is_tensor, torch_door
from steprule.doors.checkpoint.match import difference
from steprule.errors import StateError

__all__ = ["Fill", "pairs_of"]

Fill = tuple[Callable[[Any, Stored], None], Any, Stored]
"""How to fill, what, and with what."""


def pairs_of(content: Content, door: Any, optimizer: Any, targets: Mapping[str, Any], is_own: bool) -> list[Fill]:
    """Return what is to be filled with what; nothing of it can fail any more.

    Args:
        content: of the checkpoint.
        door: what knows the optimizer.
        optimizer: that is to go on, or None.
        targets: the arrays or tensors to fill, by name.
        is_own: whether they are the optimizer's own.

    Raises:
        StateError: when they do not fit, or cannot be written to.
    """
    if not targets:
        return []
    if not content.params:
        raise StateError("the checkpoint has no parameters; save them with it: steprule.save(..., params=True)")
    stored = content.params
    if is_own and content.has_own:
        own = list(stored.values())
        stored = {n: own[place] for n, place in zip(targets, door.places_of(content, optimizer), strict=True)}
    if set(stored) != set(targets):
        words = difference(list(targets), list(stored))
        raise StateError(f"the parameters stored are not those to be filled{words}")
    return [_fill(name, target, stored[name]) for name, target in targets.items()]


def _fill(name: str, target: Any, one: Stored) -> Fill:
    knows: Any = torch_door() if is_tensor(target) else arrays
    dtypes, shape = knows.look(target, name)
    if one.dtype not in dtypes or one.shape != shape:
        raise StateError(f"{name} is {dtypes[0]} of shape {shape}, but was stored as {one.dtype} of shape {one.shape}")
    return knows.fill, target, one
