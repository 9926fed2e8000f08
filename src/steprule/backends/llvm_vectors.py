"""Numbers of rows and columns in machine code: matrix by matrix, and in each along its rows and along its columns.

``vectors`` computes what a plan has of these before its pass over elements, ``written`` gives slots their new values
when that is over. Both take the matrices of a tensor from ``start`` on, and addresses in the order of ``Arguments``. A
matrix is computed level by level: what a sum of numbers of rows is needed for comes after the loop over all rows. A
loop goes along ``LANES`` rows or columns at a time. What several loops need they compute again, but for sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from steprule.backends.llvm_code import indented, ir_type, operation, scalar_lines, written_out
from steprule.compile import BLOCK, LANES, Const, Plan, Plane, Ref, Scalar, Value, Vectors
from steprule.language.node import Stage

__all__ = ["Arguments", "emit", "functions"]

Side = Literal["row", "column"]
_ADDED = """\
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
_HELPERS = """\
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
_KERNEL = """\
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
_LOOP = """\
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


class Arguments(NamedTuple):
    """What follows the addresses of a plan's inputs, each an address but for the last two.

    Attributes:
        hoisted: where the first of what is hoisted goes.
        slots: where the first of the slots lies that have new values.
        totals: where the first of the partial sums over the tensor goes.
        sizes: where the rows and the columns of a matrix stand.
    """

    hoisted: int
    slots: int
    totals: int
    sizes: int

    @property
    def width(self) -> int:
        """How many there are, with the inputs."""
        return self.sizes + 2

    @classmethod
    def of(cls, own: Vectors) -> Arguments:
        """Return where in a row of addresses what stands."""
        hoisted = len(own.inputs)
        slots = hoisted + len(own.hoisted)
        totals = slots + len(own.slots)
        return cls(hoisted, slots, totals, totals + len(own.totals))


def functions(plan: Plan) -> tuple[str, ...]:
    """Return the names of the functions that a plan has for rows and columns."""
    own = plan.vectors
    if own is None:
        return ()
    return ("vectors",) * bool(own.computed or own.totals) + ("written",) * bool(own.slots)


def emit(plan: Plan) -> str:
    """Return the functions that a plan has for rows and columns."""
    own, names = plan.vectors, functions(plan)
    if own is None or not names:
        return ""
    declared = "" if plan.compute == "float64" else "declare double @llvm.sqrt.f64(double)\n"
    at = "  %at = getelementptr double, ptr %own, i64 "
    # Sums of columns lie side by side, which makes their loop one of vectors.
    rows = _ADDED.format(side="row", item="i64 %item, ", place=f"  %place = mul i64 %i, %item\n{at}%place")
    helpers = _HELPERS.format(declared=declared) + rows + _ADDED.format(side="column", item="", place=f"{at}%i")
    return helpers + "".join(_Function(plan, own, name == "written").text(name) for name in names)


@dataclass(frozen=True)
class _Added:
    """One sum that a loop takes.

    Attributes:
        value: of what.
        is_squared: whether of its square.
        body: which operation it is; None: a sum over the tensor,
        total: and which.
    """

    value: Ref
    is_squared: bool
    body: int | None = None
    total: int = 0


class _Function:
    """Writes one function of a plan.

    Args:
        plan, own: the plan, and what it has of rows and columns.
        writes: whether the function gives slots their new values. It reads them there, too, so all sums come first.
    """

    def __init__(self, plan: Plan, own: Vectors, writes: bool) -> None:
        self._plan, self._own, self._at = plan, own, Arguments.of(own)
        self._real = ir_type(plan.compute)
        self._sums = {
            result.name: (result, number, len(results))
            for before in plan.before
            for results in (before.row_sums, before.column_sums)
            for number, result in enumerate(results)
        }
        self._dtypes = {plane.name: plane.dtype for plane in plan.planes}
        self._levels = [0] * len(own.inputs)
        for instruction in own.body:
            below = max((self._level(ref) for ref in instruction.args), default=0)
            self._levels.append(below + ("." in instruction.op))
        self._results = [*self._results_of(writes)]
        self._totals = [] if writes else [*enumerate(own.totals)]
        roots = [ref for _, _, ref in self._results] + [ref for _, (ref, _) in self._totals]
        self._needed = self._reached(roots)
        self._top = max((self._levels[index] for index in self._needed), default=0)
        self._store_at = {place: self._top if writes else self._level(ref) for place, _, ref in self._results}
        self._buffers = LANES * (len(own.body) + len(own.totals) + len(own.inputs) + 1)

    def text(self, name: str) -> str:
        return _KERNEL.format(
            NAME=name,
            BUFFERS=self._buffers,
            entry=indented([*self._entry(), *self._scalars()]),
            levels="\n".join(map(self._level_text, range(1 + self._top))),
            LANES=LANES,
            LANES_1=LANES - 1,
            BLOCK=BLOCK,
            BLOCK_1=BLOCK - 1,
        )

    def _results_of(self, writes: bool) -> Iterator[tuple[int, Plane, Ref]]:
        """Yield what goes where."""
        if writes:
            for number, (place, ref) in enumerate(self._own.slots):
                yield self._at.slots + number, self._plan.planes[place], ref
            return
        planes = self._plan.planes[len(self._plan.kept_planes) :]
        for number in self._own.computed:
            yield self._at.hoisted + number, planes[number], self._own.hoisted[number]

    def _reached(self, roots: Sequence[Ref], stage: Stage | None = None) -> list[int]:
        """Return the values that these are computed from, or those of a stage that one finds going back along it."""
        found: set[int] = set()
        stack = [ref.index for ref in roots if isinstance(ref, Value)]
        while stack:
            index = stack.pop()
            if index not in found and stage in (None, self._own.stages[index]):
                found.add(index)
                if index >= len(self._own.inputs):
                    args = self._own.body[index - len(self._own.inputs)].args
                    stack += [ref.index for ref in args if isinstance(ref, Value)]
        return sorted(found)

    def _entry(self) -> list[str]:
        """Load the addresses and the sizes."""
        lines: list[str] = []
        for place in range(self._at.sizes):
            lines.append(f"%a{place} = getelementptr ptr, ptr %addresses, i64 {place}")
            lines.append(f"%p{place} = load ptr, ptr %a{place}, !invariant.load !4")
        for place, name in enumerate(("rows", "columns"), self._at.sizes):
            lines.append(f"%a{place} = getelementptr i64, ptr %addresses, i64 {place}")
            lines.append(f"%{name} = load i64, ptr %a{place}, !invariant.load !4")
        return lines

    def _scalars(self) -> list[str]:
        inputs = len(self._own.inputs)
        refs = [ref for index in self._needed if index >= inputs for ref in self._own.body[index - inputs].args]
        refs += [ref for _, _, ref in self._results]
        used = sorted({ref.index for ref in refs if isinstance(ref, Scalar)})
        return [line for index in used for line in scalar_lines(self._plan, index)]

    def _level_text(self, level: int) -> str:
        """Compute what all of a matrix has in common, then what there is of rows, and of columns."""
        lines = [
            line
            for index in self._needed
            if self._levels[index] == level and self._own.stages[index] == "matrix" and not self._is_sum(index)
            for line in self._operation(index, "")
        ]
        return "\n".join([indented(lines), self._loop("row", level), self._loop("column", level)])

    def _loop(self, side: Side, level: int) -> str:
        """Return the loop along a side that takes the sums of a level, and stores what there is then."""
        sums = [*self._sums_of(side, level)]
        stores = [
            (place, plane.dtype, ref)
            for place, plane, ref in self._results
            if plane.per == side and self._store_at[place] == level
        ]
        if not (sums or stores):
            return ""
        x = f"{side}{level}"
        roots = [ref for _, _, ref in stores] + [own.value for own in sums]
        needed = self._reached(roots, side)
        tile = [line for index in needed if index < len(self._own.inputs) for line in self._added_up(index, x)]
        body = [line for index in needed for line in self._number(index, x)]
        body += [line for place, dtype, ref in stores for line in self._store(place, dtype, ref, x)]
        body += [line for number, own in enumerate(sums) for line in self._add(number, own, x, side)]
        over, end = self._flushed(sums, x, side)
        names = range(len(sums))
        return _LOOP.format(
            x=x,
            side=side,
            count=f"{side}s",
            LANES=LANES,
            begin=f"  call void @clear(ptr %buffers, i64 {LANES * len(sums)})" if sums and side == "column" else "",
            totals="\n".join(
                f"  %{x}.sum{k} = phi double [ 0.0, %{x}.begin ], [ %{x}.new{k}, %{x}.end ]" for k in names
            ),
            tile=indented(tile),
            body=indented(body),
            over=over,
            end=end,
            done=indented([*self._sums_after(sums, x), *self._words_after(sums, side)]),
        )

    def _sums_of(self, side: Side, level: int) -> Iterator[_Added]:
        """Yield the sums of numbers of a side that are there at a level."""
        for index in self._needed:
            if self._is_sum(index) and self._levels[index] == level + 1:
                instruction = self._own.body[index - len(self._own.inputs)]
                value, word = instruction.args[0], instruction.op.partition(".")[0]
                if self._own.stage_of(value) == side:
                    yield _Added(value, word in ("norm", "rms"), index)
        for number, (value, is_squared) in self._totals:
            if self._own.stage_of(value) == side and self._level(value) == level:
                yield _Added(value, is_squared, None, number)

    def _added_up(self, index: int, x: str) -> list[str]:
        """Add up the partial sums of a tile of rows or columns, where an input is such a sum."""
        name, side = self._own.inputs[index], self._own.stages[index]
        if name not in self._sums:
            return []
        result, number, count = self._sums[name]
        y = f"%{x}.in{index}"
        if side == "row":
            item, parts, of = f"i64 {y}.item, ", "%across", "columns"
            place = [
                f"{y}.item = mul i64 %across, {count}",
                f"{y}.part = add i64 {count}, 0",
                f"{y}.at = mul i64 %{x}.first, {y}.item",
                f"{y}.own = add i64 {y}.at, {number}",
            ]
        else:
            item, parts, of = "", "%down", "rows"
            place = [
                f"{y}.part = mul i64 %columns, {count}",
                f"{y}.strips = mul i64 %m, %down",
                f"{y}.before = mul i64 {y}.strips, {y}.part",
                f"{y}.number = mul i64 %columns, {number}",
                f"{y}.at = add i64 {y}.before, {y}.number",
                f"{y}.own = add i64 {y}.at, %{x}.t",
            ]
        return [
            *place,
            f"{y}.from = getelementptr double, ptr %p{index}, i64 {y}.own",
            f"{y}.to = getelementptr double, ptr %buffers, i64 {self._buffer_of(index)}",
            f"call void @added.{side}(ptr {y}.to, ptr {y}.from, {item}i64 {y}.part, i64 {parts}, i64 %{x}.n)",
            *([f"call void @divided(ptr {y}.to, double %{of}.real, i64 %{x}.n)"] * (result.word in ("mean", "rms"))),
        ]

    def _buffer_of(self, index: int) -> int:
        """Return where the buffer of an input begins: after those of the sums that a loop takes."""
        return self._buffers - LANES * (len(self._own.inputs) - index)

    def _number(self, index: int, x: str) -> list[str]:
        """Give the number of a row or column its name in a loop."""
        if index >= len(self._own.inputs):
            return self._operation(index, f".{x}")
        name, y = self._own.inputs[index], f"%v{index}.{x}"
        if name in self._sums:
            result = self._sums[name][0]
            lines = [
                f"{y}.from = getelementptr double, ptr {f'%{x}.in{index}.to'}, i64 %{x}.i",
                f"{y}.sum = load double, ptr {y}.from, !llvm.access.group !0",
            ]
            return lines + self._rooted(result.word, y, f"{y}.sum")
        stored = ir_type(self._dtypes[name])
        at = f"{y}.from = getelementptr {stored}, ptr %p{index}, i64 %{x}.at"
        if stored == self._real:
            return [at, f"{y} = load {stored}, ptr {y}.from, !llvm.access.group !0"]
        return [at, f"{y}.l = load {stored}, ptr {y}.from, !llvm.access.group !0", *self._cast(y, f"{y}.l", stored)]

    def _rooted(self, word: str, name: str, averaged: str) -> list[str]:
        """Give a name to what a word for a sum comes to, given the sum or mean."""
        if word not in ("norm", "rms"):
            return self._cast(name, averaged, "double")
        root = f"{name}.root = call double @llvm.sqrt.f64(double {averaged})"
        return [root, *self._cast(name, f"{name}.root", "double")]

    def _cast(self, name: str, value: str, kind: str, to: str = "") -> list[str]:
        """Give a name to a number of one type as one of another."""
        to = to or self._real
        if kind == to:  # IR has no copy
            return [f"{name} = bitcast {kind} {value} to {to}"]
        return [f"{name} = {'fpext' if kind == 'float' else 'fptrunc'} {kind} {value} to {to}"]

    def _operation(self, index: int, suffix: str) -> list[str]:
        instruction = self._own.body[index - len(self._own.inputs)]
        args = [self._ref(ref, suffix) for ref in instruction.args]
        return operation(instruction.op, args, self._real, f"%v{index}{suffix}")

    def _store(self, place: int, dtype: str, ref: Ref, x: str) -> list[str]:
        stored, y = ir_type(dtype), f"%{x}.to{place}"
        value, lines = self._ref(ref, f".{x}"), [f"{y} = getelementptr {ir_type(dtype)}, ptr %p{place}, i64 %{x}.at"]
        if stored != self._real:
            lines += self._cast(f"{y}.cast", value, self._real, stored)
            value = f"{y}.cast"
        return [*lines, f"store {stored} {value}, ptr {y}, !llvm.access.group !0"]

    def _add(self, number: int, own: _Added, x: str, side: Side) -> list[str]:
        """Keep a number to be added up: of rows as it is, of columns in its lane."""
        y = f"%{x}.add{number}"
        lines = self._cast(f"{y}.wide", self._ref(own.value, f".{x}"), self._real, "double")
        value = f"{y}.wide"
        if own.is_squared:
            lines.append(f"{y}.square = fmul double {y}.wide, {y}.wide")
            value = f"{y}.square"
        lines.append(f"{y}.place = add i64 %{x}.i, {LANES * number}")
        lines.append(f"{y}.at = getelementptr double, ptr %buffers, i64 {y}.place")
        if side == "column":
            lines.append(f"{y}.lane = load double, ptr {y}.at, !llvm.access.group !0")
            lines.append(f"{y}.new = fadd double {y}.lane, {value}")
            value = f"{y}.new"
        return [*lines, f"store double {value}, ptr {y}.at, !llvm.access.group !0"]

    def _flushed(self, sums: list[_Added], x: str, side: Side) -> tuple[str, str]:
        """Return what adds partial sums to the sums after a tile: of each tile of rows, and each block of columns."""
        if not sums:
            return f"  br label %{x}.end", ""
        lines: list[str] = []
        if side == "row":
            for number in range(len(sums)):
                lines += [
                    f"%{x}.from{number} = getelementptr double, ptr %buffers, i64 {LANES * number}",
                    f"%{x}.part{number} = call double @in_order(ptr %{x}.from{number}, i64 %{x}.n)",
                    f"%{x}.new{number} = fadd double %{x}.sum{number}, %{x}.part{number}",
                ]
            lines += [f"%{x}.own = udiv i64 %{x}.t, {LANES}", *self._partials(sums, x, "%down")]
            return indented([*lines, f"br label %{x}.end"]), ""
        for number in range(len(sums)):
            lines += [
                f"%{x}.part.at{number} = getelementptr double, ptr %{x}.parts, i64 {number}",
                f"%{x}.part{number} = load double, ptr %{x}.part.at{number}",
                f"%{x}.added{number} = fadd double %{x}.sum{number}, %{x}.part{number}",
            ]
        whole = f"%{x}.in_block = and i64 %{x}.t.next, {BLOCK - 1}\n  %{x}.is_whole = icmp eq i64 %{x}.in_block, 0"
        over = f"""\
  {whole}
  %{x}.is_last = xor i1 %{x}.t.more, true
  %{x}.ends = or i1 %{x}.is_whole, %{x}.is_last
  br i1 %{x}.ends, label %{x}.flush, label %{x}.end

