"""What plans compute for rows and columns, as statements and loops.

Numbers of a matrix are computed first. A loop over rows, or columns, computes from what is kept whatever it needs, so
that values that follow by a few operations need no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from steprule.backends import loops_sums
from steprule.backends.loops import Writer, indented
from steprule.backends.loops_dialect import Dialect
from steprule.backends.loops_memory import VECTORS, vectors_of
from steprule.compile import BLOCK, LANES, Instruction, Plan, Ref, Scalar, Value, Vectors, distinct
from steprule.language.matrices import ROWS, Along
from steprule.language.ops import OPS

__all__ = ["VectorWriter"]

_OURS = (
    *("matrices", "matrix", "columns", "column", "strip", "block", "top", "left", "height", "width", "line", "ndim"),
    VECTORS,
)


class VectorWriter(Writer):
    """Writes what a kernel computes for rows and columns before it walks the elements."""

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        """Take a plan.

        Raises:
            TargetError: when the target has no words for it.
        """
        if plan.vectors is None:
            raise ValueError(f"{plan.title} sees no rows and no columns")
        self._own: Vectors = plan.vectors
        self._is_one = plan.view == "first"
        super().__init__(plan, dialect)
        self._loaded_first = [index for index in plan.loads if plan.planes[index].per != "row"]
        named = distinct([name.lstrip("_") for name in vectors_of(plan)], self.taken).values()
        self._kept = dict(zip(vectors_of(plan), named, strict=True))
        kept = len(plan.kept_planes)
        self.arrays = [*self.arrays[:kept], *(self._kept[plane.name] for plane in plan.planes[kept:])]
        values = distinct([f"{array}_i" for array in self.arrays[kept:]], [*self.taken, *named]).values()
        self._values[kept : len(plan.planes)] = values
        self.taken = [*self.taken, *named, *values]

    def _own_names(self) -> Sequence[str]:
        count = self._count()
        own = [f"v{index}" for index in range(len(self._own.inputs) + len(self._own.body))]
        running = ("part", "sum", "row_sum", "column_sum", "column_part")
        own += [f"{name}{number}" for number in range(count) for name in running]
        return [*loops_sums.names(count), *_OURS, *own]

    def _count(self) -> int:
        """Return of how many sums there are: of elements, over rows and over columns; and those of vectors."""
        own = self._own
        along = [one for one in own.body if "." in one.op]
        return self._number_of_total(len(own.totals)) + len(along)

    def _filled(self) -> list[str]:
        """Return the names of the arrays that this pass fills."""
        plan, scratch = self._plan, self._plan.scratch_planes
        computed = [scratch[number].name for number in self._own.computed]
        return [*computed, *(own.name for own in (*plan.row_sums, *plan.column_sums))]

    def _vectors(self) -> list[str]:
        """Return the statements that compute the numbers of a matrix, and then those of its rows and its columns."""
        lines: list[str] = []
        first, number = len(self._own.inputs), self._number_of_total(len(self._own.totals))
        for index, one in enumerate(self._own.body, first):
            word, _, _ = one.op.partition(".")
            if "." in one.op:
                lines += [*self._summed(one, word, number), self._value(index, self._rounded(word, number, one))]
                number += 1
            elif self._own.stages[index] == "matrix":
                lines.append(self._computed(index))
        for place, (ref, is_squared) in enumerate(self._own.totals):
            lines += self._total(ref, is_squared, self._number_of_total(place))
        overs: tuple[Along, Along] = ("row", "column")
        return [*lines, *(line for over in overs for line in self._stored_vectors(over))]

    def _number_of_total(self, place: int) -> int:
        plan = self._plan
        return len(plan.sums) + len(plan.row_sums) + len(plan.column_sums) + place

    def _summed(self, one: Instruction, word: str, number: int) -> list[str]:
        """Return a loop that sums numbers of rows or columns for each matrix."""
        running = self._dialect.sums.running.format(name=f"sum{number}")
        text = "lanes{0}[0]" if self._own.stage_of(one.args[0]) == "column" else "part{0}"
        taken = f"sum{number} += {text.format(number)};"
        return [running, *self._over(one.args[0], word in ("norm", "rms"), number, taken)]

    def _rounded(self, word: str, number: int, one: Instruction) -> str:
        return self._finished(word, f"sum{number}", "rows" if self._own.stage_of(one.args[0]) == "row" else "columns")

    def _total(self, ref: Ref, is_squared: bool, number: int) -> list[str]:
        """Return a loop that adds up numbers of rows or columns over the tensor."""
        text = "lanes{0}[0]" if self._own.stage_of(ref) == "column" else "part{0}"
        return self._over(ref, is_squared, number, self._dialect.sums.put.format(number, text.format(number)))

    def _over(self, ref: Ref, is_squared: bool, number: int, taken: str) -> list[str]:
        """Return a loop over numbers of rows or columns, and what takes each partial sum of them."""
        phrases, over = self._dialect.sums, self._own.stage_of(ref)
        to, block = (f"part{number}", ROWS) if over == "row" else (f"lanes{number}[{{0}} % {LANES}]", BLOCK)
        ended = [taken, f"part{number} = 0.0;"] if over == "row" else loops_sums.ended(phrases, number, taken)

        def inner(place: str) -> list[str]:
            return [
                *self._values_of([ref], over),
                *self._added(to.format(place), number, self._text(ref), is_squared=is_squared),
                f"if (({place} + 1) % {block} == 0 || {place} + 1 == {over}s) {{",
                *indented(ended),
                "}",
            ]

        begun = [phrases.running.format(name=f"part{number}")] if over == "row" else []
        return [*begun, *self._each(over, f"{over}s", "0", inner)]

    def _stored_vectors(self, over: Along) -> list[str]:
        """Return a loop that computes what elements take of rows, or columns, and the slots of these."""
        plan, filled = self._plan, {*self._filled()}
        kept = len(plan.kept_planes)
        writes = [
            (self.arrays[kept + place], ref)
            for place, ref in enumerate(self._own.hoisted)
            if plan.planes[kept + place].per == over and plan.planes[kept + place].name in filled
        ]
        writes += [(self.arrays[place], ref) for place, ref in self._own.slots if plan.planes[place].per == over]
        if not writes:
            return []
        values = self._values_of([ref for _, ref in writes], over)
        stores = [f"{array}[{over}] = {self._text(ref)};" for array, ref in writes]
        return self._each(over, f"{over}s", "0", lambda _: [*values, *stores])

    def _values_of(self, refs: Iterable[Ref], over: str) -> list[str]:
        """Return statements that compute values of one row, or column, from what is kept."""
        needed: set[int] = set()
        left = [ref.index for ref in refs if isinstance(ref, Value)]
        first = len(self._own.inputs)
        while left:
            index = left.pop()
            if index not in needed and self._own.stages[index] == over:
                needed.add(index)
                args = self._own.body[index - first].args if index >= first else ()
                left += [arg.index for arg in args if isinstance(arg, Value)]
        return [self._input(index) if index < first else self._computed(index) for index in sorted(needed)]

    def _input(self, index: int) -> str:
        name, kept = self._own.inputs[index], [plane.name for plane in self._plan.kept_planes]
        array = self.arrays[kept.index(name)] if name in kept else self._kept[name]
        return self._value(index, f"{array}[{self._own.stages[index]}]")

    def _computed(self, index: int) -> str:
        one = self._own.body[index - len(self._own.inputs)]
        spelled = self._dialect.operations[self._plan.compute][one.op]
        return self._value(index, spelled.format(*map(self._text, one.args)), OPS[one.op].gives)

    def _value(self, index: int, text: str, kind: str = "float") -> str:
        types = self._dialect.types
        named = types[self._plan.compute if kind == "float" else kind]
        return self._dialect.value.format(type=named, name=f"v{index}", text=text)

    def _text(self, ref: Ref) -> str:
        if isinstance(ref, Value):
            return f"v{ref.index}"
        return self._scalars[ref.index] if isinstance(ref, Scalar) else self._constant(ref)

    def _finished(self, word: str, text: str, count: str) -> str:
        """Return what a word comes to, given the sum of as many numbers, in the type of the arithmetic."""
        dialect = self._dialect
        if word in ("mean", "rms"):
            text = f"{text} / {dialect.sums.wide.format(f'({count} > 0 ? {count} : 1)')}"
        if word in ("norm", "rms"):
            text = dialect.operations["float64"]["sqrt"].format(text)
        return dialect.number[self._plan.compute].format(f"({text})")

    def _added(self, to: str, number: int, text: str, *, is_squared: bool) -> list[str]:
        return loops_sums.added(self._dialect.sums, to, number, text, is_squared=is_squared)

    def _each(self, over: str, count: str, start: str, inner: Callable[[str], list[str]]) -> list[str]:
        """Return a loop over rows or columns of a matrix, from one on.

        Args:
            over: which.
            count: how many.
            start: the first, in the matrix.
            inner: returns what is done for one, given its number behind the first.
        """
        parts = [] if self._is_one else [f"matrix * {over}s"]
        parts += [] if start == "0" else [start]
        if not parts:
            return self._loop(over, count, inner(over))
        place = "line" if over == "row" else "k"
        lines = inner(place)
        lines = [*self._sizes({over: f"{' + '.join(parts)} + {place}"}, lines), *lines]
        return self._loop(place, count, lines)

    def _loop(self, name: str, end: str, lines: list[str]) -> list[str]:
        return [self._dialect.count.format(name=name, end=end), *indented(lines), "}"]
