"""The state of a parameter as a step takes it: checked, and started where it is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from steprule.doors.leaf import constant_planes, copied
from steprule.doors.torch.entry import Entry, entry_of
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Slots, state_dtype
from steprule.doors.torch.shards import closed, local_of, opened
from steprule.errors import StateError
from steprule.formats import shape_of

__all__ = ["check_entry", "step_dtype"]

_HERE = torch.device("cpu")
_BETWEEN_STEPS = (
    "Where an option of the group was changed between steps, follow it by "
    "optimizer.load_state_dict(optimizer.state_dict(), convert=True), which rounds"
)


def check_entry(
    entry: Mapping[str, Any],
    param: Tensor,
    options: GroupOptions,
    device: torch.device | None = None,
    form: Entry | None = None,
) -> tuple[Slots, dict[str, Tensor]]:
    """Return the state of a parameter by the rule's names, and what must be put into the entry for it.

    Slots that are not there start; slots of a narrower type are widened, which loses nothing. Of a DTensor it is the
    state of the part that is here; what comes into the entry are DTensors. Step counts and scalar
    slots go to ``device``, if there is one; what it counts is not read here, which would wait for it.
    ``form`` is how the state is laid out, where that is known.

    Raises:
        StateError: when the entry does not belong to the parameter.
    """
    form = _form(param, options) if form is None else form
    whole, param = param, local_of(param)
    entry = opened(entry, whole, form.what)
    kept = _kept(form, entry, param, device)
    if kept is not None:
        return kept, {}
    own = form.read(entry)
    has_any, has_all = any(slot in own.formats for slot in form.slots), form.has_all(own)
    started: dict[str, Tensor] = {}
    for value in form.formats.keys() - own.formats.keys():
        # What a caller keeps there (an average) says nothing of a step.
        if value != form.parameter or not (has_any or entry.get("step") is not None):
            is_point = value in form.rule.points
            start = None if is_point else options.values.start_of(value)
            has_graph = bool(options.group.get("differentiable"))
            started |= _copied(form, value, param, has_graph) if start is None else _started(form, value, param, start)
            own = replace(own, formats={**own.formats, value: form.formats[value]})
    planes = form.fitted(replace(own, planes={**own.planes, **started}) if started else own, convert=False)
    planes = {plane: _as_stepped(form, plane, tensor, param) for plane, tensor in planes.items()}
    keys = form.keys
    fresh = {key: planes[plane] for plane, key in keys.items() if planes[plane] is not entry.get(key)}
    numbers = _Numbers(entry, fresh, _HERE if device is None else device, form.what)
    scalars = {
        slot: numbers.take(key, torch.float64, options.values.start_of(slot)) for slot, key in form.scalars.items()
    }
    keys = {**keys, **form.scalars}
    planes = form.with_idle(planes, param) if form.idle else planes
    if not form.is_counted:
        return Slots(planes, scalars, None, int(has_all), form.storage, keys), closed(fresh, whole)
    # What was not counted before has been stepped if its slots are there.
    begun = float(has_all and not form.naming.counts)
    step = numbers.take("step", form.naming.count_dtype or step_dtype(), begun)
    t = _steps(step, form.what) if device is None else 0
    return Slots(planes, scalars, step, t, form.storage, keys), closed(fresh, whole)


def _kept(form: Entry, entry: Mapping[str, Any], param: Tensor, device: torch.device | None) -> Slots | None:
    """Return the state of an entry that has exactly what steps leave there, in plain numbers; None if it must be read.

    The usual: all else about states in other formats takes longer than all the rest of a layout.
    """
    if device is not None or not form.storage.is_plain:
        return None
    keys, scalars, kind, vectors = form.keys, form.scalars, state_dtype(param.dtype), form.vectors
    if len(entry) != len(keys) + len(scalars) + form.is_counted:
        return None
    planes: dict[str, Tensor] = {}
    shape, at = param.shape, param.device
    for plane, key in keys.items():
        tensor = entry.get(key)
        if not isinstance(tensor, Tensor) or tensor.dtype is not kind:
            return None
        if tensor.shape != vectors.get(plane, shape):
            return None
        if tensor.device != at or tensor.layout is not torch.strided:
            return None
        planes[plane] = tensor
    numbers: dict[str, Tensor] = {}
    for slot, key in scalars.items():
        number = _number_kept(entry.get(key), torch.float64)
        if number is None:
            return None
        numbers[slot] = number
    step = _number_kept(entry.get("step"), form.naming.count_dtype or step_dtype()) if form.is_counted else None
    if form.is_counted and step is None:
        return None
    t = int(bool(form.slots)) if step is None else _steps(step, form.what)
    planes = form.with_idle(planes, param) if form.idle else planes
    return Slots(planes, numbers, step, t, form.storage, form.all_keys)


def _number_kept(value: Any, dtype: torch.dtype) -> Tensor | None:
    """Return a step count or scalar slot that is kept as it is."""
    if not isinstance(value, Tensor) or value.dim() or value.device != _HERE:
        return None
    return value if value.dtype is dtype or (dtype is torch.float32 and value.dtype is torch.float64) else None


def _form(param: Tensor, options: GroupOptions) -> Entry:
    """Return how the state of a parameter is laid out, found once for each shape."""
    key, entries = (param.shape, local_of(param).shape, param.dtype), options.entries
    form: Entry | None = entries.get(key)
    if form is None:
        words = f"the state of a parameter of shape {tuple(param.shape)}"
        form = entries[key] = entry_of(param, options, words, remedy=_BETWEEN_STEPS)
    return form


def _steps(step: Tensor, what: str) -> int:
    t = step.item()
    if not (math.isfinite(t) and t >= 0 and t == int(t)):
        raise StateError(f"{what}: step must be an integer of at least 0, got {t!r}")
    return int(t)


def _as_stepped(form: Entry, plane: str, tensor: Tensor, param: Tensor) -> Tensor:
    """Return a plane as kernels take it: where formats are mixed, they walk C order alone, whatever its strides are.

    Raises:
        StateError: for one on another device, and for codes in another order.
    """
    is_plain = tensor.dtype == state_dtype(param.dtype)
    if tensor.device != param.device or not (is_plain or tensor.is_contiguous()):
        raise StateError(
            f"{form.what}: {form.keys[plane]} is on {tensor.device}, of strides {tensor.stride()}; expected it on "
            f"{param.device}, contiguous. {form.remedy}"
        )
    return tensor if form.storage.is_plain else tensor.contiguous()


def _started(form: Entry, value: str, param: Tensor, start: float) -> dict[str, Tensor]:
    """Return the planes of a value before the first step."""
    codec = form.codecs[value]
    if codec.is_plain and value != form.parameter:
        if not codec.is_elementwise:
            shape, kind = shape_of(codec.planes[0], param.shape), state_dtype(param.dtype)
            return {value: torch.full(shape, start, dtype=kind, device=param.device)}
        return {value: _start(param, start)}
    constant = constant_planes(codec, start, form.called[value]) if start else {}
    fresh: dict[str, Tensor] = {}
    for plane, (_, spec, _) in form.planes(value, codec).items():
        kind = form.type_of(spec)
        fresh[plane] = torch.zeros(shape_of(spec, param.shape), dtype=kind, device=param.device)
        # As bits: torch fills bfloat16 with numbers.
        fresh[plane].view(torch.int16 if kind.itemsize == 2 else torch.uint8).fill_(constant.get(spec.suffix, 0))
    return fresh


def _copied(form: Entry, value: str, param: Tensor, has_graph: bool) -> dict[str, Tensor]:
    """Return the planes of a slot that begins as the parameter, as a step would store its numbers.

    With its graph, where gradients go through steps; a leaf, which has none, is not drawn into one.
    """
    codec, own = form.codecs[value], param if has_graph and not param.is_leaf else param.detach()
    if not codec.is_plain:
        planes = copied(codec, own.detach().to(_HERE, torch.float32).contiguous().numpy())
        return {
            plane: torch.from_numpy(planes[spec.suffix]).view(form.type_of(spec)).to(param.device)
            for plane, (_, spec, _) in form.planes(value, codec).items()
        }
    kind = state_dtype(param.dtype)
    slot = torch.empty_like(own, dtype=kind, memory_format=torch.preserve_format, requires_grad=False)
    return {value: slot.copy_(own)}


def _start(param: Tensor, value: float) -> Tensor:
    number = complex(value, value) if param.is_complex() else value
    kind = state_dtype(param.dtype)
    if not value:  # as torch does: a subclass need not know more
        return torch.zeros_like(param, dtype=kind, memory_format=torch.preserve_format, requires_grad=False)
    return torch.full_like(param, number, dtype=kind, memory_format=torch.preserve_format, requires_grad=False)


class _Numbers(NamedTuple):
    """Step counts and scalar slots as tensors of one number on the device ``device``, which are an entry's, or new.

    Attributes:
        entry: the entry.
        fresh: where new ones go.
        device: where numbers go.
        what: what messages call the state.
    """

    entry: Mapping[str, Any]
    fresh: dict[str, Tensor]
    device: torch.device
    what: str

    def take(self, key: str, dtype: torch.dtype, start: float) -> Tensor:
        """Return one."""
        value = self.entry.get(key)
        if isinstance(value, Tensor) and value.numel() == 1:
            kept = value.dim() == 0 and value.device == self.device and value.dtype in (torch.float32, torch.float64)
            if kept and ((key == "step" and dtype == torch.float32) or value.dtype == dtype):
                return value
            if value.requires_grad:  # part of a graph through steps, which its number is not
                self.fresh[key] = value.to(self.device, dtype).reshape(())
                return self.fresh[key]
        number = start if value is None else self._float_of(value, key)
        if self.device.type == "cpu":
            # As torch does: FakeTensorMode and make_fx know the numbers of such tensors, and not those of filled ones.
            self.fresh[key] = torch.tensor(number, dtype=dtype, device=self.device)
        else:  # Filled there: a copy from this machine's memory would wait for the device.
            self.fresh[key] = torch.full((), number, dtype=dtype, device=self.device)
        return self.fresh[key]

    def _float_of(self, value: Any, key: str) -> float:
        if (isinstance(value, Tensor) and value.numel() == 1) or (
            isinstance(value, np.ndarray | np.generic) and value.size == 1
        ):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise StateError(f"{self.what}: {key} must be one number, got {value!r}")
        return float(value)


def step_dtype() -> torch.dtype:
    """Return the type of step counts, as torch chooses it."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
