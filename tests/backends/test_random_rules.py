"""Rules at random have the same bits as machine code, by the referee and called on arrays, in every format.

``test_random_rules_elsewhere.py`` runs them on the other targets. What fails says the rule.
"""

from __future__ import annotations

import ast
import zlib

import numpy as np
import pytest

import steprule as sr
from steprule.backends import latex
from steprule.engine import plan
from steprule.formats import FORMATS, GROUP, Storage
from steprule.language.ops import OPS
from steprule.language.sums import SUMS
from steprule.language.walk import postorder
from tests.backends.random_rules import FUNCTIONS, MANY, SOME, gradients, random_rule, told
from tests.cases import Array, Direct, assert_same_bits
from tests.formats.test_kernels import (
    MATRIX,
    SHAPES,
    Loops,
    Run,
    assert_machine_code_is_the_referee,
    storage_of,
)

NUMBERS = [*SOME, *(pytest.param(number, marks=pytest.mark.slow) for number in MANY)]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("number", NUMBERS)
def test_optimizers_step_as_the_rule_says(number: int, dtype: str) -> None:
    made = random_rule(number)
    with told(made):
        for values in made.choices:
            rng = np.random.default_rng(number)
            theta: Array = rng.standard_normal(301).astype(dtype)
            direct = Direct(made.rule, theta.copy(), **values)
            arrays = {backend: theta.copy() for backend in ("llvm", "numpy")}
            given = made.given(values)
            optimizers = {name: sr.Optimizer(x, made.rule, backend=name, **given) for name, x in arrays.items()}
            for t, g in enumerate(gradients(rng, (301,), 4), start=1):
                with np.errstate(over="ignore"):
                    g = g.astype(dtype)
                direct.step(g)
                for backend, optimizer in optimizers.items():
                    optimizer.step(g)
                    what = f"by {backend} at t={t} with {values}"
                    assert_same_bits(arrays[backend], direct.theta, f"theta {what}")
                    for name, slot in optimizer.slots.items():
                        if name in made.rule.scalars and slot is not None:
                            assert slot == [direct.slots[name]], f"{name} {what}"
                        elif slot is not None:
                            assert_same_bits(slot, direct.slots[name], f"{name} {what}")


@pytest.mark.parametrize("number", NUMBERS)
def test_machine_code_is_the_referee_in_formats(number: int) -> None:
    made = random_rule(number)
    with told(made):
        for k, values in enumerate(made.choices):
            storage = storage_of(made.rule, *MATRIX[(2 * number + k) % len(MATRIX)])
            shapes = SHAPES[(number + k) % 4 :: 4]
            assert_machine_code_is_the_referee(made.rule, storage, shapes, 2, **values)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_referee_is_the_rule_in_formats(number: int) -> None:
    made, values = random_rule(number), random_rule(number).choices[number % 2]
    storage = storage_of(made.rule, *MATRIX[(7 * number + 3) % len(MATRIX)])
    rng = np.random.default_rng(zlib.crc32(made.source.encode()))
    # Sums are in the order of groups: in that of the array where each row is one.
    shape = (2, GROUP) if made.has_sums else (2, 150)
    with told(made):
        run = Run(made.rule, storage, shape, "numpy", seed=3, number=2, **values)
        run.set(**{made.rule.parameter: rng.standard_normal(shape)})
        loops = Loops(run)
        for g in gradients(rng, shape, 2):
            run.set(g=g)
            loops.step(run.planes["g"])
            run.step()
            for name, array in run.planes.items():
                assert_same_bits(array, loops.planes[name].reshape(array.shape), f"{name} in {storage} with {values}")


@pytest.mark.parametrize("number", NUMBERS)
def test_formulas_looks_and_watches(number: int) -> None:
    """What else is made of a rule: its formulas, the values inside, and steps that are read give the same bits."""
    made = random_rule(number)
    with told(made):
        for values in made.choices:
            variant = made.rule.variant(made.rule.resolve(values))
            assert latex.emit(made.rule, variant)
            assert plan(made.rule, variant, Storage(FORMATS["float32"]), kind="probe").planes
        plain, read = (np.linspace(-2, 3, 77, dtype=np.float32) for _ in range(2))
        one = sr.Optimizer(plain, made.rule, **made.given(made.choices[0]))
        other = sr.Optimizer(read, made.rule, **made.given(made.choices[0]))
        monitor = sr.Monitor(other, every=1)
        for g in gradients(np.random.default_rng(number), (77,), 3):
            one.step(g.astype(np.float32))
            other.step(g.astype(np.float32))
            assert_same_bits(read, plain)
        assert monitor


def test_the_rules_say_all_that_the_language_has() -> None:
    """Together, those of the plain run have every operation in both stages, every kind of slot and every option."""
    rules = [random_rule(number).rule for number in SOME]
    said: set[tuple[str, str]] = set()
    for rule in rules:
        for trace in rule.traces.values():
            roots = [trace.parameter, *trace.slots.values(), *trace.scalars.values()]
            said |= {(node.stage, node.op) for node in postorder(roots)}
    of_rules = {name for name, op in OPS.items() if "int" not in (*op.takes, op.gives)} - {"half"}
    wanted = of_rules | {"maximum", "minimum", "sign"}
    assert wanted - {op for stage, op in said if stage == "element"} == set()
    assert (wanted | {"pow", "mod", "floordiv"}) - {op for stage, op in said if stage == "host"} == set()
    assert {f"math.{name}" for name in FUNCTIONS if name != "sqrt"} - {op for _, op in said} == set()
    assert set(SUMS) - {op for stage, op in said if stage == "tensor"} == set()
    assert any(rule.scalars for rule in rules)
    assert any(rule.non_negative for rule in rules)
    assert any(rule.init for rule in rules)
    assert any(not rule.slots for rule in rules)
    assert any(not rule.uses_t for rule in rules)


def test_a_failure_says_the_rule() -> None:
    made = random_rule(0)
    assert ast.parse(made.source)
    with pytest.raises(ZeroDivisionError) as caught, told(made):
        assert 1 / 0
    assert made.source in caught.value.__notes__
