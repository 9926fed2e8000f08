"""The state of a parameter in torch's names: started, checked, and loaded without loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.rows import Slots, state_dtype
from steprule.errors import StateError

__all__ = ["check_entry", "load_entry"]


def check_entry(
    entry: Mapping[str, Any], param: Tensor, options: GroupOptions, naming: Naming
) -> tuple[Slots, dict[str, Tensor]]:
    """Return the state of a parameter by the rule's names, and what must be put into the entry for it.

    Slots that are not there start; slots of a narrower type are widened, which loses nothing.

    Raises:
        StateError: when the entry does not belong to the parameter.
    """
    trace = options.rule.trace(options.values.variant)
    fresh: dict[str, Tensor] = {}
    started = False
    slots: dict[str, Tensor] = {}
    for slot in trace.slots:
        key = naming.slots.get(slot, slot)
        if entry.get(key) is None:
            started = True
            fresh[key] = slots[slot] = _start(param, options.values.start_of(slot))
            continue
        slots[slot] = _fitting(entry[key], param, key)
        if slots[slot] is not entry[key]:
            fresh[key] = slots[slot]
    scalars = {
        slot: _number(entry, naming.slots.get(slot, slot), torch.float64, options.values.start_of(slot), fresh)
        for slot in trace.scalars
    }
    if not naming.counts:
        return Slots(slots, scalars, None, 0 if started or not slots else 1), fresh
    step = _number(entry, "step", naming.count_dtype or _step_dtype(), 0.0, fresh)
    t = step.item()
    if not (math.isfinite(t) and t >= 0 and t == int(t)):
        raise StateError(f"step must be a whole number of at least 0, got {t!r}")
    return Slots(slots, scalars, step, int(t)), fresh


def load_entry(
    entry: Mapping[str, Any], param: Tensor, options: GroupOptions, naming: Naming, place: str
) -> dict[str, Any]:
    """Return a copy of a saved entry, with every slot in the parameter's layout and on its device.

    Raises:
        StateError: when the entry does not belong to the parameter.
    """
    given = {key: value for key, value in entry.items() if value is not None}
    if not given:
        return {}
    slots = {naming.slots.get(slot, slot) for slot in options.rule.trace(options.values.variant).slots}
    expected = slots | ({"step"} if naming.counts else set())
    if expected - set(given) or not set(given) & naming.known(options.rule):
        raise StateError(
            f"{place}: the state has {sorted(given)}, expected {sorted(expected)}: is it of another optimizer, or of "
            "other options?"
        )
    placed = {key: _placed(value, param) if key in slots else copy.deepcopy(value) for key, value in given.items()}
    try:
        _, fresh = check_entry(placed, param, options, naming)
    except StateError as error:
        raise StateError(f"{place}: {error}") from None
    return {**placed, **fresh}


def _placed(value: Any, param: Tensor) -> Any:
    """Return a copy of a slot like the parameter, of the slot's own type."""
    if not isinstance(value, Tensor) or value.shape != param.shape:
        return value
    dense = value.to_dense() if value.is_sparse else value
    like = torch.empty_like(param, dtype=value.dtype, memory_format=torch.preserve_format, requires_grad=False)
    return like.copy_(dense.detach())


def _start(param: Tensor, value: float) -> Tensor:
    number = complex(value, value) if param.is_complex() else value
    kind = state_dtype(param.dtype)
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


def _number(entry: Mapping[str, Any], key: str, dtype: torch.dtype, start: float, fresh: dict[str, Tensor]) -> Tensor:
    """Return a tensor of one number in this machine's memory; it goes to ``fresh`` if it is not the entry's own."""
    value = entry.get(key)
    if isinstance(value, Tensor) and value.numel() == 1:
        kept = value.dim() == 0 and value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)
        if kept and ((key == "step" and dtype == torch.float32) or value.dtype == dtype):
            return value
        value = value.item()
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise StateError(f"{key} must be one number, got {value!r}")
    fresh[key] = torch.tensor(start if value is None else float(value), dtype=dtype, device="cpu")
    return fresh[key]


def _step_dtype() -> torch.dtype:
    """Return the type of step counts, as torch chooses it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
