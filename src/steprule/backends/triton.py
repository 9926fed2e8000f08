"""A plan as Triton text: one launch over chunks of all tensors that step by it.

``kernel(table, gradients, chunks, taken)`` takes addresses as 64-bit integers:

- ``table``: a row of 64-bit integers a tensor: the addresses of its planes, the ``WORDS``, the address of its row of
  float64 scalars (then the two keys of random bits), and what is counted of it: elements, groups of them, or the rows
  of all matrices, where ``triton_matrices.WORDS`` follow;
- ``gradients``: the address of each tensor's gradient, which alone move from step to step;
- ``chunks``: pairs of 32-bit integers, the row of the table and the number of the chunk in its tensor;
- ``taken``: of a number that is 0 where the step is not to be taken.

Every program has one chunk. Where it is whole and its planes are aligned to 16 bytes, loads and stores are as wide as
they can be. Offsets have 64 bits. ``enable_fp_fusion=False`` must be given at compilation: multiply-adds round twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.backends import triton_matrices
from steprule.backends.triton_code import Code
from steprule.backends.triton_lines import indented
from steprule.compile import BLOCK, LANES, Plan
from steprule.errors import TargetError
from steprule.formats import GROUP, rows_of
from steprule.language.matrices import matrix_shape

__all__ = ["WORDS", "chunk_of", "chunks_of", "count_of", "emit", "places_of", "threads_of", "width_of"]

WORDS = ("row_length", "groups_a_row", "first_index", "stream", "sums", "scalars", "count")
"""What follows the addresses in a row of the table."""
THREADS = 256
UNROLL = 8
"""Loads of a thread that are in flight at a time, where sums alone are taken: of eight tiles, or of fewer tiles of more
planes."""

_HEAD = '''\
"""{title}

Once a step, in float64:
{prelude}
"""

import triton
import triton.language as tl

'''
_STEP = """\

@triton.jit
def step({arguments}, WHOLE: tl.constexpr):
{start}
    if WHOLE:
{whole}
    else:
{part}
"""
_KERNEL = """\

