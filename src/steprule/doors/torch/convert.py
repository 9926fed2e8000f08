"""States in other formats: decoded to float32, and rounded from it. On request only, since it rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steprule.coding import plane_name
from steprule.doors.planes import Target
from steprule.doors.state import ParameterState
from steprule.doors.torch.checkpoint_tensors import stored_array, tensor_of
from steprule.doors.torch.formats import PARAM, Keyed, keyed, storage_of, torch_dtype
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.engine import ways_of
from steprule.errors import StateError
from steprule.formats import FORMATS, SLOT_FORMATS, Kept, shape_of
from steprule.formats.kept import plain
from steprule.rules import Rule

__all__ = ["converted", "decoded_entry", "kept_of", "target_of"]

_PLAIN = FORMATS["float32"]
_NUMBERS = plain("float32", flushes=True)


def kept_of(param: Tensor, options: GroupOptions, naming: Naming) -> list[Keyed]:
    """Return how the values of a parameter are kept, with their keys in a state."""
    rule, variant = options.rule, options.values.variant
    ways = ways_of(rule, variant, storage_of(options.formats, param, rule, variant))
    return [keyed(value, way, rule, naming.slots) for value, way in ways.items()]


def target_of(param: Tensor, options: GroupOptions, what: str) -> Target:
    """Return what a state of a parameter must fit; ``what`` is what messages call it."""
    rule, variant = options.rule, options.values.variant
    storage = storage_of(options.formats, param, rule, variant)
    return Target.of(what, tuple(param.shape), rule, variant, storage, param.is_complex())


def converted(entry: Mapping[str, Any], param: Tensor, rule: Rule, values: Iterable[Keyed]) -> dict[str, Any]:
    """Return an entry of a state with every value kept as ``values`` say.

    Raises:
        StateError: when one is damaged.
    """
    new = dict(entry)
    for one in values:
        if not one.is_slot:
            _convert_low(new, param, one)
            continue
        was = _found(new, one, rule)
        if was is not None and was.way.id != one.way.id and not (was.way.is_plain and one.way.is_plain):
            planes = _fitted(new, param, was, one)
            new = {key: value for key, value in new.items() if key not in was.keys.values()}
            new |= {key: tensor_of(planes[plane_name(one.value, suffix)]) for suffix, key in one.keys.items()}
    return new


def _found(entry: Mapping[str, Any], one: Keyed, rule: Rule) -> Keyed | None:
    """Return a slot as an entry has it, in whatever format; None if it is not there, or nothing that is converted.

    Raises:
        StateError: when a plane of it is missing.
    """
    ways = [form.way(non_negative=one.value in rule.non_negative) for form in SLOT_FORMATS.values()]
    value = entry.get(one.key)
    number = value if isinstance(value, Tensor) and not value.is_complex() else None
    # Codes beside numbers are refused elsewhere, if what is kept as it should be stays.
    if one.way.is_coded or number is None:
        coded = _coded(entry, one, [way for way in ways if way.is_coded])
        if coded is not None or number is None:
            return coded
    narrow = [way for way in ways if not way.is_coded and torch_dtype(way.parts[0].dtype) == number.dtype]
    return replace(one, way=[*narrow, _NUMBERS][0])


def _coded(entry: Mapping[str, Any], one: Keyed, ways: Iterable[Kept]) -> Keyed | None:
    """Return a slot as an entry has it in codes; None if it has none.

    Raises:
        StateError: when a plane of it is missing.
    """
    has = {key for key, value in entry.items() if value is not None}
    known = [own for own in (replace(one, way=way) for way in ways) if not has.isdisjoint(own.keys.values())]
    if not known:
        return None
    # Formats share the key of scales: it is the codes that tell.
    was = min(known, key=lambda own: (own.keys[""] not in has, own.way.id != one.way.id))
    lacking = sorted(set(was.keys.values()) - has)
    if lacking:
        raise StateError(
            f"the state has no {lacking[0]}, without which the rest of {one.key} means nothing: it is damaged"
        )
    return was


def _fitted(entry: Mapping[str, Any], param: Tensor, was: Keyed, one: Keyed) -> dict[str, Any]:
    """Return the planes of a slot that was kept in another way, as arrays."""
    planes = {plane_name(was.value, suffix): _array(entry[key], was.way) for suffix, key in was.keys.items()}
    shape = tuple(param.shape)
    own = ParameterState(None, shape, "", 0, None, formats={was.value: was.way.id}, planes=planes)
    way = _NUMBERS if one.way.is_plain else one.way
    called = {plane_name(was.value, suffix): key for suffix, key in was.keys.items()}
    target = Target(
        "the state is damaged, or of another parameter", shape, _PLAIN, {was.value: way}, PARAM, called=called
    )
    return target.fitted(own, convert=True)


def _array(value: Any, way: Kept) -> Any:
    """Return a plane as an array, of plain numbers in float32; what is no tensor as it is, to be refused."""
    if not isinstance(value, Tensor):
        return value
    dense = value.to_dense() if value.is_sparse else value
    return stored_array(dense.to(torch.float32) if way.is_plain else dense, "a slot").array()


def _convert_low(new: dict[str, Any], param: Tensor, one: Keyed) -> None:
    """Let an entry have what is beside the parameter here, and nothing else there."""
    parts = {key: one.parts[suffix] for suffix, key in one.keys.items()}
    low = new.get(f"{PARAM}_low")
    if low is not None and low.dtype not in {torch_dtype(part.dtype) for part in parts.values()}:
        del new[f"{PARAM}_low"]
    for name, part in parts.items():
        shape, kind = shape_of(part, param.shape), torch_dtype(part.dtype)
        new.setdefault(name, torch.zeros(shape, dtype=kind, device=param.device))


def decoded_entry(
    entry: Mapping[str, Any], param: Tensor, rule: Rule, names: Mapping[str, str], counts: bool
) -> dict[str, Any]:
    """Return an entry with float32 slots and nothing beside the parameter, as torch.optim has it.

    ``counts`` says whether torch's class has a step count.
    """
    new = converted(entry, param, rule, [keyed(slot, _NUMBERS, rule, names) for slot in rule.element_slots])
    new.pop(f"{PARAM}_low", None)
    if not counts:
        new.pop("step", None)
    return new
