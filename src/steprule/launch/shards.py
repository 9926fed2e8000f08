"""Sums over whole parameters of which other processes have parts as well: one reduction a pass, for all rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from steprule.launch.backend import Lines
from steprule.launch.row import Row, Share

__all__ = ["WholeSums"]


class WholeSums:
    """Adds up what has been summed over parts. All processes get the same bits.

    They must ask for the same rows in the same order, those of empty parts included.

    Args:
        rows: those of a pass.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._places: dict[Share, list[int]] = {}
        for place, row in enumerate(rows):
            if row.shard.share is not None:
                self._places.setdefault(row.shard.share, []).append(place)
        self._counts = [row.shard.counts for row in rows]

    def check(self) -> None:
        """Raise what adding up would raise: for a step that adds up when it has moved."""
        for share in self._places:
            share.check()

    def __call__(self, lines: Lines) -> Lines:
        """Return the sums of each row over the whole of its parameter, given those over what lies here."""
        found = [[float(number) for number in line] for line in lines]
        for share, places in self._places.items():
            parts = [found[place] if self._counts[place] else [0.0] * len(found[place]) for place in places]
            sums = iter(share(list(itertools.chain(*parts))))
            for place, part in zip(places, parts, strict=True):
                found[place] = list(itertools.islice(sums, len(part)))
        return found
