"""Tensors that share a row of scalars, and where their step counts are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Slots
from steprule.doors.torch.staleness import ScalarTensors
from steprule.launch.evaluate import Evaluated
from steprule.launch.row import ScalarGroup

__all__ = ["StepCounts", "TensorGroup", "TensorGroups"]


@dataclass(eq=False, kw_only=True)
class TensorGroup(ScalarGroup):
    """Parameters of one group with one step count and the same scalar slots.

    Attributes:
        options: the group's.
        states: those of its parameters, whose step counts and scalar slots are written together.
    """

    options: GroupOptions
    states: list[Slots] = field(default_factory=list)

    def take_numbers(self) -> None:
        """Take over from the states what is one number of a parameter."""
        names = self.values.per_tensor
        if names:
            lines = [[state.scalars[name].item() for state in self.states] for name in names]
            self.numbers, self.fresh = np.array(lines), np.array(lines)

    @property
    def scale(self) -> float:
        """That of the loss."""
        return self.options.scale

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """All as they are in this step, to be told."""
        return {**self.values, **{name: tensor.item() for name, tensor in self.options.tensors().items()}}


class TensorGroups:
    """Sorts parameters by their options, step counts and scalar slots.

    Args:
        on_device: whether a device counts the steps, and knows the scalar slots; then options alone tell.
    """

    def __init__(self, *, on_device: bool) -> None:
        self._on_device = on_device
        self._found: dict[tuple[Any, ...], TensorGroup] = {}

    def of(self, options: GroupOptions, state: Slots, waverer: int | None = None) -> TensorGroup:
        """Return the group of a parameter, which has it from now on.

        Args:
            options, state: the parameter's.
            waverer: its place, if its gradient comes and goes: then it has a group of its own, which may rest.
        """
        t, scalars = 0, dict[str, float]()
        if not self._on_device:
            own, t = options.values.scalars, state.t
            scalars = {name: tensor.item() for name, tensor in state.scalars.items() if name in own}
        key = (id(options), t, waverer, *scalars.values())
        if key not in self._found:
            wavers = waverer is not None
            self._found[key] = TensorGroup(options.values, scalars, t + 1, options=options, wavers=wavers)
        self._found[key].states.append(state)
        return self._found[key]

    @property
    def all(self) -> list[TensorGroup]:
        """All groups, which know the numbers that are kept of their parameters."""
        groups = list(self._found.values())
        for group in groups if not self._on_device else ():
            group.take_numbers()
        return groups


class StepCounts:
    """The step counts and scalar slots of all rows: tensors of the optimizer's state, written together."""

    def __init__(self, groups: Sequence[TensorGroup]) -> None:
        tensors: list[Tensor] = []
        parts: list[tuple[int, str, int]] = []
        for index, group in enumerate(groups):
            steps = [state.step for state in group.states if state.step is not None]
            names = (*group.scalars, *group.values.per_tensor)
            named = [(name, [state.scalars[name] for state in group.states]) for name in names]
            for name, own in [("", steps), *named]:
                tensors += own
                parts.append((index, name, len(own)))
        self.numbers = ScalarTensors(tensors)
        ends = itertools.accumulate(n for _, _, n in parts)
        self._parts: list[tuple[int, int, list[Any]]] = []
        self._own_parts: list[tuple[TensorGroup, int, list[Any]]] = []
        for (index, name, n), end in zip(parts, ends, strict=True):
            group = groups[index]
            columns = self.numbers.part(end - n, end) if n else []
            if name in group.values.per_tensor:
                self._own_parts.append((group, group.values.per_tensor.index(name), columns))
            elif n:
                place = list(group.scalars).index(name) if name else -1
                self._parts.append((index, place, columns))
        self._groups = groups
        self._with_numbers = [index for index, own in enumerate(groups) if own.scalars or own.values.per_tensor]

    def set(self, evaluated: Sequence[Evaluated]) -> None:
        """Let a launch write into the tensors what follows from this step."""
        for index, place, columns in self._parts:
            if self._groups[index].rests:
                continue  # what is written is what is there
            number = evaluated[index][1][place] if place >= 0 else self._groups[index].t
            for column in columns:
                column.fill(number)
        for group, place, columns in self._own_parts:
            for column in columns if not group.rests else ():
                column[:] = group.fresh[place]

    def advance(self, evaluated: Sequence[Evaluated]) -> None:
        """Make the groups ready for the step after this one, which has been taken."""
        for group in self._groups:
            group.t += not group.rests
        for index in self._with_numbers:
            group = self._groups[index]
            if group.rests:
                continue
            group.scalars = dict(zip(group.scalars, evaluated[index][1], strict=True))
            group.numbers[...] = group.fresh
