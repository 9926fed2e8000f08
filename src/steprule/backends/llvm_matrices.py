"""Matrices in machine code: tile by tile and row by row, with the sums of each tile, row and column.

A kernel counts tiles (``language.matrices``). A row's numbers are loaded before the loop over its elements, and a
column's are loaded as an element's are, so the loop becomes vector instructions as that of any plan does. Sums over the
tile and over the row are kept in lanes, those over columns where they are written.
"""

from __future__ import annotations

from steprule.backends import llvm_groups
from steprule.backends.llvm_code import WORDS, Code, indented
from steprule.backends.llvm_sums import tree
from steprule.compile import BLOCK, LANES, Plan
from steprule.formats import GROUP
from steprule.language.matrices import ROWS

__all__ = ["shell"]

_STEP = """\
define internal void @step(ptr %addresses, i64 %offset, i64 %count, ptr %scalars, ptr %sums, i64 %row, i64 %column, \
ptr %columns) alwaysinline #0 {{
entry:
{entry}
  %offset.low = trunc i64 %offset to i32
{first}
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop0, label %after0

loop0:
  %i0 = phi i64 [ 0, %entry ], [ %next0, %loop0 ]
{head}
  %at0 = add i64 %offset, %i0
  %at.low0 = trunc i64 %at0 to i32
  %column0 = add i64 %column, %i0
{body}
{last}
  %next0 = add nsw i64 %i0, 1
  %more0 = icmp slt i64 %next0, %count
  br i1 %more0, label %loop0, label %after0, !llvm.loop !1

after0:
  ret void
}}

"""
_GROUP = """\
define internal void @step(ptr %addresses, i64 %offset, i64 %count, ptr %scalars, ptr %sums, i64 %row, i64 %column, \
ptr %columns) alwaysinline #0 {{
entry:
{entry}
  %offset.low = trunc i64 %offset to i32
  %row.before = mul i64 %row, %length
  %before = sub i64 %offset, %row.before
{places}
{tiles}
{phases}
  ret void
}}

"""
_LINE = """\
define internal void @line(ptr %addresses, i64 %start, i64 %n, ptr %scalars, ptr %sums, i64 %row, i64 %column, \
ptr %columns) #0 {{
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %next, %stepped ]
  %next = add i64 %i, {LANES}
  %at = add i64 %start, %i
  %column.at = add i64 %column, %i
  %columns.at = getelementptr double, ptr %columns, i64 %i
  %left = sub i64 %n, %i
  %full = icmp sge i64 %left, {LANES}
  br i1 %full, label %whole, label %part

whole:
  call void @step(ptr %addresses, i64 %at, i64 {LANES}, ptr %scalars, ptr %sums, i64 %row, i64 %column.at, \
ptr %columns.at)
  br label %stepped

part:
  call void @step(ptr %addresses, i64 %at, i64 %left, ptr %scalars, ptr %sums, i64 %row, i64 %column.at, \
ptr %columns.at)
  br label %stepped

stepped:
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done

done:
  ret void
}}

"""
_WHOLE_LINE = """\
define internal void @line(ptr %addresses, i64 %start, i64 %n, ptr %scalars, ptr %sums, i64 %row, i64 %column, \
ptr %columns) #0 {{
entry:
  call void @step(ptr %addresses, i64 %start, i64 %n, ptr %scalars, ptr %sums, i64 %row, i64 %column, ptr %columns)
  ret void
}}

"""
_PARTS = """\
define internal void @clear(ptr %at, i64 %count) #0 {{
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done

loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %place = getelementptr double, ptr %at, i64 %i
  store double 0.0, ptr %place
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done

done:
  ret void
}}

define internal void @flush(ptr %sums, i64 %count, ptr %out) #0 {{
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done

loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
  %first = mul i64 %k, {LANES}
  %lanes = getelementptr double, ptr %sums, i64 %first
{tree}
  %to = getelementptr double, ptr %out, i64 %k
  store double %total, ptr %to
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done

done:
  ret void
}}

"""
_KERNEL = """\
define void @kernel(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars) #0 {{
entry:
  %lanes = alloca [{LANES_IN_ALL} x double], align 64
  %row.lanes = getelementptr double, ptr %lanes, i64 {TILE_LANES}
{words}
  %columns.more = add i64 %matrix_columns, {BLOCK_1}
  %across = udiv i64 %columns.more, {BLOCK}
  %rows.more = add i64 %matrix_rows, {ROWS_1}
  %down = udiv i64 %rows.more, {ROWS}
  %end = add i64 %start, %n
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %tile, label %done

tile:
  %t = phi i64 [ %start, %entry ], [ %t.next, %stepped ]
  %block = urem i64 %t, %across
  %strip = udiv i64 %t, %across
  %matrix = udiv i64 %strip, %down
  %strip.own = urem i64 %strip, %down
  %row.first = mul i64 %strip.own, {ROWS}
  %rows.left = sub i64 %matrix_rows, %row.first
  %rows.few = icmp slt i64 %rows.left, {ROWS}
  %height = select i1 %rows.few, i64 %rows.left, i64 {ROWS}
  %column.first = mul i64 %block, {BLOCK}
  %columns.left = sub i64 %matrix_columns, %column.first
  %columns.few = icmp slt i64 %columns.left, {BLOCK}
  %width = select i1 %columns.few, i64 %columns.left, i64 {BLOCK}
  %rows.before = mul i64 %matrix, %matrix_rows
  %row.start = add i64 %rows.before, %row.first
  %row.end = add i64 %row.start, %height
  %columns.before = mul i64 %matrix, %matrix_columns
  %column = add i64 %columns.before, %column.first
  %strip.first = mul i64 %strip, {COLUMN_SUMS}
  %strip.at = mul i64 %strip.first, %matrix_columns
  %columns.at = add i64 %strip.at, %column.first
  %columns = getelementptr double, ptr %column_sums, i64 %columns.at
{clear_columns}
  call void @clear(ptr %lanes, i64 {TILE_LANES})
  br label %row.loop

row.loop:
  %row = phi i64 [ %row.start, %tile ], [ %row.next, %row.loop ]
  call void @clear(ptr %row.lanes, i64 {ROW_LANES})
  %row.at = mul i64 %row, %matrix_columns
  %at = add i64 %row.at, %column.first
  call void @line(ptr %addresses, i64 %at, i64 %width, ptr %scalars, ptr %lanes, i64 %row, i64 %column, ptr %columns)
  %row.place = mul i64 %row, %across
  %row.block = add i64 %row.place, %block
  %row.sum = mul i64 %row.block, {ROW_SUMS}
  %row.to = getelementptr double, ptr %row_sums, i64 %row.sum
  call void @flush(ptr %row.lanes, i64 {ROW_SUMS}, ptr %row.to)
  %row.next = add i64 %row, 1
  %row.more = icmp slt i64 %row.next, %row.end
  br i1 %row.more, label %row.loop, label %stepped

stepped:
  %sum = mul i64 %t, {SUMS}
  %to = getelementptr double, ptr %sums, i64 %sum
  call void @flush(ptr %lanes, i64 {SUMS}, ptr %to)
  %t.next = add i64 %t, 1
  %more = icmp slt i64 %t.next, %end
  br i1 %more, label %tile, label %done

done:
  ret void
}}
"""


