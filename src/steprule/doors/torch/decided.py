"""Steps whose scalars are computed on the device, since they depend on what only the device knows.

Step counts and scalar slots lie there, in the optimizer's state; so do the sums that guards decide by. Nothing waits
for the device, and all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.backends import triton_decide, triton_prelude
from steprule.doors.torch import devices
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.device_table import DeviceTable, Words, launches_of, totals_of
from steprule.doors.torch.rows import Stepped
from steprule.doors.torch.values import Values
from steprule.engine import Task
from steprule.errors import StateError
from steprule.launch.backend import Bound
from steprule.launch.evaluate import Evaluated
from steprule.launch.guards import Gradients, Guards
from steprule.launch.launch import NOTHING, reading, whole
from steprule.launch.readings import Reading
from steprule.launch.sums import blocks_of
from steprule.runtime import gpu

__all__ = ["Decided"]

Sums = tuple[int, int]
"""The address of a row's partial sums, and how many there are."""
_NO_SUMS: Sums = (0, 0)


class Stage:
    """One task of a step: the scalars of every row, and then the kernels that read them.

    Args:
        task: what is done. ``"step"`` counts the step.
        stepped: the parameters, all on one device.
        steps: their step counts.
        ratios: of each row, the sums that lower its learning rate.
        is_guarded: whether the device may decide that a step is not taken.
    """

    def __init__(
        self,
        task: Task,
        stepped: Sequence[Stepped],
        steps: Sequence[Tensor],
        ratios: Sequence[Sums],
        *,
        is_guarded: bool,
    ) -> None:
        self._task, self._stepped, self._steps, self.ratios = task, stepped, steps, ratios
        self._is_guarded = is_guarded
        self._device = stepped[0].param.device
        items = [_bound(own, task) for own in stepped]
        self.columns = len(items[0].kernel.plan.sums)
        lines = [blocks_of(item.kernel.plan, item.row.memories[0].shape) for item in items]
        sizes = [count * len(item.kernel.plan.sums) for count, item in zip(lines, items, strict=True)]
        self._flat = torch.zeros(sum(sizes), dtype=torch.float64, device=self._device)
        self.sums: list[Sums] = [_NO_SUMS] * len(items)
        self._tables: list[tuple[list[int], DeviceTable]] = []
        first = 0
        for places in launches_of(items):
            size = sum(sizes[place] for place in places)
            self._add(places, [items[place] for place in places], self._flat[first : first + size])
            first += size
        self._groups = list({id(own): own for own in (stepped.options for stepped in stepped)}.values())
        self._values = {id(own): Values(own, self._device) for own in self._groups}
        self._write()

    def _add(self, places: list[int], items: list[Bound], flat: Tensor) -> None:
        plan = items[0].kernel.plan
        columns = len(plan.sums)
        out = flat.reshape(-1, columns) if columns else flat.reshape(0, 0)
        table = DeviceTable(items, out, is_guarded=self._is_guarded)
        for place, item, start in zip(places, items, table.blocks.starts.tolist(), strict=False):
            count = blocks_of(plan, item.row.memories[0].shape)
            self.sums[place] = (devices.address_of(out) + out.element_size() * columns * start, count)
        self._tables.append((places, table))

    @property
    def out(self) -> Tensor:
        """The partial sums, a line a block, where all rows have equally many."""
        return self._flat.reshape(-1, self.columns)

    @property
    def _steps_rows(self) -> bool:
        """Whether it moves the parameters, and counts the step; others only look."""
        return self._task in ("step", "watch")

    def _write(self) -> None:
        """Write the tables of the kernels that compute scalars."""
        self._seeds = [own.values.seed for own in self._groups]
        self._preludes = [self._prelude(places, table) for places, table in self._tables]

    def _prelude(self, places: list[int], table: DeviceTable) -> tuple[Tensor, Any, int]:
        prelude = self._stepped[places[0]].row.kernel_of(self._task).plan.prelude
        words = np.zeros((len(places), triton_prelude.width_of(prelude)), np.int64)
        for line, i in enumerate(places):
            own, step = self._stepped[i], self._steps[i]
            values = self._values[id(own.options)].address(prelude.arguments)
            slots = [devices.address_of(own.state.scalars[name]) for name in prelude.scalar_slots]
            is_double = int(step.dtype is torch.float64)
            at = [values, devices.address_of(step), is_double, table.scalars(line), own.options.values.seed or 0]
            words[line] = [*at, *self.ratios[i], own.row.memories[0].size, *slots]
        home = devices.sent(torch.from_numpy(words), self._device)
        kernel, threads = gpu.load(triton_prelude.emit(prelude)), triton_prelude.threads_of(prelude)
        gpu.prepare(kernel, threads, 0, 0, GUARDED=self._is_guarded or not self._steps_rows)
        return home, kernel, threads

    def look(self, addresses: Words) -> None:
        """Let the gradients lie at these addresses."""
        for places, table in self._tables:
            table.look(addresses[places])

    def send(self) -> None:
        """Copy to the device what has changed."""
        if self._seeds != [own.values.seed for own in self._groups]:
            self._write()
        for values in self._values.values():
            values.send()
        for _, table in self._tables:
            table.send_gradients()

    def run(self, decision: Tensor, taken: Tensor | None) -> None:
        """Compute the scalars, and launch the kernels.

        Args:
            decision: its factor enters the scalars, and steps are counted if it says that they are taken.
            taken: what says whether they are; None: they are.
        """
        for (places, table), (words, kernel, threads) in zip(self._tables, self._preludes, strict=True):
            addresses = devices.address_of(words), devices.address_of(decision)
            gpu.launch(kernel, len(places), threads, *addresses, GUARDED=taken is not None)
            table.run(taken if self._steps_rows else None)
        if devices.is_capturing(self._device):
            devices.keep_alive(*(words for words, _, _ in self._preludes), *self._steps, self._flat, decision)

    def count(self, place: int) -> int:
        """Return the number of the step that a row has taken last. Waits for the device."""
        return int(self._steps[place].item())

    def totals(self) -> list[list[float]]:
        """Return the sums of each row, a line a row. Waits for the device."""
        return totals_of(self._tables)