{x}.flush:
  %{x}.parts = getelementptr double, ptr %buffers, i64 {LANES * len(sums)}
  call void @flush(ptr %buffers, i64 {len(sums)}, ptr %{x}.parts)
{indented(lines)}
  %{x}.own = udiv i64 %{x}.t, {BLOCK}
{indented(self._partials(sums, x, "%across"))}
  call void @clear(ptr %buffers, i64 {LANES * len(sums)})
  br label %{x}.end"""
        end = [
            f"%{x}.new{k} = phi double [ %{x}.sum{k}, %{x}.over ], [ %{x}.added{k}, %{x}.flush ]"
            for k in range(len(sums))
        ]
        return over, indented(end)

    def _partials(self, sums: list[_Added], x: str, each: str) -> list[str]:
        """Write the partial sums of sums over the tensor."""
        lines: list[str] = []
        for number, own in enumerate(sums):
            if own.body is None:
                y = f"%{x}.out{number}"
                lines += [
                    f"{y}.before = mul i64 %m, {each}",
                    f"{y}.place = add i64 {y}.before, %{x}.own",
                    f"{y}.at = getelementptr double, ptr %p{self._at.totals + own.total}, i64 {y}.place",
                    f"store double %{x}.part{number}, ptr {y}.at",
                ]
        return lines

    def _sums_after(self, sums: list[_Added], x: str) -> list[str]:
        """Give the sums their names after a loop."""
        return [
            f"%v{own.body}.sum = phi double [ 0.0, %{x}.begin ], [ %{x}.new{number}, %{x}.end ]"
            for number, own in enumerate(sums)
            if own.body is not None
        ]

    def _words_after(self, sums: list[_Added], side: Side) -> list[str]:
        """Give what operations come to, that sum, their names."""
        lines: list[str] = []
        for own in sums:
            if own.body is not None:
                word, name = self._own.body[own.body - len(self._own.inputs)].op.partition(".")[0], f"%v{own.body}"
                by = f"%{side}s.real" if word in ("mean", "rms") else "1.0"
                lines.append(f"{name}.mean = fdiv double {name}.sum, {by}")
                lines += self._rooted(word, name, f"{name}.mean")
        return lines

    def _ref(self, ref: Ref, suffix: str) -> str:
        if isinstance(ref, Const):
            return written_out(ref, self._plan.compute)
        if isinstance(ref, Scalar):
            return f"%s{ref.index}"
        return f"%v{ref.index}" if self._own.stages[ref.index] == "matrix" else f"%v{ref.index}{suffix}"

    def _is_sum(self, index: int) -> bool:
        inputs = len(self._own.inputs)
        return index >= inputs and "." in self._own.body[index - inputs].op

    def _level(self, ref: Ref) -> int:
        return self._levels[ref.index] if isinstance(ref, Value) else 0
