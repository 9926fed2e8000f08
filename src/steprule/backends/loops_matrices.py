"""Plans that see rows and columns as statements and loops: what is computed for these, then a walk over the elements.

Sums have the order of ``language.matrices``. A pass that sums walks a matrix in strips of ``ROWS`` rows, and these in
tiles of ``BLOCK`` columns. What it finds for rows and columns, and what elements take of such numbers, lies in arrays
that later passes read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from steprule.backends import loops_sums
from steprule.backends.loops import Writer, words
from steprule.backends.loops_dialect import Dialect
from steprule.backends.loops_memory import VECTORS, times, vectors_of
from steprule.backends.loops_vectors import VectorWriter
from steprule.compile import BLOCK, LANES, Plan, Sum
from steprule.language.matrices import ROWS

__all__ = ["writer"]


def writer(plan: Plan, dialect: Dialect) -> Writer:
    """Return what writes the body of a plan.

    Raises:
        TargetError: when the target has no words for it.
    """
    return Writer(plan, dialect) if plan.view is None else _MatrixWriter(plan, dialect)


class _MatrixWriter(VectorWriter):
    """Writes the body of a kernel over matrices."""

    def lines(self, row: Sequence[str]) -> list[str]:
        """Return the statements: the scalars of the ``row``, given as texts, what vectors come to, the walk, sums."""
        dialect, plan = self._dialect, self._plan
        inner = [*self._vectors(), *self._walk()]
        if not self._is_one:
            inner = self._loop("matrix", "matrices", inner)
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
        sums = self._dialect.sums
        lines = [*self._arrays(read), *self._sums_over_columns()]
        for number in range(self._count()):
            for name, phrase in (("lanes", sums.lanes), ("partial", sums.partial)):
                lines += [phrase.format(number)] if f"{name}{number}" in read else []
        return lines

    def _arrays(self, read: set[str]) -> Iterable[str]:
        """Return statements that name arrays of numbers of rows and columns."""
        dialect, kind = self._dialect, self._dialect.types[self._plan.compute]
        rows, columns, filled = 0, 0, {*self._filled()}
        for name, over in vectors_of(self._plan).items():
            place = [VECTORS, *([times(rows, columns, is_one=self._is_one)] if rows + columns else [])]
            if self._kept[name] in read:
                phrase = dialect.vector if name in filled else dialect.kept_vector
                yield phrase.format(
                    type=kind,
                    name=self._kept[name],
                    key=name.lstrip("_"),
                    place=" + ".join(place),
                    length=times(over == "row", over == "column", is_one=self._is_one),
                )
            rows, columns = rows + (over == "row"), columns + (over == "column")

    def _sums_over_columns(self) -> Iterable[str]:
        """Return statements that name arrays of sums over the columns of a matrix, and of those of a strip of it."""
        totals = sum(len(one.totals) for one in self._plan.before) + self._plan.width
        for place, number in enumerate(self._columns_of()):
            for own, name in enumerate((f"column_sum{number}", f"column_part{number}")):
                start = [loops_sums.SUMS, *([str(totals)] if totals else [])]
                start += [times(0, 2 * place + own, is_one=True)] if place + own else []
                yield self._dialect.doubles.format(name=name, place=" + ".join(start), length="columns")

    def _walk(self) -> list[str]:
        """Return the loops over the elements."""
        plan = self._plan
        if not (plan.sums or plan.row_sums or plan.column_sums):
            return self._row_by_row("rows", "0", lambda _: self._line("columns", "0", [])) if plan.stores else []
        column = list(self._columns_of())
        cleared = [f"column_sum{number}[k] = column_part{number}[k] = 0;" for number in column]
        return [
            *(self._loop("k", "columns", cleared) if column else []),
            *self._loop("strip", f"((rows + {ROWS - 1}) >> {ROWS.bit_length() - 1})", self._strip()),
            *(self._each("column", "columns", "0", self._results_of_columns) if column else []),
        ]

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

    def _strip(self) -> list[str]:
        """Return the loop over the tiles of a strip of rows, and then what sums over these rows come to."""
        size, plan = self._dialect.size, self._plan
        blocks = self._loop("block", f"((columns + {BLOCK - 1}) >> {BLOCK.bit_length() - 1})", self._in_tile())
        named = zip(self._rows_of(), plan.row_sums, strict=True)
        found = [
            f"{self._kept[own.name]}[row] = {self._finished(own.word, f'row_sum{number}[line]', 'columns')};"
            for number, own in named
        ]
        return [
            size.format(name="top", text=f"strip * {ROWS}"),
            size.format(name="height", text=f"rows - top < {ROWS} ? rows - top : {ROWS}"),
            *(self._dialect.lines.format(name=f"row_sum{number}") for number in self._rows_of()),
            *blocks,
            *(self._each("row", "height", "top", lambda _: found) if found else []),
        ]

    def _in_tile(self) -> list[str]:
        """Return the loop over the rows of a tile, and then what takes the sums over it."""
        phrases, plan, size = self._dialect.sums, self._plan, self._dialect.size
        sums = [(f"lanes{n}[{{0}} % {LANES}]", n, own) for n, own in enumerate((*plan.sums, *plan.row_sums))]
        columns = zip(self._columns_of(), plan.column_sums, strict=True)
        sums += [(f"column_part{n}[left + {{0}}]", n, own) for n, own in columns]
        rows = [(n, f"row_sum{n}[line] += lanes{n}[0];") for n in self._rows_of()]
        tile = [(n, phrases.put.format(n, f"lanes{n}[0]")) for n in range(len(plan.sums))]
        ended = [line for n, taken in rows for line in loops_sums.ended(phrases, n, taken)]
        return [
            size.format(name="left", text=f"block * {BLOCK}"),
            size.format(name="width", text=f"columns - left < {BLOCK} ? columns - left : {BLOCK}"),
            *self._row_by_row("height", "top", lambda _: [*self._line("width", "left", sums), *ended]),
            *(line for n, taken in tile for line in loops_sums.ended(phrases, n, taken)),
            *self._parts_added(),
        ]

    def _parts_added(self) -> list[str]:
        """Return a loop that adds the sums over the columns of a tile to those of the matrix."""
        lines: list[str] = []
        for n in self._columns_of():
            part = f"column_part{n}[left + k]"
            lines += [f"column_sum{n}[left + k] += {part};", f"{part} = 0;"]
        return self._loop("k", "width", lines) if lines else []

    def _results_of_columns(self, place: str) -> list[str]:
        """Return what sums over a column come to, given its number in the matrix."""
        return [
            f"{self._kept[own.name]}[column] = {self._finished(own.word, f'column_sum{n}[{place}]', 'rows')};"
            for n, own in zip(self._columns_of(), self._plan.column_sums, strict=True)
        ]

    def _rows_of(self) -> Iterable[int]:
        """Return the numbers of the sums over rows among all of the pass."""
        first = len(self._plan.sums)
        return range(first, first + len(self._plan.row_sums))

    def _columns_of(self) -> Iterable[int]:
        """Return those of the sums over columns."""
        first = len(self._plan.sums) + len(self._plan.row_sums)
        return range(first, first + len(self._plan.column_sums))
