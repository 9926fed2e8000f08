"""Steps of rows with work planes batch by batch, so that these need no more memory than one batch has.

In each batch the pass runs that leaves what is multiplied, then the products are taken, and then the rows step. All
that can fail has been done for all batches before the first of them runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.launch.backend import Table
from steprule.launch.passes import Part, Pass, Tables
from steprule.launch.products import Work
from steprule.launch.row import Row
from steprule.runtime import Team

__all__ = ["in_batches"]


def in_batches(rows: Sequence[Row], last: Pass, before: Pass, places: NDArray[np.int64], work: Work) -> None:
    """Let a pass step its rows batch by batch, each after the pass before it.

    Args:
        rows: all of the last pass.
        last: the pass that steps.
        before: the pass that leaves what is multiplied.
        places: those of the rows of ``before`` among all rows.
        work: which has the batches.
    """
    place_of = {id(row): place for place, row in enumerate(rows)}
    own = {place: index for index, place in enumerate(places.tolist())}
    batches = [[place_of[id(row)] for row in batch] for batch in work.batches]
    batched = {place for batch in batches for place in batch}
    rest = [place for place in range(len(rows)) if place not in batched]
    pairs = [(before.part([own[place] for place in batch])[1], last.part(batch)) for batch in batches]
    last.table = _InBatches(len(rows), last.part(rest), pairs, work)
    others = [index for place, index in own.items() if place not in batched]
    before.table = Tables(len(places), [before.part(others)])


class _InBatches(Tables):
    """The rows of a pass that steps: those without work planes, and batches of the others."""

    def __init__(self, count: int, rest: Part, pairs: Sequence[tuple[Table, Part]], work: Work) -> None:
        super().__init__(count, [rest, *(part for _, part in pairs)])
        self._rest, self._pairs, self._work = rest[1], pairs, work

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        super().set_gradients(gradients)
        for before, (places, _) in self._pairs:
            before.set_gradients(gradients[places])

    def prepare(self, team: Team) -> None:
        self._work.reserve()
        for before, _ in self._pairs:
            before.prepare(team)
        super().prepare(team)

    def run(self) -> None:
        self._rest.run()
        for number, (before, (_, table)) in enumerate(self._pairs):
            before.run()
            self._work.multiply_batch(number)
            table.run()
