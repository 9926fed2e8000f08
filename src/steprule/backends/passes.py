"""The passes of a step over the elements, in words: what each reads and writes, and how many bytes that is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steprule.compile import Per, Plan, Plane
from steprule.errors import TargetError
from steprule.formats import GROUP
from steprule.language.sums import ALL, ALL_SIZE, TOTAL

__all__ = ["bytes_moved", "check_known", "described", "described_point", "over_all", "passes"]


def passes(plan: Plan) -> dict[str, Plan]:
    """Return the plans that make a step, by name, in their order: ``sums0``, ``sums1``, ... and ``step``."""
    return {**{f"sums{number}": before for number, before in enumerate(plan.before)}, "step": plan}


def over_all(plan: Plan) -> bool:
    """Whether a step takes numbers of all tensors together, which a function of one array cannot know."""
    taken = {name for one in (*plan.before, plan) for name in (*one.totals, *one.prelude.arguments)}
    return any(name == ALL_SIZE or name.startswith(f"{ALL}{TOTAL}") for name in taken)


def check_known(plan: Plan, target: str) -> None:
    """Refuse a plan that sums what its prelude takes, for a target whose preludes are computed before all else.

    Raises:
        TargetError: for such a plan.
    """
    if not set(plan.totals).isdisjoint(plan.prelude.arguments):
        raise TargetError(
            f"{plan.title}: {target} computes the numbers of a step before it, and this plan sums {plan.totals[0]} "
            "while it steps; make it with rides=False"
        )


def bytes_moved(plan: Plan) -> float:
    """Return how many bytes one pass reads and writes of an element and what is kept for it.

    What is kept for a row or a column is not counted: of a large matrix it is a small part.
    """
    return sum(map(_bytes, [*_read(plan), *_written(plan)]))


def described(plan: Plan) -> list[str]:
    """Return lines that say what the passes of a step move: each element's bytes, to and from memory.

    What there is of rows and columns is named behind these words, and moves few bytes.
    """
    found = passes(plan)
    moved = [_number(bytes_moved(one)) for one in found.values()]
    if len(found) == 1:
        return [f"One pass over the elements, which moves {moved[0]} bytes of each: {_words(plan)}."]
    total = _number(sum(map(bytes_moved, found.values())))
    lines = [f"{len(found)} passes over the elements, which move {total} bytes of each:"]
    for (name, one), own in zip(found.items(), moved, strict=True):
        lines.append(f"  {name}: {own} bytes; {_words(one)}")
    return lines


def described_point(plan: Plan | None) -> list[str]:
    """Return a line that says what the pass that computes the evaluated point moves; none where there is no such."""
    if plan is None:
        return []
    return [f"The evaluated point, when it is asked for: {_number(bytes_moved(plan))} bytes of each; {_words(plan)}."]


def _words(plan: Plan) -> str:
    own, kept = plan.vectors, {plane.name: plane.per for plane in plan.planes}
    slots = [name for name in own.inputs if name in kept] if own else []
    read = {**{plane.name: plane.per for plane in _read(plan)}, **{name: kept[name] for name in slots}}
    written = {plane.name: plane.per for plane in _written(plan)}
    written |= {plan.planes[place].name: plan.planes[place].per for place, _ in own.slots} if own else {}
    summed: dict[str, Per] = {
        **dict.fromkeys(plan.totals, "element"),
        **dict.fromkeys((one.name for one in plan.row_sums), "row"),
        **dict.fromkeys((one.name for one in plan.column_sums), "column"),
    }
    parts = {"reads": _names(read), "writes": _names(written), "sums up": _names(summed)}
    return ", ".join(f"{verb} {names}" for verb, names in parts.items() if names)


def _names(of: Mapping[str, Per]) -> str:
    """Return names in words: of elements, then of rows and of columns."""
    sorts = {"": ("element", "group"), "of rows ": ("row",), "of columns ": ("column",)}
    lists = ((words, [name for name, per in of.items() if per in sort]) for words, sort in sorts.items())
    return ", ".join(f"{words}{' '.join(names)}" for words, names in lists if names)


def _read(plan: Plan) -> list[Plane]:
    return [plan.planes[index] for index in plan.loads]


def _written(plan: Plan) -> list[Plane]:
    return [plan.planes[index] for index in sorted(store.plane for store in plan.stores)]


def _bytes(plane: Plane) -> float:
    if plane.per in ("row", "column"):
        return 0
    return np.dtype(plane.dtype).itemsize / (GROUP if plane.per == "group" else plane.packing)


def _number(count: float) -> str:
    return f"{count:.2f}".rstrip("0").rstrip(".")
