"""Storage formats in kernels: machine code against the referee, the referee against plain loops over words."""

from __future__ import annotations

import ctypes
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from steprule.compile import SIZE, Plan, Plane
from steprule.engine import PassKey, kernel, plan
from steprule.formats import FORMATS, GROUP, STATES, WEIGHT_FORMATS, Storage, keys, stream
from steprule.language import where
from steprule.language.sums import ALL_SIZE, rounded_once
from steprule.launch.backends import BACKENDS
from steprule.launch.sums import blocks_of
from steprule.rules import Rule
from steprule.rules.declare import rule as declared
from steprule.rules.hyperparameters import NonNegative
from steprule.runtime.jit import MachineCode
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import MATRICES, Array, assert_same_bits, case_id, flushed, same, sees, unlike_defaults, wild
from tests.covering import SOME_CASES, crossed
from tests.papers import formats as papers

STORED = [(dtype, way) for dtype in ("bfloat16", "float16") for way in WEIGHT_FORMATS] + [("float32", "nearest")]
MATRIX = [(state, dtype, way) for dtype, way in STORED for state in STATES]
SHAPES = [(1, 1), (3, 5), (7, 128), (5, 129), (2, 1000), (300,), (), (2, 3, 50)]
BESIDE = 64
FILL = 0xA5


def storage_of(rule: Rule, state: str, dtype: str = "float32", way: str = "nearest", **mixed: str) -> Storage:
    """Return a storage with all element slots in one format, but for those named."""
    slots = [slot for slot in rule.slots if slot not in rule.numbers]
    return Storage(FORMATS[dtype], way, tuple((slot, mixed.get(slot, state)) for slot in slots))