@triton.jit(do_not_specialize=["table", "gradients", "chunks", "taken"])
def kernel(table: tl.int64, gradients: tl.int64, chunks: tl.int64, taken: tl.int64, GUARDED: tl.constexpr):
    chunk = tl.program_id(0)
    row = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk).to(tl.int64)
    number = tl.load(chunks.to(tl.pointer_type(tl.int32)) + 2 * chunk + 1).to(tl.int64)
    words = table.to(tl.pointer_type(tl.int64)) + row * {width}
    count = tl.load(words + {count})
    if GUARDED:
        count = tl.where(tl.load(taken.to(tl.pointer_type(tl.float64))) != 0.0, count, 0)
{entry}
{call}
"""


def width_of(plan: Plan) -> int:
    """Return the integers of a row of the table."""
    return len(plan.planes) + len(_words(plan))


def places_of(plan: Plan) -> dict[str, int]:
    """Return where in a row of the table each of the words is."""
    return {name: len(plan.planes) + place for place, name in enumerate(_words(plan))}


def _words(plan: Plan) -> tuple[str, ...]:
    return WORDS if plan.view is None else (*WORDS, *triton_matrices.WORDS)


def chunk_of(plan: Plan) -> int:
    """Return what a chunk has at most of what is counted: elements, or groups."""
    elements = BLOCK if plan.sums else THREADS * _per_thread(plan)
    return elements // GROUP if plan.has_groups else elements


def count_of(plan: Plan, shape: Sequence[int]) -> int:
    """Return what the table counts of a tensor of this shape: elements, groups of them, or the rows of all matrices."""
    if plan.view is not None:
        batch, height, _ = matrix_shape(shape, plan.view)
        return batch * height
    rows, length, groups = rows_of(shape)
    return rows * (groups if plan.has_groups else length)


def chunks_of(plan: Plan, shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the numbers of the chunks of a tensor of this shape."""
    if plan.view is not None:
        return triton_matrices.chunks(plan, shape)
    return np.arange(-(-count_of(plan, shape) // chunk_of(plan)))


def _per_thread(plan: Plan) -> int:
    """Return the elements of a thread: neighbours, 16 bytes of the widest plane. Four of float64, too.

    With more, stores of the widest and of narrower planes would want different elements in a thread, and go through
    shared memory. A group's codes take so much arithmetic that more elements a thread would leave too few threads.
    """
    is_narrow = all(np.dtype(plane.dtype).itemsize <= 2 for plane in plan.planes)
    return 8 if is_narrow and not plan.has_groups else 4


def threads_of(plan: Plan) -> int:
    """Return the threads of a program. With sums it walks a block alone, and each thread has four lanes, or one.

    Beside a step there are some 30 sums. Four of each are more numbers than a thread has registers.
    """
    if plan.view is not None:
        return LANES
    if plan.sums:
        return LANES if plan.stores else LANES // 4
    return THREADS


def emit(plan: Plan) -> str:
    """Return the text of the module that defines ``kernel``.

    Raises:
        TargetError: for a plan that sees the rows and columns of tensors, and has groups of elements.
    """
    if plan.view is not None and plan.has_groups:
        raise TargetError(
            f"{plan.title}: slots in groups of elements, beside rows and columns of tensors, are not written for "
            "Triton yet; use states='float32' or 'bfloat16'"
        )
    code = Code(plan)
    head = _HEAD.format(title=plan.title, prelude="\n".join(f"    {line}" for line in plan.prelude.text.splitlines()))
    if plan.view is not None:
        kernel = _KERNEL.format(
            width=width_of(plan),
            count=places_of(plan)["count"],
            entry=indented(1, triton_matrices.entry(code, places_of(plan))),
            call=indented(1, triton_matrices.call(plan)),
        )
        return head + triton_matrices.walks(plan) + kernel
    writer = _Sums(code) if plan.sums else _Groups(code) if plan.has_groups else _Elements(code)
    return head + writer.text()


class _Elements:
    """The shell of plans for one element: a chunk of neighbours."""

    def __init__(self, code: Code) -> None:
        self._code, self._plan = code, code.plan

    def text(self) -> str:
        """Return the functions."""
        return self._step() + self._kernel()

    @property
    def _arguments(self) -> list[str]:
        plan = self._plan
        names = [f"a{index}" for index in self._code.touched] + [f"s{k}" for k in range(len(plan.prelude.conditions))]
        names += ["length", "groups"] if plan.has_groups else []
        names += ["first", "stream", "key0", "key1"] if plan.inputs else []
        return [*names, *(["out"] if plan.sums else []), "number", "count"]

    def _step(self) -> str:
        return _STEP.format(
            arguments=", ".join(self._arguments),
            start=indented(1, self._start()),
            whole=indented(2, self._way(masked=False)),
            part=indented(2, self._way(masked=True)),
        )

    def _start(self) -> list[str]:
        return [f"begin = number * {chunk_of(self._plan)}"]

    def _way(self, *, masked: bool) -> list[str]:
        code = self._code
        lines = [*code.pointers(aligned=not masked), *self._places(masked=masked)]
        return [*lines, *code.body(masked=masked), *code.stores(masked=masked)]

    def _places(self, *, masked: bool) -> list[str]:
        lines = [f"at = begin + tl.arange(0, {chunk_of(self._plan)})"]
        return [*lines, "live = at < count"] if masked else lines

    def _kernel(self) -> str:
        plan, code = self._plan, self._code
        lines = code.entry(places_of(plan))
        if plan.sums:
            lines.append(f"out += number * {len(plan.sums)}")
        return _KERNEL.format(
            width=width_of(plan),
            count=places_of(plan)["count"],
            entry=indented(1, lines),
            call=indented(1, self._call()),
        )

    def _call(self) -> list[str]:
        addresses = " | ".join(f"a{index}" for index in self._code.touched)
        arguments = ", ".join(self._arguments)
        return [
            f"whole = ({addresses}) % 16 == 0",
            *self._is_whole(),
            "if whole:",
            f"    step({arguments}, True)",
            "else:",
            f"    step({arguments}, False)",
        ]

    def _is_whole(self) -> list[str]:
        lines = [f"whole = whole & ((number + 1) * {chunk_of(self._plan)} <= count)"]
        return [*lines, f"whole = whole & (length % {GROUP} == 0)"] if self._plan.has_groups else lines


class _Groups(_Elements):
    """The shell of plans for a group of elements: a tile of groups, one a line.

    Where all groups are full they lie one after the other; else the last of each row of the tensor is shorter.
    """

    def _places(self, *, masked: bool) -> list[str]:
        return _tile(chunk_of(self._plan), masked=masked)


class _Sums(_Elements):
    """The shell of plans with sums: a program has a block, and walks it in tiles of one element a lane."""

    def _way(self, *, masked: bool) -> list[str]:
        code, plan = self._code, self._plan
        shape = f"(1, {LANES})" if plan.has_groups else f"({LANES},)"
        turn = [*self._turn(masked=masked), *code.body(masked=masked), *code.sums(), *code.stores(masked=masked)]
        lines = [*code.pointers(aligned=not masked)]
        lines += [f"sum{k} = tl.zeros({shape}, tl.float64)" for k in range(len(plan.sums))]
        # A kernel that also steps has loads enough.
        tiles = 1 if plan.stores else max(1, UNROLL // len(plan.loads))
        # Not a range up to a number that is loaded: Triton 3.6's interpreter cannot.
        lines += [f"turns = {self._turns(masked=masked)}", "base = tl.full((), 0, tl.int32)", "while base < turns:"]
        lines += [f"    for tile in tl.static_range({tiles}):", "        turn = base + tile"]
        return [*lines, *(f"        {line}" for line in turn), f"    base += {tiles}", *code.totals()]

    def _turns(self, *, masked: bool) -> str:
        """Return how many tiles a block has."""
        most = BLOCK // LANES
        if not masked:
            return str(most)
        left = f"count - number * {chunk_of(self._plan)}"
        tiles = left if self._plan.has_groups else f"({left} + {LANES - 1}) // {LANES}"
        return f"tl.minimum({tiles}, {most}).to(tl.int32)"

    def _turn(self, *, masked: bool) -> list[str]:
        if self._plan.has_groups:
            lines = [f"begin = number * {LANES} + turn", *_tile(1, masked=masked)]
        else:
            lines = [f"at = begin + turn * {LANES} + tl.arange(0, {LANES})"]
            lines += ["live = at < count"] if masked else []
        return lines if masked else [*lines, "live = tl.full(at.shape, True, tl.int1)"]


def _tile(groups: int, *, masked: bool) -> list[str]:
    """Return the places of the elements of some groups, from ``begin`` on."""
    lines = [f"lane = tl.arange(0, {GROUP})[None, :]", f"group = begin + tl.arange(0, {groups})[:, None]"]
    if not masked:
        return [*lines, f"at = group * {GROUP} + lane", f"live = lane < {GROUP}"]
    return [
        *lines,
        "is_group = group < count",
        f"left = length - group % groups * {GROUP}",
        f"at = group // groups * length + group % groups * {GROUP} + lane",
        "live = is_group & (lane < left)",
    ]