def shell(plan: Plan, code: Code) -> str:
    """Return the functions of a plan that has a view."""
    length = [line.replace("%matrix_columns", "%length") for line in _word(plan, "matrix_columns")]
    entry = indented([*code.entry(), *length, *_of_row(code)])
    tile, row = len(plan.sums), len(plan.row_sums)
    clear = [
        line
        for number in range(len(plan.column_sums))
        for line in (
            f"%clear.first{number} = mul i64 %matrix_columns, {number}",
            f"%clear.at{number} = getelementptr double, ptr %columns, i64 %clear.first{number}",
            f"call void @clear(ptr %clear.at{number}, i64 %width)",
        )
    ]
    kernel = _KERNEL.format(
        LANES_IN_ALL=max(1, LANES * (tile + row)),
        TILE_LANES=LANES * tile,
        ROW_LANES=LANES * row,
        SUMS=tile,
        ROW_SUMS=row,
        COLUMN_SUMS=len(plan.column_sums),
        BLOCK=BLOCK,
        BLOCK_1=BLOCK - 1,
        ROWS=ROWS,
        ROWS_1=ROWS - 1,
        words=indented([line for word in WORDS[WORDS.index("sums") :] for line in _word(plan, word)]),
        clear_columns=indented(clear),
    )
    step = _groups(plan, code, entry) if plan.has_groups else _elements(code, entry)
    line = _LINE.format(LANES=LANES) if tile or row or plan.has_groups else _WHOLE_LINE.format()
    return step + line + _PARTS.format(LANES=LANES, tree=indented(tree())) + kernel


