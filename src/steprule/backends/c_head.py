"""What stands around emitted C: how to call and compile it, in a comment, and what refuses flags that change bits."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from steprule.backends.loops_memory import VECTORS, asks_for_axes, doubles_per_column, times, vectors_of
from steprule.backends.loops_sums import SUMS
from steprule.backends.passes import over_all, passes
from steprule.compile import ENCODED, Plan
from steprule.formats import GROUP
from steprule.language.sums import ALL

__all__ = ["ADDED", "EVALUATED", "TAIL", "head"]

EVALUATED = "evaluated"
"""What is behind the name of a rule in that of the function that computes its evaluated point."""

_HEAD = """\
/* {title}

   {call}
   {arguments}

   Compile with -ffp-contract=off (or -std=c99, which says so to GCC): fused multiply-adds give other bits.
   Link with -lm.{note} */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "-ffast-math reorders arithmetic, so that the bits differ; compile without it"
#endif
#if FLT_EVAL_METHOD < 0 || FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2
#error "float is computed in a wider type here, so that the bits differ; on x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#ifdef __cplusplus
extern "C" {{
#endif
"""
TAIL = """
#ifdef __cplusplus
}
#endif
"""
ADDED = """\
/* The sum of numbers, rounded once. */
double {name}_total(size_t count, const double *numbers)
{{
    exact_sum sum = {{{{0}}, 0.0}};
    for (size_t i = 0; i < count; ++i)
        exact_add(&sum, numbers[i]);
    return exact_rounded(&sum);
}}
"""
"""What adds up the sums of arrays."""


_SEEN = {
    None: "n elements",
    "first": (
        "a matrix of rows x columns elements, row after row (rows are along the first axis, columns along all others)"
    ),
    "last": "matrices x rows x columns elements, matrix after matrix, and row after row of each",
}


def head(plan: Plan, name: str, init: Mapping[str, float | str], text: str, evaluated: Plan | None = None) -> str:
    """Return the comment at the top, and what is included.

    Args:
        plan: of the step.
        name: of the function.
        init: what slots hold before the first step, where that is not 0.
        text: the functions.
        evaluated: what computes the evaluated point, if the rule has one.
    """
    note = f"\n\n   {ENCODED}" if "/* encode " in text else ""
    call, described = _called(plan, name, init), _described(plan, name)
    if evaluated is not None:
        described += f"\n\n   {_of_point(evaluated, plan, name)}"
    return _HEAD.format(title=_harmless(plan.title), call=call, arguments=described, note=note)


def _of_point(evaluated: Plan, plan: Plan, name: str) -> str:
    """Return what to say of the function that computes the evaluated point."""
    written = [evaluated.planes[store.plane].name.replace(".", "_") for store in evaluated.stores]
    parameter = plan.planes[0].name
    return _commented(
        f"The rule trains at {parameter} and is evaluated at another point. {name}_{EVALUATED} writes that into "
        f"{' and '.join(written)} and changes nothing else: call it with what the steps have left, and go on training "
        f"with {parameter}."
    )


def _harmless(text: str) -> str:
    """Return a text on one line that does not end the comment it is in."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def _called(plan: Plan, name: str, init: Mapping[str, float | str]) -> str:
    size = "a matrix of rows x length elements, row after row" if plan.has_groups else _SEEN[plan.view]
    counted = " with t = 1, 2, 3, ..." if "t" in plan.prelude.arguments or plan.inputs else "."
    if plan.before and over_all(plan):
        name = f"{', '.join(_names(plan, name))} (each for all arrays before the next)"
    kept = {*plan.prelude.scalar_slots, *(plane.name for plane in plan.kept_planes[2:])}
    starts = [f"{slot} = {start}" for slot, start in init.items() if slot in kept]
    first = f" Before the first step {', '.join(starts)}; other slots are 0." if starts else ""
    first = first or (" Before the first step all slots are 0." if kept else "")
    return _commented(f"One step of {size}, in place: call {name}{counted}{first}")


def _names(plan: Plan, name: str) -> list[str]:
    """Return the names of the functions of all passes."""
    return [f"{name}_{which}" for which in passes(plan)]


def _described(plan: Plan, name: str) -> str:
    groups = [plane.name.replace(".", "_") for plane in plan.planes if plane.per == "group"]
    said = [f"{plan.planes[1].name} is only read."]
    if groups:
        said.append(f"{' and '.join(groups)}: one number for every {GROUP} elements of a row, or what is left of them.")
    for packing in plan.packings:
        names = " and ".join(plane.name.replace(".", "_") for plane in plan.planes if plane.packing == packing)
        said.append(
            f"{names}: {packing} neighbours of a row per item, first in the lowest bits; (length + {packing - 1}) / "
            f"{packing} items per row."
        )
    said += [*_of_sums(plan, name), *_of_matrices(plan)]
    if plan.inputs:
        said.append("seed: any number; tensor: another one for each array, so that their random bits differ.")
    return _commented(" ".join(said))


def _of_sums(plan: Plan, name: str) -> list[str]:
    """Return what to say of sums over elements."""
    *summing, stepping = _names(plan, name)
    if plan.before and not over_all(plan):
        return [f"{name} calls {', '.join(summing)}, which sum over the elements and write nothing, and {stepping}."]
    said = [f"{SUMS}: takes {plan.width} sums over the elements."] if plan.width else []
    if plan.before:
        totals = [(function, total) for function, one in zip(summing, plan.before, strict=True) for total in one.totals]
        said.append(f"{SUMS}: {len(totals)} numbers of each array, which {', '.join(summing)} write.")
        for place, (function, total) in enumerate(totals):
            if total.startswith(ALL):
                said.append(f"{SUMS}[{place}] is over all arrays: after {function} put {name}_total of theirs in each.")
    return [*said, "all_size: how many elements all arrays have, at least 1."] if over_all(plan) else said


def _of_matrices(plan: Plan) -> list[str]:
    """Return what to say of rows and columns."""
    if plan.view is None:
        return []
    said = ["A vector is one row, a number one row of one column."]
    said += ["ndim: the number of axes of the array: 0, 1, 2, ..."] if asks_for_axes(plan) else []
    for over in ("row", "column"):
        names = [plane.name for plane in plan.kept_planes if plane.per == over]
        said += [f"{' and '.join(names)}: a number for each {over}."] if names else []
    count, kept = sum(one.width for one in passes(plan).values()), [*vectors_of(plan).values()]
    is_one = plan.view == "first"
    if each := doubles_per_column(plan):
        length = " + ".join([*([str(count)] if count else []), times(0, each, is_one=True)])
        said.append(f"{SUMS}: memory for {length} numbers while a step is taken.")
    if kept:
        length = times(kept.count("row"), kept.count("column"), is_one=is_one)
        said.append(f"{VECTORS}: memory for {length} numbers while a step is taken.")
    return said


def _commented(text: str) -> str:
    return textwrap.fill(text, 112, subsequent_indent="   ")
