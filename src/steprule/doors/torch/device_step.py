"""Steps whose scalars are computed on the device, since they depend on what only the device knows.

Step counts and scalar slots lie there, in the optimizer's state; so do the sums that guards decide by. Nothing waits
for the device, and all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.backends import triton_decide, triton_prelude
from steprule.doors.torch import devices
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.device_products import DeviceWork
from steprule.doors.torch.device_table import DeviceTable, Int64s, launches_of, totals_of
from steprule.doors.torch.device_totals import OverAll, RowSums
from steprule.doors.torch.rows import Stepped
from steprule.doors.torch.values import DeviceHyperparameters
from steprule.engine import PassKey, kind_of
from steprule.errors import StateError
from steprule.launch.backend import Bound
from steprule.launch.evaluate import Evaluated
from steprule.launch.guards import Gradients, Guards
from steprule.launch.readings import Reading
from steprule.launch.recipe import Recipe, reading
from steprule.launch.sums import blocks_of
from steprule.launch.totals import check_alike, sizes_of
from steprule.runtime import gpu

__all__ = ["DeviceStep"]

_STEPS = ("step", "monitored")


class DevicePass:
    """One pass of a step: the scalars of every row, and then the kernels that read them.

    Args:
        which: what is done. ``"step"`` and ``"monitored"`` count the step.
        stepped: the parameters, all on one device.
        steps: their step counts.
        before: the passes whose sums enter the scalars.
        size: how many elements all parameters have.
        is_guarded: whether the device may decide that a step is not taken.
    """

    def __init__(
        self,
        which: PassKey,
        stepped: Sequence[Stepped],
        steps: Sequence[Tensor],
        before: Sequence[DevicePass] = (),
        *,
        size: int = 1,
        is_guarded: bool = False,
    ) -> None:
        self._which, self._stepped, self._steps, self._before = which, stepped, steps, before
        self._size, self._is_guarded = size, is_guarded
        self._device = stepped[0].param.device
        items = [_bound(own, which) for own in stepped]
        self.columns = len(items[0].kernel.plan.sums)
        lines = [blocks_of(item.kernel.plan, item.row.memories[0].shape) for item in items]
        sizes = [count * len(item.kernel.plan.sums) for count, item in zip(lines, items, strict=True)]
        self._flat = torch.zeros(sum(sizes), dtype=torch.float64, device=self._device)
        self.sums: dict[int, RowSums] = {}
        self._tables: list[tuple[list[int], DeviceTable]] = []
        first = 0
        for places in launches_of(items):
            size = sum(sizes[place] for place in places)
            self._add(places, [items[place] for place in places], self._flat[first : first + size])
            first += size
        self.waits = self._is_step and any(item.kernel.plan.totals for item in items)
        """Whether slots depend on what the pass itself sums."""
        tables = [places for places, _ in self._tables]
        plans, rows = [item.kernel.plan for item in items], [item.row for item in items]
        self.over_all = OverAll(plans, self._device, tables, self.sums, rows)
        self._groups = list({id(own): own for own in (stepped.options for stepped in stepped)}.values())
        self._values = {id(own): DeviceHyperparameters(own, self._device) for own in self._groups}
        self._write()

    def _add(self, places: list[int], items: list[Bound], flat: Tensor) -> None:
        plan = items[0].kernel.plan
        columns = len(plan.sums)
        out = flat.reshape(-1, columns) if columns else flat.reshape(0, 0)
        table = DeviceTable(items, out, is_guarded=self._is_guarded)
        self.sums |= {id(item.row): table.sums_of(place) for place, item in enumerate(items)}
        self._tables.append((places, table))

    @property
    def out(self) -> Tensor:
        """The partial sums, one line per block, where all rows have equally many."""
        return self._flat.reshape(-1, self.columns)

    @property
    def _is_step(self) -> bool:
        """Whether it moves the parameters, and counts the step; others only look."""
        return self._which in _STEPS

    def _write(self) -> None:
        """Write the tables of the kernels that compute scalars."""
        self._seeds = [own.values.seed for own in self._groups]
        self._preludes = [self._prelude(places, table) for places, table in self._tables]

    def _prelude(self, places: list[int], table: DeviceTable) -> tuple[Tensor, Any, int]:
        plan = self._stepped[places[0]].row.kernel_of(self._which).plan
        prelude, stages = (
            plan.prelude,
            [*self._before[: len(plan.before)], *[self][: len(plan.stages) - len(plan.before)]],
        )
        kept = self._stepped[places[0]].state.scalars
        read = [name for name in prelude.arguments if name in kept and name not in prelude.scalar_slots]
        integers = np.zeros((len(places), triton_prelude.width_of(prelude, plan.stages, read)), np.int64)
        for line, i in enumerate(places):
            own, step = self._stepped[i], self._steps[i]
            values = self._values[id(own.options)].address(prelude.arguments)
            slots = [devices.address_of(own.state.scalars[name]) for name in (*prelude.scalar_slots, *read)]
            is_double = int(step.dtype is torch.float64)
            at = [values, devices.address_of(step), is_double, table.scalars(line), own.options.values.seed or 0]
            sums = [word for stage in stages for word in (*stage.sums[id(own.row)], *stage.over_all.words)]
            integers[line] = [*at, *sizes_of(own.row, plan.view), max(1, self._size), *slots, *sums]
        sent = devices.sent(torch.from_numpy(integers), self._device)
        kernel = gpu.load(triton_prelude.emit(prelude, plan.stages, read))
        threads = triton_prelude.threads_of(prelude, plan.stages)
        for guarded in {self._is_guarded or not self._is_step, self._is_guarded or self.waits or not self._is_step}:
            gpu.prepare(kernel, threads, 0, 0, GUARDED=guarded)
        return sent, kernel, threads

    def set_gradients(self, addresses: Int64s) -> None:
        """Let the gradients lie at these addresses."""
        for places, table in self._tables:
            table.set_gradients(addresses[places])

    def send(self) -> None:
        """Copy to the device what has changed."""
        if self._seeds != [own.values.seed for own in self._groups]:
            self._write()
        for values in self._values.values():
            values.send()
        for _, table in self._tables:
            table.send_gradients()

    def run(self, decision: Tensor, taken: Tensor | None, looking: Tensor | None = None) -> None:
        """Compute the scalars, launch the kernels, and compute what slots take of their sums.

        Args:
            decision: its factor enters the scalars, and steps are counted if it says that they are taken.
            taken: what says whether they are; None: they are.
            looking: a decision not to take the step, for a pass that ``waits``.
        """
        is_first = self.waits and looking is not None
        self._compute(
            looking if is_first and looking is not None else decision, is_guarded=is_first or taken is not None
        )
        for _, table in self._tables:
            table.run(taken if self._is_step else None)
        self.over_all.run()
        if is_first:
            self._compute(decision, is_guarded=taken is not None)
        if devices.is_capturing(self._device):
            devices.keep_alive(*(integers for integers, _, _ in self._preludes), *self._steps, self._flat, decision)

    def _compute(self, decision: Tensor, *, is_guarded: bool) -> None:
        for (places, _), (integers, kernel, threads) in zip(self._tables, self._preludes, strict=True):
            addresses = devices.address_of(integers), devices.address_of(decision)
            gpu.launch(kernel, len(places), threads, *addresses, GUARDED=is_guarded)

    def count(self, place: int) -> int:
        """Return the number of the step that a row has taken last. Waits for the device."""
        return int(self._steps[place].item())

    def totals(self) -> list[list[float]]:
        """Return the sums of each row, one line per row. Waits for the device."""
        return totals_of(self._tables)


class DeviceStep(Recipe[DevicePass]):
    """Steps parameters on one device as the device decides, with scalars that it computes.

    Args:
        stepped: the parameters, with step counts and scalar slots on the device.
        guards: the options.
        decision: what is decided.
        found: what ``GradScaler`` has found: not 0 if gradients are not finite; None: it was not at work.
        before, after: what else a step does, before and after the rows. The first of ``before`` may fail.
    """

    def __init__(
        self,
        stepped: Sequence[Stepped],
        guards: Guards,
        decision: Decision,
        found: Tensor | None,
        before: Sequence[Callable[[], None]],
        after: Sequence[Callable[[], None]],
    ) -> None:
        self._decision, self._found, self._stepped = decision, found, stepped
        self._decides = guards.measures or found is not None
        self._counts = _counts(stepped)
        self._device = stepped[0].param.device
        self._follower = devices.Follower(self._device)
        self._work = DeviceWork([own.row for own in stepped])
        with devices.on(self._device):
            super().__init__([own.row for own in stepped], guards, before, after)
            self._prepare()
        self.is_done = False
        """Whether the step that was begun has been launched."""

    def _pass(self, which: PassKey, places: Sequence[int]) -> DevicePass:
        stepped, counts = [self._stepped[place] for place in places], [self._counts[place] for place in places]
        before = [stage for stage, _ in self._sums.get(kind_of(which), ())]
        size = sum(own.row.memories[0].size for own in self._stepped)
        if which in _STEPS:
            groups = list({id(own.options): own.options.values for own in self._stepped}.values())
            check_alike([(own.plan(which), own.place) for own in groups], [own.rule for own in groups])
        with devices.on(self._device):
            return DevicePass(which, stepped, counts, before, size=size, is_guarded=self._decides and which in _STEPS)

    def _prepare(self) -> None:
        """Make the kernel that decides."""
        none = torch.empty((0, 1), dtype=torch.float64, device=self._device)
        self._squares = none if self._norm is None else self._norm.out
        skips, clips = self._guards.nonfinite == "skip", self._guards.clip_norm is not None
        self._choices = {"COLUMNS": self._squares.shape[1], "SKIPS": skips, "CLIPS": clips}
        self._kernel = gpu.load(triton_decide.emit())
        if self._decides:
            gpu.prepare(self._kernel, triton_decide.THREADS, *[0] * 4, **self._choices)

    def fits(self, found: Tensor | None) -> bool:
        """Whether it serves where ``GradScaler`` has found this, which then is what counts."""
        if (found is None) != (self._found is None) or (found is not None and found.device != self._device):
            return False
        self._found = found
        return True

    def factor(self, gradients: Gradients, others: Sequence[Sequence[float]] = ()) -> float:
        """Raise what an earlier step has found, as far as the device has told. Factors are the device's affair.

        Raises:
            NonFiniteError: when too many steps in a row were skipped.
        """
        self._decision.check()
        return 1.0

    def begin(self) -> None:
        """Make ready for a step, which from now on is not done."""
        self.is_done = False

    def prepare(self, factor: float, *, is_read: bool = False) -> list[Evaluated]:
        """Return nothing: scalars are computed on the device."""
        return []

    def _count(self) -> None:
        self.is_done = True  # the device has counted it

    def _readings(self, monitored: DevicePass, names: Sequence[str]) -> list[Reading]:
        if self._decides and not self._decision.taken[0].item():
            return []
        lines = enumerate(zip(self.rows, monitored.totals(), strict=True))
        return [reading(row, names, monitored.count(k), line) for k, (row, line) in lines if row.memories[0].size]

    def _move(self, last: DevicePass) -> None:
        """Launch all kernels of a step: nothing waits for the device in between."""
        decision = self._decision
        summing = [stage for stage, _ in self._sums["step" if last is self._step else "monitored"]]
        with devices.on(self._device):
            self._follower.follow(decision.numbers, decision.not_taken)
            for stage in (self._norm, *summing, last):  # what can fail for lack of memory comes first
                if stage is not None:
                    stage.send()
            if self._norm is not None:
                self._norm.run(decision.not_taken, decision.not_taken[1:])
            if self._decides:
                self._decide()
            if summing or last.waits:
                decision.share_factor()
            for number, stage in enumerate(summing):
                stage.run(decision.not_taken, decision.not_taken[1:])
                self._work.multiply(number)
            last.run(decision.numbers, decision.taken if self._decides else None, decision.not_taken)
            if self._decides:
                decision.request()

    def _decide(self) -> None:
        sums = self._squares
        told = None if self._found is None else self._found.detach().to(torch.float32)
        found = 0 if told is None else devices.address_of(told)
        addresses = devices.address_of(sums), found, devices.address_of(self._decision.numbers), len(sums)
        gpu.launch(self._kernel, 1, triton_decide.THREADS, *addresses, **self._choices)
        if devices.is_capturing(self._device):
            devices.keep_alive(self._decision.numbers, self._decision.not_taken, told)


def _bound(own: Stepped, which: PassKey) -> Bound:
    """Return the row with the kernel of a pass, and room for its scalars."""
    return Bound(own.row, own.row.kernel_of(which), own.row.group.values.new_row(which))


def _counts(stepped: Sequence[Stepped]) -> list[Tensor]:
    """Return the step counts of rows; one without has one here, for a rule that asks for the first step alone.

    Raises:
        StateError: where two share one, which would count twice.
    """
    counts = [
        torch.full((), float(own.state.t), dtype=torch.float32, device=own.param.device)
        if own.state.step is None
        else own.state.step
        for own in stepped
    ]
    if len({devices.address_of(count) for count in counts}) < len(counts):
        raise StateError(
            "two parameters share one tensor as their step count, which a device would count twice; nothing was "
            "stepped. Load a state dict in which each has its own"
        )
    return counts
