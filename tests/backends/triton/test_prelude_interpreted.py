"""The numbers of a step, computed on the device, by Triton's interpreter."""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tests.backends.triton.interpreter  # noqa: F401  (gives the interpreter the functions of a vendor's library)
from steprule import PerColumn, PerRow, PerTensor
from steprule import rule as define
from steprule.backends import triton_decide, triton_prelude
from steprule.backends.triton_decide import DECISION
from steprule.backends.triton_prelude import WORDS
from steprule.compile import SIZE, Plan, Prelude
from steprule.compile.lower import Lowering
from steprule.compile.prelude import make_prelude
from steprule.engine import plan
from steprule.errors import TargetError
from steprule.formats import FORMATS, keys
from steprule.language.functions import maximum, sqrt, where
from steprule.language.node import host_call, symbol
from steprule.language.sums import ALL_SIZE, SIZES, rounded_once, size, total
from steprule.launch.guards import Guards, NonFinite
from steprule.rules import Rule
from steprule.rules.guard import CLIP_FACTOR, UNGUARDED, Guard
from steprule.runtime import gpu
from tests.cases import COMBINED, assert_same_bits, sees, unlike_defaults, variants
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import SOME_CASES

pytestmark = pytest.mark.apart

# Oracles.


def exact_power(x: float, y: float) -> float:
    """Return x**y: rounded once where y is an integer as such, else as Python has it."""
    if type(y) is not int or y == 0 or not math.isfinite(x):
        return math.pow(x, y)  # as x**y, but for its errors
    wide = Context(prec=80, Emax=MAX_EMAX, Emin=MIN_EMIN)
    rounded: float = float(wide.power(Decimal(x), y))
    return rounded


class _Powers(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Pow):
            return node
        call = ast.Call(ast.Name("exact_power", ast.Load()), [node.left, node.right], [])
        return ast.copy_location(call, node)


def exact(prelude: Prelude) -> Any:
    """Return the prelude's function, but with powers that are rounded once."""
    tree = ast.fix_missing_locations(_Powers().visit(ast.parse(prelude.text)))
    namespace = {"math": math, "inf": math.inf, "nan": math.nan, "exact_power": exact_power}
    exec(compile(tree, "<exact>", "exec"), namespace)
    return namespace["prelude"]


# Launches.


