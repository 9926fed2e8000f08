"""Rules at random on the targets that run elsewhere: C by gcc, JavaScript by Node, JAX, and Triton's interpreter.

The numbers of a step are computed by C and JavaScript themselves: C has
Python's own functions, those of JavaScript are within some places of the last.
"""

from __future__ import annotations

import base64
import ctypes
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import steprule as sr
import steprule.jax
from steprule.backends import c
from steprule.formats import FORMATS, SLOT_FORMATS, Storage
from tests.backends.emitted import STEPS, Case, record
from tests.backends.random_rules import MANY, SOME, Random, gradients, random_rule, told
from tests.backends.test_c import FLAGS, Steps, compiled
from tests.backends.test_javascript import SEED, TENSOR, job, planes_of, run_jobs, sent
from tests.backends.triton.bits import Work, compare
from tests.cases import Array, assert_same_bits
from tests.formats.test_kernels import storage_of

pytestmark = pytest.mark.apart

LOW = [("8bit", "float32", "nearest"), ("bfloat16", "bfloat16", "stochastic"), ("8bit", "bfloat16", "split24")]
LOW += [("bfloat16", "float32", "nearest"), ("8bit", "bfloat16", "split32"), ("bfloat16", "bfloat16", "split24")]
LOW += [("4bit", "float32", "nearest"), ("4bit", "bfloat16", "stochastic")]
assert {state for state, _, _ in LOW} == set(SLOT_FORMATS)
PARTS = [SOME, *(pytest.param(MANY[k : k + 20], marks=pytest.mark.slow) for k in range(0, len(MANY), 20))]
"""Some rules at a time: one compilation, one process."""
EACH = [number if number < 12 else pytest.param(number, marks=pytest.mark.slow) for number in (*SOME, *MANY[:120])]
ULP = 16


def _cases(numbers: Sequence[int]) -> dict[str, tuple[Random, Case]]:
    found = {}
    for number in numbers:
        made = random_rule(number)
        one, other = (tuple(values.items()) for values in made.choices)
        plain = Storage(FORMATS[("float32", "float64")[number % 2]])
        low = storage_of(made.rule, *LOW[number % len(LOW)])
        for case in (Case(made.rule, one, plain, (67,)), Case(made.rule, other, low, (3, 150))):
            found[f"{number}, {case.id}"] = made, case
    return found


@pytest.mark.parametrize("numbers", PARTS, ids=lambda numbers: f"from {numbers[0]}")
@pytest.mark.slow
def test_in_c(numbers: Sequence[int], tmp_path: Path) -> None:
    cases = _cases(numbers)
    texts = {f"case{k}": c.emit(case.plan, f"case{k}") for k, (_, case) in enumerate(cases.values())}
    library = ctypes.CDLL(str(compiled(tmp_path, texts, "-std=c99", "-O1", *FLAGS[1:])))
    for k, (name, (made, case)) in enumerate(cases.items()):
        with told(made):
            expected = record(case, name)
            planes = {key: array.copy() for key, array in expected.start.items()}
            steps = Steps(getattr(library, f"case{k}"), case.plan, planes, expected.scalars)
            for t in range(1, STEPS + 1):
                planes["g"][...] = expected.gradients[t - 1]
                steps.step(t, case.values, case.shape, 9, 4)
                expected.check(t - 1, planes, steps.slots, name)


@pytest.mark.parametrize("numbers", PARTS, ids=lambda numbers: f"from {numbers[0]}")
def test_in_javascript(numbers: Sequence[int], tmp_path: Path) -> None:
    cases = _cases(numbers)
    recorded = {name: record(case, name, SEED, TENSOR) for name, (_, case) in cases.items()}
    jobs = []
    for k, (name, (_, case)) in enumerate(cases.items()):
        told_of = job(name, case, recorded[name], tmp_path / f"{k}.mjs")
        rows = [
            [sent(row[: one["row"]]) for one, row in zip(told_of["passes"], given, strict=True)]
            for given in recorded[name].numbers
        ]
        jobs.append({**told_of, "numbers": rows, "scalars": recorded[name].slots})
    found = run_jobs(tmp_path, jobs)
    for name, (made, case) in cases.items():
        with told(made):
            expected = recorded[name]
            for step, said in enumerate(found[name]):
                expected.check(step, planes_of(case, said), expected.slots[step], name)
                for theirs, row in zip(said["numbers"], expected.numbers[step], strict=True):
                    theirs = np.frombuffer(base64.b64decode(theirs), np.float64)
                    np.testing.assert_allclose(theirs, row, rtol=ULP * 2.0**-52, atol=2.0**-48, err_msg=name)


@pytest.mark.parametrize(
    "number", [p for p in EACH if not random_rule(p if isinstance(p, int) else p.values[0]).has_sums]
)
def test_in_jax(number: int) -> None:
    """Where there are sums, JAX does not promise bits."""
    made = random_rule(number)
    values = made.given(made.choices[number % 2])
    rng = np.random.default_rng(number)
    theta = rng.standard_normal((3, 40)).astype(np.float32)
    low: dict[str, Any] = {"states": list(SLOT_FORMATS)[number // 2 % len(SLOT_FORMATS)], "min_elements": 1, "seed": 5}
    formats = low if number % 2 and any(slot not in made.rule.scalars for slot in made.rule.slots) else {}
    with told(made):
        other = sr.Optimizer(theta.copy(), made.rule, **formats, **values)
        step = steprule.jax.step(made.rule, **formats, **values)
        ours, slots = jnp.asarray(theta), step.init(jnp.asarray(theta))
        for t, g in enumerate(gradients(rng, (3, 40), 3), start=1):
            g = g.astype(np.float32)
            other.step(g)
            ours, slots = step(ours, jnp.asarray(g), slots, t)
            assert_close_to_bits(np.asarray(ours), other.params, f"theta at t={t} with {values}")


def assert_close_to_bits(a: Array, b: Array, what: str) -> None:
    """Assert that all bits are equal, but for subnormal numbers, which XLA takes for zero."""
    small = 4 * np.finfo(np.float32).smallest_normal
    tiny = (abs(a) < small) & (abs(b) < small)
    assert_same_bits(np.where(tiny, 0, a), np.where(tiny, 0, b), what)


@pytest.mark.parametrize("number", EACH)
def test_in_triton(number: int) -> None:
    made = random_rule(number)
    kinds = [Storage(FORMATS["float64"]), Storage(FORMATS["float16"]), *(storage_of(made.rule, *low) for low in LOW)]
    storage = kinds[number % len(kinds)]
    with told(made), np.errstate(all="ignore"):  # the interpreter computes with NumPy, whose warnings are errors here
        work = Work(made.rule, storage, made.choices[number % 2])
        for k in range(len(work.plan.before)):  # sums of the roots of negative numbers among them
            compare(replace(work, task=("step", k)), [(130,), (3, 50)], 2, may_be_nan=True)
        compare(work, [(130,), (3, 50)], 2)
