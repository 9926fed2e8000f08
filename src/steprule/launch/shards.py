"""Sums over whole parameters of which other processes have parts as well: one reduction a pass, for all rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from steprule.launch.backend import Lines
from steprule.launch.row import Row

__all__ = ["whole_sums"]

Share = Callable[[Sequence[float]], Sequence[float]]


def whole_sums(rows: Sequence[Row], lines: Lines) -> Lines:
    """Return the sums of each row over the whole of its parameter, given those over what lies here.

    All processes get the same bits. They must ask for the same rows in the same order, those of empty parts included.
    """
    places: dict[Share, list[int]] = {}
    for place, row in enumerate(rows):
        if row.shard.share is not None:
            places.setdefault(row.shard.share, []).append(place)
    if not places:
        return lines
    found = [[float(number) for number in line] for line in lines]
    for share, own in places.items():
        parts = [found[place] if rows[place].shard.counts else [0.0] * len(found[place]) for place in own]
        sums = iter(share(list(itertools.chain(*parts))))
        for place, part in zip(own, parts, strict=True):
            found[place] = list(itertools.islice(sums, len(part)))
    return found
