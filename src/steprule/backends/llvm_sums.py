"""Sums over elements in machine code: lanes that every element adds to, and a partial sum for every block.

The lanes of all sums lie in the first cache. A plan without groups is walked in tiles of ``LANES`` elements, so that in
the loop over a tile no element waits for another, and it becomes vector instructions.
"""

from __future__ import annotations

from steprule.backends.llvm_code import WORDS, Code, indented
from steprule.compile import BLOCK, LANES, Plan

__all__ = ["tiles", "tree", "wrapped"]

_TILES = """\
define internal void @step(ptr %addresses, i64 %offset, i64 %count, ptr %scalars, ptr %sums) alwaysinline #0 {{
entry:
{entry}
  %offset.low = trunc i64 %offset to i32
{first}
  br label %loop0

loop0:
  %i0 = phi i64 [ 0, %entry ], [ %next0, %loop0 ]
{head}
  %at0 = add i64 %offset, %i0
  %at.low0 = trunc i64 %at0 to i32
{body}
{last}
  %next0 = add nsw i64 %i0, 1
  %more0 = icmp slt i64 %next0, %count
  br i1 %more0, label %loop0, label %after0, !llvm.loop !1

after0:
  ret void
}}

define internal void @run(ptr %addresses, i64 %start, i64 %n, ptr %scalars, ptr %sums) #0 {{
entry:
  %end = add i64 %start, %n
  br label %loop

loop:
  %at = phi i64 [ %start, %entry ], [ %next, %stepped ]
  %next = add i64 %at, {LANES}
  %left = sub i64 %end, %at
  %full = icmp sge i64 %left, {LANES}
  br i1 %full, label %whole, label %part

whole:
  call void @step(ptr %addresses, i64 %at, i64 {LANES}, ptr %scalars, ptr %sums)
  br label %stepped

part:
  call void @step(ptr %addresses, i64 %at, i64 %left, ptr %scalars, ptr %sums)
  br label %stepped

stepped:
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done

done:
  ret void
}}
"""

_BLOCKS = """\

define internal void @flush(ptr %sums, ptr %out) #0 {{
entry:
  br label %loop

loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
  %first = mul i64 %k, {LANES}
  %lanes = getelementptr double, ptr %sums, i64 %first
{tree}
  %to = getelementptr double, ptr %out, i64 %k
  store double %total, ptr %to
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, {SUMS}
  br i1 %more, label %loop, label %done

done:
  ret void
}}

define void @kernel(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars) #0 {{
entry:
  %sums = alloca [{WORDS} x double], align 64
  %end = add i64 %start, %n
  %out.at = getelementptr ptr, ptr %addresses, i64 {place}
  %out = load ptr, ptr %out.at
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %block, label %done

block:
  %at = phi i64 [ %start, %entry ], [ %next, %written ]
  br label %clear

clear:
  %i = phi i64 [ 0, %block ], [ %i.next, %clear ]
  %lane = getelementptr double, ptr %sums, i64 %i
  store double 0.0, ptr %lane
  %i.next = add i64 %i, 1
  %left.i = icmp slt i64 %i.next, {WORDS}
  br i1 %left.i, label %clear, label %cleared

cleared:
  %left = sub i64 %end, %at
  %short = icmp slt i64 %left, {BLOCK}
  %count = select i1 %short, i64 %left, i64 {BLOCK}
  call void @run(ptr %addresses, i64 %at, i64 %count, ptr %scalars, ptr %sums)
  br label %written

written:
  %number = udiv i64 %at, {BLOCK}
  %first = mul i64 %number, {SUMS}
  %to = getelementptr double, ptr %out, i64 %first
  call void @flush(ptr %sums, ptr %to)
  %next = add i64 %at, {BLOCK}
  %more = icmp slt i64 %next, %end
  br i1 %more, label %block, label %done

done:
  ret void
}}
"""


def tiles(code: Code) -> str:
    """Return the function ``run`` of a plan without groups."""
    body = [*code.elements(0), *code.sums(0)]
    first, head, last = map(indented, code.counters(0, "%offset.low", "entry"))
    entry = indented(code.entry())
    return _TILES.format(entry=entry, first=first, head=head, body=indented(body), last=last, LANES=LANES)


def wrapped(plan: Plan, run: str) -> str:
    """Return a kernel that calls ``run(addresses, start, n, scalars, sums)`` for every block, and writes its sums."""
    return run + _BLOCKS.format(
        LANES=LANES,
        SUMS=len(plan.sums),
        WORDS=LANES * len(plan.sums),
        BLOCK=BLOCK // LANES if plan.has_groups else BLOCK,
        place=len(plan.planes) + WORDS.index("sums"),
        tree=indented(tree()),
    )


def tree() -> list[str]:
    """Add the upper half of the lanes to the lower, until one is left."""
    half = LANES // 2
    kind = f"<{half} x double>"
    lines = [
        f"%low{half} = load {kind}, ptr %lanes, align 64",
        f"%at{half} = getelementptr double, ptr %lanes, i64 {half}",
        f"%high{half} = load {kind}, ptr %at{half}, align 64",
        f"%sum{half} = fadd {kind} %low{half}, %high{half}",
    ]
    while half > 1:
        width, half = half, half // 2
        kind, given = f"<{half} x double>", f"<{width} x double> %sum{width}, <{width} x double> poison"
        for name, start in (("low", 0), ("high", half)):
            places = ", ".join(f"i32 {start + i}" for i in range(half))
            lines.append(f"%{name}{half} = shufflevector {given}, <{half} x i32> <{places}>")
        lines.append(f"%sum{half} = fadd {kind} %low{half}, %high{half}")
    return [*lines, "%total = extractelement <1 x double> %sum1, i32 0"]
