"""One launch on a device: rows that one kernel steps or sums over, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.backends import triton
from steprule.doors.layout import overlapping
from steprule.doors.sums import Blocks, blocks_of, units_of
from steprule.doors.torch import devices
from steprule.doors.torch.rows import Row
from steprule.engine import Task
from steprule.runtime import gpu

__all__ = ["DeviceTable", "DeviceTables", "Words", "launches_of", "totals_of"]

Words = NDArray[np.int64]


class DeviceTable:
    """Rows with equal kernels on one device, their addresses and chunks in its memory.

    What may change from step to step, the rows of scalars and the addresses of gradients, lies in one run of memory and
    is copied at once. The other tables are written when the launch is made.

    Args:
        task: what the kernel does.
        rows: with equal kernels.
        scalars: what each row reads; the same array where rows share it.
        out: where partial sums go; default: memory of its own.
        is_guarded: whether the device may decide that a step is not taken.

    Attributes:
        out: the partial sums, a line a block; empty for a kernel that sums nothing.
        blocks: which of them belong to which row.
    """

    def __init__(
        self,
        task: Task,
        rows: Sequence[Row],
        scalars: Sequence[NDArray[np.float64]],
        out: Tensor | None = None,
        *,
        is_guarded: bool = False,
    ) -> None:
        kernel = rows[0].kernel_of(task)
        self._kernel, self.device = kernel, rows[0].param.device
        counts = [units_of(kernel, row.memories[0].shape)[0] for row in rows]
        sums = len(kernel.plan.sums)
        self.blocks = Blocks([blocks_of(kernel, row.memories[0].shape) for row in rows] if sums else [])
        lines = sum(blocks_of(kernel, row.memories[0].shape) for row in rows) if sums else 0
        self.out = torch.zeros((lines, sums), dtype=torch.float64, device=self.device) if out is None else out
        self._own = list({id(array): array for array in scalars}.values())
        self._wide = max(len(array) for array in self._own)
        self._first = self._wide * len(self._own)
        # Addresses, and scalars as bits.
        self._host = np.zeros(self._first + len(rows), np.int64)
        self._host[self._first :] = [row.memories[1].address for row in rows]
        self._changing = devices.Mirror(torch.from_numpy(self._host), self.device)
        self._chunks = devices.sent(torch.from_numpy(_chunks(counts, triton.chunk_of(kernel.plan))), self.device)
        self._table = devices.sent(torch.from_numpy(self._words(rows, scalars, counts)), self.device)
        self._have_moved = True
        self._follower = devices.Follower(self.device)
        gpu.prepare(self._kernel.function, triton.threads_of(kernel.plan), *[0] * 4, GUARDED=is_guarded)

    def _words(self, rows: Sequence[Row], scalars: Sequence[NDArray[np.float64]], counts: Sequence[int]) -> Words:
        plan = self._kernel.plan
        place = {id(array): index for index, array in enumerate(self._own)}
        words = np.zeros((len(rows), triton.width_of(plan)), np.int64)
        at = {name: len(plan.planes) + index for index, name in enumerate(triton.WORDS)}
        for index, (row, array) in enumerate(zip(rows, scalars, strict=True)):
            fixed = [*(memory.address for memory in row.memories), *row.words]
            words[index, : len(fixed)] = fixed
            words[index, at["scalars"]] = self.scalars(place[id(array)])
        words[:, at["count"]] = counts
        if plan.sums:
            words[:, at["sums"]] = devices.address_of(self.out) + 8 * len(plan.sums) * self.blocks.starts
        return words

    @property
    def counts(self) -> bool:
        """Whether the scalars depend on the number of the step."""
        plan = self._kernel.plan
        return "t" in plan.prelude.arguments or bool(plan.prelude.scalar_slots) or bool(plan.inputs)

    def scalars(self, number: int) -> int:
        """Return the address, on the device, of one of the rows of scalars."""
        return devices.address_of(self._changing.there) + 8 * self._wide * number

    def look(self, addresses: Words) -> None:
        """Let the gradients lie at these addresses."""
        self._host[self._first :] = addresses
        self._have_moved = True

    def send_gradients(self) -> None:
        """Copy the gradients' addresses to the device if they have moved. The rows of scalars are computed there."""
        self._follow()
        if self._have_moved or self._changing.always:
            self._changing.send(self._first, len(self._host))
        self._have_moved = False

    def send(self) -> None:
        """Copy the scalars to the device, and the gradients' addresses if they have moved."""
        self._follow()
        for index, array in enumerate(self._own):
            start = index * self._wide
            self._host[start : start + len(array)] = array.view(np.int64)
        self._changing.send(0, len(self._host) if self._have_moved else self._first)
        self._have_moved = False

    def run(self, taken: Tensor | None = None) -> None:
        """Launch the kernel.

        Args:
            taken: a number on the device; where it is 0, nothing is changed. Default: always.
        """
        changing = devices.address_of(self._changing.there)
        addresses = [devices.address_of(self._table), changing + 8 * self._first, devices.address_of(self._chunks)]
        threads = triton.threads_of(self._kernel.plan)
        decided = 0 if taken is None else devices.address_of(taken)
        gpu.launch(self._kernel.function, len(self._chunks), threads, *addresses, decided, GUARDED=taken is not None)
        if devices.is_capturing(self.device):
            devices.keep_alive(self._table, self._chunks, self.out)

    def _follow(self) -> None:
        self._follower.follow(self._table, self._chunks, self._changing.there, self.out)

    def totals(self) -> NDArray[np.float64]:
        """Return the sums of each row, a line a row. Waits for the device."""
        return self.blocks.totals(self.out.cpu().numpy())


