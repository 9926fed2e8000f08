"""Gradients that alias a parameter or slot: stepping one row would change the gradient of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.launch.memory import Spans
from steprule.launch.row import Row

__all__ = ["Aliasing"]

_MANY = 64  # rows above which NumPy's calls cost less than a loop


class Aliasing:
    """Finds such gradients, wherever they lie at a step.

    Args:
        rows: those of a launch.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._spans = Spans(m.bounds for row in rows for m in (row.memories[0], *row.memories[2:]) if m.size)
        direct = [place for place, row in enumerate(rows) if row.is_direct]
        self._others = [place for place, row in enumerate(rows) if not row.is_direct]
        self._direct = np.array(direct, np.int64)
        extents = np.array([_extent(rows[place]) for place in direct], np.int64).reshape(-1, 3).T
        self._extents: Any = extents if len(direct) > _MANY else extents.tolist()

    def find(self, gradients: NDArray[np.int64]) -> set[int]:
        """Return the places of rows whose gradient must be copied, since it crosses, or is unaligned.

        Args:
            gradients: where those of direct rows lie; those of others are in the row.
        """
        aliased = {place for place in self._others if self._is_aliased(place)}
        if not len(self._direct):
            return aliased
        own, sizes, items = self._extents
        found = gradients[self._direct] if self._others else gradients
        if len(found) > _MANY:
            bad = (found % items != 0) | ((found != own) & self._spans.overlaps_each(found, sizes))
            return aliased | {int(self._direct[index]) for index in np.flatnonzero(bad)}
        overlaps = self._spans.overlaps
        for place, start, at, size, item in zip(self._direct.tolist(), found.tolist(), own, sizes, items, strict=True):
            if start % item or (start != at and overlaps(start, size)):
                aliased.add(place)
        return aliased

    def _is_aliased(self, place: int) -> bool:
        """Whether the gradient that a row has lies in a parameter or slot, be it its own parameter."""
        low, high = self._rows[place].memories[1].bounds
        return self._spans.overlaps(low, high - low)


def _extent(row: Row) -> tuple[int, int, int]:
    """Return where the gradient may lie though it is the parameter's memory, the gradient's bytes, and an element's.

    An element is read before it is written; elements of another size would be other ones.
    """
    own, grad = row.memories[:2]
    return own.address if own.itemsize == grad.itemsize else -1, grad.nbytes, grad.itemsize
