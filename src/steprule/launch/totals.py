"""What the passes of a step have summed so far, as the preludes of those that follow take it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Plan
from steprule.errors import HyperparameterError
from steprule.language.matrices import View, matrix_sizes
from steprule.language.sums import ALL_SIZE, SIZES, rounded_once
from steprule.launch.backend import Lines
from steprule.launch.row import Row, ScalarGroup
from steprule.rules import Rule

__all__ = ["Plans", "Sizes", "Totals", "check_alike", "sizes_of"]


class Plans:
    """The plans of a kind of step, of all groups.

    Args:
        plans: of each group, with how messages name it.
        rules: of each group.

    Attributes:
        last: the plans of the last pass, by group.
        before: those of each pass before it; None where a group has no such pass.
        take_sums: whether any takes sums, or numbers kept of a tensor.
        are_per_tensor: whether any has other scalars for each tensor.
        ask_for_all: whether any takes sums over all.
        wait: whether slots depend on what the last pass sums.
        see_matrices: whether any sees tensors as matrices.

    Raises:
        HyperparameterError: where the groups' sums over all are not alike.
    """

    def __init__(self, plans: Sequence[tuple[Plan, str]], rules: Sequence[Rule]) -> None:
        check_alike(plans, rules)
        self.last: list[Plan] = [plan for plan, _ in plans]
        count = max((len(plan.before) for plan in self.last), default=0)
        self.before: list[list[Plan | None]] = [
            [plan.before[number] if number < len(plan.before) else None for plan in self.last]
            for number in range(count)
        ]
        self.take_sums = not all(plan.sees_elements_alone for plan in self.last)
        self.are_per_tensor = any(plan.is_per_tensor for plan in self.last)
        self.ask_for_all = any(plan.asks_for_all for plan in self.last)
        self.wait = any(plan.totals for plan in self.last)
        self.see_matrices = any(plan.view is not None for plan in self.last)

    def have_late_scalars(self, number: int) -> bool:
        """Whether a pass before the last has other scalars for each tensor."""
        return any(plan is not None and plan.parts.late is not None for plan in self.before[number])


class Sizes:
    """How many elements are stepped of each row.

    Args:
        rows: the parameters.
        members: the places of each group's rows.

    Attributes:
        of_rows: by group, in the order of ``Plan.sizes``; 1 where there are none.
        of_groups: of all rows of each group.
    """

    def __init__(self, rows: Sequence[Row], members: Sequence[Sequence[int]]) -> None:
        counts = [[_size(rows[place]) for place in places] for places in members]
        self.of_rows: list[list[NDArray[np.float64]]] = [
            [np.array(own, np.float64).clip(1), *_of_matrices([rows[place] for place in places])]
            for own, places in zip(counts, members, strict=True)
        ]
        self.of_groups = list(map(sum, counts))


def _size(row: Row) -> int:
    """Return how many elements of a row are stepped: of a part, those of the whole."""
    return row.memories[1].size if row.shard.whole is None else prod(row.whole)


def _of_matrices(rows: Sequence[Row]) -> list[NDArray[np.float64]]:
    """Return, for rows that are seen as matrices, what ``sizes_of`` has after the number of elements."""
    views = {row.kernel.plan.view for row in rows} - {None}
    if not views:
        return []
    sizes = np.array([sizes_of(row, view)[1:] for row in rows for view in views], np.float64)
    return [*sizes.reshape(-1, len(SIZES) - 1).T]


def sizes_of(row: Row, view: View | None) -> list[int]:
    """Return the ``SIZES`` of a row: its elements, 1 where there are none, and what there is of its matrices."""
    memory = row.memories[0]
    of_matrices = [0] * (len(SIZES) - 1) if view is None else matrix_sizes(memory.shape, view)
    return [max(1, memory.size), *of_matrices]


class Totals:
    """Sums over each row, and over all.

    Args:
        groups: those of the rows.
        sizes: of the rows.
        share: adds up numbers over the processes that hold parts of one model.
        counts: whether somebody asks how many elements there are in all.

    Attributes:
        of_rows: of each group the sizes of its rows (``Plan.sizes``), then the sums over them: an array for each.
        of_all: of each group the sums over all rows, by the names that its plans have for them.
    """

    def __init__(
        self,
        groups: Sequence[ScalarGroup],
        sizes: Sizes,
        share: Callable[[Sequence[float]], Sequence[float]],
        *,
        counts: bool = False,
    ) -> None:
        self._groups, self._share = groups, share
        self.of_rows: list[list[NDArray[np.float64]]] = [[*own] for own in sizes.of_rows]
        self.of_all: list[dict[str, float]] = [{} for _ in groups]
        if counts:
            # Of those that ask: other groups may have a rule that sums nothing.
            own = [group.values.plan("step").asks_for_all for group in groups]
            counted = zip(groups, sizes.of_groups, own, strict=True)
            count = sum(n for group, n, asks in counted if asks and not group.rests)
            size = max(1.0, share([float(count)])[0])
            self.of_all = [{ALL_SIZE: size} for _ in groups]

    def add(self, plans: Sequence[Plan | None], members: Sequence[Sequence[int]], lines: Lines) -> None:
        """Add what a pass has summed.

        Args:
            plans: of each group; None where the pass is none of its.
            members: the places of each group's rows, among
            lines: the sums of all rows.
        """
        parts: list[list[NDArray[np.float64]]] = []
        for plan, places, group, of_rows in zip(plans, members, self._groups, self.of_rows, strict=True):
            if plan is None:
                continue
            columns = [*_last_of(lines, places, len(plan.totals)).T]
            if not plan.all_totals:
                of_rows.extend(columns)
                continue
            of_rows += [own for own, name in zip(columns, plan.totals, strict=True) if name in plan.tensor_totals]
            if not group.rests:
                of_all = [own for own, name in zip(columns, plan.totals, strict=True) if name in plan.all_totals]
                parts.append(of_all)
        if parts:
            self._add_all(plans, parts)

    def _add_all(self, plans: Sequence[Plan | None], parts: Sequence[Sequence[NDArray[np.float64]]]) -> None:
        """Let the sums over all be known, given those over the rows of each group."""
        rows = [[number for own in column for number in own.tolist()] for column in zip(*parts, strict=True)]
        totals = self._share(list(map(rounded_once, rows)))
        for plan, sums in zip(plans, self.of_all, strict=True):
            if plan is not None and plan.all_totals:
                sums.update(zip(plan.all_totals, totals, strict=True))


def _last_of(lines: Lines, places: Sequence[int], count: int) -> NDArray[np.float64]:
    """Return the last sums of some rows; a step that is read sums more before them of rows with low-precision slots."""
    if isinstance(lines, np.ndarray):
        last = lines[:, lines.shape[1] - count :]
        return last if len(places) == len(lines) else last[places]
    last_of_each = [lines[place][len(lines[place]) - count :] for place in places]
    return np.array(last_of_each, np.float64).reshape(len(places), count)


def check_alike(plans: Sequence[tuple[Plan, str]], rules: Sequence[Rule] | None = None) -> None:
    """Check that all groups take as many sums over all, in the same passes: the first of each is one sum, and so on.

    Args:
        plans: of the step of each group, with how messages name it.
        rules: of each group, where those whose rule takes no such sums have no part in them. None: all have.

    Raises:
        HyperparameterError: where they do not, or where sums are those of two rules.
    """
    found: dict[Rule | None, dict[tuple[int, ...], str]] = {}
    longest = max((len(plan.before) for plan, _ in plans), default=0)
    for (plan, where), rule in zip(plans, rules or itertools.repeat(None, len(plans)), strict=True):
        before = [len(own.all_totals) for own in plan.before]
        counts = (*before, *[0] * (longest - len(before)), len(plan.all_totals))
        found.setdefault(rule, {}).setdefault(counts, where)
    for of_rule in found.values():
        if len(of_rule) > 1:
            first, second, *_ = of_rule.values()
            raise HyperparameterError(
                f"the options of the groups differ in what is summed over all tensors:{first} and{second}. Give them "
                "the same options, or each an optimizer of its own"
            )
    asking = [rule.name for rule, counts in found.items() if rule is not None and any(map(any, counts))]
    if len(asking) > 1:
        raise HyperparameterError(
            f"rules {asking[0]!r} and {asking[1]!r} both take sums over all their tensors, which one optimizer adds up "
            "for one rule. Give each an optimizer of its own"
        )
