"""What a plan computes for rows and columns as Triton text: before its pass over elements, and of what that has summed.

A kernel for each of the ``stages`` of a plan: its words for sums of such numbers first, those that others depend on
before these; then what elements take, and last, when these have moved, the slots. Between two kernels the device has
finished the first, so a number that all wait for is written once and read by all.

``kernel(table, chunks, taken, GUARDED)`` takes addresses as 64-bit integers. A row of the table are the addresses of
the inputs (``Vectors.inputs``), of what elements take, of the new slots, of the partial sums of each word and each
total, then ``WORDS``. A chunk is a pair of 32-bit integers: a row of the table, and a number which says what a program
has: ``ROWS`` rows of a matrix, or columns, ``wide_of`` a stage. ``taken`` is of a number that is 0 where the step is
not.

``kernel(table, chunks)`` of ``emit_added`` adds the partial sums of rows and columns that a pass has taken: a row of
the table are the addresses of these two, and of the sums of each by name, then ``rows`` and ``columns``; a chunk is a
number of rows, or of columns, of all matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steprule.backends.triton_code import TYPES, Code, halves
from steprule.compile import BLOCK, LANES, Plan, Plane, Ref, Sum, Value, Vectors
from steprule.language.matrices import ROWS, Along, View, matrix_shape
from steprule.language.sums import COLUMN, HOISTED

__all__ = [
    "THREADS",
    "WORDS",
    "Job",
    "Stage",
    "added_chunks",
    "along_of",
    "chunks",
    "emit",
    "emit_added",
    "new_planes",
    "partials",
    "stages",
    "summed_of",
    "summed_over",
    "texts",
    "width_of",
]

WORDS = ("scalars", "rows", "columns")
THREADS = LANES
"""Of a program: each has one of the numbers that are loaded at a time, and so writes no slot that another reads."""
_FEW = 1024
"""The columns of a program where nothing is summed, so that there are many programs."""
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


@dataclass(frozen=True)
class Job:
    """One result of a stage: a sum, whose partial sums go to a place of their own, or what is written as it is.

    Attributes:
        ref: of what.
        over: the numbers of what a program has, rows or columns.
        place: of the address, in a row of the table.
        is_squared: whether the squares are summed.
        dtype: the type of what is written; "" for sums.
    """

    ref: Ref
    over: Along
    place: int
    is_squared: bool = False
    dtype: str = ""


@dataclass(frozen=True)
class Stage:
    """What one kernel does.

    Attributes:
        jobs: its results.
        moves: whether it writes slots, after the pass; where the step is taken.
    """

    jobs: tuple[Job, ...]
    moves: bool = False

    @property
    def wide(self) -> int:
        """The columns that a program has."""
        return _FEW if self.jobs[0].dtype else BLOCK


class _Graph:
    """The numbers of rows and columns of a plan: what each is of, and after how many sums it comes."""

    def __init__(self, plan: Plan, own: Vectors) -> None:
        self.plan, self.own = plan, own
        self.words = summed_of(plan)
        self.of: list[Along | None] = [along_of(plan, name) for name in own.inputs]
        self.levels = [0] * len(own.inputs)
        for index, instruction in enumerate(own.body, len(own.inputs)):
            args = [arg.index for arg in instruction.args if isinstance(arg, Value)]
            level = max((self.levels[arg] for arg in args), default=0)
            of: list[Along] = [found for arg in args if (found := self.of[arg]) is not None]
            self.levels.append(level + 1 if index in self.words else level)
            self.of.append(None if index in self.words or not of else of[0])

    def level(self, ref: Ref) -> int:
        return self.levels[ref.index] if isinstance(ref, Value) else 0

    def over(self, ref: Ref) -> Along:
        """Return what a value is a number of; of rows, where it is one of a matrix."""
        return (self.of[ref.index] if isinstance(ref, Value) else None) or "row"


def _vectors(plan: Plan) -> Vectors:
    if plan.vectors is None:
        raise ValueError(f"{plan.title} sees no rows and no columns")
    return plan.vectors


def along_of(plan: Plan, name: str) -> Along:
    """Return of what the numbers called so are: of rows or columns."""
    for plane in plan.kept_planes:
        if plane.name == name:
            return "column" if plane.per == "column" else "row"
    return "column" if name.startswith((COLUMN, f"{HOISTED}column")) else "row"


def summed_of(plan: Plan) -> list[int]:
    """Return the values of the vectors that are words for sums."""
    own = _vectors(plan)
    return [k for k, instruction in enumerate(own.body, len(own.inputs)) if "." in instruction.op]


def new_planes(plan: Plan) -> list[tuple[Plane, Ref]]:
    """Return the scratch planes that the plan fills; others are those of passes before."""
    own = _vectors(plan)
    planes = zip(plan.planes[len(plan.kept_planes) :], own.hoisted, strict=True)
    return [(plane, ref) for plane, ref in planes if plane.name not in own.inputs]


def stages(plan: Plan) -> list[Stage]:
    """Return what is computed, kernel after kernel."""
    own, graph = _vectors(plan), _Graph(plan, _vectors(plan))
    planes = new_planes(plan)
    first = len(own.inputs)
    hoisted = [
        Job(ref, "column" if plane.per == "column" else "row", first + k, dtype=plane.dtype)
        for k, (plane, ref) in enumerate(planes)
    ]
    first += len(planes)
    slots = []
    for k, (place, ref) in enumerate(own.slots):
        plane = plan.planes[place]
        slots.append(Job(ref, "column" if plane.per == "column" else "row", first + k, dtype=plane.dtype))
    first += len(own.slots)
    sums = []
    for k, index in enumerate(graph.words):
        word = own.body[index - len(own.inputs)]
        is_squared = word.op.startswith(("norm", "rms"))
        sums.append(Job(word.args[0], graph.over(word.args[0]), first + k, is_squared))
    first += len(sums)
    sums += [Job(ref, graph.over(ref), first + k, squared) for k, (ref, squared) in enumerate(own.totals)]
    levels = [tuple(job for job in sums if graph.level(job.ref) == level) for level in range(1 + len(graph.words))]
    found = [Stage(jobs) for jobs in (*levels, tuple(hoisted)) if jobs]
    return [*found, Stage(tuple(slots), moves=True)] if slots else found


def width_of(plan: Plan) -> int:
    """Return the integers of a row of the table."""
    own = _vectors(plan)
    addresses = len(own.inputs) + len(new_planes(plan)) + len(own.slots) + len(summed_of(plan)) + len(own.totals)
    return addresses + len(WORDS)


def chunks(stage: Stage, shape: Sequence[int], view: View) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor of this shape in a stage."""
    batch, rows, columns = matrix_shape(shape, view)
    counts = {"row": batch * -(-rows // ROWS), "column": batch * -(-columns // stage.wide)}
    numbers = [np.arange(counts[over]) * 2 + k for k, over in enumerate(counts) if _jobs(stage, over)]
    return np.concatenate(numbers)


def added_chunks(plan: Plan, shape: Sequence[int], view: View) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor for ``emit_added``."""
    batch, rows, columns = matrix_shape(shape, view)
    sums = (plan.row_sums, batch * rows), (plan.column_sums, batch * columns)
    numbers = [np.arange(-(-count // LANES)) * 2 + k for k, (own, count) in enumerate(sums) if own]
    return np.concatenate(numbers)


def summed_over(plan: Plan) -> list[Along]:
    """Return what is summed by each word, and for each total: numbers of rows, or of columns."""
    own, graph = _vectors(plan), _Graph(plan, _vectors(plan))
    refs = [own.body[index - len(own.inputs)].args[0] for index in graph.words]
    return [graph.over(ref) for ref in (*refs, *(ref for ref, _ in own.totals))]


def partials(shape: Sequence[int], view: View, over: Along) -> int:
    """Return how many partial sums there are of numbers of the rows, or of the columns, of a tensor of this shape."""
    batch, rows, columns = matrix_shape(shape, view)
    return batch * (-(-rows // ROWS) if over == "row" else -(-columns // BLOCK))


def emit(plan: Plan, stage: Stage) -> str:
    """Return the text of the module that defines ``kernel`` of a stage."""
    graph, width = _Graph(plan, _vectors(plan)), width_of(plan)
    of_rows, of_columns = _walked(graph, stage, "row"), _walked(graph, stage, "column")
    kernel = _KERNEL.format(
        width=width,
        entry=_indented(1, Code(plan).scalars()),
        of_rows=_indented(2, of_rows),
        of_columns=_indented(2, of_columns),
        wide=stage.wide,
        wide_1=stage.wide - 1,
        **_NUMBERS,
        **{name: width - len(WORDS) + k for k, name in enumerate(WORDS)},
    )
    when = "After" if stage.moves else "Before"
    return _HEAD.format(title=f"{when} {plan.title}: numbers of rows and columns.", unroll=_UNROLL) + kernel


def emit_added(plan: Plan) -> str:
    """Return the text of the module that defines ``kernel``, which adds what a pass has summed of rows and columns."""
    sums = (*plan.row_sums, *plan.column_sums)
    kernel = _ADDED.format(
        width=2 + len(sums) + 3,
        of_rows=_indented(2, _finished(plan, plan.row_sums, "row", 2)),
        of_columns=_indented(2, _finished(plan, plan.column_sums, "column", 2 + len(plan.row_sums))),
        LANES=LANES,
        **_NUMBERS,
        **{name: 2 + len(sums) + k for k, name in enumerate(("rows", "columns", "count"))},
    )
    return _HEAD.format(title=f"After {plan.title}: its partial sums, added up.", unroll=_UNROLL) + kernel


def texts(plan: Plan) -> list[str]:
    """Return the texts of all kernels of a pass but that over elements, in their order."""
    if plan.view is None:
        return []
    own = stages(plan)
    added = [emit_added(plan)] if plan.row_sums or plan.column_sums else []
    before, after = ([emit(plan, stage) for stage in own if stage.moves is moves] for moves in (False, True))
    return [*before, *added, *after]


def _jobs(stage: Stage, over: Along) -> list[Job]:
    return [job for job in stage.jobs if job.over == over]


def _walked(graph: _Graph, stage: Stage, over: Along) -> list[str]:
    """Return what a program does with its rows or columns."""
    jobs, plan = _jobs(stage, over), graph.plan
    if not jobs:
        return ["pass"]
    code, sums = Code(plan), not jobs[0].dtype
    # Rows are added one after the other, columns in lanes.
    is_one = sums and over == "row"
    of_matrix, of_each, inputs = _computed(graph, code, [job.ref for job in jobs], over)
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


def _computed(graph: _Graph, code: Code, refs: Iterable[Ref], over: Along) -> tuple[list[str], list[str], list[str]]:
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
        lines = of_matrix if graph.of[index] is None else of_each
        if index < first:
            dtype = _dtype(graph.plan, own.inputs[index])
            inputs.append(f"i{index} = {_pointer(index, dtype)}")
            lines.append(f"v{index} = tl.load(i{index} + at, live, other=0).to({TYPES[graph.plan.compute]})")
        elif index in graph.words:
            lines += _of_matrix(graph, index)
        else:
            lines.append(f"v{index} = {code.spelled(own.body[index - first])}")
    return of_matrix, of_each, inputs


def _of_matrix(graph: _Graph, index: int) -> list[str]:
    """Return what computes a word for a sum over the numbers of a matrix, from its partial sums."""
    own = graph.own
    instruction = own.body[index - len(own.inputs)]
    word, parts, count = instruction.op.partition(".")[0], "down", "rows"
    if graph.over(instruction.args[0]) == "column":
        parts, count = "across", "columns"
    place = len(own.inputs) + len(new_planes(graph.plan)) + len(own.slots) + graph.words.index(index)
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


def _indented(depth: int, lines: Iterable[str]) -> str:
    return "\n".join("    " * depth + line for line in lines)
