"""Matrices as Triton text: walks over their rows and columns, with the sums of each tile, row and column.

The orders of these sums (``language.matrices``) leave different things to be done side by side, so each kind of sum has
a walk of its own in the one kernel of a pass, and a chunk says which:

- ``tiles``: a program has a tile and walks it row by row in ``LANES`` lanes, for sums over the tensor. A pass that
  also steps does so here: a second walk would find what the first has written;
- ``rows``: a program has ``HEIGHT`` rows of a block of columns and walks them together, for sums over rows and for
  steps that sum nothing over the tensor;
- ``columns``: a program has ``LANES`` columns of up to ``ROWS`` rows and walks them row by row, for sums over columns.

What two walks read is read twice. Each reads only what its own sums need. No number is added to by two programs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from steprule.backends.triton_code import Code
from steprule.backends.triton_lines import halves, indented
from steprule.compile import BLOCK, LANES, Plan
from steprule.language.matrices import ROWS, matrix_shape

__all__ = ["HEIGHT", "KINDS", "WORDS", "call", "chunks", "entry", "walks"]

WORDS = ("rows", "columns", "row_sums", "column_sums")
"""What follows in a row of the table: those of a matrix, and where partial sums go. ``count`` is of all rows."""
KINDS = ("tiles", "rows", "columns")
"""A chunk's number is that of the walk among these, and how many times as many as these come before it in the walk."""
HEIGHT = 4
_IN_FLIGHT = {"tiles": 16, "rows": 8, "columns": 8}
"""Numbers that a thread loads at a time. Tiles are few, and so are their threads."""

_WALK = """\

@triton.jit
def walk_{kind}({arguments}):
{lines}
"""
_TILES = """\
across = (columns + {BLOCK_1}) // {BLOCK}
down = (rows + {ROWS_1}) // {ROWS}
block, strip = number % across, number // across
matrix = strip // down
at_row = matrix * rows + strip % down * {ROWS}
end = tl.minimum(tl.minimum(at_row + {ROWS}, (matrix + 1) * rows), count)
left = tl.minimum(columns - block * {BLOCK}, {BLOCK})
place = tl.full((), 0, tl.int64)
{start}
while at_row < end:
{turns}
{end}"""
_ROWS = """\
across = (columns + {BLOCK_1}) // {BLOCK}
block, band = number % across, number // across
row = band * {HEIGHT} + tl.arange(0, {HEIGHT})[:, None]
is_row = row < count
left = tl.minimum(columns - block * {BLOCK}, {BLOCK})
place = tl.full((), 0, tl.int64)
{start}
while place < left:
{turns}
{end}"""
_COLUMNS = """\
groups = (columns + {LANES_1}) // {LANES}
down = (rows + {ROWS_1}) // {ROWS}
group, strip = number % groups, number // groups
matrix = strip // down
at_row = matrix * rows + strip % down * {ROWS}
end = tl.minimum(at_row + {ROWS}, (matrix + 1) * rows)
own_column = group * {LANES} + tl.arange(0, {LANES})[None, :]
is_column = own_column < columns
column = matrix * columns + own_column
{start}
while at_row < end:
{turns}
{end}"""
_NUMBERS = {"BLOCK": BLOCK, "BLOCK_1": BLOCK - 1, "ROWS": ROWS, "ROWS_1": ROWS - 1}
_NUMBERS |= {"LANES": LANES, "LANES_1": LANES - 1, "HEIGHT": HEIGHT}


_PLACES = {
    "tiles": """\
lane = place + tl.arange(0, {LANES})[None, :]
row = at_row + tl.zeros((1, 1), tl.int64)
is_row = row < end
own_column = block * {BLOCK} + lane
is_column = lane < left
column = matrix * columns + own_column
at = row * columns + own_column
live = is_row & is_column
place += {LANES}
is_over = place >= left
at_row = tl.where(is_over, at_row + 1, at_row)
place = tl.where(is_over, 0, place)""",
    "rows": """\
lane = place + tl.arange(0, {LANES})[None, :]
own_column = block * {BLOCK} + lane
column = {column}
is_column = {is_column}
at = row * columns + own_column
live = is_row & (lane < left)
place += {LANES}""",
    "columns": """\
row = at_row + tl.zeros((1, 1), tl.int64)
is_row = row < end
at = row * columns + own_column
live = is_row & is_column
at_row += 1""",
}
"""Where a turn of a walk is."""
_OWN = re.compile(r"\b(lane|row|is_row|own_column|column|is_column|at|live|is_over|v\d+)\b")
"""What each turn has of its own; in walks that give it to all, turns take it as it is."""


