"""The passes of a step over the elements, in words: what each reads and writes, and how many bytes that is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steprule.compile import Per, Plan, Plane, Product
from steprule.errors import TargetError
from steprule.formats import GROUP
from steprule.language.sums import ALL, ALL_SIZE, TOTAL

__all__ = [
    "bytes_moved",
    "check_known",
    "check_no_products",
    "described",
    "described_point",
    "over_all",
    "passes",
    "product_in_words",
]


def passes(plan: Plan) -> dict[str, Plan]:
    """Return the plans that make a step, by name, in their order: ``sums0``, ``products1``, ... and ``step``."""
    before = {f"{_kind(one)}{number}": one for number, one in enumerate(plan.before)}
    return {**before, "step": plan}


def _kind(before: Plan) -> str:
    """Return what a pass before the step is called by what it leaves."""
    return "products" if before.products else "sums"


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


def check_no_products(plan: Plan, target: str) -> None:
    """Refuse a plan whose step multiplies matrices, for a target that has no products of matrices.

    Raises:
        TargetError: for such a plan.
    """
    if plan.multiplies:
        raise TargetError(
            f"{plan.title}: a step multiplies matrices between two passes, and {target} has no matrix products. It is "
            "stepped by steprule.Optimizer, by steprule.torch and by steprule.jax, which have their hosts' own"
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
    if plan.multiplies:
        lines[0] = f"{lines[0][:-1]}, and products of matrices between them:"
    for (name, one), own in zip(found.items(), moved, strict=True):
        lines.append(f"  {name}: {own} bytes; {_words(one)}")
        lines += [f"    {line}" for product in one.products for line in product_in_words(one, product)]
    return lines


def product_in_words(plan: Plan, product: Product) -> list[str]:
    """Return lines that say what the host makes of a plane between two passes, in how many operations."""
    polar, plane = product.polar, plan.planes[product.plane]
    by = polar.coefficients if isinstance(polar.coefficients, str) else ", ".join(map(_setting, polar.coefficients))
    cut = "" if polar.parts == 1 else f", each cut into {_setting(polar.parts)} along its rows"
    return [
        f"then the host makes polar factors of the matrices in {plane.name}{cut}, in place ({_number(_bytes(plane))} "
        "bytes of each element):",
        f"{_setting(polar.steps)} Newton-Schulz steps ({by}), each of 4 r r c + 2 r r r operations for a matrix whose "
        "shorter side is r and longer side c",
    ]


def _setting(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


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
