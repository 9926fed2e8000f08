"""The state of a parameter in torch's names: started, checked, and loaded without loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.coding import plane_name
from steprule.doors.leaf import constant_parts
from steprule.doors.torch.convert import converted
from steprule.doors.torch.formats import PARAM, key_of, storage_of, torch_dtype
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.rows import Slots, state_dtype
from steprule.engine import ways_of
from steprule.errors import StateError
from steprule.formats import Kept, Part, shape_of
from steprule.rules import Rule

__all__ = ["LOADING", "check_entry", "load_entry"]

LOADING = "Make the optimizer with the states= and weights= of the state, or load it with convert=True, which rounds"
"""What helps against a state in other formats."""
_BETWEEN_STEPS = (
    "Where an option of the group was changed between steps, follow it by "
    "optimizer.load_state_dict(optimizer.state_dict(), convert=True), which rounds"
)


def check_entry(
    entry: Mapping[str, Any],
    param: Tensor,
    options: GroupOptions,
    naming: Naming,
    home: torch.device | None = None,
    remedy: str = _BETWEEN_STEPS,
) -> tuple[Slots, dict[str, Tensor]]:
    """Return the state of a parameter by the rule's names, and what must be put into the entry for it.

    Slots that are not there start; slots of a narrower type are widened, which loses nothing. Step counts and scalar
    slots go to the device ``home``, if there is one; what it counts is not looked at here, which would wait for it.
    ``remedy`` is what helps against other formats.

    Raises:
        StateError: when the entry does not belong to the parameter.
    """
    rule, trace = options.rule, options.rule.trace(options.values.variant)
    storage = storage_of(options.formats, param, rule, options.values.variant)
    counts = naming.counts or options.formats.by_chance
    keys = [naming.slots.get(slot, slot) for slot in trace.slots]
    stepped = {"step", *(name for key in keys for name in (key, f"{key}_8bit"))}
    fresh: dict[str, Tensor] = {}
    planes: dict[str, Tensor] = {}
    for value, way in ways_of(rule, options.values.variant, storage).items():
        key, is_slot = (PARAM, False) if value == rule.parameter else (naming.slots.get(value, value), True)
        _check_format(entry, key, way, is_slot, remedy)
        start = options.values.start_of(value) if is_slot else 0.0
        found, new = _planes(entry, key, way, param, is_slot, start, remedy, is_ordered=not storage.is_plain)
        # What a caller keeps there (an average) says nothing of a step.
        if not is_slot and new and any(entry.get(name) is not None for name in stepped):
            raise StateError(f"the state has no {min(new)}, which belongs to weights={way.name!r}. {remedy}")
        planes |= {plane_name(value, suffix): tensor for suffix, tensor in found.items()}
        fresh |= new
    started = any(entry.get(key) is None and entry.get(f"{key}_8bit") is None for key in keys)
    scalars = {
        slot: _number(entry, naming.slots.get(slot, slot), torch.float64, options.values.start_of(slot), fresh, home)
        for slot in trace.scalars
    }
    if not counts:
        return Slots(planes, scalars, None, 0 if started or not trace.slots else 1, storage), fresh
    # What was not counted before has been stepped if its slots are there.
    begun = 0.0 if naming.counts or started or not trace.slots else 1.0
    step = _number(entry, "step", naming.count_dtype or _step_dtype(), begun, fresh, home)
    if home is not None:
        return Slots(planes, scalars, step, 0, storage), fresh
    t = step.item()
    if not (math.isfinite(t) and t >= 0 and t == int(t)):
        raise StateError(f"step must be a whole number of at least 0, got {t!r}")
    return Slots(planes, scalars, step, int(t), storage), fresh


def _check_format(entry: Mapping[str, Any], key: str, way: Kept, is_slot: bool, remedy: str) -> None:
    """Refuse an entry that has the value in another format: starting anew beside it would be a silent loss."""
    own = {key_of(key, way.name, part.suffix) for part in way.parts if part.suffix or is_slot}
    known = {f"{key}_8bit", f"{key}_scale", *([key] if is_slot else [f"{key}_low"])}
    foreign = sorted(name for name in known - own if entry.get(name) is not None)
    # A widening of plain numbers is told from another format by its type, elsewhere.
    if foreign:
        raise StateError(f"the state has {foreign[0]}, but {key} is kept as {way.name} here. {remedy}")


def _planes(
    entry: Mapping[str, Any],
    key: str,
    way: Kept,
    param: Tensor,
    is_slot: bool,
    start: float,
    remedy: str,
    *,
    is_ordered: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the planes of a value by suffix, and those that are new by key.

    ``is_ordered`` says that the kernel walks C order alone, whatever the parameter's strides are.
    """
    if way.is_plain:
        if not is_slot:
            return {}, {}
        tensor = _start(param, start) if entry.get(key) is None else _fitting(entry[key], param, key)
        tensor = tensor.contiguous() if is_ordered else tensor
        return {"": tensor}, {} if tensor is entry.get(key) else {key: tensor}
    parts = {part.suffix: part for part in way.parts if part.suffix or is_slot}
    keys = {suffix: key_of(key, way.name, suffix) for suffix in parts}
    lacking = [name for name in keys.values() if entry.get(name) is None]
    if len(lacking) == len(keys):
        new = {keys[suffix]: tensor for suffix, tensor in _start_planes(param, parts, way, start, key).items()}
        return {suffix: new[keys[suffix]] for suffix in keys}, new
    if lacking:
        raise StateError(f"the state has no {lacking[0]}, which belongs to {key} in the format {way.name}")
    for suffix, part in parts.items():
        _check_plane(entry[keys[suffix]], part, param, keys[suffix], remedy)
    return {suffix: entry[name] for suffix, name in keys.items()}, {}


