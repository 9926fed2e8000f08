"""Numbers of rows and columns in machine code: matrix by matrix, and in each along its rows and along its columns.

``vectors`` computes what a plan has of these before its pass over elements, ``written`` gives slots their new values
when that is over. Both take the matrices of a tensor from ``start`` on, and addresses in the order of ``Arguments``. A
matrix is computed level by level: what a sum of numbers of rows is needed for comes after the loop over all rows. A
loop goes along ``LANES`` rows or columns at a time. What several loops need they compute again, but for sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from steprule.backends.llvm_code import indented
from steprule.backends.llvm_vector_numbers import Numbers
from steprule.backends.llvm_vector_text import ADDED, HELPERS, KERNEL, LOOP
from steprule.compile import BLOCK, LANES, Plan, Plane, Ref, Scalar, Vectors

__all__ = ["emit", "functions"]

Side = Literal["row", "column"]


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
    rows = ADDED.format(side="row", item="i64 %item, ", place=f"  %place = mul i64 %i, %item\n{at}%place")
    helpers = HELPERS.format(declared=declared) + rows + ADDED.format(side="column", item="", place=f"{at}%i")
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


class _Function(Numbers):
    """Writes one function of a plan.

    Args:
        plan, own: the plan, and what it has of rows and columns.
        writes: whether the function gives slots their new values. It reads them there, too, so all sums come first.
    """

    def __init__(self, plan: Plan, own: Vectors, writes: bool) -> None:
        super().__init__(plan, own)
        self._results = [*self._results_of(writes)]
        self._totals = [] if writes else [*enumerate(own.totals)]
        roots = [ref for _, _, ref in self._results] + [ref for _, (ref, _) in self._totals]
        self._needed = self.reached(roots)
        self._top = max((self.levels[index] for index in self._needed), default=0)
        self._store_at = {place: self._top if writes else self.level(ref) for place, _, ref in self._results}

    def _used(self) -> set[int]:
        """Return the scalars that are used."""
        inputs = len(self.own.inputs)
        refs = [ref for index in self._needed if index >= inputs for ref in self.own.body[index - inputs].args]
        refs += [ref for _, _, ref in self._results]
        return {ref.index for ref in refs if isinstance(ref, Scalar)}

    def text(self, name: str) -> str:
        return KERNEL.format(
            NAME=name,
            BUFFERS=self.room,
            entry=indented([*self.entry(), *self.scalars(self._used())]),
            levels="\n".join(map(self._level_text, range(1 + self._top))),
            LANES=LANES,
            LANES_1=LANES - 1,
            BLOCK=BLOCK,
            BLOCK_1=BLOCK - 1,
        )

    def _results_of(self, writes: bool) -> Iterator[tuple[int, Plane, Ref]]:
        """Yield what goes where."""
        if writes:
            for number, (place, ref) in enumerate(self.own.slots):
                yield self.at.slots + number, self.plan.planes[place], ref
            return
        planes = self.plan.scratch_planes
        for number in self.own.computed:
            yield self.at.hoisted + number, planes[number], self.own.hoisted[number]

    def _level_text(self, level: int) -> str:
        """Compute what all of a matrix has in common, then what there is of rows, and of columns."""
        lines = [
            line
            for index in self._needed
            if self.levels[index] == level and self.own.stages[index] == "matrix" and not self.is_sum(index)
            for line in self.operation(index, "")
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
        needed = self.reached(roots, side)
        tile = [line for index in needed if index < len(self.own.inputs) for line in self.added_up(index, x)]
        body = [line for index in needed for line in self.number(index, x)]
        body += [line for place, dtype, ref in stores for line in self.store(place, dtype, ref, x)]
        body += [line for number, own in enumerate(sums) for line in self._add(number, own, x, side)]
        over, end = self._flushed(sums, x, side)
        names = range(len(sums))
        return LOOP.format(
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
            if self.is_sum(index) and self.levels[index] == level + 1:
                instruction = self.own.body[index - len(self.own.inputs)]
                value, word = instruction.args[0], instruction.op.partition(".")[0]
                if self.own.stage_of(value) == side:
                    yield _Added(value, word in ("norm", "rms"), index)
        for number, (value, is_squared) in self._totals:
            if self.own.stage_of(value) == side and self.level(value) == level:
                yield _Added(value, is_squared, None, number)

    def _add(self, number: int, own: _Added, x: str, side: Side) -> list[str]:
        """Keep a number to be added up: of rows as it is, of columns in its lane."""
        y = f"%{x}.add{number}"
        lines = self.widened(f"{y}.wide", own.value, x)
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
                    f"{y}.at = getelementptr double, ptr %p{self.at.totals + own.total}, i64 {y}.place",
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
                word, name = self.own.body[own.body - len(self.own.inputs)].op.partition(".")[0], f"%v{own.body}"
                by = f"%{side}s.real" if word in ("mean", "rms") else "1.0"
                lines.append(f"{name}.mean = fdiv double {name}.sum, {by}")
                lines += self.rooted(word, name, f"{name}.mean")
        return lines
