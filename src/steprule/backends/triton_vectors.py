"""What a plan computes for rows and columns as Triton text: before its pass over elements, and of what that has summed.

``emit`` writes a kernel for each of the ``stages`` of a plan. Between two kernels the device has finished the first, so
a number that all wait for is written by one program and read by all.

``kernel(table, chunks, taken, GUARDED)`` takes addresses as 64-bit integers. A row of the table are the addresses of
``triton_stages.Graph``, then ``WORDS``. A chunk is a pair of 32-bit integers: a row of the table, and a number which
says what a program has: up to ``ROWS`` rows of a matrix, or ``wide`` columns. ``taken`` is of a number that is 0 where
the step is not to be taken.

``kernel(table, chunks)`` of ``emit_added`` adds the partial sums of rows and columns that a pass has taken: a row of
the table are the addresses of these two, and of the sums of each by name, then the rows and columns of a matrix, and
how many matrices there are; a chunk is ``LANES`` rows, or columns, of all matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steprule.backends.triton_code import Code
from steprule.backends.triton_lines import TYPES, halves, indented
from steprule.backends.triton_stages import Graph, Stage, stages
from steprule.compile import BLOCK, LANES, Plan, Ref, Sum, Value
from steprule.language.matrices import ROWS, Along

__all__ = ["THREADS", "WORDS", "emit", "emit_added", "texts"]

WORDS = ("scalars", "rows", "columns")
THREADS = LANES
"""Of a program: each has one of the numbers that are loaded at a time, and so writes no slot that another reads."""
_UNROLL = 8

_HEAD = '''\
"""{title}"""

import triton
import triton.language as tl


@triton.jit
def added(partials, first, count, stride, live):
    """Return the sums of numbers at these places, one after the other, as many as ``count``."""
    sums = first.to(tl.float64) * 0.0
    at = tl.full((), 0, tl.int64)
    while at < count:
        for _ in tl.static_range({unroll}):
            sums += tl.load(partials + (first + at * stride), live & (at < count), other=0.0)
            at += 1
    return sums

'''
_KERNEL = """\

@triton.jit(do_not_specialize=["table", "chunks", "taken"])
def kernel(table: tl.int64, chunks: tl.int64, taken: tl.int64, GUARDED: tl.constexpr):
    chunk = tl.program_id(0)
    own = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk).to(tl.int64)
    number = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk + 1).to(tl.int64)
    words = table.to(tl.pointer_type(tl.int64)) + own * {width}
    stays = tl.full((), False, tl.int1)
    if GUARDED:
        stays = tl.load(taken.to(tl.pointer_type(tl.float64))) == 0.0
    rows = tl.load(words + {rows})
    columns = tl.load(words + {columns})
    scalars = tl.load(words + {scalars}).to(tl.pointer_type(tl.float64))
    down = (rows + {ROWS_1}) // {ROWS}
    across = (columns + {BLOCK_1}) // {BLOCK}
    is_of_rows = number % 2 == 0
    number = number // 2
{entry}
    if is_of_rows:
        matrix = number // down
        start = matrix * rows + number % down * {ROWS}
        end = tl.where(stays, start, tl.minimum(start + {ROWS}, (matrix + 1) * rows))
{of_rows}
    else:
        pieces = (columns + {wide_1}) // {wide}
        matrix = number // pieces
        start = matrix * columns + number % pieces * {wide}
        end = tl.where(stays, start, tl.minimum(start + {wide}, (matrix + 1) * columns))
{of_columns}
"""
_ADDED = """\

