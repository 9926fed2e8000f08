"""Checkpoints of the PyTorch door: what an optimizer is made of, and an optimizer that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.checkpoint import Stored
from steprule.doors.checkpoint.content import Content, Group, Parameter, labels_of
from steprule.doors.checkpoint.match import check_groups, formula_of, matched, name_of
from steprule.doors.torch.base import Base
from steprule.doors.torch.checkpoint_options import encoded_options, options_for
from steprule.doors.torch.formats import DEFAULTS, PARAM, STORAGE, key_of, storage_of
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Memory, is_plain
from steprule.engine import plane_name, ways_of
from steprule.errors import CheckpointError, StateError
from steprule.formats import FORMATS, Kept, saved_way

__all__ = [
    "class_of",
    "content_of",
    "fill",
    "go_on",
    "names_of",
    "own_arrays",
    "places_of",
    "state_of",
    "stored_tensor",
]

# What arrays hold the bits of, where NumPy has no such type.
_BITS = {
    torch.bfloat16: ("BF16", torch.int16, np.uint16),
    torch.float8_e4m3fn: ("F8_E4M3", torch.uint8, np.uint8),
    torch.float8_e5m2: ("F8_E5M2", torch.uint8, np.uint8),
    torch.float8_e4m3fnuz: ("F8_E4M3FNUZ", torch.uint8, np.uint8),
    torch.float8_e5m2fnuz: ("F8_E5M2FNUZ", torch.uint8, np.uint8),
}
_PLAIN = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "F32",
    torch.complex128: "F64",
}
_FORMATS = (*DEFAULTS, "coding")


def stored_tensor(tensor: Tensor, what: str) -> Stored:
    """Return how a file holds a tensor. In this machine's memory nothing is copied; others when their turn comes.

    Raises:
        CheckpointError: for tensors that are not dense, have no data, or are of a type that the format has not.
    """
    own = tensor.detach()
    words = _why_not(own)
    if words:
        raise CheckpointError(f"{what} is {words}; nothing was written")
    shape = (*own.shape, 2) if own.is_complex() else tuple(own.shape)
    dtype = _BITS[own.dtype][0] if own.dtype in _BITS else _PLAIN[own.dtype]
    return Stored(dtype, shape, lambda: _array(own), own.is_complex())


def _why_not(tensor: Tensor) -> str:
    """Return why a file cannot hold a tensor; empty if it can."""
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__}. Save the tensor of each process itself: tensor.to_local()"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"of layout {tensor.layout}. Convert it: tensor.to_dense()"
    if tensor.is_meta:
        return "on the device 'meta', and has no numbers"
    if tensor.dtype not in _BITS and tensor.dtype not in _PLAIN:
        return f"of type {tensor.dtype}, which a checkpoint cannot hold. Convert it"
    return ""


def _array(tensor: Tensor) -> Any:
    """Return the numbers of a tensor, of complex ones with a last axis of parts, and else the bits."""
    bits = _BITS.get(tensor.dtype)
    if is_plain(tensor):
        array = Memory(tensor).array()
        return array if bits is None else array.view(bits[2])
    # A copy: of the tensor's own memory numpy() would make a storage that cannot be resized.
    copy = tensor.resolve_conj().resolve_neg().cpu().clone(memory_format=torch.contiguous_format)
    copy = torch.view_as_real(copy) if copy.is_complex() else copy
    return copy.numpy() if bits is None else copy.view(bits[1]).numpy().view(bits[2])


def _tensor(one: Stored) -> Tensor:
    """Return a tensor of stored numbers, in their memory."""
    for dtype, (name, bits, _) in _BITS.items():
        if name == one.dtype:
            return torch.from_numpy(one.get().view(np.int16 if bits is torch.int16 else np.uint8)).view(dtype)
    return torch.from_numpy(one.array())


def fill(tensor: Tensor, one: Stored) -> None:
    """Put stored numbers into a tensor of their type."""
    with torch.no_grad():
        tensor.copy_(_tensor(one))


def content_of(optimizer: Base) -> Content:
    """Return what a checkpoint says of an optimizer; arrays are the memory of its tensors.

    Raises:
        StateError: when its state is not what its class keeps.
    """
    options = optimizer._options_of(optimizer.param_groups)
    groups = [
        Group(formula_of(own.rule), dict(own.values), own.values.seed, 0, encoded_options(own.group, i))
        for i, own in enumerate(options)
    ]
    items = [(param, index, own) for index, own in enumerate(options) for param in own.group["params"]]
    names = names_of(optimizer)
    parameters = [
        _parameter(optimizer, *item, name, label)
        for item, name, label in zip(items, names, labels_of(names), strict=True)
    ]
    rule = name_of(options[0].rule)  # torch makes no optimizer without a group
    return Content(class_of(optimizer), rule, groups, parameters)


def class_of(optimizer: Base) -> str:
    """Return what a checkpoint calls the class of an optimizer."""
    kind = type(optimizer)
    module = "steprule.torch" if kind.__module__.startswith("steprule.doors.torch") else kind.__module__
    return f"{module}.{kind.__qualname__}"


def names_of(optimizer: Base) -> list[str | None]:
    """Return the names of parameters, which they have where they were given with names."""
    names: list[str | None] = []
    for group in optimizer.param_groups:
        names += group.get("param_names") or [None] * len(group["params"])
    return names


def own_arrays(optimizer: Base) -> dict[str, Tensor]:
    """Return the parameters by the names that a checkpoint has for them."""
    params = (param for group in optimizer.param_groups for param in group["params"])
    return dict(zip(labels_of(names_of(optimizer)), params, strict=True))


def _parameter(
    optimizer: Base, param: Tensor, index: int, options: GroupOptions, name: str | None, label: str
) -> Parameter:
    entry = {key: value for key, value in optimizer.state.get(param, {}).items() if value is not None}
    naming, rule = optimizer._naming, options.rule
    dtype = str(param.dtype).removeprefix("torch.")
    own = Parameter(name, tuple(param.shape), dtype, index, _t_of(optimizer, options, entry))
    left = set(entry) - {"step"}
    if not entry:
        return own
    for value, way in _ways(param, options).items():
        key, is_slot = (PARAM, False) if value == rule.parameter else (naming.slots.get(value, value), True)
        parts = [part for part in way.parts if part.suffix or is_slot]
        for part in parts:
            at = key_of(key, way.name, part.suffix)
            if at not in entry:
                raise StateError(f"the state of parameter {label} has no {at}; nothing was written")
            own.planes[plane_name(value, part.suffix)] = stored_tensor(entry[at], f"{label}: {at}")
            left.discard(at)
        if parts:
            own.formats[value] = way.id
    for slot in rule.trace(options.values.variant).scalars:
        own.scalars[slot] = float(entry[naming.slots.get(slot, slot)])
        left.discard(naming.slots.get(slot, slot))
    if left:
        raise StateError(
            f"the state of parameter {label} has {sorted(map(str, left))}, which are no slots of {rule.name!r}; "
            "nothing was written. Remove them, or save them by themselves: save(..., name=value)"
        )
    return own


def _ways(param: Tensor, options: GroupOptions) -> Mapping[str, Kept]:
    variant = options.values.variant
    return ways_of(options.rule, variant, storage_of(options.formats, param, options.rule, variant))


def _t_of(optimizer: Base, options: GroupOptions, entry: Mapping[str, Any]) -> int | None:
    if not (optimizer._naming.counts or options.formats.by_chance):
        return None
    return int(entry.get("step", 0))


def places_of(content: Content, optimizer: Base) -> list[int]:
    """Return, for every parameter, its place in a checkpoint.

    Raises:
        StateError: when it is of other parameters.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    dtypes = [str(param.dtype).removeprefix("torch.") for param in params]
    return matched(content, names_of(optimizer), [param.shape for param in params], dtypes)


