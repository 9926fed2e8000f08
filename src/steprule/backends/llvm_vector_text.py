"""The text around numbers of rows and columns in machine code: what adds up sums, a matrix, and a loop along a side."""

from __future__ import annotations

__all__ = ["ADDED", "HELPERS", "KERNEL", "LOOP"]

ADDED = """\
define internal void @added.{side}(ptr %to, ptr %from, {item}i64 %part, i64 %parts, i64 %count) #0 {{
entry:
  call void @clear(ptr %to, i64 %count)
  %some = icmp sgt i64 %parts, 0
  br i1 %some, label %parts.loop, label %done

parts.loop:
  %p = phi i64 [ 0, %entry ], [ %p.next, %added ]
  %p.first = mul i64 %p, %part
  %own = getelementptr double, ptr %from, i64 %p.first
  br label %loop

loop:
  %i = phi i64 [ 0, %parts.loop ], [ %next, %loop ]
{place}
  %number = load double, ptr %at, !llvm.access.group !0
  %sum.at = getelementptr double, ptr %to, i64 %i
  %sum = load double, ptr %sum.at, !llvm.access.group !0
  %new = fadd double %sum, %number
  store double %new, ptr %sum.at, !llvm.access.group !0
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %added, !llvm.loop !1

added:
  %p.next = add i64 %p, 1
  %p.more = icmp slt i64 %p.next, %parts
  br i1 %p.more, label %parts.loop, label %done

done:
  ret void
}}

"""
HELPERS = """\
{declared}
define internal void @divided(ptr %sums, double %by, i64 %count) #0 {{
entry:
  %changes = fcmp une double %by, 1.0
  br i1 %changes, label %loop, label %done

loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr double, ptr %sums, i64 %i
  %sum = load double, ptr %at, !llvm.access.group !0
  %new = fdiv double %sum, %by
  store double %new, ptr %at, !llvm.access.group !0
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done, !llvm.loop !1

done:
  ret void
}}

define internal double @in_order(ptr %from, i64 %count) #0 {{
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %sum = phi double [ 0.0, %entry ], [ %new, %loop ]
  %at = getelementptr double, ptr %from, i64 %i
  %number = load double, ptr %at
  %new = fadd double %sum, %number
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done

done:
  ret double %new
}}

"""
KERNEL = """\
define void @{NAME}(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars) #0 {{
entry:
  %buffers = alloca [{BUFFERS} x double], align 64
{entry}
  %rows.more = add i64 %rows, {LANES_1}
  %down = udiv i64 %rows.more, {LANES}
  %columns.more = add i64 %columns, {BLOCK_1}
  %across = udiv i64 %columns.more, {BLOCK}
  %rows.any = icmp sgt i64 %rows, 1
  %rows.some = select i1 %rows.any, i64 %rows, i64 1
  %columns.any = icmp sgt i64 %columns, 1
  %columns.some = select i1 %columns.any, i64 %columns, i64 1
  %rows.real = uitofp i64 %rows.some to double
  %columns.real = uitofp i64 %columns.some to double
  %end = add i64 %start, %n
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %matrix, label %done

matrix:
  %m = phi i64 [ %start, %entry ], [ %m.next, %computed ]
  %row.first = mul i64 %m, %rows
  %column.first = mul i64 %m, %columns
{levels}
  br label %computed

computed:
  %m.next = add i64 %m, 1
  %m.more = icmp slt i64 %m.next, %end
  br i1 %m.more, label %matrix, label %done

done:
  ret void
}}

"""
LOOP = """\
  br label %{x}.begin

{x}.begin:
  %{x}.some = icmp sgt i64 %{count}, 0
{begin}
  br i1 %{x}.some, label %{x}.tile, label %{x}.done

{x}.tile:
  %{x}.t = phi i64 [ 0, %{x}.begin ], [ %{x}.t.next, %{x}.end ]
{totals}
  %{x}.left = sub i64 %{count}, %{x}.t
  %{x}.few = icmp slt i64 %{x}.left, {LANES}
  %{x}.n = select i1 %{x}.few, i64 %{x}.left, i64 {LANES}
  %{x}.first = add i64 %{side}.first, %{x}.t
{tile}
  br label %{x}.loop

{x}.loop:
  %{x}.i = phi i64 [ 0, %{x}.tile ], [ %{x}.i.next, %{x}.loop ]
  %{x}.at = add i64 %{x}.first, %{x}.i
{body}
  %{x}.i.next = add nsw i64 %{x}.i, 1
  %{x}.i.more = icmp slt i64 %{x}.i.next, %{x}.n
  br i1 %{x}.i.more, label %{x}.loop, label %{x}.over, !llvm.loop !1

{x}.over:
  %{x}.t.next = add i64 %{x}.t, {LANES}
  %{x}.t.more = icmp slt i64 %{x}.t.next, %{count}
{over}

{x}.end:
{end}
  br i1 %{x}.t.more, label %{x}.tile, label %{x}.done

{x}.done:
{done}
"""
