"""Steps of the PyTorch door that are read while they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.doors.readings import Reading, formats_in
from steprule.doors.sums import alike
from steprule.doors.torch.measure import Apart, Bound, Measure
from steprule.doors.torch.rows import Row
from steprule.engine import watched

__all__ = ["WatchedRows", "reading", "sums_of"]


class WatchedRows:
    """Steps the rows of a launch by kernels that also sum what they do.

    Args:
        direct: rows that are walked as they lie.
        apart: rows that are not.
        placed: rows on devices.
        owns: whether every row has scalars of its own.
    """

    def __init__(self, direct: Sequence[Bound], apart: Sequence[Apart], placed: Sequence[Bound], *, owns: bool) -> None:
        self._bound = [*direct, *((row, cohort) for row, cohort, _ in apart), *placed]
        self._looked = [*range(len(direct)), *range(len(direct) + len(apart), len(self._bound))]
        ends = len(direct), len(direct) + len(apart)
        self._names = [sums_of(row) for row, _ in self._bound]
        self._measures: list[tuple[list[int], Measure]] = []
        for places in alike(self._names):
            inside = [direct[i] for i in places if i < ends[0]]
            outside = [apart[i - ends[0]] for i in places if ends[0] <= i < ends[1]]
            away = [placed[i - ends[1]] for i in places if i >= ends[1]]
            self._measures.append((places, Measure("watch", inside, outside, away, owns=owns)))

    def make_ready(self, addresses: NDArray[np.int64], rows: Sequence[bytes], shared: dict[int, bytes]) -> None:
        """Set what the step reads.

        Args:
            addresses: of the gradients of rows that are walked as they lie, then of those on devices.
            rows: the scalars of each row, where each has its own.
            shared: else those of its cohort, by its id.
        """
        at = {place: index for index, place in enumerate(self._looked)}
        for places, measure in self._measures:
            measure.look(addresses[[at[i] for i in places if i in at]])
            if rows:
                measure.set_own([rows[i] for i in places])
            else:
                measure.set_shared(shared)

    def launch(self, names: Sequence[str]) -> Callable[[], list[Reading]]:
        """Return what takes the step, and returns what it did. What can fail has been done.

        Args:
            names: what messages call the parameters of the optimizer.
        """
        launches = [(places, measure.launch()) for places, measure in self._measures]

        def launch() -> list[Reading]:
            lines: list[list[float]] = [[]] * len(self._bound)
            for places, take in launches:
                for i, line in zip(places, take().tolist(), strict=True):
                    lines[i] = line
            bound = zip(self._bound, lines, strict=True)
            return [reading(row, names[row.place], cohort.t, line) for (row, cohort), line in bound]

        return launch


def reading(row: Row, name: str, t: int, line: Sequence[float]) -> Reading:
    """Return what step ``t`` did to a row, given its sums.

    Args:
        row: as it was laid out.
        name: what messages call the parameter.
        t: the number of the step.
        line: what the kernel summed, in the order of ``sums_of``.
    """
    return Reading(
        name,
        row.memories[0].shape,
        str(row.param.dtype).removeprefix("torch."),
        formats_in(row.kernel),
        row.options.rule.name,
        t,
        {**row.options.values, **{name: tensor.item() for name, tensor in row.options.tensors().items()}},
        dict(zip(sums_of(row), line, strict=True)),
    )


def sums_of(row: Row) -> tuple[str, ...]:
    """Return the names of what a row's kernel sums."""
    return watched(row.options.rule, row.options.values.variant, row.storage)