def go_on(optimizer: Base, state: dict[str, Any], convert: bool, hyperparameters: bool) -> None:
    """Take over a state dict of ``state_of``."""
    optimizer.load_state_dict(state, convert=convert)


def state_of(content: Content, optimizer: Base, convert: bool, hyperparameters: bool) -> dict[str, Any]:
    """Return a state dict for an optimizer, from what a checkpoint holds.

    Raises:
        StateError: when it is of another optimizer.
    """
    saved = [content.parameters[place] for place in places_of(content, optimizer)]
    here = optimizer.param_groups
    check_groups(saved, [index for index, group in enumerate(here) for _ in group["params"]], len(here), content)
    groups = [
        _group_state(content, optimizer, index, convert) if hyperparameters else dict(group)
        for index, group in enumerate(here)
    ]
    options = _checked(optimizer, groups)
    items = [(param, own) for own in options for param in own.group["params"]]
    labels = labels_of(names_of(optimizer))
    entries = [
        _entry(optimizer, one, own, param, label) for one, (param, own), label in zip(saved, items, labels, strict=True)
    ]
    places = iter(range(len(items)))
    packed = [{**_bare(group), "params": [next(places) for _ in group["params"]]} for group in groups]
    return {"state": {place: entry for place, entry in enumerate(entries) if entry}, "param_groups": packed}


def _bare(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _group_state(content: Content, optimizer: Base, index: int, convert: bool) -> dict[str, Any]:
    """Return a group with the options that it goes on with."""
    group = optimizer.param_groups[index]
    new = options_for(content.groups[index], optimizer, group, index, content.made_by == class_of(optimizer))
    if convert:
        new = {name: value for name, value in new.items() if name not in _FORMATS}
        new |= {name: group[name] for name in _FORMATS if name in group}
    return {**optimizer.defaults, **new, "params": group["params"]}


def _checked(optimizer: Base, groups: Sequence[dict[str, Any]]) -> list[GroupOptions]:
    """Return the options of groups, whatever a file made of them."""
    try:
        return optimizer._options_of(groups)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"the options of the checkpoint do not fit this optimizer: {error}") from None


def _entry(optimizer: Base, own: Parameter, options: GroupOptions, param: Tensor, label: str) -> dict[str, Any]:
    """Return an entry of a state dict, in torch's names."""
    naming, parameter = optimizer._naming, options.rule.parameter
    if (not own.planes and not own.scalars and not own.t) or (own.t == 0 and not naming.counts):
        return {}
    entry: dict[str, Any] = {}
    kind = FORMATS[STORAGE.get(param.dtype, "float64" if param.dtype is torch.complex128 else "float32")]
    for value, id_ in own.formats.items():
        key, is_slot = (PARAM, False) if value == parameter else (naming.slots.get(value, value), True)
        way = saved_way(id_, kind, is_slot=is_slot)
        if way is None:
            raise StateError(f"{label}: the checkpoint has {value} in the format {id_!r}, unknown to this steprule")
        for part in way.parts:
            if (part.suffix or is_slot) and (plane := plane_name(value, part.suffix)) in own.planes:
                entry[key_of(key, way.name, part.suffix)] = _tensor(own.planes[plane])
    entry |= {naming.slots.get(slot, slot): value for slot, value in own.scalars.items()}
    if not (naming.counts or options.formats.by_chance):
        return entry
    # What was not counted has been stepped if its slots are there, and its rule does not ask how often.
    return {**entry, "step": 1.0 if own.t is None else float(own.t)}
