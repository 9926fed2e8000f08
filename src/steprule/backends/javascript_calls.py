"""How the functions of an emitted module are called: which there are, what they take, and in which order."""

from __future__ import annotations

from typing import NamedTuple

from steprule.backends.loops_memory import VECTORS, vectors_of
from steprule.backends.loops_sums import SUMS
from steprule.backends.passes import over_all, passes
from steprule.compile import SIZE, Plan
from steprule.language.sums import ALL, ALL_COLUMNS, ALL_ROWS, ALL_SIZE, IN_COLUMN, IN_ROW, NDIM, TOTAL
from steprule.language.walk import symbols_in

__all__ = [
    "LATE",
    "Part",
    "arguments",
    "behind",
    "how_to_evaluate",
    "how_to_step",
    "parts",
    "point_part",
    "taken_behind",
]

_COUNTS = {IN_ROW: "row_size", IN_COLUMN: "column_size", ALL_ROWS: "row_count", ALL_COLUMNS: "column_count"}
LATE = {TOTAL: SUMS, SIZE: "size", **_COUNTS, NDIM: "ndim", ALL_SIZE: "all_size"}
"""What preludes take of arrays, behind all else: sums over their elements, and how many of what there are."""


class Part(NamedTuple):
    """The two functions of a pass, by name."""

    plan: Plan
    prelude: str
    kernel: str


def parts(plan: Plan) -> list[Part]:
    """Return the functions of all passes."""
    *before, (_, last) = passes(plan).items()
    own = [Part(one, f"prelude{number}", which) for number, (which, one) in enumerate(before)]
    return [*own, Part(last, "prelude", "kernel")]


def point_part(evaluated: Plan) -> Part:
    """Return the functions that compute the evaluated point."""
    return Part(evaluated, "prelude_evaluated", "evaluated")


def how_to_evaluate(part: Part) -> list[str]:
    """Return lines that say how to compute the evaluated point."""
    plan, prelude, kernel = part
    arrays = ", ".join(plane.name.replace(".", "_") for plane in plan.kept_planes)
    row = f"{prelude}({', '.join(LATE.get(name, name) for name in arguments(plan))})"
    written = " and ".join(plan.planes[store.plane].name.replace(".", "_") for store in plan.stores)
    return [
        f"The point at which the rule is evaluated, into {written}:",
        f"    {kernel}({', '.join([arrays, row, *behind(plan)])});",
    ]


def how_to_step(plan: Plan) -> list[str]:
    """Return lines that say how to step by a rule that sums."""
    taken = {name for one in (*plan.before, plan) for name in arguments(one)}
    if plan.view is None and taken.isdisjoint(LATE):
        return []
    lines = [f"A step of {_what_is_stepped(plan)}:"]
    lines += [f"    const {SUMS} = [];"] if any(one.width for one in plan.before) else []
    lines += [f"    const {VECTORS} = {{}};"] if vectors_of(plan) else []
    for one, prelude, kernel in parts(plan):
        given = ", ".join(LATE.get(name, name) for name in arguments(one))
        arrays = ", ".join(plane.name.replace(".", "_") for plane in one.kept_planes)
        row = f"{prelude}({given})"
        lines.append(f"    {kernel}({', '.join([arrays, row, *behind(one)])});")
    totals = [name for before in plan.before for name in before.totals]
    for place in (place for place, name in enumerate(totals) if name.startswith(ALL)):
        lines.append(f"{SUMS}[{place}] is over all arrays: put rounded_once([...]) of theirs there before it is read.")
    return lines + (["all_size is how many elements all arrays have, at least 1."] if over_all(plan) else [])


def _what_is_stepped(plan: Plan) -> str:
    """Return what a step is of, and what is to be said of its sizes."""
    if plan.view is None:
        return "an array; size is how many elements it has, at least 1"
    what = "a matrix" if plan.view == "first" else "an array of matrices"
    taken = {name for one in (*plan.before, plan) for name in arguments(one)}
    counts = {SIZE: "elements", IN_ROW: "elements of a row", IN_COLUMN: "elements of a column", ALL_ROWS: "rows"}
    counts |= {ALL_COLUMNS: "columns"}
    said = [f"{LATE[name]} is the number of {words}, at least 1" for name, words in counts.items() if name in taken]
    said += ["ndim is the number of axes"] if NDIM in taken else []
    return "; ".join([f"{what} of rows and columns (a vector is one row)", *said])


def arguments(plan: Plan) -> list[str]:
    """Return what the prelude takes, by name: the plan's own arguments but what it knows of arrays, then that."""
    late = _late(plan)
    taken = {late[name] for name in symbols_in(plan.prelude.results) & late.keys()}
    own = [name for name in plan.prelude.arguments if name not in late]
    return own + [name for name in LATE if name in taken]


def _late(plan: Plan) -> dict[str, str]:
    """Return in which argument the prelude's numbers of arrays are."""
    totals = {name: TOTAL for before in plan.before for name in before.totals}
    return {**totals, **{name: name for name in LATE if name != TOTAL}}


def behind(plan: Plan) -> list[str]:
    """Return what a kernel takes behind the row, by name."""
    return [name.partition(" = ")[0] for name in taken_behind(plan)]


def taken_behind(plan: Plan) -> list[str]:
    """Return what is taken behind the row, with defaults."""
    takes = [SUMS] if plan.width else []
    takes += [VECTORS] if vectors_of(plan) else []
    takes += ["keys", "origin = [0, 0]"] if plan.inputs else []
    takes += ["rows = 1"] if plan.has_groups else []
    return [
        *takes,
        *({"first": ["rows", "columns"], "last": ["rows", "columns", "matrices = 1"]}.get(plan.view or "", [])),
    ]