class DeviceTables:
    """Rows on devices, in one launch for each kernel and device.

    Args:
        task: what their kernels do.
        rows: in the order in which lines of sums come. Those that share memory are stepped one after the other.
        scalars: what each row reads.

    Attributes:
        is_in_turns: whether some rows share memory.
        gradients: where the gradients of the rows lie.
    """

    def __init__(self, task: Task, rows: Sequence[Row], scalars: Sequence[NDArray[np.float64]]) -> None:
        self.gradients = np.array([row.memories[1].address for row in rows], np.int64)
        self._tables: list[tuple[list[int], DeviceTable]] = []
        launches, self.is_in_turns = launches_of(task, rows)
        for places in launches:
            with devices.on(rows[places[0]].param.device):
                table = DeviceTable(task, [rows[i] for i in places], [scalars[i] for i in places])
            self._tables.append((places, table))

    def look(self, addresses: Words) -> None:
        """Let the gradients lie at these addresses."""
        self.gradients = addresses.copy()
        for places, table in self._tables:
            table.look(addresses[places])

    def check(self) -> None:
        """Refuse to be captured where every step has other scalars: a replay would repeat this one.

        Raises:
            RuntimeError: with what to do.
        """
        for _, table in self._tables:
            if table.counts and devices.is_capturing(table.device):
                raise RuntimeError(
                    "step() is captured in a CUDA graph, and its numbers come from the host, which a replay does not "
                    "ask; nothing was captured. Make the optimizer with capturable=True (SGD and Adagrad have it as an "
                    "option of groups)"
                )

    def run(self) -> None:
        """Copy to the devices what has changed, and launch the kernels."""
        for _, table in self._tables:
            with devices.on(table.device):
                table.send()
        # What can fail for want of memory has been done.
        for _, table in self._tables:
            with devices.on(table.device):
                table.run()

    def totals(self) -> NDArray[np.float64]:
        """Return the sums of each row, a line a row. Waits for the devices."""
        return totals_of(self._tables)


def launches_of(task: Task, rows: Sequence[Row]) -> tuple[list[list[int]], bool]:
    """Return the places of rows that ride in one launch, and whether some share memory: each of these has its own."""
    shared = overlapping([row.memories[0].bounds for row in rows])
    together: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        key = (row.param.device, row.kernel_of(task), place if place in shared else -1)
        together.setdefault(key, []).append(place)
    return list(together.values()), bool(shared)


def totals_of(tables: Sequence[tuple[list[int], DeviceTable]]) -> NDArray[np.float64]:
    """Return the sums of the rows of tables at their places, a line a row. Waits for the devices."""
    lines = [(places, table.totals()) for places, table in tables]
    found = np.zeros((sum(len(places) for places, _ in lines), lines[0][1].shape[1] if lines else 0))
    for places, own in lines:
        found[places] = own
    return found


def _chunks(counts: Sequence[int], size: int) -> NDArray[np.int32]:
    """Return the row and the number of each chunk."""
    per_row = -(-np.array(counts, np.int64) // size)
    starts = np.cumsum(per_row) - per_row
    rows = np.repeat(np.arange(len(counts)), per_row)
    numbers = np.arange(len(rows)) - starts[rows]
    return np.stack([rows, numbers], axis=1).astype(np.int32)
