"""Tensors that share a row of scalars, and where their step counts are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
        t = 0 if self._on_device else state.t
        scalars = {} if self._on_device else {name: tensor.item() for name, tensor in state.scalars.items()}
        key = (id(options), t, waverer, *scalars.values())
        if key not in self._found:
            wavers = waverer is not None
            self._found[key] = TensorGroup(options.values, scalars, t + 1, options=options, wavers=wavers)
        self._found[key].states.append(state)
        return self._found[key]

    @property
    def all(self) -> list[TensorGroup]:
        """All groups."""
        return list(self._found.values())


class StepCounts:
    """The step counts and scalar slots of all rows: tensors of the optimizer's state, written together."""

    def __init__(self, groups: Sequence[TensorGroup]) -> None:
        tensors: list[Tensor] = []
        parts: list[tuple[int, str, int]] = []
        for index, group in enumerate(groups):
            steps = [state.step for state in group.states if state.step is not None]
            named = [(name, [state.scalars[name] for state in group.states]) for name in group.scalars]
            for name, own in [("", steps), *named]:
                tensors += own
                parts.append((index, name, len(own)))
        self.numbers = ScalarTensors(tensors)
        ends = itertools.accumulate(n for _, _, n in parts)
        self._parts: list[tuple[int, int, list[Any]]] = []
        for (index, name, n), end in zip(parts, ends, strict=True):
            place = list(groups[index].scalars).index(name) if name else -1
            if n:
                self._parts.append((index, place, self.numbers.part(end - n, end)))
        self._groups = groups
        self._with_scalars = [index for index, group in enumerate(groups) if group.scalars]

    def set(self, evaluated: Sequence[Evaluated]) -> None:
        """Let a launch write into the tensors what follows from this step."""
        for index, place, columns in self._parts:
            if self._groups[index].rests:
                continue  # what is written is what is there
            number = evaluated[index][1][place] if place >= 0 else self._groups[index].t
            for column in columns:
                column.fill(number)

    def advance(self, evaluated: Sequence[Evaluated]) -> None:
        """Make the groups ready for the step after this one, which has been taken."""
        for group in self._groups:
            group.t += not group.rests
        for index in self._with_scalars:
            group = self._groups[index]
            if group.rests:
                continue
            group.scalars = dict(zip(group.scalars, evaluated[index][1], strict=True))
