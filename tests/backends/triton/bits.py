"""Kernels of Triton against the referee: the cases, and the process that runs them in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so ``test_bits.py`` asks a process of its own: the name
of a case on a line, and what is wrong, or nothing, on the line of the answer.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steprule.backends import triton as backend
from steprule.compile import BLOCK, SIZE, Plan
from steprule.engine import PassKey, kernel, pass_plan
from steprule.formats import FORMATS, GROUP, Storage
from steprule.language.sums import TOTAL
from steprule.launch.referee import REFEREE
from steprule.rules import Rule
from steprule.rules.guard import CLIP_FACTOR, CLIP_VALUE, GRAD_SCALE, UNGUARDED, Guard, update_ratio
from steprule.rules.rule import Variant
from steprule.runtime import gpu
from tests.cases import CASES, COMBINED, Array, assert_same_bits, case_id, sees, unlike_defaults, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import FIRST_CASES, crossed
from tests.formats.test_kernels import (
    COVERING,
    MATRIX,
    NAMES,
    Run,
    any_planes,
    guarded,
    matrix_id,
    rows_and_groups,
    some_bits,
    storage_of,
)

Case = Callable[[], object]
Shape = tuple[int, ...]
Place = Callable[[Array], Array]
FILL = 0xA5
BESIDE = 64
NUMBERS = {GRAD_SCALE: 1024.0, CLIP_VALUE: 0.9, CLIP_FACTOR: 0.37, SIZE: 7.0}
NUMBERS |= {f"{TOTAL}{number}": 8.3 / (1 + number) for number in range(20)}  # of squares, perhaps
RATIO: dict[str, Any] = {"task": ("step", 0), "guard": Guard(clips_update=True)}
"""What clipped updates are measured by: the pass before their step."""
# Tensors of one launch: a chunk of 1,024, one element less, one more; rows of whole groups of 128, and others.
SETS: list[list[Shape]] = [
    [(1023,), (8, 128), ()],
    [(1024,), (3, 5), (2, 600)],
    [(1025,), (9, 128), (0,)],
    [(5, 129), (16, 128), (1, 1)],
    [(2, 3, 50), (2048,), (1, 300)],
]


@dataclass(frozen=True)
class Work:
    """What a kernel does."""

    rule: Rule
    storage: Storage
    values: Mapping[str, Any] = field(default_factory=dict)
    guard: Guard = UNGUARDED
    task: PassKey = "step"

    @property
    def choices(self) -> tuple[Rule, Variant, Storage]:
        """What plans and kernels are made of."""
        return self.rule, self.rule.variant(self.rule.resolve(dict(self.values))), self.storage

    @property
    def plan(self) -> Plan:
        return pass_plan(*self.choices, self.guard, self.task)

    def refer(self, *arguments: Any, **named: Any) -> None:
        """Run the referee."""
        run = kernel(*self.choices, REFEREE, self.guard, self.task).code
        run(*arguments, **named)


class Tensor(Run):
    """A tensor in its planes. All of a launch differ in their scalars, seeds and places in the streams of random bits.

    Args:
        work: what is done with it.
        shape: its shape.
        number: its number in the launch.
        first: the index of its first element.
        moved: planes that lie elsewhere.
        to: returns such a place.
    """

    def __init__(
        self, work: Work, shape: Shape, number: int, first: int, moved: Sequence[str] = (), to: Place | None = None
    ) -> None:
        values = dict(work.values)
        if "lr" in values:
            values["lr"] *= 1 + number
        super().__init__(work.rule, work.storage, shape, "", seed=number, first=first, number=number, **values)
        self.work, self.t = work, 3 * number
        for name in moved:
            assert to is not None
            self.planes[name] = to(self.planes[name])
        rows, length, groups = rows_and_groups(shape)
        self.count = rows * (groups if work.plan.has_groups else length)
        self.blocks = -(-self.count // (BLOCK // GROUP if work.plan.has_groups else BLOCK))
        self.sums = guarded((self.blocks, len(work.plan.sums)), "float64")
        self.sums[...] = np.nan

    def fill(self, rng: np.random.Generator, *, with_any: bool) -> None:
        """Give the planes numbers like those of a run, or any bits."""
        if with_any:
            any_planes(self, rng)
            return
        self.set(**{self.rule.parameter: rng.standard_normal(self.shape) * 10.0 ** rng.uniform(-5, 2, self.shape)})
        slots = [name for name in self.planes if name.partition(".")[0] in self.rule.slots]
        for name in slots:
            array = self.planes[name]
            if name.endswith(".scale"):
                array[...] = rng.integers(100, 130, array.shape)
            elif array.dtype == np.uint8:
                some_bits(array, rng)
            else:
                self.set(**{name: np.abs(rng.standard_normal(array.shape))})

    def receive(self, rng: np.random.Generator, *, with_any: bool) -> None:
        """Give the gradient numbers: wild ones, where they do not make all sums NaN, or any bits among them."""
        g = wild(rng, int(np.prod(self.shape, dtype=int)), "float32").reshape(self.shape)
        if self.work.plan.sums and not with_any:
            g = rng.standard_normal(self.shape) * 10.0 ** rng.uniform(-3, 3, self.shape)
        self.set(**{self.rule.gradient: g * 10.0 ** rng.choice([0, -20])})
        if with_any:
            some_bits(self.planes[self.rule.gradient], rng, 0.2)

    def row(self) -> Array:
        """Count a step and return its scalars."""
        self.t += 1
        return self._row(self.work.plan, NUMBERS)

    def copy_to(self, other: Tensor) -> None:
        for name, array in self.planes.items():
            other.planes[name][...] = array

    def refer(self, row: Array) -> None:
        """Take the step by the referee."""
        named: dict[str, Any] = {"sums": self.sums} if self.work.plan.sums else {}
        if self.work.plan.inputs:
            named["origin"] = (self.first, self.stream)
        self.work.refer(*self.planes.values(), row, **named)

    def assert_is(self, other: Tensor, what: str) -> None:
        """Assert that all planes and sums are equal in every bit, and that nothing was written beside them."""
        self.assert_equal(other, what)
        if self.sums.size:
            assert_same_bits(self.sums, other.sums, f"sums {what}")
        for name, array in {**self.planes, "sums": self.sums}.items():
            assert_beside(array, f"{name} {what}")


def misplaced(array: Array) -> Array:
    """Return zeros of the shape and type of an array that lie one element behind an address that is aligned."""
    memory = np.full(array.nbytes + 2 * BESIDE + 32, FILL, np.uint8)
    start = BESIDE + -memory.ctypes.data % 16 + array.itemsize
    place = memory[start : start + array.nbytes]
    place[...] = 0
    return place.view(array.dtype).reshape(array.shape)


def before_a_wall(array: Array) -> Array:
    """Return zeros of the shape and type of an array, behind whose last byte reading ends the process."""
    pages = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + pages), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    room = np.frombuffer(memory, np.uint8, pages)
    room[...] = FILL
    place = room[pages - array.nbytes :]
    place[...] = 0
    return place.view(array.dtype).reshape(array.shape)


def assert_beside(array: Array, what: str) -> None:
    """Assert that the bytes before and after an array are as they were."""
    memory: Any = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    start = array.ctypes.data - memory.ctypes.data
    assert (memory[:start] == FILL).all(), f"{what}: written before the start"
    assert (memory[start + array.nbytes :] == FILL).all(), f"{what}: written behind the end"


@functools.cache
def repair() -> None:
    """Let the interpreter spread a truth over a block: it takes what a comparison gives for a number."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle  # chosen by now, where there is Triton

    def splat(builder: object, kind: Any, arg: Any) -> Any:
        return TensorHandle(np.full(kind.shape, arg.data, arg.data.dtype), arg.dtype.scalar)

    InterpreterBuilder.create_splat = splat


