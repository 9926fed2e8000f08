"""One launch on a device: rows that one kernel steps or sums over, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.backends import triton
from steprule.backends.triton_lines import chunk_pairs
from steprule.compile import Plan
from steprule.doors.torch import devices
from steprule.doors.torch.device_products import DeviceWork
from steprule.doors.torch.device_totals import RowSums
from steprule.doors.torch.device_vectors import DeviceVectors
from steprule.launch.backend import Bound, Lines
from steprule.launch.memory import overlapping
from steprule.launch.row import Row
from steprule.launch.sums import Blocks, blocks_of
from steprule.launch.vectors import Vectors
from steprule.runtime import Team, gpu
from steprule.runtime.commit import Commit

__all__ = [
    "TRITON",
    "DeviceTable",
    "DeviceTables",
    "Int64s",
    "TritonBackend",
    "check_capture",
    "launches_of",
    "shared_places",
    "totals_of",
]

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class TritonBackend:
    """GPUs, by Triton."""

    name = "triton"

    def __reduce__(self) -> str:
        """Let copies and pickles be the one that there is."""
        return "TRITON"

    def load(self, plan: Plan) -> Any:
        """Return Triton's kernel, of the convention of ``backends/triton.py``."""
        return gpu.load(triton.emit(plan))

    def vectors(
        self, rows: Sequence[Row], kernels: Sequence[Any], scalars: Sequence[Any], places: Sequence[int]
    ) -> list[Vectors]:
        """Return nothing: tables compute numbers of rows and columns on the device, as they launch."""
        return []

    def work(self, rows: Sequence[Row]) -> DeviceWork:
        """Return what multiplies matrices of rows between passes, on their devices."""
        return DeviceWork(rows)

    def table(self, items: Sequence[Bound], commit: Commit | None) -> DeviceTables:
        """Return the rows of one pass."""
        return DeviceTables(items)


TRITON = TritonBackend()


class DeviceTable:
    """Rows with equal kernels on one device, their addresses and chunks in its memory.

    What may change from step to step, the rows of scalars and the addresses of gradients, lies in one run of memory and
    is copied at once. The other tables are written when the launch is made.

    Args:
        items: rows with equal kernels, and what each reads; the same array where rows share it.
        out: where partial sums go; default: memory of its own.
        is_guarded: whether the device may decide that a step is not taken.

    Attributes:
        out: the partial sums, one line per block; empty for a kernel that sums nothing.
        blocks: which of them belong to which row.
        vectors: what computes numbers of rows and columns, for a kernel that sees them.
    """

    def __init__(
        self,
        items: Sequence[Bound],
        out: Tensor | None = None,
        *,
        is_guarded: bool = False,
    ) -> None:
        kernel, rows = items[0].kernel, [item.row for item in items]
        self._kernel, self._rows, self.device = kernel, rows, rows[0].device
        shapes = [row.memories[0].shape for row in rows]
        counts = [triton.count_of(kernel.plan, shape) for shape in shapes]
        sums = len(kernel.plan.sums)
        self.blocks = Blocks([blocks_of(kernel.plan, shape) for shape in shapes] if sums else [])
        empty = (self.blocks.count, sums)
        self.out = torch.zeros(empty, dtype=torch.float64, device=self.device) if out is None else out
        self._own = list({id(item.scalars): item.scalars for item in items}.values())
        self._wide = max(len(array) for array in self._own)
        self._first = self._wide * len(self._own)
        # Addresses, and scalars as bits.
        self._host = np.zeros(self._first + len(rows), np.int64)
        self._host[self._first :] = [row.memories[1].address for row in rows]
        self._changing = devices.Mirror(torch.from_numpy(self._host), self.device)
        numbers = [triton.chunks_of(kernel.plan, shape) for shape in shapes]
        self._chunks = devices.sent(torch.from_numpy(chunk_pairs(numbers)), self.device)
        self.vectors = self._vectors(items, is_guarded)
        self._table = devices.sent(torch.from_numpy(self._integers(items, counts)), self.device)
        self._have_moved = True
        self._follower = devices.Follower(self.device)
        gpu.prepare(kernel.code, triton.threads_of(kernel.plan), *[0] * 4, GUARDED=is_guarded)

    def _integers(self, items: Sequence[Bound], counts: Sequence[int]) -> Int64s:
        plan = self._kernel.plan
        place = {id(array): index for index, array in enumerate(self._own)}
        integers = np.zeros((len(items), triton.width_of(plan)), np.int64)
        at = triton.places_of(plan)
        for index, (row, _, array, _) in enumerate(items):
            planes = [memory.address for memory in row.memories[: len(plan.own_planes)]]
            integers[index, : len(planes)] = planes
            integers[index, len(plan.planes) : len(plan.planes) + len(row.integers)] = row.integers
            integers[index, at["scalars"]] = self.scalars(place[id(array)])
        integers[:, at["count"]] = counts
        if self.vectors is not None:
            integers[:, len(plan.own_planes) : len(plan.planes)] = self.vectors.planes
            integers[:, -self.vectors.words.shape[1] :] = self.vectors.words
        if plan.sums:
            integers[:, at["sums"]] = devices.address_of(self.out) + 8 * len(plan.sums) * self.blocks.starts
        return integers

    def _vectors(self, items: Sequence[Bound], is_guarded: bool) -> DeviceVectors | None:
        plan = self._kernel.plan
        if plan.view is None:
            return None
        place = {id(array): index for index, array in enumerate(self._own)}
        scalars = [self.scalars(place[id(item.scalars)]) for item in items]
        return DeviceVectors(plan, plan.view, [item.row for item in items], scalars, is_guarded=is_guarded)

    def sums_of(self, place: int) -> RowSums:
        """Return where the partial sums of a row lie."""
        plan = self._kernel.plan
        count = blocks_of(plan, self._rows[place].memories[0].shape)
        start = int(self.blocks.starts[place]) if plan.sums else 0
        at = devices.address_of(self.out) + self.out.element_size() * len(plan.sums) * start
        return (at, count, *(() if self.vectors is None else self.vectors.totals[place].tolist()))

    def scalars(self, number: int) -> int:
        """Return the address, on the device, of one of the rows of scalars."""
        return devices.address_of(self._changing.there) + 8 * self._wide * number

    def set_gradients(self, addresses: Int64s) -> None:
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
        if self.vectors is not None:
            self.vectors.run_before()
        gpu.launch(self._kernel.code, len(self._chunks), threads, *addresses, decided, GUARDED=taken is not None)
        if self.vectors is not None:
            self.vectors.run_after(taken)
        if devices.is_capturing(self.device):
            devices.keep_alive(self._table, self._chunks, self.out)

    def _follow(self) -> None:
        self._follower.follow(self._table, self._chunks, self._changing.there, self.out)

    def totals(self) -> NDArray[np.float64]:
        """Return the sums of each row, one line per row. Waits for the device."""
        if self.vectors is None:
            return self.blocks.totals(self.out.cpu().numpy())
        more = np.array(self.vectors.numbers(), np.float64).reshape(len(self._rows), -1)
        if not self._kernel.plan.sums:
            return more
        return np.hstack([self.blocks.totals(self.out.cpu().numpy()), more])


