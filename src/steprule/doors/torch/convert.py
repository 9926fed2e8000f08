"""States in other formats: decoded to float32, and rounded from it. On request only, since it rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.coding import decode, encode
from steprule.doors.torch.formats import PARAM, Keyed, coded_keys, key_of, keyed, torch_dtype
from steprule.errors import StateError
from steprule.formats import FORMATS, SLOT_FORMATS, Kept, Part, Storage, shape_of
from steprule.rules import Rule

__all__ = ["converted", "decoded_entry"]


def converted(entry: Mapping[str, Any], param: Tensor, rule: Rule, values: Iterable[Keyed]) -> dict[str, Any]:
    """Return an entry of a state with every value kept as ``values`` say."""
    new = dict(entry)
    for one in values:
        if not one.is_slot:
            _convert_low(new, param, one)
        elif not _is_in(new, one.key, one.way):
            numbers = _numbers(new, one.key, one.value in rule.non_negative, param)
            if numbers is not None:
                for name in (one.key, *coded_keys(one.key)):
                    new.pop(name, None)
                new |= _planes(one, numbers)
    return new


def _convert_low(new: dict[str, Any], param: Tensor, one: Keyed) -> None:
    """Let an entry have what is beside the parameter here, and nothing else there."""
    parts = {key: torch_dtype(one.parts[suffix].dtype) for suffix, key in one.keys.items()}
    low = new.get(f"{PARAM}_low")
    if low is not None and parts.get(f"{PARAM}_low") != low.dtype:
        del new[f"{PARAM}_low"]
    for name, kind in parts.items():
        new.setdefault(name, torch.zeros(param.shape, dtype=kind, device=param.device))


def _planes(one: Keyed, numbers: NDArray[np.float32]) -> dict[str, Tensor]:
    if one.way.is_plain:
        return {one.key: _tensor(numbers, torch.float32)}
    planes, keys = encode(one.way, numbers), one.keys
    return {keys[suffix]: _tensor(planes[suffix], torch_dtype(part.dtype)) for suffix, part in one.parts.items()}


def decoded_entry(
    entry: Mapping[str, Any], param: Tensor, rule: Rule, names: Mapping[str, str], counts: bool
) -> dict[str, Any]:
    """Return an entry with float32 slots and nothing beside the parameter, as torch.optim has it.

    ``counts`` says whether torch's class has a step count.
    """
    plain = Storage(FORMATS["float32"])
    ways = {slot: plain.of_slot(slot, slot in rule.non_negative) for slot in rule.element_slots}
    new = converted(entry, param, rule, [keyed(slot, way, rule, names) for slot, way in ways.items()])
    new.pop(f"{PARAM}_low", None)
    if not counts:
        new.pop("step", None)
    return new


def _is_in(entry: Mapping[str, Any], key: str, way: Kept) -> bool:
    if way.is_coded:
        return key_of(key, way, "") in entry
    value = entry.get(key)
    is_narrow = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return isinstance(value, Tensor) and is_narrow == (not way.is_plain)


def _numbers(entry: Mapping[str, Any], key: str, non_negative: bool, param: Tensor) -> NDArray[np.float32] | None:
    """Return a slot as float32, from whatever format it is in; None if it is not there."""
    way = _coded_way(entry, key, non_negative)
    if way is None:
        value = entry.get(key)
        if not isinstance(value, Tensor) or value.is_complex():
            return None
        return _array((value.to_dense() if value.is_sparse else value).to(torch.float32))
    planes = {
        part.suffix: _plane(entry, key_of(key, way, part.suffix), part, param, f"the rest of {key}")
        for part in way.parts
    }
    return decode(way, planes, param.shape)


def _plane(entry: Mapping[str, Any], key: str, part: Part, param: Tensor, rest: str) -> NDArray[Any]:
    """Return one plane of a slot in codes.

    Raises:
        StateError: where it is not there, or does not fit.
    """
    plane, shape = entry.get(key), shape_of(part, param.shape)
    if plane is None:
        raise StateError(f"the state has no {key}, without which {rest} means nothing: it is damaged")
    if not isinstance(plane, Tensor) or tuple(plane.shape) != shape or plane.dtype != torch_dtype(part.dtype):
        got = f"{plane.dtype} of shape {tuple(plane.shape)}" if isinstance(plane, Tensor) else repr(plane)
        raise StateError(
            f"{key} is {got}, expected {part.dtype} of shape {shape}: the state is damaged, or of another parameter"
        )
    return _array(plane)


def _coded_way(entry: Mapping[str, Any], key: str, non_negative: bool) -> Kept | None:
    """Return how an entry has a slot in codes: as its codes tell, or what else of a format is there."""
    ways = [one.way(non_negative=non_negative) for one in SLOT_FORMATS.values()]
    found = [
        (part.suffix, way)
        for way in ways
        if way.is_coded
        for part in way.parts
        if entry.get(key_of(key, way, part.suffix)) is not None
    ]
    return dict(reversed(found)).get("", found[0][1]) if found else None


def _array(tensor: Tensor) -> NDArray[Any]:
    """Return a copy as an array. Of the tensor's own memory it would make a storage that cannot be resized."""
    array: NDArray[Any] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).numpy()
    return array


def _tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    own = torch.empty(array.shape, dtype=dtype, device="cpu")
    bits = array.view(np.int16) if array.dtype == np.uint16 else array
    return own.copy_(torch.from_numpy(bits).view(dtype))
