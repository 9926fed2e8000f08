"""What functions over matrices ask their caller for: memory, by the numbers of rows and columns, and sizes."""

from __future__ import annotations

from steprule.backends.passes import passes
from steprule.compile import Plan
from steprule.language.matrices import Along
from steprule.language.sums import NDIM

__all__ = ["VECTORS", "asks_for_axes", "doubles_per_column", "times", "vectors_of"]

VECTORS = "vectors"
"""What the arrays of numbers of rows and columns are called together, which passes keep for each other."""


def vectors_of(plan: Plan) -> dict[str, Along]:
    """Return what passes up to a plan keep for each other: names, and of what each has numbers."""
    found: dict[str, Along] = {}
    for one in passes(plan).values():
        found.update((own.name, "row") for own in one.row_sums)
        found.update((own.name, "column") for own in one.column_sums)
        found.update((plane.name, _along(plane.per)) for plane in one.scratch_planes)
    return found


def doubles_per_column(plan: Plan) -> int:
    """Return how many numbers in float64 the passes of a step need at most for each column while they sum."""
    return 2 * max(len(one.column_sums) for one in passes(plan).values())


def asks_for_axes(plan: Plan) -> bool:
    """Whether passes up to a plan take the number of axes of the tensor."""
    return any(NDIM in one.prelude.arguments for one in passes(plan).values())


def times(rows: int, columns: int, *, is_one: bool) -> str:
    """Return how many numbers there are in as many arrays of numbers of rows and of columns: a text."""
    parts = [
        f"{count} * {what}" if count > 1 else what for count, what in ((rows, "rows"), (columns, "columns")) if count
    ]
    both = " + ".join(parts)
    return both if is_one else f"matrices * {both if len(parts) == 1 else f'({both})'}"


def _along(per: str) -> Along:
    return "column" if per == "column" else "row"