@triton.jit(do_not_specialize=["table", "chunks"])
def kernel(table: tl.int64, chunks: tl.int64):
    chunk = tl.program_id(0)
    own = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk).to(tl.int64)
    number = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk + 1).to(tl.int64)
    words = table.to(tl.pointer_type(tl.int64)) + own * {width}
    rows = tl.load(words + {rows})
    columns = tl.load(words + {columns})
    count = tl.load(words + {count})
    down = (rows + {ROWS_1}) // {ROWS}
    across = (columns + {BLOCK_1}) // {BLOCK}
    is_of_rows = number % 2 == 0
    at = number // 2 * {LANES} + tl.arange(0, {LANES}).to(tl.int64)
    if is_of_rows:
        live = at < count * rows
{of_rows}
    else:
        live = at < count * columns
{of_columns}
"""
_NUMBERS = {"BLOCK": BLOCK, "BLOCK_1": BLOCK - 1, "ROWS": ROWS, "ROWS_1": ROWS - 1}


def emit(graph: Graph, stage: Stage) -> str:
    """Return the text of the module that defines ``kernel`` of a stage."""
    plan = graph.plan
    of_rows, of_columns = _walked(graph, stage, "row"), _walked(graph, stage, "column")
    kernel = _KERNEL.format(
        width=graph.width + len(WORDS),
        entry=indented(1, Code(plan).scalars()),
        of_rows=indented(2, of_rows),
        of_columns=indented(2, of_columns),
        wide=stage.wide,
        wide_1=stage.wide - 1,
        **_NUMBERS,
        **{name: graph.width + k for k, name in enumerate(WORDS)},
    )
    when = "After" if stage.moves else "Before"
    return _HEAD.format(title=f"{when} {plan.title}: numbers of rows and columns.", unroll=_UNROLL) + kernel


def emit_added(plan: Plan) -> str:
    """Return the text of the module that defines ``kernel``, which adds what a pass has summed of rows and columns."""
    sums = (*plan.row_sums, *plan.column_sums)
    kernel = _ADDED.format(
        width=2 + len(sums) + 3,
        of_rows=indented(2, _finished(plan, plan.row_sums, "row", 2)),
        of_columns=indented(2, _finished(plan, plan.column_sums, "column", 2 + len(plan.row_sums))),
        LANES=LANES,
        **_NUMBERS,
        **{name: 2 + len(sums) + k for k, name in enumerate(("rows", "columns", "count"))},
    )
    return _HEAD.format(title=f"After {plan.title}: its partial sums, added up.", unroll=_UNROLL) + kernel


def texts(plan: Plan) -> list[str]:
    """Return the texts of all kernels of a pass but that over elements, in their order."""
    if plan.view is None:
        return []
    graph = Graph(plan)
    added = [emit_added(plan)] if plan.row_sums or plan.column_sums else []
    own = stages(graph)
    before, after = ([emit(graph, stage) for stage in own if stage.moves is moves] for moves in (False, True))
    return [*before, *added, *after]


def _walked(graph: Graph, stage: Stage, over: Along) -> list[str]:
    """Return what a program does with its rows or columns."""
    jobs, code, sums = stage.of(over), Code(graph.plan), stage.sums
    if not jobs:
        return ["pass"]
    # Rows are added one after the other, columns in lanes.
    is_one = sums and over == "row"
    of_matrix, of_each, inputs = _computed(graph, code, [job.ref for job in jobs])
    lines = [f"o{job.place} = {_pointer(job.place, job.dtype or 'float64')}" for job in jobs]
    lines += [*inputs, *of_matrix]
    shape = "()" if is_one else f"({LANES},)"
    lines += [f"sum{job.place} = tl.full({shape}, 0.0, tl.float64)" for job in jobs if sums]
    turn = [f"at = start{'' if is_one else f' + tl.arange(0, {LANES}).to(tl.int64)'}", "live = at < end", *of_each]
    for job in jobs:
        if sums:
            turn += code.added(f"sum{job.place}", Sum(job.ref, job.is_squared))
        else:
            turn.append(f"tl.store(o{job.place} + at, {code.ref(job.ref)}.to({TYPES[job.dtype]}), live)")
    unroll = 1 if stage.moves or (not sums and over == "row") else _UNROLL
    lines += ["while start < end:", f"    for _ in tl.static_range({unroll}):"]
    lines += [f"        {line}" for line in [*turn, f"start += {1 if is_one else LANES}"]]
    for job in jobs if sums else ():
        if is_one:
            lines.append(f"tl.store(o{job.place} + number, sum{job.place})")
        else:
            lines += [*halves(f"sum{job.place}"), f"tl.store(o{job.place} + number + tl.arange(0, 1), left)"]
    return lines


def _computed(graph: Graph, code: Code, refs: Iterable[Ref]) -> tuple[list[str], list[str], list[str]]:
    """Return what computes values: those of a matrix, those of each row or column, and what both come from."""
    own, first = graph.own, len(graph.own.inputs)
    found: set[int] = set()
    stack = [ref.index for ref in refs if isinstance(ref, Value)]
    while stack:
        index = stack.pop()
        if index in found:
            continue
        found.add(index)
        if index >= first and index not in graph.words:  # a kernel before has taken those sums
            stack += [arg.index for arg in own.body[index - first].args if isinstance(arg, Value)]
    of_matrix: list[str] = []
    of_each: list[str] = []
    inputs: list[str] = []
    for index in sorted(found):
        lines = of_matrix if own.stages[index] == "matrix" else of_each
        if index < first:
            dtype = _dtype(graph.plan, own.inputs[index])
            inputs.append(f"i{index} = {_pointer(index, dtype)}")
            lines.append(f"v{index} = tl.load(i{index} + at, live, other=0).to({TYPES[graph.plan.compute]})")
        elif index in graph.words:
            lines += _of_matrix(graph, index)
        else:
            lines.append(f"v{index} = {code.spelled(own.body[index - first])}")
    return of_matrix, of_each, inputs


def _of_matrix(graph: Graph, index: int) -> list[str]:
    """Return what computes a word for a sum over the numbers of a matrix, from its partial sums."""
    instruction = graph.own.body[index - len(graph.own.inputs)]
    word, _, over = instruction.op.partition(".")
    parts, count = ("down", "rows") if over == "column" else ("across", "columns")
    place = graph.place_of_word(index)
    text = f"added({_pointer(place, 'float64')}, matrix * {parts}, {parts}, 1, matrix >= 0)"
    return [f"v{index} = {_worded(word, text, count, graph.plan.compute)}"]


def _worded(word: str, sums: str, count: str, compute: str) -> str:
    """Return what a word comes to, given the sums of as many numbers each."""
    text = f"{sums} / tl.maximum({count}, 1).to(tl.float64)" if word in ("mean", "rms") else sums
    return f"{f'tl.sqrt({text})' if word in ('norm', 'rms') else f'({text})'}.to({TYPES[compute]})"


def _finished(plan: Plan, sums: Sequence[Sum], over: Along, first: int) -> list[str]:
    """Return what adds the partial sums of rows or columns ``at``."""
    if not sums:
        return ["pass"]
    count = len(sums)
    if over == "row":
        lines = [f"partials = {_pointer(0, 'float64')}"]
        start, parts, stride, each = f"at * across * {count}", "across", f"{count}", "columns"
    else:
        lines = [f"partials = {_pointer(1, 'float64')}", "place = at // columns * down"]
        start, parts, stride, each = f"place * {count} * columns + at % columns", "down", f"{count} * columns", "rows"
    for k, result in enumerate(sums):
        beside = f"{k}" if over == "row" else f"{k} * columns"
        text = f"added(partials, {start} + {beside}, {parts}, {stride}, live)"
        value = _worded(result.word, text, each, plan.compute)
        lines.append(f"tl.store({_pointer(first + k, plan.compute)} + at, {value}, live)")
    return lines


def _dtype(plan: Plan, name: str) -> str:
    return next((plane.dtype for plane in plan.kept_planes if plane.name == name), plan.compute)


def _pointer(place: int, dtype: str) -> str:
    return f"tl.load(words + {place}).to(tl.pointer_type({TYPES[dtype]}))"
