"""Numbers of rows and columns on a device: what a pass there takes of them, and what becomes of its sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.backends import triton_stages, triton_vectors
from steprule.backends.triton_lines import chunk_pairs
from steprule.compile import Plan
from steprule.doors.torch import devices
from steprule.language.matrices import View, matrix_shape, tiles_of
from steprule.language.sums import rounded_once
from steprule.launch.row import Row
from steprule.runtime import gpu

__all__ = ["DeviceVectors"]

Int64s = NDArray[np.int64]


class DeviceVectors:
    """The numbers of rows and columns of parameters with one plan on one device.

    Args:
        plan: of the pass.
        view: how it sees them.
        rows: the parameters. What the pass finds, later ones know by ``Row.found``.
        scalars: the address of what each reads.
        is_guarded: whether the device may decide that a step is not taken.

    Attributes:
        planes: the addresses of what elements take, a line a row.
        words: the integers of ``triton_matrices.WORDS``, a line a row.
        totals: of each sum over the tensor of such numbers the address of its partial sums, and how many there are, a
            line a row.
    """

    def __init__(
        self, plan: Plan, view: View, rows: Sequence[Row], scalars: Sequence[int], *, is_guarded: bool
    ) -> None:
        self._plan, self._view, self._rows, self._device = plan, view, rows, rows[0].device
        self._shapes = [row.memories[0].shape for row in rows]
        self._matrices = [matrix_shape(shape, view) for shape in self._shapes]
        self._memory: list[Tensor] = []
        self._graph = triton_stages.Graph(plan)
        heights = [(height, width) for _, height, width in self._matrices]
        self._sizes: Mapping[str, list[int]] = {
            "row": [batch * height for batch, height, _ in self._matrices],
            "column": [batch * width for batch, _, width in self._matrices],
        }
        row_sums, column_sums = self._partials_of_pass()
        self.words: Int64s = _lines(heights, row_sums, column_sums)
        steps = self._steps(heights, scalars)
        scratch = [plane.name for plane in plan.scratch_planes]
        self.planes: Int64s = np.array([[row.found[name] for name in scratch] for row in rows], np.int64)
        self._before = [self._launch(*step) for step in steps if not step[0].moves]
        self._after = [self._launch(*step) for step in steps if step[0].moves]
        self._added = self._launch_of_added(row_sums, column_sums, heights)
        self._guards = {False, is_guarded}
        self._prepare()

    def run_before(self) -> None:
        """Compute what the pass takes."""
        for kernel, table, chunks in self._before:
            self._run(kernel, table, chunks, 0, GUARDED=False)

    def run_after(self, taken: Tensor | None) -> None:
        """Add up what the pass has summed, and let slots be what they become, if the step is taken."""
        for kernel, table, chunks in self._added:
            self._run(kernel, table, chunks)
        decided = 0 if taken is None else devices.address_of(taken)
        for kernel, table, chunks in self._after:
            self._run(kernel, table, chunks, decided, GUARDED=taken is not None)
        if devices.is_capturing(self._device):
            devices.keep_alive(*self._memory)

    def numbers(self) -> list[list[float]]:
        """Return the sums over each tensor of such numbers. Waits for the device."""
        columns = [memory.cpu().numpy() for memory in self._of_totals]
        pairs = zip(columns, self._parts, strict=True)
        parts = [np.split(column, np.cumsum(counts)[:-1]) for column, counts in pairs]
        return [[rounded_once(own[place].tolist()) for own in parts] for place in range(len(self._rows))]

    def _partials_of_pass(self) -> tuple[Int64s, Int64s]:
        """Make memory for what the pass sums of rows and columns."""
        tiles = [tiles_of(shape, self._view) for shape in self._shapes]
        of_rows = [n * across for n, (_, _, across) in zip(self._sizes["row"], tiles, strict=True)]
        of_columns = [down * width for (_, down, _), (_, _, width) in zip(tiles, self._matrices, strict=True)]
        counts = (of_rows, len(self._plan.row_sums)), (of_columns, len(self._plan.column_sums))
        row_sums, column_sums = (self._new([count * n for n in own]) for own, count in counts)
        return row_sums, column_sums

    def _steps(
        self, heights: Sequence[tuple[int, int]], scalars: Sequence[int]
    ) -> list[tuple[triton_stages.Stage, Int64s]]:
        """Make memory for what is computed before and after the pass, and return the stages with their tables."""
        plan, graph = self._plan, self._graph
        own = graph.own
        slots = {plan.planes[place].name: place for place in range(len(plan.kept_planes))}
        inputs = [
            [row.memories[slots[name]].address if name in slots else row.found[name] for row in self._rows]
            for name in own.inputs
        ]
        new = [self._let_know(plane.name, plane.per, plane.dtype) for plane, _ in graph.new]
        changed = [[row.memories[place].address for row in self._rows] for place, _ in own.slots]
        over = graph.over
        counts = {one: [triton_stages.partials(shape, self._view, one) for shape in self._shapes] for one in set(over)}
        sums = [self._new(counts[one]) for one in over]
        first = len(over) - len(own.totals)
        self._of_totals = self._memory[len(self._memory) - len(own.totals) :]
        self._parts = [counts[one] for one in over[first:]]
        pairs = zip(sums[first:], self._parts, strict=True)
        self.totals: Int64s = _lines(np.zeros((len(self._rows), 0)), *(column for pair in pairs for column in pair))
        table = _lines(*inputs, *new, *changed, *sums, scalars, heights)
        return [(stage, table) for stage in triton_stages.stages(graph)]

    def _launch(self, stage: triton_stages.Stage, table: Int64s) -> tuple[Any, Tensor, Tensor]:
        chunks = [triton_stages.chunks(stage, shape, self._view) for shape in self._shapes]
        return gpu.load(triton_vectors.emit(self._graph, stage)), self._sent(table), self._sent(chunk_pairs(chunks))

    def _launch_of_added(
        self, row_sums: Int64s, column_sums: Int64s, heights: Sequence[tuple[int, int]]
    ) -> list[tuple[Any, Tensor, Tensor]]:
        plan = self._plan
        found = [self._let_know(result.name, "row", plan.compute) for result in plan.row_sums]
        found += [self._let_know(result.name, "column", plan.compute) for result in plan.column_sums]
        if not found:
            return []
        table = _lines(row_sums, column_sums, *found, heights, [batch for batch, _, _ in self._matrices])
        chunks = [triton_stages.added_chunks(plan, shape, self._view) for shape in self._shapes]
        kernel = gpu.load(triton_vectors.emit_added(plan))
        return [(kernel, self._sent(table), self._sent(chunk_pairs(chunks)))]

    def _prepare(self) -> None:
        for kernel, _, _ in self._before:
            gpu.prepare(kernel, triton_vectors.THREADS, 0, 0, 0, GUARDED=False)
        for kernel, _, _ in self._added:
            gpu.prepare(kernel, triton_vectors.THREADS, 0, 0)
        for kernel, _, _ in self._after:
            for guarded in self._guards:
                gpu.prepare(kernel, triton_vectors.THREADS, 0, 0, 0, GUARDED=guarded)

    def _run(self, kernel: Any, table: Tensor, chunks: Tensor, *arguments: int, **constants: bool) -> None:
        addresses = devices.address_of(table), devices.address_of(chunks)
        gpu.launch(kernel, len(chunks), triton_vectors.THREADS, *addresses, *arguments, **constants)

    def _new(self, counts: Sequence[int], dtype: str = "float64") -> Int64s:
        """Make memory for so many numbers of each row, and return their addresses."""
        memory = torch.zeros(sum(counts), dtype=getattr(torch, dtype), device=self._device)
        self._memory.append(memory)
        ends = np.cumsum(counts, dtype=np.int64)
        return devices.address_of(memory) + memory.element_size() * (ends - np.array(counts, np.int64))

    def _let_know(self, name: str, per: str, dtype: str) -> Int64s:
        """Make memory for numbers that later passes take by their name."""
        addresses = self._new(self._sizes[per], dtype)
        for row, address in zip(self._rows, addresses.tolist(), strict=True):
            row.found[name] = address
        return addresses

    def _sent(self, numbers: NDArray[Any]) -> Tensor:
        self._memory.append(devices.sent(torch.from_numpy(numbers), self._device))
        return self._memory[-1]


def _lines(*columns: Any) -> Int64s:
    """Return columns of integers side by side, a line a row."""
    return (
        np.column_stack([np.array(column, np.int64) for column in columns]) if columns else np.zeros((0, 0), np.int64)
    )