def rows_and_groups(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return how many rows an array has, how long they are, and how many groups are in each."""
    rows = shape[0] if len(shape) > 1 else 1
    length = int(np.prod(shape, dtype=int)) // rows
    return rows, length, -(-length // GROUP)


def plane_shape(plane: Plane, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a plane beside an array."""
    rows, length, groups = rows_and_groups(shape)
    if plane.per == "group":
        return rows, groups
    return shape if plane.packing == 1 else (rows, -(-length // plane.packing))


def guarded(shape: tuple[int, ...], dtype: str) -> Array:
    """Return zeros with bytes before and after them that nobody may write."""
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    memory = np.full(size + 2 * BESIDE, FILL, np.uint8)
    memory[BESIDE : BESIDE + size] = 0
    return memory[BESIDE : BESIDE + size].view(dtype).reshape(shape)


def assert_guards(array: Array) -> None:
    memory: Any = array
    while memory.base is not None:
        memory = memory.base
    assert (memory[:BESIDE] == FILL).all(), "written before the start"
    assert (memory[-BESIDE:] == FILL).all(), "written behind the end"


def to_bfloat16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).view(np.uint16)


class Run:
    """One tensor in its planes, stepped by a kernel."""

    def __init__(
        self,
        rule: Rule,
        storage: Storage,
        shape: tuple[int, ...],
        backend: str = "llvm",
        *,
        seed: int = 0,
        first: int = 0,
        number: int = 0,
        rides: bool = True,
        **values: Any,
    ) -> None:
        self.rule, self.storage, self.shape = rule, storage, shape
        self.values = rule.resolve(values)
        self.seed, self.first, self.stream, self.t = seed, first, stream(number), 0
        self.variant = rule.variant(self.values)
        self.planes = {
            plane.name: guarded(plane_shape(plane, shape), plane.dtype)
            for plane in plan(rule, self.variant, storage, rides=rides).planes
        }
        starts = {slot: 0.0 if slot in rule.points else rule.init.get(slot, 0.0) for slot in rule.slots}
        self.start = {slot: self.values[x] if isinstance(x, str) else x for slot, x in starts.items()}
        self.scalars = {slot: self.start[slot] for slot in rule.slots if slot in rule.numbers}
        self.numbers: list[Array] = []  # what the prelude of each pass has given in the last step
        last = plan(rule, self.variant, storage, rides=rides)
        passes: list[PassKey] = [*(("step", number) for number in range(len(last.before))), "step"]
        where = BACKENDS[backend] if backend else None
        self._kernels = [kernel(rule, self.variant, storage, where, kind=x, rides=rides) for x in passes if where]

    def set(self, **given: Any) -> Run:
        """Give planes their values: words as they are, numbers rounded to the parameter's type."""
        for name, value in given.items():
            plane = self.planes[name.replace("__", ".")]
            value = np.broadcast_to(value, plane.shape)
            if plane.dtype == np.uint16 and value.dtype.kind == "f":
                value = to_bfloat16(value)
            with np.errstate(over="ignore"):
                plane[...] = value.astype(plane.dtype)
        return self

    def step(self, g: Array | None = None, parts: Sequence[tuple[int, int]] | None = None) -> Run:
        """Take one step: each pass in one call; the last in several, where there are parts."""
        self.t += 1
        if g is not None:
            self.set(**{self.rule.gradient: g})
        before = self.planes[self.rule.gradient].copy()
        assert self._kernels
        self.numbers = []
        found = dict.fromkeys((SIZE, ALL_SIZE), float(max(1, self.planes[self.rule.parameter].size)))
        for made in self._kernels:
            recipe, row = made.plan, self._row(made.plan, found)
            sums = np.zeros((blocks_of(recipe, self.shape), len(recipe.sums)))
            if isinstance(made.code, MachineCode):
                self._call(recipe, made.code.address, row, sums, None if recipe.sums else parts)
            else:
                origin = {"origin": (self.first, self.stream)} if recipe.inputs else {}
                made.code(*self.planes.values(), row, **origin, **({"sums": sums} if recipe.sums else {}))
            found |= zip(recipe.totals, (rounded_once(column) for column in sums.T.tolist()), strict=True)
            self.scalars |= zip(recipe.prelude.scalar_slots, self._results(recipe, found)[1], strict=True)
        for array in self.planes.values():
            assert_guards(array)
        assert self.planes[self.rule.gradient].tobytes() == before.tobytes(), "the gradient is only read"
        return self

    def _row(self, recipe: Plan, found: Mapping[str, float]) -> Array:
        numbers, scalars = self._results(recipe, {**dict.fromkeys(recipe.totals, math.nan), **found})
        self.numbers.append(np.array([*numbers, *scalars], np.float64))
        return np.array([*numbers, *keys(self.seed, self.t)], np.float64)

    def _results(self, recipe: Plan, found: Mapping[str, float]) -> tuple[Sequence[float], Sequence[float]]:
        """Return the numbers that a pass reads, and the new scalar slots, which may take what the pass sums."""
        prelude = recipe.prelude
        hosts = {**self.values, **self.scalars, **found, "t": self.t}
        numbers = prelude.function(*(hosts[name] for name in prelude.arguments))
        count = len(prelude.conditions)
        return numbers[:count], numbers[count:]

    def _call(
        self, recipe: Plan, address: int, row: Array, sums: Array, parts: Sequence[tuple[int, int]] | None
    ) -> None:
        rows, length, groups = rows_and_groups(self.shape)
        pointers = [array.ctypes.data for array in self.planes.values()]
        words = np.array([*pointers, length, groups, self.first, self.stream, sums.ctypes.data], np.int64)
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)
        for start, n in parts or [(0, rows * (groups if recipe.has_groups else length))]:
            function(words.ctypes.data, start, n, row.ctypes.data)

    def assert_equal(self, other: Run, what: str = "") -> None:
        """Assert that all planes are equal in every bit; a NaN equals a NaN where a plane holds numbers."""
        assert list(self.planes) == list(other.planes)
        for name, array in self.planes.items():
            assert_same_bits(array, other.planes[name], f"{self.rule.name} {name} {what}")
        assert self.scalars.keys() == other.scalars.keys()
        assert all(same(number, other.scalars[name]) for name, number in self.scalars.items()), what


def some_parts(rng: np.random.Generator, total: int) -> list[tuple[int, int]]:
    """Return runs that cover 0 to total, in any order, some of them empty."""
    cuts = np.sort(rng.integers(0, total + 1, 3))
    edges = [0, *cuts.tolist(), total]
    parts = [(a, b - a) for a, b in itertools.pairwise(edges)]
    return [parts[i] for i in rng.permutation(len(parts))]


def some_bits(array: Array, rng: np.random.Generator, share: float = 1.0) -> None:
    """Fill a share of an array with any bits: NaN with any payload, codes and distances that do not come about."""
    bits = rng.integers(0, 256, (array.size, array.itemsize), np.uint8).view(array.dtype).reshape(array.shape)
    np.copyto(array, bits, where=rng.random(array.shape) < share)


def any_planes(run: Run, rng: np.random.Generator) -> None:
    """Fill all planes but the gradient's with any bits, and scales with some."""
    for name, array in run.planes.items():
        if name.endswith(".scale"):
            array[...] = rng.choice([0, 1, 20, 100, 120, 127, 130, 200, 253, 254], array.shape)
        elif name != run.rule.gradient:
            some_bits(array, rng)


def assert_machine_code_is_the_referee(
    rule: Rule, storage: Storage, shapes: Any, steps: int = 3, **values: Any
) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{rule.name}{storage}".encode()))
    for shape in shapes:
        for from_any in (False, True):
            origin: dict[str, Any] = {"seed": 5, "first": int(rng.choice([0, 1000, 2**32 - 3])), "number": 3}
            code = Run(rule, storage, shape, "llvm", **origin, **values)
            referee = Run(rule, storage, shape, "numpy", **origin, **values)
            code.set(**{rule.parameter: rng.standard_normal(shape) * 10.0 ** rng.uniform(-5, 2, shape)})
            if from_any:
                any_planes(code, rng)
            for name, array in code.planes.items():
                referee.planes[name][...] = array
            rows, length, groups = rows_and_groups(shape)
            recipe = plan(rule, code.variant, storage)
            for t in range(1, steps + 1):
                is_tame = t == 1 and sees(rule, values) != "element"  # of wild ones a sum is NaN
                g = rng.standard_normal(rows * length) if is_tame else wild(rng, rows * length, "float32")
                g = g.reshape(shape) * 10.0 ** rng.choice([0, -20])
                code.set(**{rule.gradient: g})
                if from_any:
                    some_bits(code.planes[rule.gradient], rng, 0.2)
                referee.planes[rule.gradient][...] = code.planes[rule.gradient]
                code.step(parts=some_parts(rng, rows * (groups if recipe.has_groups else length)))
                code.assert_equal(referee.step(), f"{shape} t={t} {from_any=}")


def id_of(value: str | tuple[str, str, str]) -> str:
    return value if isinstance(value, str) else matrix_id(value)


def matrix_id(case: tuple[str, str, str]) -> str:
    return "-".join(case)


# In the fast run each storage meets some three rules, and its neighbours the others, however many there are.
# Kernels of matrices are launched otherwise: tests/launch/test_row_formats.py has them.
NAMES = [name for name in CATALOGUE if name not in MATRICES]
_OF_EACH = -(-3 * len(MATRIX) // len(NAMES))
COVERING = [(name, MATRIX[(5 * i + 11 * k) % len(MATRIX)]) for i, name in enumerate(NAMES) for k in range(_OF_EACH)]


@pytest.mark.parametrize(("name", "case"), COVERING, ids=id_of)
def test_machine_code_is_the_referee(name: str, case: tuple[str, str, str]) -> None:
    some = CATALOGUE[name]
    chosen = zlib.crc32(name.encode() + matrix_id(case).encode()) % 4
    assert_machine_code_is_the_referee(some, storage_of(some, *case), SHAPES[chosen::2], **unlike_defaults(some))


def test_the_fast_run_covers_every_rule_and_storage() -> None:
    assert {name for name, _ in COVERING} == set(NAMES)
    assert {case for _, case in COVERING} == set(MATRIX)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), crossed(NAMES, MATRIX, 5), ids=id_of)
