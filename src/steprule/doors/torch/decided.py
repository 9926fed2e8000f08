"""Steps whose scalars are computed on the device, since they depend on what only the device knows.

Step counts and scalar slots lie there, in the optimizer's state; so do the sums that guards decide by. Nothing waits
for the device, and all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.backends import triton_decide, triton_prelude
from steprule.doors.guards import Guards
from steprule.doors.readings import Reading
from steprule.doors.sums import alike, blocks_of
from steprule.doors.torch import devices
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.device_table import DeviceTable, Words, launches_of, totals_of
from steprule.doors.torch.rows import Row
from steprule.doors.torch.values import Values
from steprule.doors.torch.watched import reading, sums_of
from steprule.engine import Task
from steprule.errors import StateError
from steprule.runtime import gpu

__all__ = ["Decided"]

Sums = tuple[int, int]
"""The address of a row's partial sums, and how many there are."""
_NO_SUMS: Sums = (0, 0)


class Stage:
    """One task of a step: the scalars of every row, and then the kernels that read them.

    Args:
        task: what is done. ``"step"`` counts the step.
        rows: all on one device.
        steps: the step counts of the rows.
        ratios: of each row, the sums that lower its learning rate.
        is_guarded: whether the device may decide that a step is not taken.
    """

    def __init__(
        self, task: Task, rows: Sequence[Row], steps: Sequence[Tensor], ratios: Sequence[Sums], *, is_guarded: bool
    ) -> None:
        self._task, self._rows, self._steps, self.ratios = task, rows, steps, ratios
        self._is_guarded = is_guarded
        self._device = rows[0].param.device
        launches, self.is_in_turns = launches_of(task, rows)
        lines = [blocks_of(row.kernel_of(task), row.memories[0].shape) for row in rows]
        columns = len(rows[0].kernel_of(task).plan.sums)
        self.out = torch.zeros((sum(lines) if columns else 0, columns), dtype=torch.float64, device=self._device)
        self.sums: list[Sums] = [_NO_SUMS] * len(rows)
        self._tables: list[tuple[list[int], DeviceTable]] = []
        first = 0
        for places in launches:
            count = sum(lines[i] for i in places) if columns else 0
            self._add(places, self.out[first : first + count])
            first += count
        self._groups = list({id(row.options): row.options for row in rows}.values())
        self._values = {id(own): Values(own, self._device) for own in self._groups}
        self._write()

    def _add(self, places: list[int], out: Tensor) -> None:
        rows = [self._rows[i] for i in places]
        plan = rows[0].kernel_of(self._task).plan
        own = [np.zeros(len(plan.prelude.conditions) + 2) for _ in rows]
        table = DeviceTable(self._task, rows, own, out, is_guarded=self._is_guarded)
        for i, start in zip(places, table.blocks.starts.tolist(), strict=False):
            count = blocks_of(rows[0].kernel_of(self._task), self._rows[i].memories[0].shape)
            self.sums[i] = (devices.address_of(out) + out.element_size() * out.shape[1] * start, count)
        self._tables.append((places, table))

    @property
    def _steps_rows(self) -> bool:
        """Whether it moves the parameters, and counts the step; others only look."""
        return self._task in ("step", "watch")

    def _write(self) -> None:
        """Write the tables of the kernels that compute scalars."""
        self._seeds = [own.values.seed for own in self._groups]
        self._preludes = [self._prelude(places, table) for places, table in self._tables]

    def _prelude(self, places: list[int], table: DeviceTable) -> tuple[Tensor, Any, int]:
        prelude = self._rows[places[0]].kernel_of(self._task).plan.prelude
        words = np.zeros((len(places), triton_prelude.width_of(prelude)), np.int64)
        for line, i in enumerate(places):
            row, step = self._rows[i], self._steps[i]
            values = self._values[id(row.options)].address(prelude.arguments)
            slots = [devices.address_of(row.scalars[name]) for name in prelude.scalar_slots]
            is_double = int(step.dtype is torch.float64)
            at = [values, devices.address_of(step), is_double, table.scalars(line), row.options.values.seed or 0]
            words[line] = [*at, *self.ratios[i], row.memories[0].size, *slots]
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
            devices.keep_alive(*(words for words, _, _ in self._preludes), *self._steps, self.out, decision)

    def count(self, place: int) -> int:
        """Return the number of the step that a row has taken last. Waits for the device."""
        return int(self._steps[place].item())

    def totals(self) -> NDArray[np.float64]:
        """Return the sums of each row, a line a row. Waits for the device."""
        return totals_of(self._tables)