def _start_planes(param: Tensor, parts: Mapping[str, Part], way: Kept, start: float, key: str) -> dict[str, Tensor]:
    fresh: dict[str, Tensor] = {}
    constant = constant_parts(way, start, key) if start else {}
    for suffix, part in parts.items():
        kind, shape = torch_dtype(part.dtype), shape_of(part, param.shape)
        fresh[suffix] = torch.zeros(shape, dtype=kind, device=param.device)
        # As bits: torch fills bfloat16 with numbers.
        fresh[suffix].view(torch.int16 if kind.itemsize == 2 else torch.uint8).fill_(constant.get(suffix, 0))
    return fresh


def _check_plane(value: Any, part: Part, param: Tensor, key: str, remedy: str) -> None:
    shape, kind = shape_of(part, param.shape), torch_dtype(part.dtype)
    fits = isinstance(value, Tensor) and tuple(value.shape) == shape and value.dtype == kind
    if not fits or value.device != param.device or not value.is_contiguous():
        got = f"{value.dtype} of shape {tuple(value.shape)} on {value.device}" if isinstance(value, Tensor) else value
        raise StateError(f"{key} is {got!s}, expected {kind} of shape {shape} on {param.device}, contiguous. {remedy}")


def load_entry(
    entry: Mapping[str, Any], param: Tensor, options: GroupOptions, naming: Naming, place: str, convert: bool = False
) -> dict[str, Any]:
    """Return a copy of a saved entry, with every slot in the parameter's layout and on its device.

    Args:
        convert: take slots in other formats, decoded, and rounded to nearest in the format here.

    Raises:
        StateError: when the entry does not belong to the parameter.
    """
    given = {key: value for key, value in entry.items() if value is not None}
    if not given:
        return {}
    rule, variant = options.rule, options.values.variant
    ways = ways_of(rule, variant, storage_of(options.formats, param, rule, variant))
    own = _own_keys(given, rule, naming)
    off = _switched_off(given, rule, naming)
    # What a caller keeps of a parameter that has not been stepped, or what nothing is kept beside.
    if not own and (_UNCOUNTED - off).isdisjoint(given):
        return {key: _other(key, value, param, off) for key, value in given.items()}
    if convert:
        try:
            given = converted(given, param, rule, ways, naming.slots)
        except StateError as error:
            raise StateError(f"{place}: {error}") from None
        if options.formats.by_chance and not naming.counts:
            given.setdefault("step", torch.ones(()))  # it was not counted; only where the slots start does it matter
    named = {naming.slots.get(value, value): way for value, way in ways.items() if value in rule.slots}
    slots = {name for key, way in named.items() for name in _keys(key, way)}
    low = {key_of(PARAM, "", part.suffix) for part in ways[rule.parameter].parts if part.suffix}
    scalars = {naming.slots.get(slot, slot) for slot in rule.trace(variant).scalars}
    expected = slots | scalars | ({"step"} if naming.counts or options.formats.by_chance else set())
    lacking = expected - set(given) or not own
    in_other_formats = _in_other_formats(given, naming, rule.trace(variant).slots)
    if (naming.counts and "step" not in given) or not scalars <= set(given) or (lacking and not in_other_formats):
        raise StateError(
            f"{place}: the state has {sorted(given)}, expected {sorted(expected)}: is it of another optimizer, or of "
            "other options?"
        )
    try:
        coded = low | {k for key, way in named.items() if not way.is_plain for k in _keys(key, way)}
        numbers = {"step", *(naming.slots.get(slot, slot) for slot in rule.scalars)}
        others = {k: v for k, v in given.items() if k not in slots | low}
        others = {k: _copied(v) if k in numbers else _other(k, v, param, off) for k, v in others.items()}
        placed = {k: others[k] if k in others else _placed(v, param, k in coded) for k, v in given.items()}
        _, fresh = check_entry(placed, param, options, naming, remedy=LOADING)
    except StateError as error:
        raise StateError(f"{place}: {error}") from None
    return {**placed, **fresh}


