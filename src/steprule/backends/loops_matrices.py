"""Plans that see rows and columns as statements and loops: what is computed for these, then a walk over the elements.

Sums have the order of ``language.matrices``. A pass that sums walks a matrix in strips of ``ROWS`` rows, and these in
tiles of ``BLOCK`` columns. What it finds for rows and columns, and what elements take of such numbers, lies in arrays
that later passes read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from steprule.backends import loops_sums
from steprule.backends.loops import Dialect, Writer, indented, words
from steprule.backends.passes import passes
from steprule.compile import BLOCK, LANES, Const, Instruction, Plan, Ref, Scalar, Sum, Value, Vectors, distinct
from steprule.language.matrices import ROWS, Along
from steprule.language.ops import OPS
from steprule.language.sums import NDIM

__all__ = ["VECTORS", "MatrixWriter", "asks_for_axes", "doubles_per_column", "times", "vectors_of", "writer"]

VECTORS = "vectors"
"""What the arrays of numbers of rows and columns are called together."""
_OURS = (
    *("matrices", "matrix", "columns", "column", "strip", "block", "top", "left", "height", "width", "line", "ndim"),
    VECTORS,
)


def writer(plan: Plan, dialect: Dialect) -> Writer:
    """Return what writes the body of a plan.

    Raises:
        TargetError: when the target has no words for it.
    """
    return Writer(plan, dialect) if plan.view is None else MatrixWriter(plan, dialect)


def vectors_of(plan: Plan) -> dict[str, Along]:
    """Return what passes up to a plan keep for each other: names, and of what each has numbers."""
    found: dict[str, Along] = {}
    for one in passes(plan).values():
        found |= {own.name: "row" for own in one.row_sums} | {own.name: "column" for own in one.column_sums}
        found |= {plane.name: _along(plane.per) for plane in one.planes[len(one.kept_planes) :]}
    return found


def doubles_per_column(plan: Plan) -> int:
    """Return how many numbers in float64 the passes of a step need at most for each column while they sum."""
    return 2 * max(len(one.column_sums) for one in passes(plan).values())


def asks_for_axes(plan: Plan) -> bool:
    """Whether passes up to a plan take the number of axes of the tensor."""
    return any(NDIM in one.prelude.arguments for one in passes(plan).values())


def times(rows: int, columns: int, *, is_one: bool) -> str:
    """Return how many numbers there are in as many arrays of numbers of rows and of columns: a text."""
    parts = [
        f"{count} * {what}" if count > 1 else what for count, what in ((rows, "rows"), (columns, "columns")) if count
    ]
    both = " + ".join(parts)
    return both if is_one else f"matrices * {both if len(parts) == 1 else f'({both})'}"


def _along(per: str) -> Along:
    return "column" if per == "column" else "row"


class MatrixWriter(Writer):
    """Writes the body of a kernel over matrices."""

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
        self._stages = self._found_stages()

    def _own_names(self) -> Sequence[str]:
        count = self._count()
        own = [f"v{index}" for index in range(len(self._own.inputs) + len(self._own.body))]
        running = ("part", "sum", "row_sum", "column_sum", "column_part")
        own += [f"{name}{number}" for number in range(count) for name in running]
        return [*loops_sums.names(count), *_OURS, *own]

    def _count(self) -> int:
        """Return of how many sums there are: of elements, over rows and over columns; and those of vectors."""
        plan, own = self._plan, self._own
        along = [one for one in own.body if "." in one.op]
        return len(plan.sums) + len(plan.row_sums) + len(plan.column_sums) + len(own.totals) + len(along)

    def lines(self, row: Sequence[str]) -> list[str]:
        """Return the statements: the scalars of the ``row``, given as texts, what vectors come to, the walk, sums."""
        dialect, plan = self._dialect, self._plan
        inner = [*self._vectors(), *self._walk()]
        if not self._is_one:
            inner = [dialect.count.format(name="matrix", end="matrices"), *indented(inner), "}"]
        totals = [*range(len(plan.sums)), *map(self._number_of_total, range(len(self._own.totals)))]
        first = sum(len(before.totals) for before in plan.before)
        results = [
            f"{loops_sums.SUMS}[{first + place}] = {dialect.sums.rounded.format(number)};"
            for place, number in enumerate(totals)
        ]
        lines = [*self._made(words([*inner, *results])), *inner, *results]
        scalars = [self._scalar(index, text) for index, text in enumerate(row)]
        return [*scalars, *lines]

    def _made(self, read: set[str]) -> list[str]:
        """Return statements that name what is ``read`` of arrays, and of numbers that sums are added up in."""
        dialect, plan = self._dialect, self._plan
        lines: list[str] = []
        rows, columns, filled = 0, 0, {*self._filled()}
        for name, over in vectors_of(plan).items():
            place = " + ".join([VECTORS, *([times(rows, columns, is_one=self._is_one)] if rows + columns else [])])
            phrase = dialect.vector if name in filled else dialect.kept_vector
            length = times(over == "row", over == "column", is_one=self._is_one)
            kind, own = dialect.types[plan.compute], self._kept[name]
            if own in read:
                lines.append(phrase.format(type=kind, name=own, key=name.lstrip("_"), place=place, length=length))
            rows, columns = rows + (over == "row"), columns + (over == "column")
        totals = sum(len(one.totals) for one in plan.before) + plan.width
        for place, number in enumerate(self._columns_of()):
            for own, name in enumerate((f"column_sum{number}", f"column_part{number}")):
                start = [loops_sums.SUMS, *([str(totals)] if totals else [])]
                start += [times(0, 2 * place + own, is_one=True)] if place + own else []
                lines.append(dialect.doubles.format(name=name, place=" + ".join(start), length="columns"))
        for number in range(self._count()):
            for name, phrase in (("lanes", dialect.sums.lanes), ("partial", dialect.sums.partial)):
                lines += [phrase.format(number)] if f"{name}{number}" in read else []
        return lines

    def _filled(self) -> Iterable[str]:
        """Return the names of the arrays that this pass fills."""
        plan, inputs = self._plan, self._own.inputs
        for plane, ref in zip(plan.planes[len(plan.kept_planes) :], self._own.hoisted, strict=True):
            if not (isinstance(ref, Value) and ref.index < len(inputs) and inputs[ref.index] == plane.name):
                yield plane.name
        yield from (own.name for own in (*plan.row_sums, *plan.column_sums))

    # What is computed for rows and columns.

    def _found_stages(self) -> list[str]:
        """Return of what each value is a number: of a row, a column or a matrix."""
        per = {plane.name: plane.per for plane in self._plan.kept_planes}
        per |= dict(vectors_of(self._plan))
        stages: list[str] = [per[name] for name in self._own.inputs]
        for one in self._own.body:
            found = {stages[arg.index] for arg in one.args if isinstance(arg, Value)} - {"matrix"}
            stages.append("matrix" if "." in one.op or not found else found.pop())
        return stages

    def _vectors(self) -> list[str]:
        """Return the statements that compute the numbers of a matrix, and then those of its rows and its columns."""
        lines: list[str] = []
        first, number = len(self._own.inputs), self._number_of_total(len(self._own.totals))
        for index, one in enumerate(self._own.body, first):
            word, _, _ = one.op.partition(".")
            if "." in one.op:
                lines += [*self._summed(one, word, number), self._value(index, self._rounded(word, number, one))]
                number += 1
            elif self._stages[index] == "matrix":
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
        text = "lanes{0}[0]" if self._of(one.args[0]) == "column" else "part{0}"
        taken = f"sum{number} += {text.format(number)};"
        return [running, *self._over(one.args[0], word in ("norm", "rms"), number, taken)]

    def _rounded(self, word: str, number: int, one: Instruction) -> str:
        return self._finished(word, f"sum{number}", "rows" if self._of(one.args[0]) == "row" else "columns")

    def _total(self, ref: Ref, is_squared: bool, number: int) -> list[str]:
        """Return a loop that adds up numbers of rows or columns over the tensor."""
        text = "lanes{0}[0]" if self._of(ref) == "column" else "part{0}"
        return self._over(ref, is_squared, number, self._dialect.sums.put.format(number, text.format(number)))

    def _over(self, ref: Ref, is_squared: bool, number: int, taken: str) -> list[str]:
        """Return a loop over numbers of rows or columns, and what takes each partial sum of them."""
        phrases, over = self._dialect.sums, self._of(ref)
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
            if index not in needed and self._stages[index] == over:
                needed.add(index)
                args = self._own.body[index - first].args if index >= first else ()
                left += [arg.index for arg in args if isinstance(arg, Value)]
        return [self._input(index) if index < first else self._computed(index) for index in sorted(needed)]

    def _input(self, index: int) -> str:
        name, kept = self._own.inputs[index], [plane.name for plane in self._plan.kept_planes]
        array = self.arrays[kept.index(name)] if name in kept else self._kept[name]
        return self._value(index, f"{array}[{self._stages[index]}]")

    def _computed(self, index: int) -> str:
        one = self._own.body[index - len(self._own.inputs)]
        spelled = self._dialect.operations[self._plan.compute][one.op]
        return self._value(index, spelled.format(*map(self._text, one.args)), OPS[one.op].gives)

    def _value(self, index: int, text: str, kind: str = "float") -> str:
        types = self._dialect.types
        named = types[self._plan.compute if kind == "float" else kind]
        return self._dialect.value.format(type=named, name=f"v{index}", text=text)

    def _of(self, ref: Ref) -> str:
        return self._stages[ref.index] if isinstance(ref, Value) else "matrix"

    def _text(self, ref: Ref) -> str:
        if isinstance(ref, Value):
            return f"v{ref.index}"
        return self._scalars[ref.index] if isinstance(ref, Scalar) else self._constant(ref)

    # The walk over the elements.

    def _walk(self) -> list[str]:
        plan = self._plan
        if plan.sums or plan.row_sums or plan.column_sums:
            return self._strips()
        return self._row_by_row("rows", "0", lambda _: self._line("columns", "0", [])) if plan.stores else []

    def _row_by_row(self, count: str, start: str, inner: Callable[[str], list[str]]) -> list[str]:
        """Return a loop over rows, whose numbers are loaded first."""
        loads = self._loads([index for index in self._plan.loads if self._plan.planes[index].per == "row"])
        return self._each("row", count, start, lambda place: [*loads, *inner(place)])

    def _line(self, count: str, start: str, sums: Sequence[tuple[str, int, Sum]]) -> list[str]:
        """Return a loop over the elements of a row, or over those in a tile, which ``sums`` add up."""
        start_of_row = "row * columns" if start == "0" else f"row * columns + {start}"

        def inner(place: str) -> list[str]:
            lines = self._phase(0)
            for to, number, own in sums:
                text = self._ref(own.value, 0)
                lines += self._added(to.format(place), number, text, is_squared=own.is_squared)
            return [*self._sizes({"i": f"{start_of_row} + {place}"}, lines), *lines]

        return self._each("column", count, start, inner)

    def _strips(self) -> list[str]:
        """Return the loops over strips of rows, tiles of these, rows, and elements; then what sums come to."""
        dialect, plan = self._dialect, self._plan
        count, size = dialect.count, dialect.size
        tile, row, column = range(len(plan.sums)), list(self._rows_of()), list(self._columns_of())
        rows = [dialect.lines.format(name=f"row_sum{number}") for number in row]
        found = [f"{self._kept[own.name]}[row] = {self._found(own, f'row_sum{n}[line]', 'columns')};"
                 for n, own in zip(row, plan.row_sums, strict=True)]  # fmt: skip
        strip = [
            size.format(name="top", text=f"strip * {ROWS}"),
            size.format(name="height", text=f"rows - top < {ROWS} ? rows - top : {ROWS}"),
            *rows,
            count.format(name="block", end=f"((columns + {BLOCK - 1}) >> {BLOCK.bit_length() - 1})"),
            *indented([
                size.format(name="left", text=f"block * {BLOCK}"),
                size.format(name="width", text=f"columns - left < {BLOCK} ? columns - left : {BLOCK}"),
                *self._tile(),
                *(line for n in tile
                  for line in loops_sums.ended(dialect.sums, n, dialect.sums.put.format(n, f"lanes{n}[0]"))),
                *self._parts_added(column),
            ]),
            "}",
            *(self._each("row", "height", "top", lambda _: found) if found else []),
        ]  # fmt: skip
        cleared = [f"column_sum{number}[k] = column_part{number}[k] = 0;" for number in column]
        sums = [f"{self._kept[own.name]}[column] = {self._found(own, f'column_sum{n}[{{0}}]', 'rows')};"
                for n, own in zip(column, plan.column_sums, strict=True)]  # fmt: skip
        return [
            *([count.format(name="k", end="columns"), *indented(cleared), "}"] if column else []),
            count.format(name="strip", end=f"((rows + {ROWS - 1}) >> {ROWS.bit_length() - 1})"),
            *indented(strip),
            "}",
            *(self._each("column", "columns", "0", lambda place: [s.format(place) for s in sums]) if sums else []),
        ]

    def _tile(self) -> list[str]:
        """Return the loop over the rows of a tile."""
        phrases, plan = self._dialect.sums, self._plan
        lanes = f"[{{0}} % {LANES}]"
        sums = [(f"lanes{n}{lanes}", n, own) for n, own in enumerate((*plan.sums, *plan.row_sums))]
        at = "left + {0}"
        sums += [(f"column_part{n}[{at}]", n, own)
                 for n, own in zip(self._columns_of(), plan.column_sums, strict=True)]  # fmt: skip
        ended = [
            line for n in self._rows_of() for line in loops_sums.ended(phrases, n, f"row_sum{n}[line] += lanes{n}[0];")
        ]
        return self._row_by_row("height", "top", lambda _: [*self._line("width", "left", sums), *ended])

    def _parts_added(self, column: Sequence[int]) -> list[str]:
        """Return a loop that adds the sums over the columns of a tile to those of the matrix."""
        if not column:
            return []
        lines = [
            line
            for n in column
            for line in (
                f"column_sum{n}[left + k] += column_part{n}[left + k];",
                f"column_part{n}[left + k] = 0;",
            )
        ]
        return [self._dialect.count.format(name="k", end="width"), *indented(lines), "}"]

    def _rows_of(self) -> Iterable[int]:
        first = len(self._plan.sums)
        return range(first, first + len(self._plan.row_sums))

    def _columns_of(self) -> Iterable[int]:
        first = len(self._plan.sums) + len(self._plan.row_sums)
        return range(first, first + len(self._plan.column_sums))

    def _found(self, own: Sum, text: str, count: str) -> str:
        return self._finished(own.word, text, count)

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
            return [self._dialect.count.format(name=over, end=count), *indented(inner(over)), "}"]
        place = "line" if over == "row" else "k"
        lines = inner(place)
        lines = [*self._sizes({over: f"{' + '.join(parts)} + {place}"}, lines), *lines]
        return [self._dialect.count.format(name=place, end=count), *indented(lines), "}"]