class Decided:
    """Rows on one device that are stepped as the device decides.

    Args:
        rows: the parameters, with step counts and scalar slots on the device.
        guards: the options.
        decision: what is decided.
        found: what ``GradScaler`` has found: not 0 if gradients are not finite; None: it was not at work.

    Attributes:
        is_in_turns: whether some rows share memory.
        gradients: where the gradients of the rows lie.
        device: of the rows.
    """

    def __init__(self, rows: Sequence[Row], guards: Guards, decision: Decision, found: Tensor | None) -> None:
        self._guards, self._decision = guards, decision
        self.found = found
        self._rows = rows
        self._watch: list[tuple[list[int], Stage]] | None = None
        self._decides = guards.measures or found is not None
        none = [_NO_SUMS] * len(rows)
        self._steps = _counts(rows)
        self._follower = devices.Follower(rows[0].param.device)
        with devices.on(rows[0].param.device):
            self.device = rows[0].param.device
            self._norm = Stage("norm", rows, self._steps, none, is_guarded=False) if guards.measures else None
            self._ratio = Stage("ratio", rows, self._steps, none, is_guarded=False) if guards.update_clip else None
            ratios = none if self._ratio is None else self._ratio.sums
            self._step = Stage("step", rows, self._steps, ratios, is_guarded=self._decides)
            self._prepare()
        self.is_in_turns = self._step.is_in_turns
        self.gradients = np.array([row.memories[1].address for row in rows], np.int64)

    def _prepare(self) -> None:
        """Make the kernel that decides."""
        none = torch.empty((0, 1), dtype=torch.float64, device=self.device)
        self._sums = none if self._norm is None else self._norm.out
        skips, clips = self._guards.nonfinite == "skip", self._guards.clip_norm is not None
        self._choices = {"COLUMNS": self._sums.shape[1], "SKIPS": skips, "CLIPS": clips}
        self._kernel = gpu.load(triton_decide.emit())
        if self._decides:
            gpu.prepare(self._kernel, triton_decide.THREADS, *[0] * 4, **self._choices)

    def look(self, addresses: Words) -> None:
        """Let the gradients lie at these addresses."""
        self.gradients = addresses.copy()
        for stage in (self._norm, self._ratio, self._step):
            if stage is not None:
                stage.look(addresses)
        for places, stage in self._watch or ():
            stage.look(addresses[places])

    def read(self, names: Sequence[str]) -> list[Reading]:
        """Launch all kernels of a step that is looked at, and return what it did. Waits for the device.

        Args:
            names: what messages call the parameters of the optimizer.
        """
        if self._watch is None:
            self._watch = self._watching()
        self._run([stage for _, stage in self._watch])
        if self._decides and not self._decision.taken[0].item():
            return []
        found: dict[int, Reading] = {}
        for places, stage in self._watch:
            for i, line in zip(places, stage.totals().tolist(), strict=True):
                row = self._rows[i]
                found[i] = reading(row, names[row.place], stage.count(places.index(i)), line)
        return [found[i] for i in sorted(found) if self._rows[i].memories[0].size]

    def _watching(self) -> list[tuple[list[int], Stage]]:
        kinds = [sums_of(row) for row in self._rows]
        with devices.on(self.device):
            stages = [(places, self._watch_of(places)) for places in alike(kinds)]
        for places, stage in stages:
            stage.look(self.gradients[places])
        return stages

    def _watch_of(self, places: Sequence[int]) -> Stage:
        rows, steps, ratios = zip(*((self._rows[i], self._steps[i], self._step.ratios[i]) for i in places), strict=True)
        return Stage("watch", rows, steps, ratios, is_guarded=self._decides)

    def check(self) -> None:
        """Raise what an earlier step has found, as far as the device has told.

        Raises:
            NonFiniteError: when too many steps in a row were skipped.
        """
        self._decision.check()

    def run(self) -> None:
        """Launch all kernels of a step."""
        self._run([self._step])

    def _run(self, stages: Sequence[Stage]) -> None:
        decision = self._decision
        looking = [stage for stage in (self._norm, self._ratio) if stage is not None]
        with devices.on(self.device):
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
        told = None if self.found is None else self.found.detach().to(torch.float32)
        found = 0 if told is None else devices.address_of(told)
        addresses = devices.address_of(sums), found, devices.address_of(self._decision.numbers), len(sums)
        gpu.launch(self._kernel, 1, triton_decide.THREADS, *addresses, **self._choices)
        if devices.is_capturing(self.device):
            devices.keep_alive(self._decision.numbers, self._decision.looking, told)


def _counts(rows: Sequence[Row]) -> list[Tensor]:
    """Return the step counts of rows; one without has one here, for a rule that asks for the first step alone.

    Raises:
        StateError: where two share one, which would count twice.
    """
    counts = [
        torch.full((), float(row.t), dtype=torch.float32, device=row.param.device) if row.step is None else row.step
        for row in rows
    ]
    if len({devices.address_of(count) for count in counts}) < len(counts):
        raise StateError(
            "two parameters share one tensor as their step count, which a device would count twice; nothing was "
            "stepped. Load a state dict in which each has its own"
        )
    return counts