class Decided:
    """Parameters on one device that are stepped as the device decides: what ``Launch`` is where the host does.

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
        self._guards, self._decision, self._found, self._stepped = guards, decision, found, stepped
        self._before, self._after = before, after
        self._watch: Stage | None = None
        self._decides = guards.measures or found is not None
        none = [_NO_SUMS] * len(stepped)
        self._steps = _counts(stepped)
        self._device = stepped[0].param.device
        self._follower = devices.Follower(self._device)
        with devices.on(self._device):
            self._norm = Stage("norm", stepped, self._steps, none, is_guarded=False) if guards.measures else None
            self._ratio = Stage("ratio", stepped, self._steps, none, is_guarded=False) if guards.update_clip else None
            ratios = none if self._ratio is None else self._ratio.sums
            self._step = Stage("step", stepped, self._steps, ratios, is_guarded=self._decides)
            self._prepare()
        self._gradients = np.array([own.row.memories[1].address for own in stepped], np.int64)
        self.is_done = False
        """Whether the step that was begun has been launched."""

    def _prepare(self) -> None:
        """Make the kernel that decides."""
        none = torch.empty((0, 1), dtype=torch.float64, device=self._device)
        self._sums = none if self._norm is None else self._norm.out
        skips, clips = self._guards.nonfinite == "skip", self._guards.clip_norm is not None
        self._choices = {"COLUMNS": self._sums.shape[1], "SKIPS": skips, "CLIPS": clips}
        self._kernel = gpu.load(triton_decide.emit())
        if self._decides:
            gpu.prepare(self._kernel, triton_decide.THREADS, *[0] * 4, **self._choices)

    def look(self, addresses: Words) -> None:
        """Let the gradients lie at these addresses."""
        self._gradients = addresses.copy()
        for stage in (self._norm, self._ratio, self._step, self._watch):
            if stage is not None:
                stage.look(addresses)

    def asks(self, found: Tensor | None) -> bool:
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

    def prepare(self, factor: float, task: Task = "step") -> list[Evaluated]:
        """Return nothing: scalars are computed on the device."""
        return []

    def run(self, around: AbstractContextManager[Any] = NOTHING) -> None:
        """Launch all kernels of a step. A signal finds all of it launched, or nothing."""
        self._take(self._step, around, lambda: None)

    def read(
        self, names: Sequence[str], readings: list[Reading], around: AbstractContextManager[Any] = NOTHING
    ) -> None:
        """Launch all kernels of a step that is read, and add what it did to ``readings``. Waits for the device."""
        if self._watch is None:
            with devices.on(self._device):
                ratios = self._step.ratios
                self._watch = Stage("watch", self._stepped, self._steps, ratios, is_guarded=self._decides)
            self._watch.look(self._gradients)
        watch = self._watch
        self._take(watch, around, lambda: readings.extend(self._readings(watch, names)))

    def _take(self, last: Stage, around: AbstractContextManager[Any], tell: Callable[[], None]) -> None:
        def done() -> None:
            self.is_done = True
            tell()

        whole([*self._before, lambda: self._run([last]), *self._after], around, done)

    def _readings(self, watch: Stage, names: Sequence[str]) -> list[Reading]:
        if self._decides and not self._decision.taken[0].item():
            return []
        rows = [
            (place, own.row, line) for place, (own, line) in enumerate(zip(self._stepped, watch.totals(), strict=True))
        ]
        return [reading(row, names, watch.count(place), line) for place, row, line in rows if row.memories[0].size]

    def _run(self, stages: Sequence[Stage]) -> None:
        decision = self._decision
        looking = [stage for stage in (self._norm, self._ratio) if stage is not None]
        with devices.on(self._device):
            self._follower.follow(decision.numbers, decision.looking)
            for stage in (*looking, *stages):  # what can fail for want of memory comes first
                stage.send()
            if self._norm is not None:
                self._norm.run(decision.looking, decision.looking[1:])
            if self._decides:
                self._decide()
            if self._ratio is not None:
                decision.look()
                self._ratio.run(decision.looking, decision.looking[1:])
            for stage in stages:
                stage.run(decision.numbers, decision.taken if self._decides else None)
            if self._decides:
                decision.tell()

    def _decide(self) -> None:
        sums = self._sums
        told = None if self._found is None else self._found.detach().to(torch.float32)
        found = 0 if told is None else devices.address_of(told)
        addresses = devices.address_of(sums), found, devices.address_of(self._decision.numbers), len(sums)
        gpu.launch(self._kernel, 1, triton_decide.THREADS, *addresses, **self._choices)
        if devices.is_capturing(self._device):
            devices.keep_alive(self._decision.numbers, self._decision.looking, told)


def _bound(own: Stepped, task: Task) -> Bound:
    """Return the row with the kernel of a task, and room for its scalars."""
    return Bound(own.row, own.row.kernel_of(task), own.row.group.values.new_row(task))


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
