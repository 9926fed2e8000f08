"""Parameters that become the evaluated point, by one pass, and what they were again, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steprule.coding import decode
from steprule.doors.torch import devices
from steprule.doors.torch.checkpoint_tensors import stored_array, tensor_of
from steprule.doors.torch.contiguous import contiguous_copies
from steprule.doors.torch.device_table import TRITON, shared_places
from steprule.doors.torch.eager import evaluated_point
from steprule.doors.torch.entry import Entry, entry_of
from steprule.doors.torch.formats import check_has_kernel
from steprule.doors.torch.gathered import Gathered, is_gathered
from steprule.doors.torch.groups import TensorGroups
from steprule.doors.torch.memory import tensor_memory
from steprule.doors.torch.openmp import team
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Slots, backend_of, make_row, state_dtype
from steprule.doors.torch.shards import closed, local_of, shard_of
from steprule.doors.torch.state import check_entry
from steprule.doors.torch.trained import TRAINED_KEYS, decoded, encoded, shown
from steprule.errors import StateError, StructureError
from steprule.formats import Codec
from steprule.launch.backend import Backend
from steprule.launch.evaluation import Evaluation
from steprule.launch.row import WHOLE, Row, Shard
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Entered", "Left"]


class _Parameter(NamedTuple):
    """A parameter that has taken a step.

    Attributes:
        entry: its state.
        form: how that is laid out.
        options: its group's.
    """

    param: Tensor
    entry: dict[str, Any]
    form: Entry
    options: GroupOptions

    @property
    def codec(self) -> Codec:
        """How the parameter itself is kept."""
        return self.form.codecs[self.form.parameter]

    @property
    def planes(self) -> list[Tensor]:
        """What keeps the parameter: itself, and what is beside it."""
        return [
            self.param,
            *(self.entry[one.key] for one in self.form.planes(self.form.parameter, self.codec).values()),
        ]

    def point(self, slot: str) -> Tensor:
        """Return a slot as the numbers that it holds."""
        codec = self.form.codecs[slot]
        planes = {one.spec.suffix: self.entry[one.key] for one in self.form.planes(slot, codec).values()}
        if codec.is_plain:
            return planes[""].detach()  # type: ignore[no-any-return]
        arrays = {suffix: stored_array(plane, slot).array() for suffix, plane in planes.items()}
        return tensor_of(decode(codec, arrays, self.form.shape)).to(self.param.device)


def _begun(options: Sequence[GroupOptions], state: Mapping[Tensor, dict[str, Any]]) -> Iterator[_Parameter]:
    """Yield each parameter that has taken a step, once."""
    seen: set[int] = set()
    for own in options:
        for param in own.group["params"]:
            entry = state.get(param)
            if entry and id(param) not in seen:
                seen.add(id(param))
                form = entry_of(param, own, f"the state of a parameter of shape {tuple(param.shape)}")
                if form.is_begun(entry):
                    yield _Parameter(param, entry, form, own)


class Entered:
    """Parameters that are to become the evaluated point: everything that can fail is done here, and nothing moves.

    Args:
        options: of the groups.
        state: the optimizer's.

    Raises:
        StateError, StructureError, RuntimeError: for what cannot be evaluated.
    """

    def __init__(self, options: Sequence[GroupOptions], state: dict[Tensor, dict[str, Any]]) -> None:
        self._groups = TensorGroups(on_device=False)
        self._rows: list[Row] = []
        self._before: list[Callable[[], object]] = []
        self._after: list[Callable[[], None]] = []
        self._params: list[Tensor] = []
        for own in _begun(options, state):
            self._add(own)
        if shared_places(self._rows):
            raise StructureError(
                "two parameters share memory, each with an evaluated point of its own; nothing was changed. Evaluate "
                "the model in training mode, or give the optimizer one of them"
            )
        self._evaluation = Evaluation(self._rows, self._groups.all, team)

    def _add(self, own: _Parameter) -> None:
        param, entry, form, options = own
        _check(param, options)
        step = entry.get("step")
        device = step.device if isinstance(step, Tensor) and step.device.type != "cpu" else None
        parts = Gathered.of(param, entry) if is_gathered(param, options) else None
        whole, param, shard = param, local_of(param), shard_of(param)
        if parts is None:
            slots, fresh = check_entry(entry, whole, options, device)
        else:
            param, shard = parts.param, WHOLE
            slots, fresh = check_entry(parts.entry, param, options, device)
            fresh = parts.closed(fresh)
        low = [slots.slots[plane] for plane in form.planes(form.parameter, own.codec)]
        saved = [torch.empty_like(plane, requires_grad=False) for plane in (param.detach(), *low)]
        backend = backend_of((param, *slots.slots.values()))
        if backend is None:
            check_has_kernel(slots.storage, whole)
            self._before.append(_by_torch(param, evaluated_point(param, options, slots), saved[0]))
        else:
            self._add_row(param, options, slots, saved, backend, shard)
        self._params.append(whole)

        def keep() -> None:
            kept = dict(zip(TRAINED_KEYS, saved, strict=False))
            entry.update({**fresh, **(closed(kept, whole) if parts is None else parts.closed(kept))})

        if parts is not None:
            self._after.append(parts.put_back(slots, fresh))
        self._after.append(keep)

    def _add_row(
        self,
        param: Tensor,
        options: GroupOptions,
        slots: Slots,
        saved: list[Tensor],
        backend: Backend,
        shard: Shard,
    ) -> None:
        if not param.numel():
            return
        place, group = len(self._rows), self._groups.of(options, slots)
        row = make_row(param, param.detach(), place, group, slots, backend, shard=shard)
        if backend is TRITON and not row.is_direct:
            there, grad, slots, back = contiguous_copies(param, param, slots)
            row = make_row(there, grad, place, group, slots, backend, shard=shard)
            saved[0] = torch.empty_like(saved[0], memory_format=torch.contiguous_format)
            self._after.append(back)
        if param.dtype is torch.float16 and param.device.type != "cpu":  # which kernels do not save
            kept = saved[0]
            self._before.append(lambda: kept.copy_(param.detach()))
        row.memories += map(tensor_memory, saved)
        self._rows.append(row)

    def take(self, note: Callable[[], None]) -> None:
        """Let all parameters be the evaluated point, and note it. A signal finds all done, or nothing."""
        with uninterrupted(), torch.no_grad():
            for move in self._before:
                move()
            self._evaluation.enter(lambda: None)
            for put in self._after:
                put()
            # As operations in place do, so that autograd refuses a graph that has saved the old numbers.
            torch.autograd.graph.increment_version([param for param in self._params if not param.is_inference()])
            note()


def _check(param: Tensor, options: GroupOptions) -> None:
    """Refuse a parameter that is part of a graph, of whatever kind.

    Raises:
        RuntimeError: with what to do.
    """
    if options.group.get("differentiable"):
        raise RuntimeError(
            "eval() is no part of a graph, which differentiable=True asks for; nothing was changed. Compute the "
            "evaluated point by torch operations from the parameters and the state"
        )
    if devices.is_capturing(param.device):
        raise RuntimeError(
            "eval() is captured in a CUDA graph, and its numbers come from the host, which a replay does not ask; "
            "nothing was captured. Switch between replays"
        )


def _by_torch(param: Tensor, point: Tensor, saved: Tensor) -> Callable[[], None]:
    """Return what lets a parameter be a point, and keeps what it was."""

    def move() -> None:
        saved.copy_(param)
        param.copy_(point)

    return move


class Left:
    """Parameters that are to be again what they were: everything that can fail is done here, and nothing moves.

    Args:
        options: of the groups.
        state: the optimizer's.
        trained_of: returns the training point of an evaluated one where the state has none.

    Raises:
        StateError: for parameters that are not those that are evaluated.
    """

    def __init__(
        self,
        options: Sequence[GroupOptions],
        state: dict[Tensor, dict[str, Any]],
        trained_of: Callable[[Tensor, GroupOptions, Mapping[str, Tensor]], Tensor],
    ) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._entries: list[dict[str, Any]] = []
        for own in _begun(options, state):
            if TRAINED_KEYS[0] in own.entry:
                self._pairs += _kept(own)
            else:
                points = {slot: own.point(slot) for slot in own.form.rule.points if slot in own.form.codecs}
                here = decoded(own.codec, own.planes).to(own.param.device, state_dtype(own.param.dtype))
                new = encoded(own.codec, trained_of(here, own.options, points), own.planes)
                self._pairs += zip(own.planes, new, strict=True)
            self._entries.append(own.entry)

    def take(self, note: Callable[[], None]) -> None:
        """Let all parameters be where they train, and note it. A signal finds all done, or nothing."""
        with uninterrupted(), torch.no_grad():
            for tensor, before in self._pairs:
                with torch.inference_mode() if tensor.is_inference() else nullcontext():
                    tensor.copy_(before)
            for entry in self._entries:
                for key in TRAINED_KEYS:
                    entry.pop(key, None)
            note()


def _kept(own: _Parameter) -> list[tuple[Tensor, Tensor]]:
    """Return the planes of a parameter, each with what it was.

    Raises:
        StateError: when they do not fit.
    """
    here, kept = own.planes, [own.entry[key] for key in TRAINED_KEYS if key in own.entry]
    now, then = ([(one.dtype, one.shape) if isinstance(one, Tensor) else None for one in own] for own in (here, kept))
    if now != then:
        raise StateError(
            f"{own.form.what}: train() cannot put back what the parameter was, {shown(kept)}, since it is "
            f"{shown(here)} now; nothing was changed. Change the types and shapes of parameters in training mode"
        )
    return list(zip(here, kept, strict=True))
