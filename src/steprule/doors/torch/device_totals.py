"""Sums over all tensors on a device, of what a pass has summed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.backends import triton_totals
from steprule.compile import Plan
from steprule.doors.torch import devices
from steprule.launch.row import Row
from steprule.runtime import gpu

__all__ = ["OverAll", "RowSums"]

RowSums = tuple[int, ...]
"""The address of a row's partial sums, and how many lines there are; both again for each sum of rows or columns."""


class OverAll:
    """The sums over all rows of a pass, one float64 number each, and what adds them up.

    Args:
        plans: of each row; all take as many of them.
        device: where they lie.
        tables: the places of the rows that have one plan.
        sums: by the id of a row.
        rows: the parameters.

    Attributes:
        words: the address of the numbers, where there are any.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        device: torch.device,
        tables: Sequence[Sequence[int]],
        sums: Mapping[int, RowSums],
        rows: Sequence[Row],
    ) -> None:
        self._device, self._count = device, len(plans[0].all_totals)
        self._launches: list[tuple[Any, Tensor, int]] = []
        self.words: list[int] = []
        if not self._count:
            return
        self._of_rows = torch.zeros((len(rows), self._count), dtype=torch.float64, device=device)
        self._numbers = torch.zeros(self._count, dtype=torch.float64, device=device)
        self.words = [devices.address_of(self._numbers)]
        first, line = devices.address_of(self._of_rows), 8 * self._count
        for places in tables:
            words = np.array([[*sums[id(rows[place])][:2], first + line * place] for place in places], np.int64)
            kernel = gpu.load(triton_totals.of_rows(plans[places[0]]))
            gpu.prepare(kernel, triton_totals.THREADS, 0)
            self._launches.append((kernel, devices.sent(torch.from_numpy(words), device), len(places)))
        self._kernel = gpu.load(triton_totals.of_all())
        gpu.prepare(self._kernel, triton_totals.THREADS, 0, 0, 0, COUNT=self._count)

    def run(self) -> None:
        """Add up what the pass has summed."""
        for kernel, words, rows in self._launches:
            gpu.launch(kernel, rows, triton_totals.THREADS, devices.address_of(words))
        if self._launches:
            addresses = devices.address_of(self._of_rows), devices.address_of(self._numbers), len(self._of_rows)
            gpu.launch(self._kernel, self._count, triton_totals.THREADS, *addresses, COUNT=self._count)
        if self._launches and devices.is_capturing(self._device):
            devices.keep_alive(*(words for _, words, _ in self._launches), self._of_rows, self._numbers)