_UNCOUNTED = {"momentum_buffer", "momentum_buffer_8bit"}
"""Keys that tell the state of another optimizer where there is no step count: those of SGD."""


def _switched_off(given: Mapping[str, Any], rule: Rule, naming: Naming) -> set[str]:
    """Return the keys of slots that the class may keep, and that the options of now do without (momentum=0)."""
    off = set(naming.slots.values()) - naming.known(rule)
    return set(given) & {*off, *(f"{key}_{suffix}" for key in off for suffix in ("8bit", "scale"))}


def _own_keys(given: Mapping[str, Any], rule: Rule, naming: Naming) -> set[str]:
    """Return the keys of an entry that are of its parameter's steps, in whatever format."""
    known = naming.known(rule)
    return set(given) & {*known, f"{PARAM}_low", *(f"{key}_{suffix}" for key in known for suffix in ("8bit", "scale"))}


def _in_other_formats(given: Mapping[str, Any], naming: Naming, kept: Iterable[str]) -> bool:
    """Whether every slot is there in some format; what does not fit is told more exactly later."""
    keys = [naming.slots.get(slot, slot) for slot in kept]
    found = [key in given or f"{key}_8bit" in given for key in keys]
    return bool(keys) and all(found)


def _keys(key: str, way: Kept) -> set[str]:
    return {key_of(key, way.name, part.suffix) for part in way.parts}


def _placed(value: Any, param: Tensor, is_coded: bool) -> Any:
    """Return a copy of a plane on the parameter's device: of plain numbers in its layout, of codes in C order."""
    if isinstance(value, Tensor) and is_coded and not value.is_sparse:
        return value.detach().to(param.device).clone(memory_format=torch.contiguous_format)
    if not isinstance(value, Tensor) or value.shape != param.shape:
        return value
    dense = value.to_dense() if value.is_sparse else value
    like = torch.empty_like(param, dtype=value.dtype, memory_format=torch.preserve_format, requires_grad=False)
    return like.copy_(dense.detach())


