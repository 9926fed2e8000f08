"""Plans and machine code: no arithmetic is changed, and every target is exact."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import llvm, llvm_operations, numpy
from steprule.compile.lower import Lowering
from steprule.doors.layout import check_type
from steprule.engine import kernel, plan
from steprule.formats import FORMATS
from steprule.language import OPS
from steprule.language.functions import DERIVED
from steprule.language.node import symbol
from steprule.language.walk import postorder
from steprule.launch.machine import MACHINE
from steprule.runtime import driver, offsets
from steprule.runtime.jit import assembly, build
from steprule.runtime.waiting import Waiting, waiting, with_condition
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import MATRICES, assert_same_bits

F32 = FORMATS["float32"]


def _plan(name: str, dtype: str = "float32", **options: object) -> sr.engine.Plan:  # type: ignore[name-defined]
    rule = CATALOGUE[name]
    return plan(rule, rule.variant(rule.resolve(options)), FORMATS[dtype])


def test_adams_plan_hoists_what_depends_on_t_alone() -> None:
    recipe = _plan("adam")
    assert [plane.name for plane in recipe.planes] == ["theta", "g", "m", "v"]
    assert len(recipe.stores) == 3
    row = recipe.prelude.function(beta1=0.9, beta2=0.999, eps=1e-8, lr=1e-3, t=3)
    assert set(row) == {0.9, 1 - 0.9, 1 - 0.9**3, 1e-3, 0.999, 1 - 0.999, 1 - 0.999**3, 1e-8}


def test_plans_are_equal_and_cached() -> None:
    assert _plan("adam") is _plan("adam")
    assert hash(_plan("adam")) == hash(_plan("adam"))
    assert kernel(CATALOGUE["adam"], CATALOGUE["adam"].variant(CATALOGUE["adam"].resolve({})), F32, MACHINE) is kernel(
        CATALOGUE["adam"], CATALOGUE["adam"].variant(CATALOGUE["adam"].resolve({})), F32, MACHINE
    )


def test_equal_expressions_are_computed_once() -> None:
    @sr.rule
    def twice(theta, g, *, lr: sr.Rate = 0.1):
        return theta - lr * sr.sqrt(g * g) - lr * sr.sqrt(g * g)

    recipe = plan(twice, twice.variant(twice.resolve({})), F32)
    assert [instruction.op for instruction in recipe.body].count("sqrt") == 1


def test_zeros_of_either_sign_and_numbers_stay_apart() -> None:
    x = symbol("x", "element")
    lower = Lowering()
    assert lower(x * 0.0) is not lower(x * -0.0)
    assert lower(x * 2.0) is lower(x * 2.0)
    assert lower(x - 1.0) is not lower(1.0 - x)


def test_deep_rules_do_not_overflow_the_stack() -> None:
    @sr.rule
    def deep(theta, g, *, lr: sr.Rate = 0.1):
        for _ in range(3000):
            g = g + 1.0
        return theta - lr * g

    recipe = plan(deep, deep.variant(deep.resolve({})), F32)
    assert len(recipe.body) == 3002


def test_lowering_leaves_only_primitives() -> None:
    x = symbol("x", "element")
    for op in DERIVED:
        node = getattr(sr, op)(*([x] * (1 if op == "sign" else 2)))
        assert all(n.op in OPS or n.op in ("symbol", "const") for n in postorder([Lowering()(node)]))


@pytest.mark.parametrize("table", [llvm_operations._LLVM, numpy.NUMPY])
def test_every_backend_spells_every_operation(table: dict[str, str]) -> None:
    assert set(table) == set(OPS)


FUSED = re.compile(
    r"\bv?f(n?m(add|sub)|ma)\w*\s|\bfml[as]\b|\bfn?m(add|sub)\b|\bv?rcp|\bv?rsqrt|\bfrecpe|\bfrsqrte", re.IGNORECASE
)
TARGETS = [
    (None, ""),
    ("x86_64-unknown-linux-gnu", "x86-64-v2"),
    ("aarch64-unknown-linux-gnu", ""),
    ("x86_64-unknown-linux-gnu", "znver4"),
]


@pytest.mark.parametrize(("triple", "cpu"), TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_target_fuses_or_approximates(triple: str | None, cpu: str, dtype: str) -> None:
    for name in ("adam", "radam", "ademamix", "rprop"):
        text = assembly(llvm.emit(_plan(name, dtype)), triple, cpu)
        assert not FUSED.search(text), f"{name}: {FUSED.search(text)}"


def test_the_search_for_fused_operations_finds_them() -> None:
    ir = llvm.emit(_plan("sgd")).replace("fmul", "fmul contract").replace("fsub", "fsub contract")
    assert FUSED.search(assembly(ir, "x86_64-unknown-linux-gnu", "znver4"))
    assert FUSED.search(assembly(ir, "aarch64-unknown-linux-gnu"))


@pytest.mark.parametrize("waits", [waiting, with_condition])
@pytest.mark.parametrize(("triple", "cpu"), TARGETS)
def test_the_driver_builds_for_other_machines(
    waits: Callable[[int, int], Waiting], triple: str | None, cpu: str
) -> None:
    way = waits(offsets.FUNCTIONS, offsets.LOCKS)
    text = assembly(driver.ir(way, triple and triple.partition("-")[0]), triple, cpu)
    for name in ("drive", "alone", "work", "region.gnu", "region.llvm"):
        assert f"{name}:" in text
    assert re.search(r"\b(pause|isb)\b", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_builds_for_other_machines(name: str) -> None:
    for triple, cpu in TARGETS[1:]:
        for dtype in FORMATS:
            assert "kernel:" in assembly(llvm.emit(_plan(name, dtype)), triple, cpu)


@pytest.mark.parametrize("name", CATALOGUE)
def test_loops_are_vectorised(name: str) -> None:
    text = assembly(llvm.emit(_plan(name)), "x86_64-unknown-linux-gnu", "znver4")
    assert "zmm" in text
    text = assembly(llvm.emit(_plan(name)), "aarch64-unknown-linux-gnu")
    assert re.search(r"\bv\d+\.4s", text)


def test_constants_are_rounded_once_to_the_compute_type() -> None:
    @sr.rule
    def third(theta, g, *, lr: sr.Rate = 1.0):
        return theta - lr * (g * (1 / 3)) + 1e-50

    theta = np.zeros(1, np.float32)
    sr.Optimizer(theta, third).step(np.ones(1, np.float32))
    assert theta[0] == -np.float32(1 / 3)


def test_formats_name_what_is_possible() -> None:
    assert check_type(np.zeros(2, np.float16), "params").compute == "float32"
    with pytest.raises(sr.errors.StructureError, match="float16, float32, float64"):
        check_type(np.zeros(2, np.int8), "params")


def test_prelude_edges() -> None:
    @sr.rule
    def odd(theta, g, *, t, lr: sr.Rate = 1.0, period: sr.Positive = 3.0):
        phase = t % period
        scale = sr.where((phase == 0) | ~(t > 1), 2.0, -abs(-lr))
        return theta - sr.where(t > 2, scale * g, scale * math.floor(lr + 0.5) * g)

    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, odd)
    moves = []
    for _ in range(4):
        before = theta[0]
        optimizer.step(np.ones(1))
        moves.append(theta[0] - before)
    assert moves == [-2.0, 1.0, -2.0, 1.0]


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in MATRICES])
def test_the_emitted_numpy_text_runs_by_itself(name: str) -> None:
    recipe = _plan(name)
    names: dict[str, Any] = {}
    exec(numpy.emit(recipe), names)
    rule = CATALOGUE[name]
    rng = np.random.default_rng(0)
    planes = [rng.random(7).astype(np.float32) for _ in recipe.planes]
    expected = [plane.copy() for plane in planes]
    values = {**rule.resolve({}), "t": 3, **dict.fromkeys(rule.numbers, 0.5)}
    values |= {argument: 0.5 for argument in recipe.prelude.arguments if argument not in values}
    row = names["prelude"](*[values[argument] for argument in recipe.prelude.arguments])
    sums: list[dict[str, Any]] = [{"sums": np.zeros((1, len(recipe.sums)))} if recipe.sums else {} for _ in range(2)]
    names["kernel"](*planes, row, **sums[0])
    numpy.load(recipe)(*expected, np.array(row, float), **sums[1])
    for mine, theirs in zip([*planes, *sums[0].values()], [*expected, *sums[1].values()], strict=True):
        assert_same_bits(mine, theirs)


def test_numpys_text_means_what_the_language_says() -> None:
    rng = np.random.default_rng(1)
    numbers = [np.concatenate([rng.standard_normal(20), [0.0, -0.0, np.nan, np.inf]]) for _ in range(3)]
    for op in OPS.values():
        numbers_of = {"bool": lambda n: n > 0, "int": lambda n: n.astype(np.float32).view(np.uint32)}
        # Words go with float32 alone, and only shifts by less than 32 have a meaning.
        cast = np.float32 if op.name in ("bits", "real", "half", "whole") else np.float64
        operands = [
            numbers_of.get(kind, lambda n, cast=cast: n.astype(cast))(np.roll(n, k))
            for k, (n, kind) in enumerate(zip(numbers, op.takes, strict=False))
        ]
        if op.name.startswith("shift"):
            operands[1] = operands[1] % np.uint32(32)
        with np.errstate(all="ignore"):
            text = eval(
                numpy.NUMPY[op.name].format(*(f"({f'a[{k}]'})" for k in range(len(operands)))),
                {"np": np, "a": operands},
            )
            np.testing.assert_array_equal(text, op.numpy(*operands), err_msg=op.name)


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    def refuse(file: object, mode: str = "r", *args: object, **kwargs: object) -> object:
        assert set(mode) <= set("rbt"), f"opened {file} with {mode}"
        return original(file, mode, *args, **kwargs)  # type: ignore[call-overload]

    original = builtins.open
    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.chdir(tmp_path)
    build(llvm.emit(_plan("adan", eps=1e-3)), "kernel")
    assert list(tmp_path.iterdir()) == []