def chunks(plan: Plan, shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor of this shape: walks over the same rows follow each other.

    So the second finds in the cache what the first has read.
    """
    if plan.view is None or not prod(shape):
        return np.zeros(0, np.int64)
    batch, rows, columns = matrix_shape(shape, plan.view)
    across, groups, down = -(-columns // BLOCK), -(-columns // LANES), batch * -(-rows // ROWS)
    counts = {"tiles": down * across, "rows": -(-batch * rows // HEIGHT) * across, "columns": down * groups}
    own = {kind: np.arange(counts[kind]) for kind in _parts(plan)}
    numbers = [of_walk * len(KINDS) + KINDS.index(kind) for kind, of_walk in own.items()]
    begun = [of_walk / counts[kind] for kind, of_walk in own.items()]
    if not numbers:
        return np.zeros(0, np.int64)
    return np.concatenate(numbers)[np.argsort(np.concatenate(begun), kind="stable")]


def walks(plan: Plan) -> str:
    """Return the functions of the walks that the plan needs."""
    return "".join(_walk(kind, part) for kind, part in _parts(plan).items())


def entry(code: Code, words: Mapping[str, int]) -> list[str]:
    """Return the lines that load what the table says of a tensor."""
    plan = code.plan
    lines = [*code.entry(words), *(f"{word} = tl.load(words + {words[word]})" for word in ("rows", "columns"))]
    return lines + [
        f"{word} = tl.load(words + {words[word]}).to(tl.pointer_type(tl.float64))"
        for word, sums in (("row_sums", plan.row_sums), ("column_sums", plan.column_sums))
        if sums
    ]


def call(plan: Plan) -> list[str]:
    """Return the lines that let a chunk be walked."""
    lines = [f"kind = number % {len(KINDS)}", f"number = number // {len(KINDS)}"]
    for kind, part in _parts(plan).items():
        lines += [f"if kind == {KINDS.index(kind)}:", f"    walk_{kind}({', '.join(_arguments(part))})"]
    return lines


def _parts(plan: Plan) -> dict[str, Plan]:
    """Return what each walk has to do."""
    none: Plan = dataclasses.replace(plan, stores=(), sums=(), row_sums=(), column_sums=())
    stores_in_rows = plan.stores if not plan.sums else ()
    parts = {
        "tiles": dataclasses.replace(none, sums=plan.sums, stores=plan.stores if plan.sums else ()),
        "rows": dataclasses.replace(none, row_sums=plan.row_sums, stores=stores_in_rows),
        "columns": dataclasses.replace(none, column_sums=plan.column_sums),
    }
    return {kind: part for kind, part in parts.items() if part.stores or part.sums or part.row_sums or part.column_sums}


def _arguments(part: Plan) -> list[str]:
    code = Code(part)
    names = [f"a{index}" for index in code.touched] + [f"s{k}" for k in range(len(part.prelude.conditions))]
    names += ["first", "stream", "key0", "key1"] if part.inputs else []
    names += [
        word
        for word, sums in (("out", part.sums), ("row_sums", part.row_sums), ("column_sums", part.column_sums))
        if sums
    ]
    return [*names, "rows", "columns", "number", "count"]


def _walk(kind: str, part: Plan) -> str:
    code = Code(part)
    start, added, end = {"tiles": _of_tiles, "rows": _of_rows, "columns": _of_columns}[kind](code)
    lines = {"tiles": _TILES, "rows": _ROWS, "columns": _COLUMNS}[kind].format(
        start="\n".join([*code.pointers(aligned=False), *start]),
        turns=indented(1, _turns(kind, code, [*added, *code.stores(masked=True)])),
        end="\n".join(end),
        **_NUMBERS,
    )
    return _WALK.format(kind=kind, arguments=", ".join(_arguments(part)), lines=indented(1, lines.splitlines()))


def _turns(kind: str, code: Code, results: list[str]) -> list[str]:
    """Return some turns of a walk: what all load comes first, since nothing is loaded before a branch in a division."""
    part = code.plan
    is_one = part.view == "first"  # matrix: then columns have no row among their places
    places = _PLACES[kind].format(
        column="own_column" if is_one else "row // rows * columns + own_column",
        is_column="lane < left" if is_one else "is_row & (lane < left)",
        **_NUMBERS,
    )
    loads = [*places.splitlines(), *code.loading(masked=True)]
    rest = [*code.operations(), *results]
    # A sum of what rows and columns have alone loads no element.
    wide = max(1, sum(part.planes[index].per == "element" for index in code.loads))
    count = 1 if part.stores else max(1, _IN_FLIGHT[kind] // (wide * (HEIGHT if kind == "rows" else 1)))
    if count == 1:
        return [*loads, *rest]
    own = {name for line in loads for name in re.findall(r"^(\w+) = ", line)} | {f"v{k}" for k in range(10**4)}

    def of_turn(line: str, turn: int) -> str:
        return _OWN.sub(lambda found: f"{found[0]}_{turn}" if found[0] in own else found[0], line)

    return [of_turn(line, turn) for lines in (loads, rest) for turn in range(count) for line in lines]


Lines = tuple[list[str], list[str], list[str]]
"""What comes before a walk, at each place, and after it."""


def _of_tiles(code: Code) -> Lines:
    sums = code.plan.sums
    start = [f"sum{k} = tl.zeros((1, {LANES}), tl.float64)" for k in range(len(sums))]
    return start, code.sums(), [f"out += number * {len(sums)}", *code.totals()]


def _of_rows(code: Code) -> Lines:
    sums = code.plan.row_sums
    start = [f"sum{k} = tl.zeros(({HEIGHT}, {LANES}), tl.float64)" for k in range(len(sums))]
    added = [line for k, result in enumerate(sums) for line in code.added(f"sum{k}", result)]
    end = []
    for k in range(len(sums)):
        to = f"row_sums + (row * across + block) * {len(sums)} + {k}"
        end += [*halves(f"sum{k}", HEIGHT), f"tl.store({to}, left, is_row)"]
    return start, added, end


def _of_columns(code: Code) -> Lines:
    sums = code.plan.column_sums
    start = [f"sum{k} = tl.zeros((1, {LANES}), tl.float64)" for k in range(len(sums))]
    added = [line for k, result in enumerate(sums) for line in code.added(f"sum{k}", result)]
    end = [
        f"tl.store(column_sums + (strip * {len(sums)} + {k}) * columns + own_column, sum{k}, is_column)"
        for k in range(len(sums))
    ]
    return start, added, end