def _other(key: str, value: Any, param: Tensor, off: set[str]) -> Any:
    """Return a copy of what is no slot of now. Slots that are ``off`` keep their format, for when they are on again."""
    return _placed(value, param, key.endswith(("_8bit", "_scale"))) if key in off else _moved(value, param)


def _moved(value: Any, param: Tensor) -> Any:
    """Return a copy of what a caller keeps in a state, with its tensors on the parameter's device.

    Floating-point numbers get the parameter's type if it holds them all; torch narrows them to it as well.
    """
    if isinstance(value, dict):
        return {key: _moved(item, param) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_moved(item, param) for item in value)
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    both_real = value.is_floating_point() and param.is_floating_point()
    widens = both_real and torch.promote_types(value.dtype, param.dtype) == param.dtype
    here = value.detach()
    there = here.to(param.device, param.dtype if widens else value.dtype)
    return _copied(value) if there is here else there


def _copied(value: Any) -> Any:
    """Return a copy; of a tensor that is part of a graph, without the graph."""
    return value.detach().clone() if isinstance(value, Tensor) and not value.is_leaf else copy.deepcopy(value)


def _start(param: Tensor, value: float) -> Tensor:
    number = complex(value, value) if param.is_complex() else value
    kind = state_dtype(param.dtype)
    if not value:  # as torch does: a subclass need not know more
        return torch.zeros_like(param, dtype=kind, memory_format=torch.preserve_format, requires_grad=False)
    return torch.full_like(param, number, dtype=kind, memory_format=torch.preserve_format, requires_grad=False)


def _fitting(value: Any, param: Tensor, key: str) -> Tensor:
    """Return a slot of the parameter's shape, of the type that slots of the parameter have."""
    kind = state_dtype(param.dtype)
    if not isinstance(value, Tensor) or value.shape != param.shape or value.device != param.device:
        got = f"{value.dtype} of shape {tuple(value.shape)} on {value.device}" if isinstance(value, Tensor) else value
        raise StateError(f"{key} is {got!s}, expected {kind} of shape {tuple(param.shape)} on {param.device}")
    if value.dtype == kind and not value.is_sparse:
        return value
    same_kind = value.dtype.is_complex == kind.is_complex and (value.is_floating_point() or value.is_complex())
    if not same_kind or torch.promote_types(value.dtype, kind) != kind:
        raise StateError(
            f"{key} has type {value.dtype}, expected {kind}, which cannot hold it. Convert it where the loss is meant"
        )
    return (value.to_dense() if value.is_sparse else value).to(kind)


def _number(
    entry: Mapping[str, Any],
    key: str,
    dtype: torch.dtype,
    start: float,
    fresh: dict[str, Tensor],
    home: torch.device | None,
) -> Tensor:
    """Return a tensor of one number on the device ``home``, or here; it goes to ``fresh`` if it is not the entry's."""
    value = entry.get(key)
    home = torch.device("cpu") if home is None else home
    if isinstance(value, Tensor) and value.numel() == 1:
        kept = value.dim() == 0 and value.device == home and value.dtype in (torch.float32, torch.float64)
        if kept and ((key == "step" and dtype == torch.float32) or value.dtype == dtype):
            return value
        if value.requires_grad:  # part of a graph through steps, which its number is not
            fresh[key] = value.to(home, dtype).reshape(())
            return fresh[key]
        value = value.item()
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise StateError(f"{key} must be one number, got {value!r}")
    number = start if value is None else float(value)
    if home.type == "cpu":
        # As torch does: FakeTensorMode and make_fx know the numbers of such tensors, and not those of filled ones.
        fresh[key] = torch.tensor(number, dtype=dtype, device=home)
    else:  # Filled there: a copy from this machine's memory would wait for the device.
        fresh[key] = torch.full((), number, dtype=dtype, device=home)
    return fresh[key]


def _step_dtype() -> torch.dtype:
    """Return the type of step counts, as torch chooses it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
