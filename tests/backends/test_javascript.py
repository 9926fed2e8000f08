"""The emitted JavaScript, run by Node: the referee's bits, and powers that are those of Python."""

from __future__ import annotations

import base64
import json
import math
import operator
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import javascript
from steprule.backends.javascript_math import HELPERS
from steprule.backends.loops_memory import vectors_of
from steprule.engine import plan
from steprule.errors import TargetError
from steprule.formats import FORMATS, Storage, keys, stream
from steprule.language.matrices import matrix_shape
from steprule.language.sums import ALL_COLUMNS, ALL_ROWS, IN_COLUMN, IN_ROW, NDIM, rounded_once
from tests.backends.emitted import MATRIX, STEPS, Case, Recorded, recorded
from tests.backends.exact_sums import HARD
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits

pytestmark = pytest.mark.apart

SEED, TENSOR = 9, 4
DRIVER = """
import { readFileSync } from "node:fs";
const ARRAYS = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array,
  uint16: Uint16Array, int16: Int16Array };
const read = ({ dtype, data }) => new ARRAYS[dtype](Uint8Array.from(Buffer.from(data, "base64")).buffer);
const out = {};
for (const job of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const module = await import(job.file);
  const planes = job.planes.map(read), slots = { ...job.slots }, steps = [];
  job.gradients.forEach((given, index) => {
    planes[1].set(read(given));
    const t = index + 1, sums = [], vectors = {}, size = Math.max(1, planes[0].length);
    const values = { ...job.values, ...slots, t, _total: sums, _size: size, _all_size: size };
    const found = job.passes.map((one, k) => {
      const numbers = module[one.prelude](...one.arguments.map((name) => values[name]));
      const row = job.numbers ? read(job.numbers[index][k]) : numbers.slice(0, one.row);
      const rest = one.keys ? [one.keys[index], [0, job.stream]] : [];
      if (one.vectors) rest.unshift(vectors);
      if (one.sums) rest.unshift(sums);
      module[one.kernel](...planes, row, ...rest, ...one.sizes);
      return numbers;
    });
    job.slot_names.forEach((name, k) => { slots[name] = found.at(-1)[job.passes.at(-1).row + k]; });
    const bytes = (a) => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString("base64");
    const numbers = found.map((row) => bytes(Float64Array.from(row)));
    const kept = Object.entries(slots).map(([name, x]) => [name, Object.is(x, -0) ? "-0" : String(x)]);
    steps.push({ planes: planes.map(bytes), slots: Object.fromEntries(kept), numbers });
    if (job.scalars) Object.assign(slots, job.scalars[index]);
  });
  out[job.name] = steps;
}
process.stdout.write(JSON.stringify(out));
"""


