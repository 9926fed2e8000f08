"""One launch over the parameters that kernels step, to be used again while nothing that it depends on has changed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.doors.torch import devices
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.device_step import DeviceStep
from steprule.doors.torch.device_table import TRITON, check_capture, shared_places
from steprule.doors.torch.groups import StepCounts
from steprule.doors.torch.guards import squares
from steprule.doors.torch.layout import Entries, Layout
from steprule.doors.torch.memory import tensor_memory
from steprule.doors.torch.odd import OddGradients
from steprule.doors.torch.openmp import team
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Stepped
from steprule.doors.torch.shards import are_sharded_as, is_sharded, locals_of
from steprule.doors.torch.staleness import LaunchInputs, StalenessCheck, guards_of
from steprule.formats import Formats
from steprule.launch.aliasing import Aliasing
from steprule.launch.evaluate import Evaluated
from steprule.launch.guards import Gradients, Guards
from steprule.launch.launch import Launch
from steprule.launch.machine import MACHINE
from steprule.launch.memory import array_memory
from steprule.launch.readings import Reading
from steprule.launch.recipe import NOTHING
from steprule.launch.values import GroupValues
from steprule.rules.rule import Variant

__all__ = ["TensorLaunch"]


class TensorLaunch:
    """Steps the parameters of a layout.

    Args:
        layout: what the step consists of. Steps by torch come first, of which the first may fail, and then nothing has
            moved; what is put back comes last, and cannot fail.
        guards: what decides about steps.
        decision: for a step that is decided on the device that all rows lie on; None: this machine decides.
        found: what ``GradScaler`` found, for the device's decision.

    Attributes:
        groups: of the rows, with their step counts and scalar slots where this machine has them.
    """

    def __init__(
        self, layout: Layout, guards: Guards, decision: Decision | None = None, found: Tensor | None = None
    ) -> None:
        self._eager, self._guards = layout.eager_grads, guards
        # The values of tensors that were made in inference mode have no versions.
        self._params = [(own.whole, own.row.group) for own in layout.stepped if not own.whole.is_inference()]
        self._all_params = [param for param, _ in self._params]
        self.groups = groups = layout.groups.all
        self._waver = any(group.wavers for group in groups)
        self._odd = OddGradients((), ())
        # A device that decides counts the steps of empty parameters as well; and what is kept of them may move on.
        stepped = [own for own in layout.stepped if decision is not None or _has_numbers(own)]
        self._counts = StepCounts([] if decision else groups)
        self._rows = rows = [own.row for own in stepped]
        self._has_copies, self._is_ordered = self._copy_aliased(stepped), self._order_shared()
        around = layout.eager, layout.put_back
        self._launch: Launch | DeviceStep
        if decision is not None:
            self._launch = DeviceStep(stepped, guards, decision, found, *around)
        else:
            commit = self._counts.numbers.commit
            self._launch = Launch(rows, groups, guards, commit, self._counts.set, team, *around)
        self._device_rows = [] if decision else [row for row in rows if row.backend is TRITON]
        self._needs_no_decision = not (self._eager or guards.measures or decision or self._device_rows)
        self._is_kept = not (self._has_copies or self._is_ordered or any(around))

    def _copy_aliased(self, stepped: Sequence[Stepped]) -> bool:
        """Let gradients that lie in a parameter or slot be copies, and return whether there are any."""
        self._aliasing = aliasing = Aliasing(self._rows)
        aliased = aliasing.find(np.array([row.memories[1].address for row in self._rows], np.int64))
        for place in aliased:
            row = self._rows[place]
            if row.backend is MACHINE:
                row.memories[1] = array_memory(row.memories[1].array().copy(order="K"))
            else:
                row.memories[1] = tensor_memory(stepped[place].grad.detach().clone(), is_kept=True)
        return bool(aliased)

    def _order_shared(self) -> bool:
        """Let parameters that share memory be stepped one after the other, as by torch; return whether some do."""
        shared = shared_places(self._rows)
        for place in shared:
            if self._rows[place].backend is MACHINE:
                self._rows[place].is_apart, self._rows[place].is_direct = True, False
        return bool(shared)

    def prepare_reuse(self, layout: Layout, options: Sequence[GroupOptions]) -> bool:
        """Make ready for ``is_valid``, and return whether it may serve again."""
        inputs = layout.launch_inputs(options) if self._is_kept else None
        if inputs is not None:
            self._record(inputs, layout)
        return inputs is not None

    def _record(self, inputs: LaunchInputs, layout: Layout) -> None:
        """Take note of all that the launch depends on. Gradients are not kept: their memory is not ours."""
        self._odd = OddGradients(layout.odd, self._rows)
        odd = self._odd.places
        self._all = sum(map(len, inputs.lists))
        self._present = _getter([own.row.place for own in layout.stepped if own.row.place not in odd], self._all)
        self._seen = b""
        self._stamps = [(own, *own.stamp) for own in inputs.options]
        self._staleness = StalenessCheck(
            inputs, [row.place for row in self._rows if row.place not in odd], self._counts.numbers
        )
        # These tell of a conjugation or a sign that is due on complex tensors. That a real tensor is given a sign that
        # is due where it lies, by `.data =`, is not noticed.
        kept = [*inputs.params, *(tensor for _, _, tensor in inputs.slots)]
        self._sharded = [(own.row.place, own.whole) for own in layout.stepped if is_sharded(own.whole)]
        self._complex = [tensor for tensor in kept if tensor.is_complex()]
        self._tensor_guards = guards_of([*self._complex, *inputs.grads])

    def fits(self, found: Tensor | None) -> bool:
        """Whether the launch serves where ``GradScaler`` has found this; a device that decides is told."""
        return not isinstance(self._launch, DeviceStep) or self._launch.fits(found)

    def is_valid(
        self,
        options: Sequence[GroupOptions],
        states: list[Any],
        grads: list[Any],
        read: Callable[[Tensor, Mapping[str, Any]], Tensor],
    ) -> bool:
        """Whether the launch serves another step, along these gradients: all that it depends on is as it was.

        Args:
            options, states, grads: all there are now.
            read: returns a gradient as it is read.
        """
        if len(options) != len(self._stamps) or not all(map(_is_as_stamped, options, self._stamps)):
            return False
        if self._sharded:
            if not are_sharded_as(grads, self._sharded):
                return False
            grads = locals_of(grads)
        if len(grads) != self._all or not self._tensor_guards(*self._complex, *self._present(grads)):
            return False
        if not self._staleness.is_unchanged(states, grads):
            return False
        found, has_odd = self._staleness.found, bool(self._odd)
        if has_odd:
            if not self._odd.follow(grads, read):
                return False
            found = self._odd.addresses(found)
        seen = found.tobytes()
        if seen == self._seen and not has_odd:  # those may have other strides in the same place
            return True
        if self._aliasing.find(found):
            return False
        if seen == self._seen:
            return True
        self._seen = b""  # neither the old nor the new while they are written: a signal handler may raise
        self._launch.set_gradients(found)
        self._seen = seen
        return True

    def factor(self, gradients: Gradients) -> float | None:
        """Return what the gradients are multiplied by; None if the step is to be skipped.

        Raises:
            NonFiniteError: as the options say.
        """
        if self._needs_no_decision:
            return 1.0
        check_capture(self._device_rows)
        if any(devices.is_capturing(grad.device) for grad, _ in self._eager):
            raise RuntimeError(
                "step() is captured in a CUDA graph, and some parameters are stepped by torch operations (DTensor and "
                "other subclasses, no Triton), whose numbers come from the host; nothing was captured"
            )
        if not self._guards.measures:
            return self._launch.factor(gradients)
        others = [squares(grad, options) for grad, options in self._eager]
        factor = self._launch.factor(gradients, others)
        for _, options in self._eager:
            options.set_factor(1.0 if factor is None else factor)
        return factor

    def begin(self) -> None:
        """Make ready for a step, which from now on is not done: the one before was."""
        self._launch.begin()

    def take(
        self, factor: float, entries: Entries | None, names: Sequence[str] | None, readings: list[Reading]
    ) -> None:
        """Take the step that was begun: fresh state, arrays, counts, scalar slots. A signal finds all done, or nothing.

        A launch whose step was not taken must not be used again.

        Args:
            factor: what the gradients are multiplied by.
            entries: what comes into the optimizer's state.
            names: what messages call the parameters, for a step that is read; else None.
            readings: to be added to.
        """
        around = NOTHING if entries is None or entries.is_empty else entries
        evaluated: list[Evaluated] = self._launch.prepare(factor, is_read=names is not None)
        # As operations in place do, so that autograd refuses a graph that has saved the old numbers.
        torch.autograd.graph.increment_version(
            [param for param, group in self._params if not group.rests] if self._waver else self._all_params
        )
        if names is None:
            self._launch.run(around)
        else:
            self._launch.read(names, readings, around)
        self.release()
        self._counts.advance(evaluated)

    def release(self) -> None:
        """Let go of gradients that ``is_valid`` has read, when the step is taken or skipped."""
        self._odd.release()

    @property
    def is_calm(self) -> bool:
        """Whether the launch is no longer valid since gradients that came and went may be there for good."""
        return self._odd.is_calm

    @property
    def is_captured(self) -> bool:
        """Whether a CUDA graph is captured, in which nothing can be read."""
        return any(devices.is_capturing(row.device) for row in self._rows if row.backend is TRITON)

    @property
    def device_decides(self) -> bool:
        """Whether the device decides about steps."""
        return isinstance(self._launch, DeviceStep)

    @property
    def is_done(self) -> bool:
        """Whether the step that was begun has been taken."""
        return self._launch.is_done


def _has_numbers(own: Stepped) -> bool:
    """Whether a parameter has elements, here or elsewhere, or something is kept of it that is not theirs."""
    has_more = own.options.values.per_tensor or own.options.rule.vectors or own.row.shard.share
    return bool(own.row.memories[1].size or has_more)


def _getter(places: Sequence[int], count: int) -> Callable[[list[Any]], Sequence[Any]]:
    """Return what takes the items at these places out of a list of ``count``."""
    if len(places) == count:
        return lambda items: items
    if len(places) < 2:
        return lambda items: [items[place] for place in places]
    return operator.itemgetter(*places)


def _is_as_stamped(own: GroupOptions, stamp: tuple[GroupOptions, GroupValues, Variant, Formats, list[Tensor]]) -> bool:
    values, variant, formats, params = own.stamp
    same = own is stamp[0] and values is stamp[1] and params is stamp[4]
    return same and variant == stamp[2] and formats == stamp[3]