@functools.cache
def loaded(text: str) -> tuple[Any, Counter[bool]]:
    """Return a kernel, and what counts which way its programs take: that of whole, aligned chunks, or the other."""
    repair()
    function, ways = gpu.load(text), Counter[bool]()
    names = function.fn.__globals__
    step = names["step"]

    def counting(*arguments: Any) -> None:
        ways[arguments[-1]] += 1
        step(*arguments)

    names["step"] = counting
    return function, ways


def launch(
    tensors: Sequence[Tensor], rows: Sequence[Array], taken: float | None = None, before: int = 0
) -> tuple[int, int]:
    """Step all tensors in one launch of Triton's interpreter, and return how many programs took each way.

    Args:
        tensors: of the same work.
        rows: their scalars.
        taken: what a guarded kernel reads, whether to take the step.
        before: chunks of each tensor that lie before the memory there is.
    """
    recipe = tensors[0].work.plan
    per = backend.chunk_of(recipe)
    lines = [_line(tensor, row, before * per) for tensor, row in zip(tensors, rows, strict=True)]
    table, gradients = (np.array(part, np.int64) for part in zip(*lines, strict=True))
    pairs = [(k, before + n) for k, tensor in enumerate(tensors) for n in range(-(-tensor.count // per))]
    chunks = np.random.default_rng(1).permutation(np.array(pairs, np.int32).reshape(-1, 2))
    function, ways = loaded(backend.emit(recipe))
    ways.clear()
    flag = np.array([np.nan if taken is None else taken])
    addresses = [array.ctypes.data for array in (table, gradients, chunks, flag)]
    if len(chunks):
        function[(len(chunks),)](*addresses, GUARDED=taken is not None)
    return ways[True], ways[False]


def _line(tensor: Tensor, row: Array, before: int) -> tuple[list[int], int]:
    """Return the row of the table of a tensor, and its gradient's address, where so much comes before its memory."""
    recipe = tensor.work.plan
    _, length, groups = rows_and_groups(tensor.shape)
    elements = before // max(1, groups) * length if recipe.has_groups else before
    assert not recipe.has_groups or before % max(1, groups) == 0
    skipped = {"element": elements, "group": before}
    addresses = [
        tensor.planes[plane.name].ctypes.data
        - (skipped[plane.per] if plane.packing == 1 else before // max(1, groups) * -(-length // plane.packing))
        * tensor.planes[plane.name].itemsize
        for plane in recipe.planes
    ]
    blocks = before // backend.chunk_of(recipe)
    words = {
        "row_length": length,
        "groups_a_row": groups,
        "first_index": (tensor.first - elements) % 2**32,
        "stream": tensor.stream,
        "sums": tensor.sums.ctypes.data - blocks * len(recipe.sums) * 8,
        "scalars": row.ctypes.data,
        "count": before + tensor.count,
    }
    # The gradient's address in the table is nobody's.
    return [addresses[0], 0, *addresses[2:], *(words[name] for name in backend.WORDS)], addresses[1]


def pairs_of(
    work: Work, shapes: Sequence[Shape], rng: np.random.Generator, moved: Sequence[str] = (), to: Place | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return tensors, every other with any bits in its planes, and the same for the referee."""
    firsts = [int(first) for first in rng.choice([0, 1000, 2**32 - 3], len(shapes))]
    mine, other = (
        [Tensor(work, shape, k, firsts[k], planes, to) for k, shape in enumerate(shapes)] for planes in (moved, ())
    )
    for k, (one, two) in enumerate(zip(mine, other, strict=True)):
        one.fill(rng, with_any=k % 2 == 1)
        one.copy_to(two)
    return mine, other


def compare(
    work: Work,
    shapes: Sequence[Shape],
    steps: int = 1,
    *,
    moved: Sequence[str] = (),
    to: Place = misplaced,
    taken: float | None = None,
    before: int = 0,
    may_be_nan: bool = False,
) -> tuple[int, int]:
    """Take some steps by Triton and by the referee, and return how many programs took each way.

    Sums that are all NaN say nothing of their order, and are an error but where they ``may_be_nan``.
    """
    rng = np.random.default_rng(zlib.crc32(f"{work.plan.title}{shapes}".encode()))
    mine, other = pairs_of(work, shapes, rng, moved, to)
    ways = (0, 0)
    for _ in range(steps):
        for k, (one, two) in enumerate(zip(mine, other, strict=True)):
            one.receive(rng, with_any=k % 2 == 1)
            one.copy_to(two)
        rows = [tensor.row() for tensor in mine]
        whole, part = launch(mine, rows, taken, before)
        ways = (ways[0] + whole, ways[1] + part)
        for one, two in zip(mine, other, strict=True):
            two.refer(two.row())
            one.assert_is(two, f"of {one.shape}, tensor {one.seed} of {list(shapes)}, t={one.t}")
        is_telling = may_be_nan or not work.plan.sums or np.isfinite(mine[0].sums).any()
        assert is_telling, "sums that are all NaN would hide their order"
    return ways


def plain(name: str, dtype: str, options: Mapping[str, Any] | None = None, **named: Any) -> Work:
    """Return what is done by a rule on plain numbers."""
    some = CATALOGUE[name]
    return Work(some, Storage(FORMATS[dtype]), {**unlike_defaults(some), **(options or {})}, **named)


def stored(name: str, state: str, dtype: str, way: str, **named: Any) -> Work:
    """Return what is done by a rule in a storage of ``MATRIX``."""
    some = {**CATALOGUE, **COMBINED}[name]
    return Work(some, storage_of(some, state, dtype, way), unlike_defaults(some), **named)


def in_formats(name: str, case: tuple[str, str, str], steps: int) -> None:
    # Other shapes where there are more steps.
    chosen = (zlib.crc32(f"{name}{case}".encode()) + steps) % len(SETS)
    compare(stored(name, *case), SETS[chosen], steps, may_be_nan=_sums_codes(name, case[0]))


def _sums_codes(name: str, state: str) -> bool:
    """Whether a rule sums over slots in codes, some of which are NaN."""
    return sees(CATALOGUE[name]) == "all" and state in ("8bit", "4bit")


def with_options(case: tuple[str, dict[str, Any]], dtype: str) -> None:
    name, options = case
    compare(plain(name, dtype, options), SETS[zlib.crc32(f"{case}{dtype}".encode()) % len(SETS)])


def guards_of(work: Work) -> Iterator[Guard]:
    """Return the guards that a rule takes: each alone, and all."""
    _, variant, _ = work.choices
    clips_update = update_ratio(work.rule, variant) is not None and "lr" in work.values
    yield Guard(unscales=True)
    yield Guard(clips_value=True)
    yield Guard(clips_norm=True)
    if clips_update:
        yield Guard(clips_update=True)
    yield Guard(True, True, True, clips_update)


def with_guards(name: str, dtype: str, which: slice) -> None:
    work = plain(name, dtype)
    for k, guard in list(enumerate(guards_of(work)))[which]:
        compare(Work(work.rule, work.storage, work.values, guard), SETS[k % len(SETS)][:2], taken=1.0)


def with_guards_in_formats(name: str) -> None:
    guard = list(guards_of(plain(name, "float32")))[-1]
    compare(
        stored(name, "8bit", "bfloat16", "split24", guard=guard),
        [(3, 130), (8, 128)],
        taken=1.0,
        may_be_nan=_sums_codes(name, "8bit"),
    )


# Which way: by the sizes, and by the addresses.


def whole_chunks() -> None:
    for name, dtype, shape, ways in [
        ("adam", "float32", (1023,), (0, 1)),
        ("adam", "float32", (1024,), (1, 0)),
        ("adam", "float64", (1025,), (1, 1)),
        ("adam", "float16", (3, 1000), (2, 1)),
        ("sgd", "bfloat16", (2048,), (1, 0)),
    ]:
        found = compare(plain(name, dtype), [shape])
        assert found == ways, f"{name} on {dtype} {shape}: {found} programs were whole and not, {ways} should be"


def whole_groups() -> None:
    for shape, ways in [
        ((7, 128), (0, 1)),
        ((8, 128), (1, 0)),
        ((9, 128), (1, 1)),
        ((4, 256), (1, 0)),
        ((8, 127), (0, 1)),
        ((16, 64), (0, 2)),
        ((2, 1000), (0, 2)),  # 1,024 places each
        ((1024,), (1, 0)),
    ]:
        found = compare(stored("adam", "8bit", "float32", "nearest"), [shape])
        assert found == ways, f"{shape}: {found} programs were whole and not, {ways} should be"


def unaligned() -> None:
    """Any plane that is not aligned to 16 bytes, and only then."""
    for work in (
        plain("adam", "float32"),
        plain("lion", "float64"),
        stored("adam", "8bit", "bfloat16", "split24"),
        stored("momentum", "bfloat16", "float16", "split32"),
    ):
        names = [plane.name for plane in work.plan.planes]
        shape = (9 if work.plan.has_groups else backend.chunk_of(work.plan) // 128 + 1, 128)
        assert compare(work, [shape]) == (1, 1)
        for moved in [[name] for name in names] + [names]:
            found = compare(work, [shape], moved=moved)
            assert found == (0, 2), f"{work.plan.title}: {found[0]} programs were whole, and {moved} not aligned"


def before_walls() -> None:
    """Nothing behind the end of a plane is read."""
    shapes: list[Shape] = [(1000,), (3, 50), (5, 129), (8, 128), (1,)]
    for work in (
        plain("adam", "float64"),
        stored("adam", *LOW),
        stored("lion", "bfloat16", "float16", "split32"),
        plain("adamw", "float32", task="norm"),
        stored("adopt", *LOW, **RATIO),
    ):
        compare(
            work,
            shapes[:4:3] if work.task == ("step", 0) else shapes,
            moved=[x.name for x in work.plan.planes],
            to=before_a_wall,
        )


# Places: above 2**31 elements, the kernel's own copies of which are read and written where they are.


def far_elements(work: Work) -> None:
    for shape, before in [((1, 2500), 2**21 + 3), ((2048,), 2**22 + 1), ((3, 700), 2**24 + 5)]:
        whole, _ = compare(work, [shape], 2, before=before)
        assert whole, f"{shape}: no program was whole"


def far_groups(work: Work) -> None:
    # Even numbers of chunks: each has 8 scales, whose plane would not be aligned to 16 bytes else.
    for shape, before in [((9, 128), 2**21 + 4), ((16, 128), 2**24 + 2), ((5, 129), 2**23 + 2), ((3, 200), 2**22 + 4)]:
        whole, _ = compare(work, [shape], 2, before=before)
        assert (whole > 0) == (shape[1] == GROUP), f"{shape}: {whole} programs were whole"


# Guarded steps, and sums.


def not_taken(work: Work) -> None:
    rng = np.random.default_rng(0)
    mine, other = pairs_of(work, [(9, 128), (3, 50), (1025,)], rng)
    for k, (one, two) in enumerate(zip(mine, other, strict=True)):
        one.receive(rng, with_any=k % 2 == 1)
        one.copy_to(two)
    whole, part = launch(mine, [tensor.row() for tensor in mine], taken=0.0)
    assert part, "no program ran"
    assert not whole, "a program was whole, though none of its elements is to be stepped"
    for one, two in zip(mine, other, strict=True):
        for name, array in one.planes.items():
            assert array.tobytes() == two.planes[name].tobytes(), f"{name} of {one.shape} was written"
            assert_beside(array, name)


def taken(work: Work) -> None:
    for value in (1.0, -0.5):
        compare(work, [(130,), (8, 128)], taken=value)


def summed(work: Work, *shapes: Shape) -> None:
    compare(work, shapes)


def far_sums() -> None:
    compare(stored("adam", "float32", "float32", "nearest", task="norm"), [(300,)], before=2**18)
    compare(stored("adam", "8bit", "float32", "nearest", task="norm"), [(3, 128)], before=2**18)


def a_wrong_bit() -> None:
    (mine,), (other,) = pairs_of(plain("adam", "float32"), [(3,)], np.random.default_rng(0))
    mine.planes["m"].view(np.uint32)[2] ^= 1
    mine.assert_is(other, f"of {mine.shape}")


TYPES = ("float32", "float64", "float16")
LOW = ("8bit", "bfloat16", "split24")
SOME = [case for case in CASES if case[0] in NAMES]
FORMATTED: dict[str, Case] = {
    f"{name} {matrix_id(case)}": functools.partial(in_formats, name, case, 1) for name, case in COVERING
}
EVERYWHERE: dict[str, Case] = {
    f"{name} {matrix_id(case)} everywhere": functools.partial(in_formats, name, case, 2)
    for name, case in crossed(NAMES, MATRIX, 5)
}
OPTIONS: dict[str, Case] = {
    f"{case_id(case)} {dtype}": functools.partial(with_options, case, dtype) for case in SOME for dtype in TYPES
}
SOME_OPTIONS = [
    f"{case_id(case)} {dtype}"
    for k, case in enumerate(SOME)
    for dtype in (TYPES if case in FIRST_CASES else [TYPES[k % len(TYPES)]])
]
"""Each rule in each type, and each of its options in one of them."""
COMBINATIONS: dict[str, Case] = {
    name: functools.partial(compare, stored(name, *LOW), SETS[k % len(SETS)]) for k, name in enumerate(COMBINED)
}
GUARDED: dict[str, Case] = {
    **{
        f"all guards {name}": functools.partial(with_guards, name, TYPES[k % 3], slice(-1, None))
        for k, name in enumerate(NAMES)
    },
    **{f"guards {name} 8bit": functools.partial(with_guards_in_formats, name) for name in NAMES},
}
ONE_BY_ONE: dict[str, Case] = {
    f"guards {name}": functools.partial(with_guards, name, TYPES[k % 3], slice(None, -1))
    for k, name in enumerate(NAMES)
}
WAYS: dict[str, Case] = {
    "whole chunks": whole_chunks,
    "whole groups": whole_groups,
    "unaligned planes": unaligned,
    "planes before walls": before_walls,
}
FAR: dict[str, Case] = {
    "far float32": functools.partial(far_elements, plain("adam", "float32")),
    "far float64": functools.partial(far_elements, plain("adamw", "float64")),
    "far bfloat16 by chance": functools.partial(far_elements, stored("lion", "bfloat16", "bfloat16", "stochastic")),
    "far 8bit": functools.partial(far_groups, stored("adam", *LOW)),
    "far 4bit": functools.partial(far_groups, stored("adam", "4bit", *LOW[1:])),
    "far sums": far_sums,
}
TAKEN: dict[str, Case] = {
    f"{verb} {what}": functools.partial(check, work)
    for verb, check in (("taken", taken), ("not taken", not_taken))
    for what, work in {
        "float32": plain("adamw", "float32"),
        "float64": plain("adagrad", "float64"),
        "8bit": stored("adam", *LOW),
        "float16 by chance": stored("rmsprop", "bfloat16", "float16", "stochastic"),
        "monitored": Work(CATALOGUE["sgd"], Storage(FORMATS["float32"]), {"lr": 0.1}, task="monitored"),
    }.items()
}
SUMMED: list[tuple[str, Work, list[Shape]]] = [
    ("of elements", plain("adam", "float32", task="norm"), [(2 * BLOCK + 77,), (3, 40), (128, 128)]),
    ("of float16", plain("sgd", "float16", task="norm"), [(BLOCK - 1,), (BLOCK + 1,)]),
    ("of float64", plain("lion", "float64", task="norm", guard=Guard(True, True, True)), [(BLOCK,), (700,)]),
    ("of groups", stored("adam", *LOW, task="norm"), [(2, BLOCK), (3, 1000), (129, 129)]),
    ("of elements", plain("adamw", "float32", **RATIO), [(BLOCK + 7,), (3, 40)]),
    ("of groups", stored("adopt", *LOW, **RATIO), [(129, 128), (3, 300)]),
    ("guarded", stored("adam", *LOW, task=("step", 0), guard=Guard(True, True, True, True)), [(2, 200)]),
    ("of elements", stored("sgd", "float32", "bfloat16", "stochastic", task="monitored"), [(BLOCK + 150,)]),
    ("of groups", stored("lion", "8bit", "float32", "nearest", task="monitored"), [(7, 150)]),
    ("of items", stored("adam", "4bit", "float32", "nearest", task="monitored"), [(3, 131)]),
    ("of items", stored("adopt", "4bit", "float32", "nearest", task="ratio"), [(3, 131), (16, 128)]),
]
SUMS: dict[str, Case] = {
    f"{work.task if isinstance(work.task, str) else 'ratio'} {name}": functools.partial(summed, work, *shapes)
    for name, work, shapes in SUMMED
}
RATIOS: dict[str, Case] = {
    f"ratio of {name}": functools.partial(summed, stored(name, *LOW, **RATIO), (128, 128), (5, 129))
    for name, rule in CATALOGUE.items()
    if name in NAMES and update_ratio(rule, rule.variant(rule.resolve({}))) is not None
}
WATCHED: dict[str, Case] = {
    f"watch of {name}": functools.partial(summed, stored(name, *LOW, task="monitored"), shape)
    for name, shape in (("adam", (129, 128)), ("adan", (7, 150)), ("momentum", (129, 128)), ("adopt", (7, 150)))
}
WRONG: dict[str, Case] = {"a wrong bit": a_wrong_bit, "a wrong address": functools.partial(ctypes.string_at, 8)}
ALL = {
    **FORMATTED,
    **EVERYWHERE,
    **OPTIONS,
    **COMBINATIONS,
    **GUARDED,
    **ONE_BY_ONE,
    **WAYS,
    **FAR,
    **TAKEN,
    **SUMS,
    **RATIOS,
    **WATCHED,
    **WRONG,
}


def answer(name: str) -> str:
    """Run a case and return what is wrong."""
    try:
        ALL[name]()
    except AssertionError as error:
        return str(error) or traceback.format_exc()
    except Exception:
        return traceback.format_exc()
    return ""


def main() -> None:
    """Answer until there are no more lines."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    np.seterr(all="ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed is not an answer
    for line in sys.stdin:
        print(json.dumps(answer(line.rstrip("\n"))), file=answers, flush=True)


if __name__ == "__main__":
    main()
