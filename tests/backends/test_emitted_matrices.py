"""Rules that see rows and columns in emitted C and JavaScript: the referee's bits, whatever the shape."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import c, javascript
from steprule.backends.passes import over_all, passes
from steprule.compile import BLOCK, Vectors
from steprule.errors import TargetError
from steprule.formats import FORMATS, Storage
from steprule.language.matrices import ROWS
from steprule.rules import Rule, load
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests import ROOT
from tests.backends.emitted import STEPS, Case, in_bfloat16, record
from tests.backends.test_c import FLAGS, Steps, compiled, memory_of
from tests.backends.test_javascript import job, node, planes_of, run_jobs, slots_of
from tests.cases import CASES, sees, variants
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.covering import SOME_CASES, swept
from tests.launch.row_rules import ALONE, RULES

pytestmark = pytest.mark.apart

SHAPES: list[tuple[int, ...]] = [
    (5, 7),
    (ROWS + 1, 3),
    (3, ROWS + 2),
    (2, 3, 4),
    (2, 2, 3, 5),
    (7,),
    (),
    (1, 9),
    (9, 1),
]
EMPTY: list[tuple[int, ...]] = [(0,), (0, 3), (3, 0), (2, 0, 3), (0, 2, 3), (2, 3, 0)]
LARGE: list[tuple[int, ...]] = [(2, BLOCK + 77), (2 * ROWS + 1, 130)]
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
        every = SHAPES + EMPTY
        shapes = [(2, 5, 6), *(every[(5 * number + k) % len(every)] for k in range(2))]
        plain = Storage(FORMATS[kinds[number % 2]])
        found += [Case(own, tuple(options.items()), plain, shape) for shape in shapes]
    shapes = [(5, 7), (2, 3, 4), (3, ROWS + 2), (7,)]
    low = [RULES["by_neuron"], RULES["confident"], came, adam_mini]
    return found + [Case(own, (), in_bfloat16(own), shape) for own in low for shape in shapes]


def _id(case: Case) -> str:
    options = "".join(f"-{value}" for _, value in case.options)
    states = "".join(f"-{state}" for _, state in case.storage.slots)
    return f"{case.rule.name}{options}-{case.storage.parameter.name}{states}-{case.shape}"


MATRIX = {_id(case): case for case in _cases()}
SOME = [name for name, case in MATRIX.items() if not case.options or (case.rule.name, dict(case.options)) in SOME_CASES]
"""Those of the plain run: of the catalogue's rules what has each value of each option."""
_OF_ALL = [
    Case(RULES["mixed"], (("odd", odd),), Storage(FORMATS[kind]), shape)
    for odd, kind in ((False, "float32"), (True, "float64"))
    for shape in ((300, 20), (4, 33, 5), (70,), (), (3, 0))
]
_OF_ALL += [
    Case(CATALOGUE[name], tuple(options.items()), Storage(FORMATS[("float32", "float64")[number % 2]]), (203,))
    for number, (name, options) in enumerate(own for own in CASES if sees(CATALOGUE[own[0]]) == "all")
    if number % 3 == 0
]
ALL = {_id(case): case for case in _OF_ALL}
"""Of a rule with sums over all beside every other word, and of the catalogue's."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """A function for each plan, in one library; warnings are errors."""
    texts = {name: c.emit(case.plan, name) for name, case in _plans().items()}
    return ctypes.CDLL(str(compiled(tmp_path_factory.mktemp("c"), texts, "-std=c99", *FLAGS)))


def _plans() -> dict[str, Case]:
    """Return a case for each plan, by the name of its function."""
    return {_function(case): case for case in MATRIX.values()}


def _function(case: Case) -> str:
    text = f"{case.rule.name}_{case.options}_{case.storage.parameter.name}_{case.storage.slots}"
    return "".join(letter if letter.isalnum() else "_" for letter in text).strip("_")


@pytest.mark.parametrize("name", swept(MATRIX, SOME))
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


@pytest.mark.parametrize("name", swept([*MATRIX, *ALL], [*SOME, *ALL]))
def test_javascript_has_the_referees_bits(results: dict[str, Any], name: str) -> None:
    case = {**MATRIX, **ALL}[name]
    expected = record(case, name)
    for step, found in enumerate(results[name]):
        expected.check(step, planes_of(case, found), slots_of(found), name)
    assert len(results[name]) == STEPS


def _emitted(rule: Rule) -> tuple[str, str]:
    recipe = Case(rule, (), Storage(FORMATS["float32"]), (1,)).plan
    return c.emit(recipe, rule.name, rule.init), javascript.emit(recipe)


@pytest.mark.slow
def test_it_is_cplusplus_too(tmp_path: Path) -> None:
    texts = {own.name: _emitted(own)[0] for own in (adafactor, came, *RULES.values())}
    compiled(tmp_path, texts, "-std=c++17", *FLAGS, compiler="g++")


def test_the_heads_say_how_to_call() -> None:
    text, module = _emitted(adam_mini)
    head = " ".join(text[: text.index("*/")].split())
    assert "One step of a matrix of rows x columns elements, row after row (rows are along the first axis" in head
    assert "A vector is one row, a number one row of one column. v: a number for each row." in head
    assert "vectors: memory for 2 * rows numbers while a step is taken." in head
    assert "sums" not in head.replace("adam_mini_sums0", "")
    assert (
        "//     sums0(theta, g, m, v, prelude0(beta1, beta2, eps, lr, t, weight_decay), vectors, rows, columns);"
        in module
    )
    text, module = _emitted(came)
    head = " ".join(text[: text.index("*/")].split())
    assert "One step of matrices x rows x columns elements, matrix after matrix" in head
    assert "ndim: the number of axes of the array: 0, 1, 2, ..." in head
    assert "r and r_s: a number for each row. c and c_s: a number for each column." in head
    assert "sums: memory for 1 + 2 * columns numbers while a step is taken" in head
    assert "vectors: memory for matrices * (4 * rows + 4 * columns) numbers while a step is taken" in head
    assert "vectors, rows, columns, matrices);" in module
    assert "ndim is the number of axes" in module


def test_arrays_that_are_no_such_matrices_are_an_error(tmp_path: Path) -> None:
    """Also where a size is missing: JavaScript would read undefined, and do nothing."""
    (tmp_path / "own.mjs").write_text(_emitted(RULES["in_pairs"])[1])
    script = f"""import * as own from "{tmp_path / "own.mjs"}";
