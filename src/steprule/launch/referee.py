"""The referee as a backend: the rule run by NumPy, row by row, on copies that are put in place when all are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steprule.backends import numpy as referee
from steprule.compile import Plan
from steprule.language.sums import rounded_once
from steprule.launch.backend import Bound, Lines
from steprule.launch.sums import blocks_of
from steprule.runtime import Team
from steprule.runtime.commit import Commit

__all__ = ["REFEREE", "RefereeBackend"]


@dataclass(frozen=True)
class RefereeBackend:
    """NumPy: slow, and by definition right."""

    name = "numpy"

    def __reduce__(self) -> str:
        """Let copies and pickles be the one that there is."""
        return "REFEREE"

    def load(self, plan: Plan) -> Callable[..., None]:
        """Return ``run(*arrays, scalars)``; see ``backends/numpy.py``."""
        return referee.load(plan)

    def table(self, items: Sequence[Bound], commit: Commit | None) -> RefereeTable:
        """Return the rows of one pass."""
        return RefereeTable(items)


REFEREE = RefereeBackend()


class RefereeTable:
    """Rows for NumPy, which may lack memory in the middle, or raise as it was told to: so it steps copies."""

    is_one_call = False
    is_done = False

    def __init__(self, items: Sequence[Bound]) -> None:
        self._items = items
        self._moved: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._lines: list[list[float]] = []

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of the rows lie at these addresses."""
        for item, at in zip(self._items, gradients.tolist(), strict=True):
            if item.row.is_direct:
                item.row.memories[1] = item.row.memories[1].at(at)

    def prepare(self, team: Team) -> None:
        """Step copies, and sum."""
        self._moved, self._lines = [], []
        moved, lines = zip(*map(self._step, self._items), strict=True) if self._items else ((), ())
        self._moved, self._lines = [pair for pairs in moved for pair in pairs], list(lines)

    def run(self) -> None:
        """Put the copies in place."""
        for original, copy in self._moved:
            original[...] = copy
        self._moved = []

    def sums(self) -> Lines:
        """Return the sums of each row."""
        return self._lines

    def _step(self, item: Bound) -> tuple[list[tuple[NDArray[Any], NDArray[Any]]], list[float]]:
        """Return copies that were stepped, with where they belong, and the sums."""
        row, kernel, scalars, vectors = item
        plan, originals = kernel.plan, [memory.array() for memory in item.memories]
        stored = sorted({store.plane for store in plan.stores})
        order: Literal["C", "K"] = "K" if vectors is None else "C"
        copies = [
            original.copy(order=order) if place in stored else original for place, original in enumerate(originals)
        ]
        moved = [(originals[place], copies[place]) for place in stored]
        named: dict[str, Any] = {"origin": row.origin} if plan.inputs else {}
        sums = np.zeros((blocks_of(plan, originals[0].shape), len(plan.sums)))
        if plan.sums:
            named["sums"] = sums
        if vectors is not None:
            of = copies
            named |= {"row_sums": vectors.row_sums, "column_sums": vectors.column_sums}
            if plan.has_groups:
                named["matrices"] = vectors.shape
            else:
                of = [one.reshape(vectors.shape) if one.size == copies[0].size else one for one in copies]
            kernel.code(*of, *vectors.planes, scalars, **named)
        else:
            if plan.sums and row.is_direct and not row.kernel.needs_order:  # sums are taken in the order of memory
                axes = np.argsort([-stride for stride in originals[0].strides], kind="stable")
                copies = [copy.transpose(axes) for copy in copies]
            kernel.code(*copies, scalars, **named)
        return moved, [rounded_once(column.tolist()) for column in sums.T]
