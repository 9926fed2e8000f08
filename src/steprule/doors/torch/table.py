"""The launch of rows in this machine's memory."""

from __future__ import annotations

from collections.abc import Sequence

from steprule.doors.sums import units_of
from steprule.doors.torch.rows import Row
from steprule.runtime import Table
from steprule.runtime.commit import Commit

__all__ = ["table_of"]


def table_of(rows: Sequence[tuple[Row, int]], commit: Commit | None) -> Table:
    """Return the launch of rows, each with the address of its scalars, and of what it writes when all are stepped."""
    units = [_units(row) for row, _ in rows]
    width = max((len(row.memories) + len(row.words) for row, _ in rows), default=2)
    table = Table([n for n, _ in units], width, [unit for _, unit in units], commit=commit)
    for index, (row, scalars) in enumerate(rows):
        table.set_row(index, row.kernel, scalars)
        fixed = [*(memory.address for memory in row.memories), *row.words]
        table.addresses[index, : len(fixed)] = fixed
    return table


def _units(row: Row) -> tuple[int, int]:
    """Return what the kernel of a row counts, and how many elements it counts as one. Complex numbers are two."""
    return units_of(row.kernel, row.memories[0].shape)