const told = [];
const fails = (call) => {{ try {{ call(); told.push("nothing"); }} catch (error) {{ told.push(`${{error}}`); }} }};
const make = (...sizes) => sizes.map((n) => new Float32Array(n).fill(1));
const arrays = make(12, 12, 4, 6), row = own.prelude0(0.1, 2, 6, 3, 4, 6);
for (const changed of [0, 1, 2, 3]) {{
  fails(() => own.sums0(...arrays.with(changed, new Float32Array(5)), row, [], {{}}, 2, 3, 2));
}}
fails(() => own.sums0(...arrays, row, [], {{}}));
fails(() => own.sums0(...arrays, row, [], {{}}, 2, 3));
fails(() => own.sums0(...arrays, row, [], {{}}, 2, 3, 2));
console.log(JSON.stringify(told));"""
    told = json.loads(node(tmp_path, script))
    whole = "matrices * rows * columns = 12 numbers, got 5"
    wanted = [f"theta must have {whole}", f"g must have {whole}"]
    wanted += [f"r must have matrices * rows = {4} numbers, got 5", "c must have matrices * columns = 6 numbers, got 5"]
    wanted += ["theta must have matrices * rows * columns = NaN numbers, got 12"]
    wanted += ["theta must have matrices * rows * columns = 6 numbers, got 12"]
    assert told == [*(f"RangeError: sums0: {text}" for text in wanted), "nothing"]


@pytest.mark.parametrize("target", ["C", "JavaScript"])
def test_groups_of_elements_have_no_loops_over_rows(target: str) -> None:
    rule = sr.rules.adam
    storage = Storage(FORMATS["float32"], "nearest", (("m", "8bit"), ("v", "8bit")))
    in_groups = Case(rule, (), storage, (3, 200)).plan
    seen = replace(in_groups, view="first", vectors=Vectors((), ()))
    with pytest.raises(TargetError, match=rf"{target} has no loops over rows and columns .*; take --states float32"):
        c.emit(seen, "adam") if target == "C" else javascript.emit(seen)


def test_names_of_ours_are_avoided(tmp_path: Path) -> None:
    @sr.rule(matrices="last")
    def rows(
        theta, g, matrix: sr.PerRow, v0: sr.PerColumn, row0, *, columns=0.1, vectors=0.5, ndim=2.0, column_sum1=3.0
    ):
        new = vectors * matrix + sr.mean(g * row0, over="row") + sr.ndim(g)
        v0 = v0 + sr.mean(g, over="column") / ndim * sr.mean(new, over="column")
        return theta - columns * g * new * v0, new, v0, row0 + column_sum1

    recipe = Case(rows, (), Storage(FORMATS["float32"]), (2, 3)).plan
    compiled(tmp_path, {"rows": c.emit(recipe, "rows")}, "-std=c99", *FLAGS)
    (tmp_path / "rows.mjs").write_text(javascript.emit(recipe))
    assert node(tmp_path, f'import "{tmp_path / "rows.mjs"}"; console.log(1);') == "1\n"


def _blocks(language: str) -> list[str]:
    page = (ROOT / "docs" / "c.md").read_text()
    page = page[page.index("import steprule as sr\n\n\n@sr.rule\ndef factored") - len("```python\n") :]
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_programs_of_the_docs(tmp_path: Path) -> None:
    """In C, at any level and without warnings, and in JavaScript, with the numbers of the same steps in NumPy."""
    (tmp_path / "factored.py").write_text(_blocks("python")[0])
    rule = load(f"{tmp_path / 'factored.py'}:factored")
    theta = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    optimizer = sr.Optimizer(theta, rule)
    for _ in range(50):
        optimizer.step(2 * theta)
    wanted = f"{theta[0, 0]:.6f} {theta[1, 2]:.6f}"
    text, module = _emitted(rule)
    (tmp_path / "factored.c").write_text(text)
    (tmp_path / "main.c").write_text(_blocks("c")[0])
    files = [str(tmp_path / name) for name in ("factored.c", "main.c")]
    for level in ("-O0", "-O3"):
        subprocess.run(["gcc", "-std=c99", level, *FLAGS[1:], "-o", str(tmp_path / "main"), *files, "-lm"], check=True)
        assert (
            subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True).stdout == f"{wanted}\n"
        )
    (tmp_path / "factored.mjs").write_text(module)
    assert node(tmp_path, _blocks("js")[-1]) == f"{wanted}\n"
    assert _blocks("c")[0].count(f"/* {wanted} */") == _blocks("js")[-1].count(f"// {wanted}") == 1