class DeviceTables:
    """Rows on devices, in one launch for each kernel and device.

    Args:
        items: in the order in which lines of sums come. Those that share memory are stepped one after the other.
    """

    is_one_call = False
    is_done = False

    def __init__(self, items: Sequence[Bound]) -> None:
        self._tables: list[tuple[list[int], DeviceTable]] = []
        for places in launches_of(items):
            with devices.on(items[places[0]].row.device):
                table = DeviceTable([items[place] for place in places])
            self._tables.append((places, table))

    def set_gradients(self, gradients: Int64s) -> None:
        """Let the gradients lie at these addresses."""
        for places, table in self._tables:
            table.set_gradients(gradients[places])

    def prepare(self, team: Team) -> None:
        """Copy to the devices what has changed."""
        # What can fail for lack of memory comes before any kernel.
        for _, table in self._tables:
            with devices.on(table.device):
                table.send()

    def run(self) -> None:
        """Launch the kernels."""
        for _, table in self._tables:
            with devices.on(table.device):
                table.run()

    def sums(self) -> Lines:
        """Return the sums of each row, one line per row. Waits for the devices."""
        return totals_of(self._tables)


def check_capture(rows: Sequence[Row]) -> None:
    """Refuse to be captured where the host has other scalars for every step: a replay would repeat this one.

    Raises:
        RuntimeError: with what to do.
    """
    for row in rows:
        plan = row.kernel.plan
        counts = "t" in plan.prelude.arguments or bool(plan.prelude.scalar_slots) or bool(plan.inputs)
        if counts and devices.is_capturing(row.device):
            raise RuntimeError(
                "step() is captured in a CUDA graph, and its numbers come from the host, which a replay does not "
                "ask; nothing was captured. Make the optimizer with capturable=True (SGD and Adagrad have it as an "
                "option of groups)"
            )


def launches_of(items: Sequence[Bound]) -> list[list[int]]:
    """Return the places of rows that ride in one launch; each of those that share memory has its own."""
    shared = shared_places([item.row for item in items])
    together: dict[tuple[object, ...], list[int]] = {}
    for place, (row, kernel, _, _) in enumerate(items):
        key = (row.device, kernel, place if place in shared else -1)
        together.setdefault(key, []).append(place)
    return list(together.values())


def shared_places(rows: Sequence[Row]) -> set[int]:
    """Return the places of rows that share memory."""
    return overlapping([row.memories[0].bounds for row in rows])


def totals_of(tables: Sequence[tuple[list[int], DeviceTable]]) -> list[list[float]]:
    """Return the sums of the rows of tables at their places, one line per row. Waits for the devices."""
    found: dict[int, list[float]] = {}
    for places, table in tables:
        found |= zip(places, table.totals().tolist(), strict=True)
    return [found[place] for place in sorted(found)]