def _elements(code: Code, entry: str) -> str:
    """Return what steps some elements of a row."""
    body = [*code.elements(0), *code.sums(0), *_column_sums(code, 0)]
    first, head, last = map(indented, code.counters(0, "%offset.low", "entry"))
    return _STEP.format(entry=entry, first=first, head=head, body=indented(body), last=last)


def _groups(plan: Plan, code: Code, entry: str) -> str:
    """Return what steps a group, of which all elements are of one row."""
    places = _per_row("%group", GROUP)
    for packing in plan.packings:
        places += _per_row(f"%packed{packing}", packing)
    tiles, phases = llvm_groups.parts(
        plan,
        code,
        lambda phase: [f"%column{phase} = add i64 %column, %i{phase}"],
        lambda phase: _column_sums(code, phase),
    )
    return _GROUP.format(entry=entry, places=indented(places), tiles=tiles, phases=phases)


def _per_row(name: str, count: int) -> list[str]:
    """Give a name to the place of what ``count`` elements of a row share, where every row begins with a new one."""
    shift = count.bit_length() - 1
    return [
        f"{name}.up = add i64 %length, {count - 1}",
        f"{name}.each = lshr i64 {name}.up, {shift}",
        f"{name}.above = mul i64 %row, {name}.each",
        f"{name}.before = lshr i64 %before, {shift}",
        f"{name} = add i64 {name}.above, {name}.before",
    ]


def _word(plan: Plan, word: str) -> list[str]:
    """Load an integer argument, or an address among them."""
    kind = "ptr" if word.endswith("sums") else "i64"
    place = len(plan.planes) + WORDS.index(word)
    return [
        f"%at.{word} = getelementptr i64, ptr %addresses, i64 {place}",
        f"%{word} = load {kind}, ptr %at.{word}, !invariant.load !4",
    ]


def _of_row(code: Code) -> list[str]:
    """Load the numbers of ``%row``."""
    lines: list[str] = []
    for index in filter(code.is_of_row, code.plan.loads):
        lines.append(f"%e{index}.0 = getelementptr {code.stored(index)}, ptr %p{index}, i64 %row")
        lines += code.load(index, 0, "")
    return lines


def _column_sums(code: Code, phase: int) -> list[str]:
    """Add to the sums over columns of one phase, of which each has a row at ``%columns``."""
    lines: list[str] = []
    before = len(code.plan.sums) + len(code.plan.row_sums)
    for place, result in enumerate(code.plan.column_sums):
        if result.phase != phase:
            continue
        number = before + place
        lines += [
            *code.widened(number, result, phase),
            f"%j{number} = mul i64 %length, {place}",
            f"%k{number} = add i64 %j{number}, %i{phase}",
            f"%b{number} = getelementptr double, ptr %columns, i64 %k{number}",
            f"%o{number} = load double, ptr %b{number}, align 8, !llvm.access.group !0",
            f"%n{number} = fadd double %o{number}, %d.{number}",
            f"store double %n{number}, ptr %b{number}, align 8, !llvm.access.group !0",
        ]
    return lines
