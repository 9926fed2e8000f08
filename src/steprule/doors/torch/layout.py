"""Laying out a step: which parameters a kernel steps, which torch steps, and what their state is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steprule.doors.torch.contiguous import contiguous_copies
from steprule.doors.torch.device_table import TRITON
from steprule.doors.torch.eager import differentiable_step, eager_step
from steprule.doors.torch.extent import check_matrices, check_together
from steprule.doors.torch.formats import check_has_kernel
from steprule.doors.torch.gathered import Gathered, gathered, is_gathered
from steprule.doors.torch.groups import TensorGroups
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.positions import Item
from steprule.doors.torch.rows import Slots, Stepped, backend_of, check_parameter, make_row, readable
from steprule.doors.torch.shards import closed, is_sharded, local_of, shard_of, sharded_as
from steprule.doors.torch.sparse import gather, slices_of
from steprule.doors.torch.staleness import LaunchInputs
from steprule.doors.torch.state import check_entry
from steprule.errors import StructureError
from steprule.launch.backend import Backend
from steprule.launch.machine import MACHINE
from steprule.launch.row import WHOLE, Shard, Touched

__all__ = ["Layout"]


class Entries:
    """What a step adds to the optimizer's state: put in place before all else, and taken back if the step fails."""

    def __init__(self, state: dict[Tensor, dict[str, Any]]) -> None:
        self._state = state
        self._added: list[tuple[Tensor, dict[str, Any], dict[str, Tensor], dict[str, Any]]] = []

    def add(self, param: Tensor, entry: dict[str, Any], fresh: dict[str, Tensor]) -> None:
        """Note what comes into an entry, and what was there before."""
        if fresh:
            self._added.append((param, entry, fresh, dict(entry)))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is added."""
        return not self._added

    def __enter__(self) -> None:
        for param, entry, fresh, _ in self._added:
            entry.update(fresh)
            self._state[param] = entry

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            return
        for param, entry, _, before in self._added:
            entry.clear()
            entry.update(before)
            if not before:
                self._state.pop(param, None)


class _Own(NamedTuple):
    """A parameter with its gradient and state, as it is stepped; ``whole`` is that which the optimizer has."""

    whole: Tensor
    param: Tensor
    grad: Tensor
    state: Slots
    entry: dict[str, Any]
    options: GroupOptions
    place: int


class Layout:
    """What a step consists of, collected parameter by parameter. Nothing is changed.

    Args:
        read: returns a gradient as it is read.
        state: the optimizer's.
        items: the parameters.
        device: the device that keeps step counts and scalar slots, and decides; None: this machine.
        waverers: the places of parameters whose gradients come and go.

    Attributes:
        stepped, groups: what kernels step.
        eager, put_back: what else a step does, before and after them; ``eager_grads``: the gradients of the first.
        entries: what comes into the optimizer's state.
        absent: the places of parameters without a gradient.
        odd: the rows whose gradients must be looked at one by one in every step, if the launch is to serve again.
        is_reusable: whether it may.

    Raises:
        StructureError, StateError, RuntimeError: for gradients and states that do not fit.
    """

    def __init__(
        self,
        read: Callable[[Tensor, Mapping[str, Any]], Tensor],
        state: dict[Tensor, dict[str, Any]],
        items: Sequence[Item],
        device: torch.device | None,
        waverers: Collection[int] = (),
    ) -> None:
        self._waverers = waverers
        self._read, self._state, self._deciding_device = read, state, device
        self.stepped: list[Stepped] = []
        self.groups = TensorGroups(on_device=device is not None)
        self.eager: list[Callable[[], None]] = []
        self.eager_grads: list[tuple[Tensor, GroupOptions]] = []
        self.put_back: list[Callable[[], None]] = []
        self.entries = Entries(state)
        self.absent: list[int] = []
        self.odd: list[Stepped] = []
        self.is_reusable = True
        for place, grad, param, options in items:
            if grad is None:
                self.absent.append(place)
            else:
                self._add(param, grad, place, options)

    def _add(self, param: Tensor, grad: Tensor, place: int, options: GroupOptions) -> None:
        entry = self._state.get(param)
        entry = {} if entry is None else entry
        given, grad = local_of(grad), self._read(grad, options.group)
        check_parameter(param, grad)
        check_matrices(options, param, grad)
        if is_gathered(param, options):
            self._add_gathered(param, grad, entry, place, options)
            return
        grad = readable(sharded_as(grad, param), param)
        state, fresh = check_entry(entry, param, options, self._deciding_device)
        self.entries.add(param, entry, fresh)
        if options.group.get("differentiable"):
            check_together(options, f"a parameter of shape {tuple(param.shape)} is stepped with differentiable=True")
            check_has_kernel(state.storage, param)
            state = _of_whole(state, param)
            self.eager.append(differentiable_step(param, grad, options, state, entry, state.keys))
            return
        whole, grad_of_whole, touched, put_back = param, grad, None, None
        param, grad, is_copy = local_of(param), local_of(grad), grad is not given
        if grad.is_sparse:
            check_has_kernel(state.storage, param)
            if backend_of((param, *state.slots.values())) is MACHINE:
                grad, touched = slices_of(grad)
            else:
                param, grad, state, put_back = gather(param, grad, state)
        backend = backend_of((param, grad, *state.slots.values()))
        own = _Own(whole, param, grad, state, entry, options, place)
        if backend is not None:
            self._add_row(own, backend, touched, shard_of(whole), is_copy=is_copy)
        elif put_back is None:
            self._add_eager(own._replace(param=whole, grad=grad_of_whole, state=_of_whole(state, whole)))
        else:
            self._add_eager(own)
        if put_back is not None:
            self.put_back.append(put_back)

    def _add_gathered(
        self, param: Tensor, grad: Tensor, entry: dict[str, Any], place: int, options: GroupOptions
    ) -> None:
        """Add a DTensor that every process steps whole."""
        whole = Gathered.of(param, entry)
        grad = readable(gathered(sharded_as(grad, param)), whole.param)
        state, fresh = check_entry(whole.entry, whole.param, options, self._deciding_device)
        made = whole.closed(fresh)
        self.entries.add(param, entry, made)
        own = _Own(param, whole.param, grad, state, entry, options, place)
        backend = backend_of((whole.param, grad, *state.slots.values()))
        if backend is None:
            self._add_eager(own)
        else:
            self._add_row(own, backend, None, WHOLE, is_copy=True)
        self.is_reusable = False  # what was gathered is of this step
        self.put_back.append(whole.put_back(state, made))

    def _add_row(self, own: _Own, backend: Backend, touched: Touched | None, shard: Shard, *, is_copy: bool) -> None:
        """Add what a kernel steps; ``is_copy``: along a gradient that is made anew in every step."""
        whole, param, grad, state, entry, options, place = own
        is_waverer = place in self._waverers and backend is MACHINE
        group = self.groups.of(options, state, place if is_waverer else None)
        row = make_row(param, grad, place, group, state, backend, touched, shard)
        if backend is TRITON and not row.is_direct:
            param, grad, state, back = contiguous_copies(param, grad, state)
            row = make_row(param, grad, place, group, state, backend, shard=shard)
            self.put_back.append(back)
        self.stepped.append(Stepped(row, param, grad, state, entry, options, whole))
        is_unaligned = backend is MACHINE and row.align_gradient()
        if is_copy or is_waverer or is_unaligned or not row.is_direct:
            self.odd.append(self.stepped[-1])
            # A copy, a gradient of another type, on a device: a copy is another one at the next step.
            self.is_reusable = self.is_reusable and backend is MACHINE

    def _add_eager(self, own: _Own) -> None:
        """Add what torch's operations step."""
        param, options, storage = own.param, own.options, own.state.storage
        self._check_deciding_device(param)
        what = f"a {type(param).__name__} of shape {tuple(param.shape)} on {param.device}"
        check_together(options, f"{what} is stepped by torch operations")
        check_has_kernel(storage, param, clips_update=options.values.guard.clips_update)
        self.eager.append(eager_step(param, own.grad, options, own.state))
        self.eager_grads.append((own.grad, options))

    def _check_deciding_device(self, param: Tensor) -> None:
        """Refuse a state that kernels cannot step where the device counts the steps."""
        if self._deciding_device is not None:
            raise StructureError(
                f"the state of a parameter of shape {tuple(param.shape)} on {param.device} has tensors of another kind "
                "(a subclass, another layout); nothing was stepped. Load a state dict of plain tensors"
            )

    def launch_inputs(self, options: Sequence[GroupOptions]) -> LaunchInputs | None:
        """Return what the launch of the rows depends on; None if it cannot serve again."""
        lists, states = [own.group["params"] for own in options], list(self._state.values())
        # Machine code looks into lists and dicts, and would not understand what only looks like them.
        is_empty = any(own.row.touched is not None and not own.grad.numel() for own in self.odd)
        if (
            not self.stepped
            or is_empty
            or not self.is_reusable
            or {*map(type, lists)} != {list}
            or {*map(type, states)} - {dict}
        ):
            return None
        slots: list[tuple[dict[str, Any], str, Tensor]] = []
        sharded: list[Tensor] = []
        for own in self.stepped:
            state, entry = own.state, own.entry
            named = {**state.slots, **state.scalars}
            keys = {state.keys[name]: tensor for name, tensor in named.items() if name in state.keys}
            if state.step is not None:
                keys["step"] = state.step
            slots += [(entry, key, tensor) for key, tensor in keys.items()]
            if is_sharded(own.whole):
                sharded += [own.whole, *(entry[key] for key, tensor in keys.items() if tensor.dim())]
        odd = set(map(id, self.odd))
        params, grads = [own.param for own in self.stepped], [own.grad for own in self.stepped if id(own) not in odd]
        return LaunchInputs(options, lists, states, slots, params, grads, self.absent, sharded)


def _of_whole(state: Slots, param: Tensor) -> Slots:
    """Return the state of the part that is here of a DTensor as that of all of it, in the same memory."""
    return replace(state, slots=closed(state.slots, param))