def node(folder: Path, script: str, *arguments: str) -> str:
    """Return what a module prints."""
    file = folder / "script.mjs"
    file.write_text(script)
    done = subprocess.run(["node", str(file), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


def sent(array: Array) -> dict[str, str]:
    return {"dtype": array.dtype.name, "data": base64.b64encode(array.tobytes()).decode()}


def job(name: str, case: Case, expected: Recorded, file: Path) -> dict[str, Any]:
    """Write a case's module, and return what the driver is told of it."""
    recipe = case.plan
    file.write_text(javascript.emit(recipe))
    return {
        "name": name,
        "file": str(file),
        "planes": [sent(expected.start[plane.name]) for plane in recipe.kept_planes],
        "gradients": [sent(g) for g in expected.gradients],
        "slots": expected.scalars,
        "slot_names": recipe.prelude.scalar_slots,
        "values": {key: x for key, x in case.values.items() if isinstance(x, (int, float))} | _counts(case),
        "passes": [_pass(part, case) for part in javascript.parts(recipe)],
        "stream": stream(TENSOR),
    }


def _pass(part: javascript.Part, case: Case) -> dict[str, Any]:
    recipe = part.plan
    batch, rows, columns = matrix_shape(case.shape, recipe.view or "first")
    return {
        "prelude": part.prelude,
        "kernel": part.kernel,
        "arguments": javascript.arguments(recipe),
        "row": len(recipe.prelude.conditions),
        "sums": recipe.width,
        "vectors": bool(vectors_of(recipe)),
        "keys": [keys(SEED, t) for t in range(1, STEPS + 1)] if recipe.inputs else None,
        "sizes": [rows, columns, batch] if recipe.view else [rows] if recipe.has_groups else [],
    }


def _counts(case: Case) -> dict[str, int]:
    """Return what preludes take of a tensor that is seen as matrices."""
    batch, rows, columns = matrix_shape(case.shape, case.rule.view or "first")
    sizes = {IN_ROW: columns, IN_COLUMN: rows, ALL_ROWS: batch * rows, ALL_COLUMNS: batch * columns}
    return {**{name: max(1, size) for name, size in sizes.items()}, NDIM: len(case.shape)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases, run by one process of Node."""
    folder = tmp_path_factory.mktemp("javascript")
    jobs = [
        job(name, case, recorded(name, SEED, TENSOR), folder / f"{number}.mjs")
        for number, (name, case) in enumerate(MATRIX.items())
    ]
    return run_jobs(folder, jobs)


def run_jobs(folder: Path, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Run jobs by one process of Node, and return the steps of each by its name."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    found: dict[str, Any] = json.loads(node(folder, DRIVER, str(folder / "jobs.json")))
    return found


def slots_of(found: dict[str, Any]) -> dict[str, float]:
    """Return the slots that are numbers as Node has said them: JSON has no NaN."""
    return {name: float(text) for name, text in found["slots"].items()}


def planes_of(case: Case, found: dict[str, Any]) -> dict[str, Array]:
    """Return the planes that Node has said."""
    return {
        plane.name: np.frombuffer(base64.b64decode(data), plane.dtype)
        for plane, data in zip(case.plan.kept_planes, found["planes"], strict=True)
    }


@pytest.mark.parametrize("name", MATRIX)
def test_every_rule_has_the_referees_bits(results: dict[str, Any], name: str) -> None:
    case, expected = MATRIX[name], recorded(name, SEED, TENSOR)
    for step, found in enumerate(results[name]):
        expected.check(step, planes_of(case, found), slots_of(found), name)
    assert len(results[name]) == STEPS


def _called(folder: Path, name: str, arguments: Sequence[tuple[float, ...]]) -> list[float]:
    script = f"""
const fround = Math.fround;
{"".join(HELPERS.values())}
import {{ readFileSync }} from "node:fs";
const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
process.stdout.write(JSON.stringify(given.map((args) => {name}(...args))));
"""
    (folder / "given.json").write_text(json.dumps(arguments))
    return [float(value) for value in json.loads(node(folder, script, str(folder / "given.json")))]


def test_powers_of_decays_are_pythons(tmp_path: Path) -> None:
    """But for one in a thousand or so, where the C library does not round to nearest: then the last of 53 bits."""
    rng = np.random.default_rng(0)
    steps = sorted({*range(1, 2000), *(10 ** rng.uniform(3, 7, 4000)).astype(int).tolist()})
    pairs = [(beta, t) for beta in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999) for t in steps]
    ours = np.array(_called(tmp_path, "power", pairs))
    python = np.array([beta**t for beta, t in pairs])
    seen = python > 1e-200  # smaller ones are taken from one, and leave no trace
    assert (ours[seen] != python[seen]).mean() < 0.005
    np.testing.assert_array_max_ulp(ours[seen], python[seen], 1)
    # What the kernel is given has every bit.
    np.testing.assert_array_equal(np.float32(1 - ours), np.float32(1 - python))


@pytest.mark.parametrize(
    ("name", "function", "low", "high"),
    [("exponential", math.exp, -600, 600), ("logarithm", math.log, 1e-10, 1e10), ("power", math.pow, 1e-3, 20)],
)
def test_functions_are_rounded_once(tmp_path: Path, name: str, function: Any, low: float, high: float) -> None:
    rng = np.random.default_rng(1)
    is_even = name == "exponential"
    places = rng.uniform(low, high, 5000) if is_even else np.exp(rng.uniform(math.log(low), math.log(high), 5000))
    arguments = [(x, y) for x, y in zip(places.tolist(), rng.uniform(-9, 9, 5000).tolist(), strict=True)]
    given: list[tuple[float, ...]] = [pair if name == "power" else pair[:1] for pair in arguments]
    ours, python = np.array(_called(tmp_path, name, given)), np.array([function(*args) for args in given])
    assert (ours != python).mean() < 0.005
    np.testing.assert_array_max_ulp(ours, python, 1)


def test_ends_of_functions(tmp_path: Path) -> None:
    pairs = [(0.0, 3.0), (-2.0, 3.0), (-2.0, 2.0), (1.0, 1e300), (2.0, 1023.0), (2.0, -1074.0), (0.5, 0.0), (9.0, 0.5)]
    assert _called(tmp_path, "power", pairs) == [math.pow(*pair) for pair in pairs]
    assert _called(tmp_path, "exponential", [(0.0,), (1.0,), (-800.0,)]) == [1.0, math.e, 0.0]
    assert _called(tmp_path, "logarithm", [(1.0,), (math.e,), (1e-300,)]) == [0.0, 1.0, math.log(1e-300)]


def test_remainders_are_pythons(tmp_path: Path) -> None:
    pairs = [(x, y) for x in (-7.5, -6.0, -0.0, 0.0, 1e17, 7.5) for y in (-2.5, -2.0, 2.0, 2.5)]
    for name, function in (("floor_mod", operator.mod), ("floor_divide", operator.floordiv)):
        assert _called(tmp_path, name, pairs) == [function(x, y) for x, y in pairs]


def test_sums_are_rounded_once(tmp_path: Path) -> None:
    script = f"""
{HELPERS["rounded_once"]}
import {{ readFileSync }} from "node:fs";
const number = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
const given = JSON.parse(readFileSync(process.argv[2], "utf8")).map((row) => row.map(number));
process.stdout.write(JSON.stringify(given.map((row) => String(rounded_once(row)))));
"""
    (tmp_path / "given.json").write_text(json.dumps([[repr(x) for x in numbers] for numbers in HARD]))
    found = [float(text) for text in json.loads(node(tmp_path, script, str(tmp_path / "given.json")))]
    for numbers, ours in zip(HARD, found, strict=True):
        assert_same_bits(np.array([ours]), np.array([rounded_once(numbers)]), str(numbers))


def test_names_of_javascript_are_avoided(tmp_path: Path) -> None:
    @sr.rule()
    def function(theta, g, new, await_, delete, *, lr=0.1, t, let=2.0, Math=3.0):
        return theta - lr * (g + let * new + Math * await_ * delete) / t, g, new, await_

    recipe = plan(function, function.variant(function.resolve({})), Storage(FORMATS["float32"]))
    (tmp_path / "named.mjs").write_text(javascript.emit(recipe))
    given = {"lr": "0.1", "t": "1", "let": "2", "Math": "3"}
    script = f"""import {{ prelude, kernel }} from "{tmp_path / "named.mjs"}";
const arrays = [1, 2, 3, 4, 5].map((x) => Float32Array.of(x));
kernel(...arrays, prelude({", ".join(given[name] for name in recipe.prelude.arguments)}));
console.log(arrays.map((a) => a[0]).join());"""
    theta = np.float32(1) - np.float32(0.1) * np.float32(2 + 6 + 60)
    assert node(tmp_path, script).strip() == f"{float(theta)!r},2,2,3,4"


def test_what_is_missing_is_an_error_and_no_nan(tmp_path: Path) -> None:
    adam = CATALOGUE["adam"]
    text = javascript.emit(plan(adam, adam.variant(adam.resolve({})), Storage(FORMATS["float32"])))
    (tmp_path / "adam.mjs").write_text(text)
    script = f"""import {{ prelude, kernel }} from "{tmp_path / "adam.mjs"}";
const make = () => [3, 3, 3, 3].map((n) => new Float32Array(n).fill(1)), told = [];
const fails = (call) => {{ try {{ call(); told.push("nothing"); }} catch (error) {{ told.push(`${{error}}`); }} }};
const arrays = make(), row = prelude(0.9, 0.999, 1e-8, 0.1, 1);
fails(() => prelude(0.9, 0.999, 1e-8, 0.1));
for (const short of [1, 2, 3]) {{
  for (const n of [2, 4]) fails(() => kernel(...arrays.with(short, new Float32Array(n)), row));
}}
fails(() => kernel(...arrays));
fails(() => kernel(...arrays, row));
console.log(JSON.stringify([told, [...arrays[0]]]));"""
    told, theta = json.loads(node(tmp_path, script))
    assert told[0] == "TypeError: prelude takes 5: beta1, beta2, eps, lr, t"
    names = "RangeError: kernel: theta, g, m, v must be equally long, got "
    lengths = ["3, 2, 3, 3", "3, 4, 3, 3", "3, 3, 2, 3", "3, 3, 4, 3", "3, 3, 3, 2", "3, 3, 3, 4"]
    assert told[1:7] == [names + text for text in lengths]
    assert told[7].startswith("TypeError")
    assert told[8] == "nothing"
    assert len(set(theta)) == 1
    assert theta[0] < 1  # one step, and none of those that failed


def test_what_javascript_cannot_say() -> None:
    @sr.rule()
    def normal(theta, g, *, t, lr=0.1):
        return theta - lr * math.erf(t) * g

    variant = normal.variant(normal.resolve({}))
    with pytest.raises(TargetError, match=r"calls math.erf with 1 argument, which JavaScript has no function for"):
        javascript.emit(plan(normal, variant, Storage(FORMATS["float32"])))
    rule = sr.rules.adam
    with pytest.raises(TargetError, match="JavaScript has no type float16"):
        javascript.emit(plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float16"])))
