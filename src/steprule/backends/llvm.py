"""A plan as LLVM IR text: one function over a run of elements, or of groups of elements.

The calling convention of every kernel is ``void kernel(ptr addresses, i64 start, i64 n, ptr scalars)``:
``addresses`` points to one pointer a plane and then to the ``WORDS``, ``scalars`` to the row of float64 scalars and
then to the two keys of random bits, which are integers. ``start`` and ``n`` count elements, or groups in a plan
that has groups, or tiles in one that sees matrices; in a plan that has sums ``start`` is a multiple of a block. No
fast-math flag appears, so LLVM keeps every rounding as written and vectorises only what gives the same bits.
"""

from __future__ import annotations

from steprule.backends import llvm_groups, llvm_matrices, llvm_sums, llvm_vectors
from steprule.backends.llvm_code import WORDS, Code, indented
from steprule.compile import Plan

__all__ = ["WORDS", "emit"]

_HEAD = """\
; {title}
; Once a step, on the host, in float64:
{prelude}

"""
_SHELL = """\
define void @kernel(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars) #0 {{
entry:
{entry}
  %end = add i64 %start, %n
  %some = icmp sgt i64 %n, 0
  %start.low = trunc i64 %start to i32
{first}
  br i1 %some, label %loop0, label %done

loop0:
  %at0 = phi i64 [ %start, %entry ], [ %next, %loop0 ]
{head}
  %at.low0 = trunc i64 %at0 to i32
{loop}
{last}
  %next = add nsw i64 %at0, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop0, label %done, !llvm.loop !1

done:
  ret void
}}
"""
_TAIL = """\

declare {T} @llvm.fabs.{I}({T})
declare {T} @llvm.sqrt.{I}({T})
declare i32 @llvm.smax.i32(i32, i32)
declare i32 @llvm.smin.i32(i32, i32)
declare i32 @llvm.umax.i32(i32, i32)

attributes #0 = {{ nounwind "prefer-vector-width"="512" }}
; Elements do not depend on one another, so the vectoriser needs no check for overlapping arrays.
!0 = distinct !{{}}
!1 = distinct !{{!1, !2, !3{wide}}}
!2 = !{{!"llvm.loop.parallel_accesses", !0}}
!3 = !{{!"llvm.loop.vectorize.enable", i1 true}}
; Addresses, words and scalars stay as they are while a kernel runs.
!4 = !{{}}
; Two vectors at a time: while one waits for a root, the other goes on.
!5 = !{{!"llvm.loop.interleave.count", i32 2}}
{loops}"""

_WIDE = """\
; Sums are float64, and LLVM would take as many elements at a time as a vector holds of these. Division takes no longer
; for a vector full of float32.
!9 = !{{!"llvm.loop.vectorize.width", i32 {width}}}
"""
_REAL = {"float32": "float", "float64": "double"}
_INTRINSIC = {"float": "f32", "double": "f64"}


def emit(plan: Plan, width: int | None = None) -> str:
    """Return the IR of the module that defines the function ``kernel``.

    Args:
        plan: what it computes.
        width: the float32 that a vector of the processor holds, if loops with sums are to be of such vectors.
    """
    real = _REAL[plan.compute]
    head = _HEAD.format(title=plan.title, prelude="\n".join(f";   {line}" for line in plan.prelude.text.splitlines()))
    code = Code(plan)
    if plan.view is not None:
        body = llvm_matrices.shell(plan, code) + llvm_vectors.emit(plan)
    elif plan.has_groups:
        body = llvm_groups.shell(plan, code)
    elif plan.sums:
        body = llvm_sums.tiles(code)
    else:
        first, counters, last = map(indented, code.counters(0, "%start.low", "entry"))
        entry, loop = indented(code.entry()), indented(code.elements(0))
        body = _SHELL.format(entry=entry, first=first, head=counters, loop=loop, last=last)
    if plan.sums and plan.view is None:
        body = llvm_sums.wrapped(plan, body)
    loops = "".join(llvm_groups.loops(plan)) if plan.has_groups else ""
    sums = plan.sums or plan.row_sums or plan.column_sums
    if width and sums and plan.compute == "float32" and not plan.has_groups:
        loops += _WIDE.format(width=width)
    wide = ", !9" if "!9 =" in loops else ""
    return head + body + _TAIL.format(T=real, I=_INTRINSIC[real], loops=loops, wide=wide)
