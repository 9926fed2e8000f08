"""Laying out a step: which parameters a kernel walks, which torch steps, and what their state is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from steprule.doors.torch.eager import differentiable_step, eager_step
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.rows import Row, Slots, check_parameter, is_plain, make_row
from steprule.doors.torch.sparse import gather
from steprule.doors.torch.state import check_entry
from steprule.doors.torch.watch import Watched

__all__ = ["Layout"]


class Layout:
    """What a step consists of, collected parameter by parameter. Nothing is changed."""

    def __init__(self, naming: Naming, read: Callable[[Tensor, Mapping[str, Any]], Tensor]) -> None:
        self._naming, self._read = naming, read
        self.rows: list[Row] = []
        self.eager: list[Callable[[], None]] = []
        self.put_back: list[Callable[[], None]] = []
        self.entries: list[tuple[Tensor, dict[str, Any], dict[str, Tensor]]] = []
        self.absent: list[int] = []
        self.is_reusable = True
        self._grads: list[Tensor] = []
        self._kept: list[tuple[dict[str, Any], Slots]] = []

    def add(self, param: Tensor, grad: Tensor, place: int, options: GroupOptions, entry: Any) -> None:
        """Add a parameter with a gradient, and what is there of its state.

        Raises:
            StructureError, StateError, RuntimeError: when they do not belong together.
        """
        entry = {} if entry is None else entry
        given, grad = grad, self._read(grad, options.group)
        # A copy is another one at the next step.
        self.is_reusable = self.is_reusable and grad is given
        check_parameter(param, grad)
        state, fresh = check_entry(entry, param, options, self._naming)
        self.entries.append((param, entry, fresh))
        if options.group.get("differentiable"):
            names = self._naming.slots
            self.eager.append(differentiable_step(param, grad, options, state, entry, names))
            return
        put_back = None
        if grad.is_sparse:
            param, grad, state, put_back = gather(param, grad, state)
        if all(map(is_plain, (param, grad, *state.slots.values()))):
            self.rows.append(make_row(param, grad, place, options, state))
            self._grads.append(grad)
            self._kept.append((entry, state))
        else:
            self.eager.append(eager_step(param, grad, options, state))
        if put_back is not None:
            self.put_back.append(put_back)

    def watched(self, lists: list[list[Tensor]], states: list[dict[str, Any]]) -> Watched:
        """Return what the launch of the rows depends on."""
        slots: list[tuple[dict[str, Any], str, Tensor]] = []
        for entry, state in self._kept:
            named = {**state.slots, **state.scalars}
            keys = {self._naming.slots.get(name, name): tensor for name, tensor in named.items()}
            if state.step is not None:
                keys["step"] = state.step
            slots += [(entry, key, tensor) for key, tensor in keys.items()]
        return Watched(lists, states, slots, [row.param for row in self.rows], self._grads, self.absent)
