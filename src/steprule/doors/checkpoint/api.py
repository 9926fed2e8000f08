"""``steprule.save`` and ``steprule.load``: whatever the optimizer, wherever its numbers are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steprule.checkpoint import Pending, Stored, read, settle, snapshot, start, stored, write
from steprule.doors.checkpoint import arrays
from steprule.doors.checkpoint.content import Content, document_of, read_content
from steprule.doors.checkpoint.door import door_of, is_tensor, torch_door
from steprule.doors.checkpoint.match import check_params
from steprule.doors.checkpoint.result import Checkpoint
from steprule.errors import CheckpointError

__all__ = ["load", "save"]


def save(
    path: str | os.PathLike[str],
    optimizer: Any,
    params: Any = None,
    *,
    keep: int = 0,
    background: bool = False,
    **extra: Any,
) -> Pending | None:
    """Write all that a later run needs to go on in every bit, so that a crash at any moment loses nothing.

    The file is a safetensors file: slots as they are kept, formats, step counts, hyperparameters, random seed, names,
    and a checksum of every tensor. It is written aside, synced and renamed.

    Args:
        path: where to. Its directory must exist.
        optimizer: a ``steprule.Optimizer``, or one of ``steprule.torch``.
        params: numbers of parameters to store as well: True for the optimizer's own, a module, or a dict of arrays
            or tensors by name. None: they are stored elsewhere.
        keep: how many older checkpoints stay beside it, as ``path.1`` (the newest) to ``path.N``.
        background: copy everything, return at once, and write in a thread. An error is raised by the handle's
            ``result()``, else by the next ``save`` or ``load`` of the path, which also waits for this one.
        extra: what else is to be stored: None, numbers, texts, lists, tuples and dicts of these; and arrays or tensors,
            each by a name of its own.

    Returns:
        With ``background`` a handle, which has ``done()`` and ``result(timeout=None)``; else None.

    Raises:
        CheckpointError: for what a file cannot hold; then nothing was written.
        OSError: when it cannot be written; then the file that was there stays.
        TypeError: for an optimizer of another library.
    """
    door, place = door_of(optimizer), Path(os.fspath(path))
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise CheckpointError(f"keep must be a whole number of at least 0, got {keep!r}; nothing was written")
    settle(place)
    content = door.content_of(optimizer)
    content.has_own = params is True
    named = _params_of(door, optimizer, params)
    content.params = {name: _stored(value, name) for name, value in named.items()}
    content.extra = {name: _stored(value, name) if _is_array(value) else value for name, value in extra.items()}
    if hasattr(optimizer, "_checkpoint_extra"):
        content.more = optimizer._checkpoint_extra()
    document, tensors = document_of(content)
    if not background:
        write(place, tensors, document, keep)
        return None
    taken = snapshot(tensors)
    return start(place, lambda: write(place, taken, document, keep))


def load(
    path: str | os.PathLike[str],
    optimizer: Any = None,
    params: Any = None,
    *,
    convert: bool = False,
    hyperparameters: bool = True,
) -> Checkpoint:
    """Read a checkpoint, and let an optimizer go on from it. Nothing is changed by a load that fails.

    Parameters are matched by name where both sides have names and these are the same, else by place. Nothing in a file
    is executed.

    Args:
        path: where it is.
        optimizer: what is to go on; None to read the file alone. It need not be of the door that saved.
        params: what to fill with the stored parameters, in place: True for the optimizer's own, a module, or a dict of
            arrays or tensors by name. None: nothing.
        convert: take slots in other formats, too: decoded, and rounded to nearest in the format here.
        hyperparameters: also take the hyperparameters; False keeps the current ones.

    Returns:
        What the file holds: rule, step count, groups, slots, parameters, and what was stored besides.

    Raises:
        CheckpointError: for a file that is damaged or no checkpoint.
        StateError: when it does not belong to the optimizer or the parameters.
        OSError: when there is no such file, or it cannot be read.
        TypeError: for an optimizer of another library.
    """
    place = Path(os.fspath(path))
    door = arrays if optimizer is None else door_of(optimizer)
    settle(place)
    file = read(place)
    try:
        content = read_content(file.document, file.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {error}; nothing was loaded") from None
    targets = _params_of(door, optimizer, params)
    pairs = _pairs(content, door, optimizer, targets, params is True)
    if optimizer is not None:
        _resume(door, optimizer, content, convert, hyperparameters)
    for target, one in pairs:
        _filler(target)(target, one)
    return Checkpoint.of(place, content)


def _resume(door: Any, optimizer: Any, content: Content, convert: bool, hyperparameters: bool) -> None:
    """Let an optimizer go on from what a checkpoint holds."""
    has_more = hasattr(optimizer, "_take_checkpoint_extra")
    state = door.state_of(content, optimizer, convert, hyperparameters)
    before = optimizer._checkpoint_extra() if has_more else {}
    if has_more:
        optimizer._take_checkpoint_extra(content.more)
    try:
        door.go_on(optimizer, state, convert, hyperparameters)
    except BaseException:
        if has_more:
            optimizer._take_checkpoint_extra(before)
        raise


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def _stored(value: Any, name: str) -> Stored:
    if is_tensor(value):
        one: Stored = torch_door().stored_tensor(value, name)
        return one
    return stored(value, name)


def _filler(target: Any) -> Callable[[Any, Stored], None]:
    return torch_door().fill if is_tensor(target) else arrays.fill


def _params_of(door: Any, optimizer: Any, params: Any) -> dict[str, Any]:
    """Return the arrays or tensors that ``params`` means, by name.

    Raises:
        TypeError: when it means none.
    """
    if params is None or params is False:
        return {}
    if params is True:
        if optimizer is None:
            raise TypeError("params=True means the optimizer's own parameters; give the optimizer, too")
        found: dict[str, Any] = door.own_arrays(optimizer)
        return found
    if callable(getattr(params, "state_dict", None)):
        params = params.state_dict()
    if not isinstance(params, Mapping):
        raise TypeError(f"params is a {type(params).__name__}; pass True, a module, or a dict of arrays by name")
    for name, value in params.items():
        if not isinstance(name, str) or not _is_array(value):
            raise TypeError(
                f"params[{name!r}] is a {type(value).__name__}, expected an array or a tensor by a text, its name"
            )
    return dict(params)


def _pairs(
    content: Content, door: Any, optimizer: Any, targets: Mapping[str, Any], is_own: bool
) -> list[tuple[Any, Stored]]:
    """Return what is to be filled with what, all of it checked.

    Raises:
        StateError: when they do not fit.
    """
    if not targets:
        return []
    if is_own and content.has_own:
        order = door.places_of(content, optimizer)
        own = list(content.params.values())
        by_label = {label: own[place] for label, place in zip(targets, order, strict=True)}
        content = Content(content.made_by, content.rule, [], [], by_label)
    looks = {name: _stored(target, name) for name, target in targets.items()}
    check_params(content, {name: (look.shape, look.dtype) for name, look in looks.items()})
    return [(target, content.params[name]) for name, target in targets.items()]
