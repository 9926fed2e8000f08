"""Sums over all tensors, as Triton text: those over each tensor, rounded to one number, are added up and rounded once.

Two kernels, as the host adds. ``kernel(table)`` of ``of_rows``: program i adds the partial sums of row i, whose words
are ``WORDS``: the address of the partial sums, how many lines of them there are, and the address where the results go,
one float64 number for each sum over all. ``kernel(numbers, out, rows, COUNT)`` of ``of_all``: program k adds the k-th
of the ``COUNT`` numbers of each row.
"""

from __future__ import annotations

from steprule.backends.triton_decide import THREADS, TOTAL
from steprule.compile import Plan

__all__ = ["THREADS", "WORDS", "of_all", "of_rows"]

WORDS = ("sums", "lines", "out")
"""What a row of the table is."""

_HEAD = '''\
"""Sums over all tensors, in float64."""

import triton
import triton.language as tl

{total}'''
_OF_ROWS = """\
@triton.jit(do_not_specialize=["table"])
def kernel(table: tl.int64):
    words = table.to(tl.pointer_type(tl.int64)) + tl.program_id(0).to(tl.int64) * {width}
    sums = tl.load(words).to(tl.pointer_type(tl.float64))
    lines = tl.load(words + 1)
    out = tl.load(words + 2).to(tl.pointer_type(tl.float64))
{body}
"""
_OF_ALL = """\
@triton.jit(do_not_specialize=["numbers", "out", "rows"])
def kernel(numbers: tl.int64, out: tl.int64, rows: tl.int64, COUNT: tl.constexpr):
    k = tl.program_id(0).to(tl.int64)
    numbers = numbers.to(tl.pointer_type(tl.float64)) + k
    tl.store(out.to(tl.pointer_type(tl.float64)) + k, total(numbers, rows.to(tl.int64), COUNT))
"""


def of_rows(plan: Plan) -> str:
    """Return the text of the kernel that adds up the partial sums of rows of a plan."""
    first = plan.width - len(plan.totals)
    columns = [first + plan.totals.index(name) for name in plan.all_totals]
    body = [
        f"    tl.store(out + {k}, total(sums + {column}, lines, {len(plan.sums)}))" for k, column in enumerate(columns)
    ]
    return _HEAD.format(total=TOTAL) + _OF_ROWS.format(width=len(WORDS), body="\n".join(body))


def of_all() -> str:
    """Return the text of the kernel that adds up what that has found."""
    return _HEAD.format(total=TOTAL) + _OF_ALL
