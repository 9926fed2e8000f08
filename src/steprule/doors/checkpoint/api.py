"""``steprule.save`` and ``steprule.load``: whatever the optimizer, wherever its numbers are."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from steprule.checkpoint import Json, Pending, read, settle, short, snapshot, start, write
from steprule.doors.checkpoint import arrays, minimized
from steprule.doors.checkpoint.content import Content, document_of, read_content
from steprule.doors.checkpoint.door import array_kind, door_of
from steprule.doors.checkpoint.fill import pairs_of
from steprule.doors.checkpoint.result import Checkpoint
from steprule.doors.match import aligned
from steprule.doors.resume import State
from steprule.errors import CheckpointError, StateError, is_slip
from steprule.runtime.interrupts import uninterrupted

__all__ = ["load", "save"]

_NO_STACK = (
    "too many calls are under way for what is nested so deep; nothing was {}. Call it where fewer are, or raise "
    "sys.setrecursionlimit"
)


def save(
    path: str | os.PathLike[str],
    optimizer: Any,
    params: Any = None,
    *,
    keep: int = 0,
    background: bool = False,
    **extra: Any,
) -> Pending | None:
    """Write everything that a later run needs to continue bit for bit. A crash at any moment leaves a complete file.

    The file is a safetensors file: slots in their stored form, formats, step counts, hyperparameters, random seed,
    names, and a checksum of every tensor. It is written under a temporary name, synced and renamed.

    Args:
        path: the file. Its directory must exist.
        optimizer: a ``steprule.Optimizer``, one of ``steprule.torch``, or a ``steprule.jax.Training``; or the ``state``
            of a result of ``steprule.minimize``, which ``load(path).state`` gives back.
        params: parameters to store as well: True for the optimizer's own, a module, or a dict of arrays
            or tensors by name. None: parameters are not stored.
        keep: how many older checkpoints are kept, as ``path.1`` (the newest) to ``path.N``; older ones are
            removed. 0: none is created, moved or removed.
        background: copy everything, return at once, and write in a thread. An error is raised by the handle's
            ``result()``, or else by the next ``save`` or ``load`` of any path, which also waits for this save.
        extra: anything else to store: None, numbers, strings, lists, tuples and dicts of these; one-element tensors;
            and arrays or tensors, each as a keyword argument of its own.

    Returns:
        With ``background`` a handle, which has ``done()`` and ``result(timeout=None)``; else None.

    Raises:
        CheckpointError: for what a file cannot hold; then nothing was written.
        OSError: when it cannot be written; then the previous file stays.
        TypeError: for an optimizer of another library, and for a name that is probably ``params``, ``keep`` or
            ``background`` misspelt, which would otherwise be stored and have no effect.
    """
    _check_names(extra)
    try:
        return _save(path, optimizer, params, keep, background, extra)
    except RecursionError:
        raise CheckpointError(_NO_STACK.format("written")) from None


_OPTIONS = [name for name, one in inspect.signature(save).parameters.items() if one.default is not one.empty]


def _check_names(extra: Iterable[str]) -> None:
    """Refuse what is likely to be an option of ``save`` misspelt.

    Raises:
        TypeError: naming the option.
    """
    for name in extra:
        for option in _OPTIONS:
            if name.lower().replace("_", "") == option or is_slip(name, option):
                raise TypeError(
                    f"save has no option {name!r}. Did you mean {option!r}? What is to be stored besides needs a name "
                    "less like it; nothing was written"
                )


def _save(
    path: str | os.PathLike[str], optimizer: Any, params: Any, keep: int, background: bool, extra: dict[str, Any]
) -> Pending | None:
    # A thread would take a relative path for one in the directory that is the current one by then.
    is_state = isinstance(optimizer, State)
    door: Any = None if is_state else door_of(optimizer)
    place = Path(os.path.realpath(_path(path)))
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise CheckpointError(f"keep must be an integer of at least 0, got {short(keep)}; nothing was written")
    settle()
    content = minimized.content_of(optimizer) if is_state else Content(door.state_of(optimizer))
    if not is_state:
        content.has_own = params is True
        named = _params_of(door, optimizer, params)
        content.params = {name: array_kind(value).stored_array(value, name) for name, value in named.items()}
    elif params is not None and params is not False:
        raise TypeError("params does nothing with the state of a run of minimize, which holds its x; remove it")
    content.extra = {name: _held(value, name) for name, value in extra.items()}
    if hasattr(optimizer, "_checkpoint_extra"):
        content.more = optimizer._checkpoint_extra()
    document, tensors = document_of(content, _number)
    if not background:
        write(place, tensors, document, keep)
        return None
    # No lambda: the frame of one, which a failure keeps, would keep the copies with it.
    now = partial(write, place, tensors, document, keep)
    return start(place, lambda: partial(write, place, snapshot(tensors), document, keep), now)


def load(
    path: str | os.PathLike[str],
    optimizer: Any = None,
    params: Any = None,
    *,
    convert: bool = False,
    hyperparameters: bool = True,
) -> Checkpoint:
    """Read a checkpoint, and let an optimizer continue from it. A load that fails changes nothing.

    Parameters are matched by name if both sides have names, and by position if one side has none, or if no name occurs
    on both sides. Nothing in a file is executed.

    Args:
        path: the file.
        optimizer: the optimizer that is to continue; None to only read the file. It need not be of the same kind
            (NumPy, PyTorch, JAX) as the one that was saved. A ``steprule.jax.Training`` gets new arrays.
        params: what to fill with the stored parameters, in place: True for the optimizer's own, a module, or a dict of
            arrays or tensors by name. None: nothing.
        convert: accept slots in other formats, too: they are decoded, and rounded to nearest in the optimizer's format.
        hyperparameters: also take the hyperparameters, and refuse a run with other guards; False keeps the current
            ones. The seed of stochastic rounding belongs to the state and always comes from the file.

    Returns:
        The contents of the file: rule, step count, groups, slots, parameters, and extras. It takes as much
        memory as the file has bytes, as long as you keep it.

    Raises:
        CheckpointError: for a file that is damaged or not a checkpoint.
        StateError: when it does not belong to the optimizer or the parameters.
        OSError: when there is no such file, or it cannot be read.
        TypeError: for an optimizer of another library.
    """
    try:
        return _load(path, optimizer, params, convert, hyperparameters)
    except RecursionError:
        raise CheckpointError(_NO_STACK.format("loaded")) from None


def _load(
    path: str | os.PathLike[str], optimizer: Any, params: Any, convert: bool, hyperparameters: bool
) -> Checkpoint:
    # As a save has found it, through directories that are not there as well.
    place = Path(os.path.realpath(_path(path)))
    door = arrays if optimizer is None else door_of(optimizer)
    settle()
    file = read(place)
    try:
        content = read_content(file.document, file.tensors, _number_of)
        state = minimized.state_of(content)
    except CheckpointError as error:
        raise CheckpointError(f"{place}: {error}; nothing was loaded") from None
    targets = _params_of(door, optimizer, params)
    checkpoint = Checkpoint.of(place, content, state)
    if state is not None and (optimizer is not None or targets):
        raise StateError(
            f"{place} is the state of a run of minimize; nothing was loaded. Go on from it by "
            "steprule.minimize(fun, None, state=steprule.load(path).state, ...)"
        )
    try:
        own, places = (None, None) if optimizer is None else aligned(content.state, door.outline_of(optimizer))
        pairs = pairs_of(content, places if params is True else None, targets)
        take = _nothing if own is None else _prepared(door, optimizer, own, content, convert, hyperparameters)
    except StateError as error:
        raise StateError(f"{place}: nothing was loaded: {error}") from None
    # A signal in the middle would leave some of it old and some new. From here on nothing fails.
    with uninterrupted():
        take()
        for fill in pairs:
            fill()
    if hasattr(optimizer, "_call_load_hooks"):
        optimizer._call_load_hooks()
    return checkpoint


def _nothing() -> None:
    """Take over nothing, where there is no optimizer."""


def _path(path: str | os.PathLike[str]) -> str:
    """Return a path as a text.

    Raises:
        CheckpointError: for an empty one, which would mean the current directory.
    """
    words = os.fspath(path)
    if not words:
        raise CheckpointError("the path is empty; give the name of a file")
    return words


def _prepared(
    door: Any, optimizer: Any, state: Any, content: Content, convert: bool, hyperparameters: bool
) -> Callable[[], None]:
    """Return what lets an optimizer go on from what a checkpoint holds, and only writes; the state is in its order.

    Raises:
        StateError: when it does not belong to the optimizer.
    """
    has_more = hasattr(optimizer, "_take_checkpoint_extra")
    if has_more:
        optimizer._check_checkpoint_extra(content.more, hyperparameters)
    write = door.prepared(optimizer, state, convert, hyperparameters)

    def take() -> None:
        write()
        if has_more:
            optimizer._take_checkpoint_extra(content.more, hyperparameters)

    return take


def _held(value: Any, name: str) -> Any:
    """Return what a checkpoint holds of a further value: of an array how it is stored, else the value."""
    if isinstance(value, State):
        raise CheckpointError(
            f"{name} is the state of a run of minimize, which has a file of its own: "
            f"steprule.save(path, {name}); nothing was written"
        )
    return value if (kind := array_kind(value)) is None else kind.stored_array(value, name)


def _number(value: Any) -> Json | None:
    """Return a tensor of one number within further values as JSON; None for what is none."""
    kind = array_kind(value)
    found: Json | None = kind.number_json(value) if hasattr(kind, "number_json") else None
    return found


def _number_of(mark: str, told: Any) -> Any:
    """Return a tensor of one number that was within further values: an array where nobody has imported torch.

    Raises:
        CheckpointError: when it is none.
    """
    knows = importlib.import_module("steprule.doors.torch.checkpoint") if "torch" in sys.modules else arrays
    return knows.number_of(mark, told)


def _params_of(door: Any, optimizer: Any, params: Any) -> dict[str, Any]:
    """Return the arrays or tensors that ``params`` means, by name.

    Raises:
        TypeError: when it means none.
    """
    if params is None or params is False:
        return {}
    if params is True:
        if optimizer is None:
            raise TypeError("params=True means the optimizer's own parameters; pass the optimizer as well")
        return dict(zip(door.outline_of(optimizer).labels, door.arrays_of(optimizer), strict=True))
    if callable(getattr(params, "state_dict", None)):
        params = params.state_dict()
    if not isinstance(params, Mapping):
        raise TypeError(f"params is of type {type(params).__name__}; pass True, a module, or a dict of arrays by name")
    for name, value in params.items():
        if not isinstance(name, str) or array_kind(value) is None:
            raise TypeError(
                f"params[{name!r}] is of type {type(value).__name__}, expected an array or a tensor by a text, its name"
            )
    return dict(params)
