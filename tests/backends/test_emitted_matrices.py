"""Rules that see rows and columns in emitted C and JavaScript: the referee's bits, whatever the shape."""

from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import c, javascript
from steprule.backends.passes import over_all, passes
from steprule.compile import BLOCK
from steprule.errors import TargetError
from steprule.formats import FORMATS, Storage
from steprule.language.matrices import ROWS
from steprule.rules import Rule
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.backends.emitted import STEPS, Case, record
from tests.backends.test_c import FLAGS, Steps, compiled, memory_of
from tests.backends.test_javascript import job, node, planes_of, run_jobs, slots_of
from tests.cases import CASES, variants
from tests.launch.row_rules import ALONE, RULES

pytestmark = pytest.mark.apart

SHAPES = [(5, 7), (ROWS + 1, 3), (3, ROWS + 2), (2, 3, 4), (2, 2, 3, 5), (7,), (), (1, 9), (9, 1)]
EMPTY = [(0,), (0, 3), (3, 0), (2, 0, 3), (0, 2, 3), (2, 3, 0)]
LARGE = [(2, BLOCK + 77), (2 * ROWS + 1, 130)]
PAPERS: list[tuple[Rule, dict[str, Any]]] = [
    (own, options) for own in (adafactor, came, adam_mini) for options in variants(own)
]


def _cases() -> list[Case]:
    kinds = ("float32", "float64")
    found = [
        Case(RULES[name], (), Storage(FORMATS[kind]), shape)
        for name in ALONE
        for number, shape in enumerate(SHAPES + EMPTY + LARGE)
        for kind in (kinds if number < 4 else (kinds[number % 2],))
    ]
    for number, (own, options) in enumerate(PAPERS):
        for place, kind in enumerate(kinds):
            shapes = {(SHAPES + EMPTY)[(5 * number + 4 * place + k) % len(SHAPES + EMPTY)] for k in range(2)}
            found += [
                Case(own, tuple(options.items()), Storage(FORMATS[kind]), shape)
                for shape in sorted({*shapes, (2, 5, 6)}, key=str)
            ]
    return found


def _id(case: Case) -> str:
    options = "".join(f"-{value}" for _, value in case.options)
    return f"{case.rule.name}{options}-{case.storage.parameter.name}-{case.shape}"


MATRIX = {_id(case): case for case in _cases()}
_OF_ALL = [
    Case(RULES["mixed"], (("odd", odd),), Storage(FORMATS[kind]), shape)
    for odd, kind in ((False, "float32"), (True, "float64"))
    for shape in ((300, 20), (4, 33, 5), (70,), (), (3, 0))
]
ALL = {_id(case): case for case in _OF_ALL}
"""Of a rule with sums over all, beside every other word."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """A function for each plan, in one library; warnings are errors."""
    texts = {name: c.emit(case.plan, name) for name, case in _plans().items()}
    return ctypes.CDLL(str(compiled(tmp_path_factory.mktemp("c"), texts, "-std=c99", *FLAGS)))


def _plans() -> dict[str, Case]:
    """Return a case for each plan, by the name of its function."""
    return {_function(case): case for case in MATRIX.values()}


def _function(case: Case) -> str:
    text = f"{case.rule.name}_{case.options}_{case.storage.parameter.name}"
    return "".join(letter if letter.isalnum() else "_" for letter in text)


@pytest.mark.parametrize("name", MATRIX)
def test_c_has_the_referees_bits(library: ctypes.CDLL, name: str) -> None:
    case = MATRIX[name]
    expected = record(case, name)
    planes = {key: array.copy() for key, array in expected.start.items()}
    steps = Steps(getattr(library, _function(case)), case.plan, planes, expected.scalars)
    for t in range(1, STEPS + 1):
        planes[case.rule.gradient][...] = expected.gradients[t - 1]
        steps.step(t, case.values, case.shape, 9, 4)
        expected.check(t - 1, planes, steps.slots, name)


@pytest.mark.parametrize("name", ALL)
def test_passes_in_c_one_by_one(name: str, tmp_path: Path) -> None:
    """Where sums are over all tensors; of one alone they are those over the tensor."""
    case = ALL[name]
    expected, recipe, text = record(case, name), case.plan, c.emit(case.plan, "own")
    assert over_all(recipe)
    library = ctypes.CDLL(str(compiled(tmp_path, {"own": text}, "-std=c99", *FLAGS)))
    planes = {key: array.copy() for key, array in expected.start.items()}
    steps = Steps(None, recipe, planes, expected.scalars)
    for t in range(1, STEPS + 1):
        planes[case.rule.gradient][...] = expected.gradients[t - 1]
        memory = memory_of(recipe, case.shape)
        for which, one in passes(recipe).items():
            steps.call(getattr(library, f"own_{which}"), one, memory, t, case.values, case.shape)
        expected.check(t - 1, planes, steps.slots, name)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases, run by one process of Node."""
    folder = tmp_path_factory.mktemp("javascript")
    jobs = [
        job(name, case, record(case, name), folder / f"{number}.mjs")
        for number, (name, case) in enumerate([*MATRIX.items(), *ALL.items()])
    ]
    return run_jobs(folder, jobs)


@pytest.mark.parametrize("name", [*MATRIX, *ALL])
def test_javascript_has_the_referees_bits(results: dict[str, Any], name: str) -> None:
    case = {**MATRIX, **ALL}[name]
    expected = record(case, name)
    for step, found in enumerate(results[name]):
        expected.check(step, planes_of(case, found), slots_of(found), name)
    assert len(results[name]) == STEPS