def test_machine_code_is_the_referee_everywhere(name: str, case: tuple[str, str, str]) -> None:
    some = CATALOGUE[name]
    assert_machine_code_is_the_referee(some, storage_of(some, *case), SHAPES, 5, **unlike_defaults(some))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in SOME_CASES if case[0] in NAMES], ids=case_id)
def test_machine_code_is_the_referee_with_every_option(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    some, values = CATALOGUE[name], {**unlike_defaults(CATALOGUE[name], options), **options}
    for storage in (
        storage_of(some, "8bit", "bfloat16", "split24"),
        storage_of(some, "bfloat16", "float16", "stochastic"),
    ):
        assert_machine_code_is_the_referee(some, storage, [(5, 129)], **values)


# The referee against plain loops.


def words_of(x: Array) -> list[int]:
    words: list[int] = np.ascontiguousarray(x, np.float32).view(np.uint32).ravel().tolist()
    return words


def reals_of(words: Sequence[int], shape: tuple[int, ...]) -> Array:
    return np.array(words, np.uint32).view(np.float32).reshape(shape)


def state_of(storage: Storage, slot: str) -> str:
    return dict(storage.slots).get(slot, "float32")


LOOPS: dict[tuple[str, bool], tuple[Any, Any, Any]] = {
    ("8bit", False): (papers.scale_of, papers.encode_signed, papers.decode_signed),
    ("8bit", True): (papers.scale_of, papers.encode_non_negative, papers.decode_non_negative),
    ("4bit", False): (papers.scale_of_four_bits, papers.encode_four_signed, papers.decode_four_signed),
    ("4bit", True): (papers.scale_of_four_bits, papers.encode_four_non_negative, papers.decode_four_non_negative),
}
"""How codes are made: the scale of a group, the code of a number, and the number of a code; by format and sign."""


class Loops:
    """The same tensor stepped by the rule itself on NumPy arrays, all numbers kept by the loops of tests.papers."""

    def __init__(self, run: Run) -> None:
        self.rule, self.storage, self.run, self.t = run.rule, run.storage, run, 0
        self.planes = {name: array.copy() for name, array in run.planes.items()}
        self.scalars = dict(run.scalars)
        _, length, groups = rows_and_groups(run.shape)
        size = int(np.prod(run.shape, dtype=int))
        self.groups = [i // length * groups + i % length // GROUP for i in range(size)]

    def parameter(self, name: str, way: str) -> Array:
        """Return what a parameter or gradient stands for."""
        array, dtype = self.planes[name], self.storage.parameter.name
        if dtype == "float32":
            return array.copy()
        low = self.planes.get(f"{name}.low")
        lows = [0] * array.size if low is None else low.ravel().tolist()
        decode = papers.decode_bfloat16 if dtype == "bfloat16" else papers.decode_float16
        pairs = zip(array.view(np.uint16).ravel().tolist(), lows, strict=True)
        return reals_of([decode(high, low, way) for high, low in pairs], array.shape)

    def slot(self, name: str) -> Array:
        """Return what a slot's planes stand for."""
        array, state = self.planes[name], state_of(self.storage, name)
        if state == "float32":
            return array.copy()
        if state == "bfloat16":
            return reals_of([papers.decode_state(x) for x in array.ravel().tolist()], array.shape)
        scales = self.planes[f"{name}.scale"].ravel().tolist()
        rows, length, _ = rows_and_groups(self.run.shape)
        if state == "4bit":
            items = array.reshape(rows, array.size // max(1, rows)).tolist()
            codes = [code for row in items for code in papers.halves(row, length)]
        else:
            codes = array.ravel().tolist()
        decode = LOOPS[state, name in self.rule.non_negative][2]
        pairs = zip(codes, self.groups, strict=True)
        return reals_of([decode(code, scales[group]) for code, group in pairs], self.run.shape)

    def step(self, g: Array) -> Loops:
        """Take one step."""
        self.t += 1
        kept = {name for name in self.rule.slots if name in self.planes}
        old = [self.slot(n) if n in kept else self.scalars.get(n) for n in self.rule.slots]
        theta = self.parameter(self.rule.parameter, self.storage.weights)
        self.planes[self.rule.gradient][...] = g
        read = self.parameter(self.rule.gradient, "nearest")
        with np.errstate(all="ignore"):
            new, *slots = self.rule(theta, read, *old, t=self.t, **self.run.values)
        origin = (self.run.stream, keys(self.run.seed, self.t))
        draws = [papers.Draws(self.run.first + i, *origin) for i in range(theta.size)]
        self._keep_parameter(new, draws)
        for name, slot in zip(self.rule.slots, slots, strict=True):
            if name in kept:
                self._keep_slot(name, np.broadcast_to(slot, theta.shape).astype(np.float32), draws)
            elif slot is not None:
                self.scalars[name] = slot
        return self

    def _keep_parameter(self, x: Array, draws: list[papers.Draws]) -> None:
        name, dtype, way = self.rule.parameter, self.storage.parameter.name, self.storage.weights
        if dtype == "float32":
            self.planes[name] = x
            return
        encode = papers.encode_bfloat16 if dtype == "bfloat16" else papers.encode_float16
        pairs = [encode(word, way, draw) for word, draw in zip(words_of(x), draws, strict=True)]
        high, low = np.array(pairs).reshape(*x.shape, 2)[..., 0], np.array(pairs).reshape(*x.shape, 2)[..., 1]
        self.planes[name] = high.astype(np.uint16).view(self.planes[name].dtype)
        if f"{name}.low" in self.planes:
            self.planes[f"{name}.low"] = low.astype(self.planes[f"{name}.low"].dtype)

    def _keep_slot(self, name: str, x: Array, draws: list[papers.Draws]) -> None:
        state, positive, words = state_of(self.storage, name), name in self.rule.non_negative, words_of(x)
        if state == "float32":
            self.planes[name] = x if name in self.rule.points else flushed(x)
        elif state == "bfloat16":
            kept = [papers.encode_state(word, draw) for word, draw in zip(words, draws, strict=True)]
            self.planes[name] = np.array(kept, np.uint16).reshape(x.shape)
        else:
            members: dict[int, list[int]] = {group: [] for group in self.groups}
            for word, group in zip(words, self.groups, strict=True):
                members[group].append(word)
            scale_of, encode, _ = LOOPS[state, positive]
            scales = [scale_of(group, positive) for group in members.values()]
            codes = [encode(w, scales[group], draw) for w, group, draw in zip(words, self.groups, draws, strict=True)]
            _, length, _ = rows_and_groups(self.run.shape)
            if state == "4bit":
                rows = [codes[start : start + length] for start in range(0, len(codes), length)]
                codes = [item for row in rows for item in papers.bytes_of(row)]
            self.planes[name] = np.array(codes, np.uint8).reshape(self.planes[name].shape)
            self.planes[f"{name}.scale"] = np.array(scales, np.uint8).reshape(self.planes[f"{name}.scale"].shape)

    def assert_equal(self, run: Run, what: str = "") -> None:
        """Assert that all planes have the same bits, but for the signs of NaN in bfloat16."""
        for name, array in self.planes.items():
            mine, other = array, run.planes[name]
            if name in self.rule.slots and mine.dtype == np.uint16:
                mine, other = (np.where((x & 0x7FFF) > 0x7F80, 0x7FC0, x) for x in (mine, other))
            assert_same_bits(mine, other, f"{self.rule.name} {name} {what}")


def assert_the_loops_agree(run: Run, gradients: Sequence[Array]) -> None:
    loops = Loops(run)
    for t, g in enumerate(gradients, start=1):
        run.step(g)
        loops.step(run.planes[run.rule.gradient]).assert_equal(run, f"t={t}")
    assert run.scalars.keys() == loops.scalars.keys()
    assert all(same(number, loops.scalars[name]) for name, number in run.scalars.items())


def some_gradients(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return gradients of which some rows are wild and some are not."""
    n = int(np.prod(shape, dtype=int))
    tame = rng.standard_normal(n) * 10.0 ** rng.uniform(-4, 2, n)
    is_wild = np.broadcast_to(rng.random(shape[:1] + (1,) * (len(shape) - 1)) < 0.5, shape)
    return np.where(is_wild, wild(rng, n, "float32").reshape(shape), tame.reshape(shape)).astype(np.float32)


def assert_the_loops_agree_on(name: str, case: tuple[str, str, str], **options: Any) -> None:
    some, rng = CATALOGUE[name], np.random.default_rng(zlib.crc32(name.encode()))
    for shape in ((3, 131), (7,), ()):
        values = {**unlike_defaults(some, options), **options}
        run = Run(some, storage_of(some, *case), shape, "numpy", seed=9, first=2**32 - 200, number=2, **values)
        run.set(theta=rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 1, shape))
        assert_the_loops_agree(run, [some_gradients(rng, shape) for _ in range(3)])


@pytest.mark.parametrize("case", MATRIX, ids=matrix_id)
@pytest.mark.parametrize("name", ["adam", "lion", "rmsprop", "sgd"])
def test_the_referee_is_the_loops(name: str, case: tuple[str, str, str]) -> None:
    assert_the_loops_agree_on(name, case, **({"momentum": 0.9, "centered": True} if name == "rmsprop" else {}))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), crossed(NAMES, MATRIX, 5), ids=id_of)
def test_the_referee_is_the_loops_everywhere(name: str, case: tuple[str, str, str]) -> None:
    assert_the_loops_agree_on(name, case)


@declared
def keep(theta, g, x, m, v: NonNegative):
    """Keep x in every way."""
    return where(g == 0, x, theta), x, x, x


@declared
def show(theta, g, x, m, v: NonNegative):
    """Show what is kept: of the parameter in x, of a slot in the parameter."""
    return where(g == 0, theta, where(g > 0, m, v)), theta, m, v


def some_words(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return float32 numbers whose rows reach different exponents, with all that is special about a mantissa."""
    tops = np.array([0, 1, 2, 12, 22, 23, 24, 30, 90, 102, 103, 104, 112, 113, 114, 120, 127, 142, 143, 200, 253, 254])
    top = np.resize(tops, (shape[0], 1))
    exponent = np.maximum(top - rng.integers(0, 30, shape) * rng.integers(0, 2, shape), 0)
    edges = [0, 1, 0x7FFFFF, 0x7FFFFE, 0xFFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x180, 0x10]
    mantissa = np.where(rng.random(shape) < 0.5, rng.integers(0, 1 << 23, shape), rng.choice(edges, shape))
    words = rng.integers(0, 2, shape) << 31 | exponent << 23 | mantissa
    special = rng.choice([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F812345, 0xFFFFFFFF], shape)
    return np.where(rng.random(shape) < 0.04, special, words).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("case", MATRIX, ids=matrix_id)
def test_any_numbers_are_kept_as_the_loops_keep_them(case: tuple[str, str, str], backend: str) -> None:
    run = Run(keep, storage_of(keep, *case, x="float32"), (44, 150), backend, seed=4, first=2**32 - 2000, number=1)
    run.planes["x"][...] = some_words(np.random.default_rng(1), (44, 150))
    assert_the_loops_agree(run, [np.zeros(run.shape)])


def beside_codes(rng: np.random.Generator, state: str) -> Array:
    """Return a row for every exponent that its largest number may have, of numbers at or beside those of codes."""
    words = np.zeros((255, GROUP), np.int64)
    steps = [-(1 << 16), -(1 << 15), -129, -128, -127, -65, -64, -63, -2, -1, 0, 1, 2, 63, 64, 128, 1 << 15, 1 << 16]
    for row in range(255):
        scales = [max(row, least) for least in ((20, 24) if state == "8bit" else (6, 9))]
        numbers = [LOOPS[state, bool(i % 2)][2](i // 2, scales[i % 2]) & 0x7FFFFFFF for i in range(8)]
        numbers += [LOOPS[state, bool(i % 2)][2](int(rng.integers(0, 128)), scales[i % 2]) for i in range(16)]
        numbers += [0x00800000, 0x7F800000, row << 23, (row << 23) + (1 << 22)]
        beside = rng.choice([number & 0x7FFFFFFF for number in numbers], GROUP) + rng.choice(steps, GROUP)
        largest = (row << 23) + int(rng.integers(0, 1 << 23))
        words[row] = np.where((beside >= 0) & (beside < (row + 1) << 23), beside, 0) | rng.integers(0, 2, GROUP) << 31
        words[row, 5] = largest
        words[row, 70:73] = 0x7F800000, 0xFFFFFFFF, 0x80000000
    return words.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("state", ["8bit", "4bit"])
def test_numbers_beside_codes_are_kept_as_the_loops_keep_them_at_every_exponent(state: str, backend: str) -> None:
    x = beside_codes(np.random.default_rng(3), state)
    run = Run(keep, storage_of(keep, state, x="float32"), x.shape, backend, seed=6, number=2)
    run.planes["x"][...] = x
    assert_the_loops_agree(run, [np.zeros(run.shape)])


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_every_code_and_scale_stands_for_what_the_loops_say(backend: str) -> None:
    codes, scales = np.arange(256), np.arange(255)[:, None]
    for (slot, sign), (state, length) in itertools.product((("m", 1), ("v", -1)), (("8bit", 256), ("4bit", 512))):
        run = Run(show, storage_of(show, state, x="float32"), (255, length), backend)
        run.set(m=codes, v=codes, m__scale=scales, v__scale=scales)
        expected = Loops(run).slot(slot)
        run.step(np.full(run.shape, sign))
        assert_same_bits(run.planes["theta"], expected)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize(("dtype", "way"), STORED)
def test_any_bits_of_a_parameter_stand_for_what_the_loops_say(dtype: str, way: str, backend: str) -> None:
    run = Run(show, storage_of(show, "float32", dtype, way), (1 << 16,), backend)
    any_planes(run, np.random.default_rng(0))
    if dtype != "float32":
        run.planes["theta"].view(np.uint16)[...] = np.arange(1 << 16)
    expected = flushed(Loops(run).parameter("theta", way))
    assert_same_bits(run.step(np.zeros(run.shape)).planes["x"], expected)
