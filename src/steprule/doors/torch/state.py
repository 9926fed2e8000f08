"""The state of a parameter in torch's names: started, checked, and loaded without loss."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.coding import plane_name
from steprule.doors.leaf import constant_parts
from steprule.doors.torch.convert import converted, kept_of
from steprule.doors.torch.copies import copied, placed, waiting
from steprule.doors.torch.formats import PARAM, Keyed, coded_keys, first_keys, keyed, storage_of, torch_dtype
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.rows import Slots, state_dtype
from steprule.engine import ways_of
from steprule.errors import StateError
from steprule.formats import Part, shape_of
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
    trace = options.rule.trace(options.values.variant)
    storage = storage_of(options.formats, param, options.rule, options.values.variant)
    keys = [naming.slots.get(slot, slot) for slot in trace.slots]
    planes: dict[str, Tensor] = {}
    fresh: dict[str, Tensor] = {}
    for value, way in ways_of(options.rule, options.values.variant, storage).items():
        one = keyed(value, way, options.rule, naming.slots)
        _check_format(entry, one, remedy)
        start = options.values.start_of(value)
        found, new = _planes(entry, one, param, start, remedy, is_ordered=not storage.is_plain)
        # What a caller keeps there (an average) says nothing of a step.
        if new and not one.is_slot and _has_any(entry, keys):
            raise StateError(f"the state has no {min(new)}, which belongs to weights={way.name!r}. {remedy}")
        planes |= {plane_name(value, suffix): tensor for suffix, tensor in found.items()}
        fresh |= new
    scalars = {
        slot: _number(entry, naming.slots.get(slot, slot), torch.float64, options.values.start_of(slot), fresh, home)
        for slot in trace.scalars
    }
    has_stepped = _has_all(entry, keys)
    if not naming.counted(options.formats):
        return Slots(planes, scalars, None, int(has_stepped), storage), fresh
    # What was not counted before has been stepped if its slots are there.
    begun = float(has_stepped and not naming.counts)
    step = _number(entry, "step", naming.count_dtype or _step_dtype(), begun, fresh, home)
    return Slots(planes, scalars, step, _steps(step) if home is None else 0, storage), fresh


def _has(entry: Mapping[str, Any], key: str) -> bool:
    """Whether a slot is there, in some format."""
    return any(entry.get(name) is not None for name in first_keys(key))


def _has_any(entry: Mapping[str, Any], keys: Iterable[str]) -> bool:
    return entry.get("step") is not None or any(_has(entry, key) for key in keys)


def _has_all(entry: Mapping[str, Any], keys: Collection[str]) -> bool:
    """Whether there are slots, and every one is there; what does not fit is told more exactly elsewhere."""
    return bool(keys) and all(_has(entry, key) for key in keys)


def _steps(step: Tensor) -> int:
    t = step.item()
    if not (math.isfinite(t) and t >= 0 and t == int(t)):
        raise StateError(f"step must be a whole number of at least 0, got {t!r}")
    return int(t)


def _check_format(entry: Mapping[str, Any], one: Keyed, remedy: str) -> None:
    """Refuse an entry that has the value in another format: starting anew beside it would be a silent loss."""
    known = {*coded_keys(one.key), one.key if one.is_slot else f"{one.key}_low"}
    foreign = sorted(name for name in known - set(one.keys.values()) if entry.get(name) is not None)
    # A widening of plain numbers is told from another format by its type, elsewhere.
    if foreign:
        raise StateError(f"the state has {foreign[0]}, but {one.key} is kept as {one.way.name} here. {remedy}")


def _planes(
    entry: Mapping[str, Any], one: Keyed, param: Tensor, start: float, remedy: str, *, is_ordered: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the planes of a value by suffix, and those that are new by key.

    ``is_ordered`` says that the kernel walks C order alone, whatever the parameter's strides are.
    """
    keys = one.keys
    if one.way.is_plain and one.is_slot:
        tensor = _start(param, start) if entry.get(one.key) is None else _fitting(entry[one.key], param, one.key)
        tensor = tensor.contiguous() if is_ordered else tensor
        return {"": tensor}, {} if tensor is entry.get(one.key) else {one.key: tensor}
    lacking = [name for name in keys.values() if entry.get(name) is None]
    if len(lacking) == len(keys):
        planes = _start_planes(param, one, start)
        return planes, {keys[suffix]: tensor for suffix, tensor in planes.items()}
    if lacking:
        raise StateError(f"the state has no {lacking[0]}, which belongs to {one.key} in the format {one.way.name}")
    for suffix, part in one.parts.items():
        _check_plane(entry[keys[suffix]], part, param, keys[suffix], remedy)
    return {suffix: entry[name] for suffix, name in keys.items()}, {}