def _sum(numbers: Sequence[float]) -> float:
    """Return the sum of numbers that are not negative."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return math.inf


class Row:
    """One tensor's numbers, in memory of its own."""

    def __init__(
        self,
        prelude: Prelude,
        values: Mapping[str, float],
        steps: int,
        count: type = np.float32,
        seed: int = 0,
        before: Sequence[Plan] = (),
        sums: Sequence[Sequence[Sequence[float]]] = (),
        size: int = 1,
        read: Sequence[str] = (),
    ) -> None:
        self.read = read
        self.prelude, self.seed, self.size, self.named, self.before = prelude, seed, size, dict(values), before
        # What is not to be read would be seen.
        self.sums = [
            np.array(own, np.float64).reshape(len(own), len(p.totals)) for p, own in zip(before, sums, strict=True)
        ]
        # Those of rows and columns lie apart.
        self.apart = [
            [own[:, : len(p.sums)].copy(), *map(np.ascontiguousarray, own.T[len(p.sums) :])]
            for p, own in zip(before, self.sums, strict=True)
        ]
        totals = {name for plan in before for name in plan.totals}
        unread = {"t", CLIP_FACTOR, *SIZES, ALL_SIZE, *totals, *prelude.scalar_slots, *read}
        self.values = np.array([math.nan if n in unread else values[n] for n in prelude.arguments])
        self.step: NDArray[Any] = np.array([steps], count)
        self.slots = [np.array([values.get(name, math.nan)]) for name in (*prelude.scalar_slots, *read)]
        self.row = np.full(len(prelude.conditions) + 3, -7.0)

    def words(self) -> list[int]:
        word = {
            "values": self.values.ctypes.data,
            "step": self.step.ctypes.data,
            "is_double": int(self.step.dtype == np.float64),
            "scalars": self.row.ctypes.data,
            "seed": self.seed,
            "size": self.size,
            **{name.removeprefix("_"): k * self.size for k, name in enumerate(SIZES) if k},
            "all_size": 9 * self.size,
        }
        sums = [number for arrays in self.apart for own in arrays for number in (own.ctypes.data, len(own))]
        width = triton_prelude.width_of(self.prelude, self.before, self.read)
        assert width == len(word) + len(self.slots) + len(sums)
        return [*(word[name] for name in WORDS), *(slot.ctypes.data for slot in self.slots), *sums]

    def expected(self, factor: float = math.nan) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the row that must come out, with its keys, and the slots."""
        t = int(self.step[0]) + 1
        given = {**self.named, "t": t, CLIP_FACTOR: factor, SIZE: float(self.size), ALL_SIZE: 9.0 * self.size}
        given |= {name: float(k * self.size) for k, name in enumerate(SIZES) if k}
        for before, own in zip(self.before, self.sums, strict=True):
            given |= zip(before.totals, map(_sum, own.T.tolist()), strict=True)
        numbers = exact(self.prelude)(*(given[name] for name in self.prelude.arguments))
        count = len(self.prelude.conditions)
        row = np.array([*numbers[:count], *keys(self.seed, t), -7.0], np.float64)
        return row, np.array([*numbers[count:], *(self.named[name] for name in self.read)], np.float64)


def launch(rows: Sequence[Row], decision: NDArray[Any] | None = None, guarded: bool = False) -> None:
    """Run the kernel over the rows."""
    prelude = rows[0].prelude
    table = np.array([row.words() for row in rows], np.int64)
    kernel = gpu.load(triton_prelude.emit(prelude, rows[0].before, rows[0].read))
    kernel[(len(rows),)](table.ctypes.data, 0 if decision is None else decision.ctypes.data, GUARDED=guarded)


def check(rows: Sequence[Row], what: str, factor: float = math.nan) -> None:
    """Launch, and compare everything."""
    decision = np.array([factor, 1.0, 0, 0, 1.0, 0])
    expected = [(row.expected(factor), row.step + 1) for row in rows]
    launch(rows, decision)
    for row, ((numbers, slots), step) in zip(rows, expected, strict=True):
        assert_same_bits(row.row, numbers, f"{what} after step {step}")
        assert_same_bits(np.array([slot[0] for slot in row.slots]), slots, f"{what}: slots")
        assert_same_bits(row.step, step, what)


def _plan(rule: Rule, options: Mapping[str, Any], guard: Guard = UNGUARDED) -> tuple[Plan, dict[str, float]]:
    values = rule.resolve({**unlike_defaults(rule, options), **options})
    recipe = plan(rule, rule.variant(values), FORMATS["float32"], guard)
    slots = {name: 0.83 - 0.1 * k for k, name in enumerate(rule.numbers)}
    return recipe, {**{name: value for name, value in values.items() if isinstance(value, float)}, **slots}


def _prelude(rule: Rule, options: Mapping[str, Any]) -> tuple[Prelude, dict[str, float]]:
    recipe, values = _plan(rule, options)
    return recipe.prelude, values


def _of(make: Any) -> Prelude:
    """Return a prelude of t, x and y whose row is what ``make`` returns."""
    t, x, y = (symbol(name, "host") for name in ("t", "x", "y"))
    return make_prelude(("t", "x", "y"), [Lowering()(node) for node in make(t, x, y)], {})


# Rows of rules.

TIMES = (1, 2, 3, 10, 1000, 10**6)
# tests/doors/torch/test_device_numbers.py has those that sum over all tensors, whose rows read of each other.
_ALL = [(CATALOGUE[name], options) for name, options in SOME_CASES if sees(CATALOGUE[name]) != "all"]
_ALL += [(rule, options) for rule in COMBINED.values() for options in variants(rule)[:1]]
PARTS = 4
"""Parts of these, since all together would take minutes."""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.dear
def test_rows_of_every_rule_and_value_of_an_option(part: int) -> None:
    seen, rng = set(), np.random.default_rng(3)
    for rule, options in _ALL[part::PARTS]:
        recipe, values = _plan(rule, options)
        prelude, stages = recipe.prelude, recipe.stages
        if prelude in seen:
            continue
        seen.add(prelude)
        sums = [rng.chisquare(1, (3, len(plan.totals))).tolist() for plan in stages]
        rows = []
        for index, t in enumerate(TIMES):
            shift = 1 + 0.003 * index  # each row has values of its own
            own = {name: value * shift if name != "rho_min" else value for name, value in values.items()}
            count = (np.float32, np.float64)[index % 2]
            rows.append(Row(prelude, own, t - 1, count, (0, 5, 2**63 - 1)[index % 3], stages, sums, 1 + index))
        check(rows, f"{rule.name} {options}")
    assert len(seen) > 10


@pytest.mark.parametrize("t", TIMES)
def test_host_is_equal_but_for_powers(t: int) -> None:
    # The host's own power differs from the rounded one by a bit at most, here and there.
    for x in (0.9, 0.999, 0.95, 0.8, 0.9999, 1 - 2.0**-53):
        assert abs(x**t - exact_power(x, t)) <= math.ulp(x**t)


def test_rows_without_powers_are_the_hosts() -> None:
    for name in ("adagrad", "momentum", "lion", "rmsprop"):
        prelude, values = _prelude(CATALOGUE[name], {})
        assert "**" not in prelude.text
        row = Row(prelude, values, 6)
        launch([row])
        numbers = prelude.function(*({**values, "t": 7}[n] for n in prelude.arguments))
        assert_same_bits(row.row[:-3], np.array(numbers, np.float64), name)


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("taken", [0.0, 1.0])
def test_a_step_that_is_not_taken(guarded: bool, taken: float) -> None:
    prelude, values = _prelude(CATALOGUE["nadam"], {})
    rows = [Row(prelude, values, steps, count) for steps, count in ((4, np.float32), (9, np.float64))]
    moves = taken or not guarded
    expected = [(row.step + 1, row.expected()[1][0]) if moves else (+row.step, row.slots[0][0]) for row in rows]
    launch(rows, np.array([math.nan, taken, 3.0, 2.0, 1.0, 5.0]), guarded)
    for row, (step, slot) in zip(rows, expected, strict=True):
        assert row.step == step
        assert row.slots[0][0] == slot


def test_steps_go_on() -> None:
    prelude, values = _prelude(CATALOGUE["asgd"], {"lagged": True})
    row = Row(prelude, values, 0)
    for t in range(1, 8):
        row.named.update(zip(prelude.scalar_slots, (slot[0] for slot in row.slots), strict=True))
        check([row], f"t = {t}")
        assert row.step == t


def test_factors_of_guards() -> None:
    adamw = CATALOGUE["adamw"]
    guard = Guard(unscales=True, clips_value=True, clips_norm=True, clips_update=True)
    recipe, values = _plan(adamw, {}, guard)
    values |= {"_grad_scale": 3.0, "_clip_value": 0.5}
    rng = np.random.default_rng(1)
    assert [plan.totals for plan in recipe.before] == [("_total0",)]

    def row(ratios: Any, size: int) -> Row:
        sums = [np.array(ratios, np.float64).reshape(-1, 1).tolist()]
        return Row(recipe.prelude, values, 4, np.float32, 5, recipe.before, sums, size)

    for factor in (1.0, 0.3, math.nan):
        many = [rng.chisquare(1, n) * scale for n, scale in ((1, 9.0), (700, 1e3), (5000, 1e-9), (513, 1e300))]
        rows = [row(ratios, size) for ratios, size in zip(many, (1, 70, 3, 9), strict=True)]
        rows += [row(ratios, 2) for ratios in ([math.nan, 1], [math.inf], [1e308] * 9)]
        rows.append(row([], 1))
        check(rows, f"factor {factor}", factor)


def test_several_sums_in_several_passes() -> None:
    @define
    def summing(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
        size, other = total(abs(g)), total(g * g)
        return theta - lr * g / (1 + total(theta * theta / (1 + size)) + other)

    recipe, values = _plan(summing, {})
    first, second = recipe.before
    assert (len(first.totals), len(second.totals)) == (2, 1)
    rng = np.random.default_rng(2)
    sums = [rng.chisquare(1, (700, 2)).tolist(), rng.chisquare(1, (3, 1)).tolist()]
    check([Row(recipe.prelude, values, 4, before=recipe.before, sums=sums, size=7)], "the step")
    check([Row(second.prelude, values, 4, before=[first], sums=sums[:1], size=7)], "the second pass")


def test_sums_of_rows_and_columns_and_slots_that_are_only_read() -> None:
    @define
    def seeing(theta: Any, g: Any, r: PerRow, c: PerColumn, v: PerTensor, *, lr: float = 0.1) -> Any:
        sums = total(abs(g)) + total(abs(r)) + total(c * c) + total(theta * theta / (1 + v))
        sizes = size(g) + 2 * size(g, over="row") + 3 * size(g, over="column") + 5 * size(r) + 7 * size(c)
        return theta - lr * g / (1 + sums) / sizes, r, c, 0.5 * v + sums

    recipe, values = _plan(seeing, {})
    (before,) = recipe.before
    values |= {"v": 3.5}
    rng = np.random.default_rng(3)
    assert len(before.totals) == 4
    sums = [rng.chisquare(1, (700, 4)).tolist()]
    check([Row(recipe.prelude, values, 4, before=recipe.before, sums=sums, size=7)], "the step")
    check([Row(before.prelude, values, 4, size=7, read=["v"])], "the pass that sums")


# Single operations, for values that rules do not have.

_NUMBERS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -3.0, 1e300, 5e-324])


def _results(prelude: Prelude, t: int, x: float, y: float) -> NDArray[Any]:
    row = Row(prelude, {"x": x, "y": y}, t - 1, np.float64)
    launch([row])
    return row.row[:-3]


def _calls(*names: str) -> Any:
    return lambda t, x, y: [host_call(name, x) for name in names]


@functools.cache
def _separate(kind: str) -> list[Prelude]:
    """Return preludes of one expression each: one that Python raises at does not hide the others."""
    t, x, y = (symbol(name, "host") for name in ("t", "x", "y"))
    nodes = {
        "floor": [x % y, x // y, t % 3, t // 3, -t % 3, (1 - t) // 5, x // t, t % y],
        "zero": [
            -(t - t),
            (t - t) * -3,
            t % -1,
            -(x - x),
            (x - x) * -3,
            abs(-x),
            where(x < 0, -t, -x),
            -maximum(x, y),
            where(x < 0, -0.0, 0.0),
        ],
        "math": [host_call(n, x) for n in ("floor", "ceil", "trunc", "fabs", "degrees", "radians")]
        + [where(host_call(n, x), 1.0, y) for n in ("isnan", "isinf", "isfinite")]
        + [
            where(host_call("isclose", x, y), 1.0, 2.0),
            where(~(x < y) & (x == x), x, y),
            where((x > 1) | (y >= 1), x, y),
        ]
        + [host_call(n, x, y) for n in ("atan2", "copysign", "fmod", "hypot", "pow", "nextafter", "log")]
        + [host_call(n, x) for n in ("exp", "log", "log1p", "tanh", "lgamma", "erf", "exp2")]
        + [x**y, x**0.25, sqrt(x), host_call("ldexp", x, t), (x < y) ** 2, host_call("exp", x != y)],
    }
    return [make_prelude(("t", "x", "y"), [Lowering()(node)], {}) for node in nodes[kind]]


def _check_single(kind: str, t: int, x: float, y: float) -> None:
    for prelude in _separate(kind):
        try:
            numbers = prelude.function(t, x, y)
            expected = np.array([float(number) for number in numbers])
        except (ArithmeticError, ValueError, TypeError):
            assert not np.isfinite(_results(prelude, t, x, y)).any(), prelude.text
            continue
        assert_same_bits(_results(prelude, t, x, y), expected, f"{prelude.text} at {t}, {x!r}, {y!r}")


@pytest.mark.parametrize("kind", ["floor", "zero", "math"])
@pytest.mark.dear
def test_operations(kind: str) -> None:
    numbers = [0.0, -0.0, 1.0, -2.5, 3.0, 1e300, -7e-310, math.inf]
    for index, x in enumerate(numbers):
        for y in (3.0, -0.75, numbers[-1 - index]):
            _check_single(kind, 7 + index, x, y)


@settings(max_examples=15)
@given(st.integers(1, 2**40), _NUMBERS, _NUMBERS)
def test_floor_division(t: int, x: float, y: float) -> None:
    _check_single("floor", t, x, y)


_POWER = _of(lambda t, x, y: [x**t, x ** (1 - t), x**2, x**3, x**-1, x**0, (t + 1) ** -2])


@settings(max_examples=40)
@given(st.integers(1, 2**20) | st.integers(1, 12), st.floats(-4, 4) | st.floats(0.5, 1) | _NUMBERS)
@example(1000, 1.0 - 2.0**-53)
@example(2**40, 1.0 - 2.0**-40)
@example(10**6, -0.999999)
@example(1075, 0.5)
@example(1031, 2.0)
@example(3, -0.0)
def test_powers_are_rounded_once(t: int, x: float) -> None:
    found = _results(_POWER, t, x, 0.0)
    for k, (base, exponent) in enumerate([(x, t), (x, 1 - t), (x, 2), (x, 3), (x, -1), (x, 0), (float(t + 1), -2)]):
        if base == 0 and exponent < 0:
            assert math.isinf(found[k])
            continue
        expected = exact_power(base, exponent) if math.isfinite(base) else base**exponent
        if 0 < abs(expected) < 2.0**-960:  # what is lost in rounding is below what float64 has
            assert abs(found[k] - expected) <= 2.0**-1012, (base, exponent)
        elif expected == 0 or abs(expected) < 2.0**990:
            assert found[k] == expected, (base, exponent)
            assert math.copysign(1, found[k]) == math.copysign(1, expected), (base, exponent)
        else:
            assert found[k] == pytest.approx(expected, rel=2.0**-40), (base, exponent)


def test_functions_that_devices_lack() -> None:
    for make in (lambda t, x, y: [host_call("gamma", x)], lambda t, x, y: [host_call("hypot", x, y, t)]):
        with pytest.raises(TargetError, match=r"is not computed on devices; write the rule without it"):
            triton_prelude.emit(_of(make))


def test_any_names() -> None:
    _, values = _prelude(CATALOGUE["adamw"], {})
    guarded = _plan(CATALOGUE["nadam"], {}, Guard(clips_update=True))[0]
    text = triton_prelude.emit(guarded.prelude, guarded.before)
    words = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    ours = sorted((words | {"range", "print", "min", "float", "h0", "h1", "power", "slot0", "lost", "_", "β"}) - {"t"})
    symbols = [symbol(name, "host") for name in ours]
    sums = [symbols[0]]
    for k, node in enumerate(symbols[1:]):
        sums.append(where(node < 0, sums[-1], sums[-1] + node * (k + 2)))
    total_of_all = sums[-1] ** symbol("t", "host")
    prelude = make_prelude((*ours, "t"), [total_of_all, sums[3]], {"slot0": sums[5] * 2})
    check([Row(prelude, {name: 0.01 * k for k, name in enumerate(ours)}, 1)], "any names")
    assert values


# The decision.


class _Gradients:
    """Gradients whose sums say all: they have something that is not finite where a sum has."""

    def __init__(self, sums: Sequence[float]) -> None:
        self._sums = sums

    def nonfinite(self) -> list[NonFinite]:
        return [] if math.isfinite(self._sums[-1]) else [NonFinite("g", 1, 1)]

    def squares(self) -> float:
        return math.inf


@functools.cache
def _decide() -> Any:
    return gpu.load(triton_decide.emit())


def _decided(
    sums: NDArray[Any], clip_norm: float | None, skips: bool, found: float | None, counts: tuple[int, int]
) -> NDArray[Any]:
    decision = np.array([-7.0, -7.0, *counts, math.nan if clip_norm is None else clip_norm, -7.0])
    flag = np.array([0.0 if found is None else found], np.float32)
    address = 0 if found is None else flag.ctypes.data
    lines = np.ascontiguousarray(sums)
    _decide()[(1,)](
        lines.ctypes.data,
        address,
        decision.ctypes.data,
        len(lines),
        COLUMNS=lines.shape[1],
        SKIPS=skips,
        CLIPS=clip_norm is not None,
    )
    return decision


def _expected(
    sums: NDArray[Any], clip_norm: float | None, skips: bool, found: float | None, counts: tuple[int, int]
) -> list[float]:
    totals = [rounded_once(column.tolist()) for column in sums.T]
    guards = Guards(clip_norm=clip_norm, nonfinite="skip" if skips else "propagate", max_skips=99 if skips else None)
    guards.skipped, guards.in_a_row = counts
    clip = math.nan if clip_norm is None else clip_norm
    if found:  # the host does not come to decide
        return [1.0, 0.0, *counts, clip, totals[0]]
    factor = guards.decide(totals, _Gradients(totals))
    if factor is None:
        return [1.0, 0.0, guards.skipped, guards.in_a_row, clip, totals[0]]
    return [factor, 1.0, guards.skipped, guards.in_a_row, clip, totals[0]]


_SQUARES = st.floats(0, allow_nan=False, allow_infinity=False)
_NOT_FINITE = st.sampled_from([math.inf, math.nan])


@settings(max_examples=35)
@given(st.data(), st.sampled_from([1, 2]), st.none() | st.floats(1e-3, 1e3), st.booleans())
def test_decisions_are_the_guards(data: st.DataObject, columns: int, clip_norm: float | None, skips: bool) -> None:
    numbers = _SQUARES if data.draw(st.booleans()) else st.floats(0, 1e4) | _NOT_FINITE
    lines = data.draw(st.lists(st.tuples(*[numbers] * columns), max_size=40))
    found = data.draw(st.sampled_from([None, 0.0, 1.0]))
    sums = np.array(lines, np.float64).reshape(-1, columns)
    arguments = (sums, clip_norm, skips, found, (5, 3))
    assert_same_bits(_decided(*arguments), np.array(_expected(*arguments), np.float64), f"{arguments}")


@pytest.mark.parametrize("blocks", [0, 1, 513, 5000])
def test_decisions_of_many_blocks(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    for spread in (0, 40):
        sums = rng.chisquare(1, (blocks, 2)) * 10.0 ** rng.uniform(-spread, spread, (blocks, 2))
        for bad in (1.0, math.inf, math.nan):
            sums[blocks // 3 : blocks // 3 + 1] *= bad
            arguments = (sums, 0.7, True, None, (0, 0))
            assert_same_bits(_decided(*arguments), np.array(_expected(*arguments), np.float64), f"{spread} {bad}")


_TIES = [2.0**53, 1.0, 0.5, 2.0**-53, 2.0**-54, 1.0 + 2.0**-52, 3.0, 1e-300, 5e-324, 2.0**54, 2.0**1000, 0.0]


@settings(max_examples=20)
@given(st.lists(st.sampled_from(_TIES) | _SQUARES, max_size=12))
@example([2.0**53, 1.0, 1e-300])
@example([2.0**53, 1.0])
@example([2.0**53 + 2, 1.0])
@example([1.7976931348623157e308, 9.9e291])
@example([1.7976931348623157e308, 1e292])
@pytest.mark.slow
def test_totals_are_rounded_once(numbers: list[float]) -> None:
    for apart in (1, 512):  # in lanes of their own, and all in one
        sums = np.zeros((len(numbers) * apart, 1))
        sums[::apart, 0] = numbers
        found = _decided(sums, None, False, None, (0, 0))
        assert_same_bits(found[5:], np.array([rounded_once(numbers)]), f"{numbers}")


def test_names_of_decisions() -> None:
    assert DECISION == ("factor", "taken", "skipped", "in_a_row", "clip_norm", "total")