def _start_planes(param: Tensor, one: Keyed, start: float) -> dict[str, Tensor]:
    fresh: dict[str, Tensor] = {}
    constant = constant_parts(one.way, start, one.key) if start else {}
    for suffix, part in one.parts.items():
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
    own, off = _own_keys(given, options.rule, naming), _switched_off(given, options.rule, naming)
    # What a caller keeps of a parameter that has not been stepped, or what nothing is kept beside.
    if not own and (_UNCOUNTED - off).isdisjoint(given):
        return {key: waiting(key, value, param, off) for key, value in given.items()}
    try:
        return _loaded(given, bool(own), off, param, options, naming, convert)
    except StateError as error:
        raise StateError(f"{place}: {error}") from None


def _loaded(
    given: dict[str, Any],
    is_own: bool,
    off: set[str],
    param: Tensor,
    options: GroupOptions,
    naming: Naming,
    convert: bool,
) -> dict[str, Any]:
    rule, values = options.rule, kept_of(param, options, naming)
    if convert:
        given = converted(given, param, rule, values)
        if options.formats.by_chance and not naming.counts:
            given.setdefault("step", torch.ones(()))  # it was not counted; only where the slots start does it matter
    _check_keys(given, is_own, values, options, naming)
    is_coded = {key: not one.way.is_plain for one in values for key in one.keys.values()}
    numbers = {"step", *(naming.slots.get(slot, slot) for slot in rule.scalars)}
    others = {k: v for k, v in given.items() if k not in is_coded}
    others = {k: copied(v) if k in numbers else waiting(k, v, param, off) for k, v in others.items()}
    entry = {k: others[k] if k in others else placed(v, param, is_coded[k]) for k, v in given.items()}
    _, fresh = check_entry(entry, param, options, naming, remedy=LOADING)
    return {**entry, **fresh}


def _check_keys(
    given: Mapping[str, Any], is_own: bool, values: Sequence[Keyed], options: GroupOptions, naming: Naming
) -> None:
    """Refuse an entry without what a step has left there. What is there in other formats is told more exactly later."""
    slots = [one for one in values if one.is_slot]
    scalars = {naming.slots.get(slot, slot) for slot in options.rule.trace(options.values.variant).scalars}
    expected = scalars | {key for one in slots for key in one.keys.values()}
    expected |= {"step"} if naming.counted(options.formats) else set()
    needed = scalars | {"step"} if naming.counts else scalars
    is_whole = is_own and expected <= given.keys()
    if not needed <= given.keys() or not (is_whole or _has_all(given, [one.key for one in slots])):
        raise StateError(
            f"the state has {sorted(given)}, expected {sorted(expected)}: is it of another optimizer, or of other "
            "options?"
        )


_UNCOUNTED = set(first_keys("momentum_buffer"))
"""Keys that tell the state of another optimizer where there is no step count: those of SGD."""


def _switched_off(given: Mapping[str, Any], rule: Rule, naming: Naming) -> set[str]:
    """Return the keys of slots that the class may keep, and that the options of now do without (momentum=0)."""
    off = set(naming.slots.values()) - naming.known(rule)
    return set(given) & {*off, *(coded for key in off for coded in coded_keys(key))}


def _own_keys(given: Mapping[str, Any], rule: Rule, naming: Naming) -> set[str]:
    """Return the keys of an entry that are of its parameter's steps, in whatever format."""
    known = naming.known(rule)
    return set(given) & {*known, f"{PARAM}_low", *(coded for key in known for coded in coded_keys(key))}


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
    number = start if value is None else _float_of(value, key)
    if home.type == "cpu":
        # As torch does: FakeTensorMode and make_fx know the numbers of such tensors, and not those of filled ones.
        fresh[key] = torch.tensor(number, dtype=dtype, device=home)
    else:  # Filled there: a copy from this machine's memory would wait for the device.
        fresh[key] = torch.full((), number, dtype=dtype, device=home)
    return fresh[key]


def _float_of(value: Any, key: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise StateError(f"{key} must be one number, got {value!r}")
    return float(value)


def _step_dtype() -> torch.dtype:
    """Return the type of step counts, as torch chooses it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
