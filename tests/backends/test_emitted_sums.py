"""Rules with sums in emitted C and JavaScript, called as a program calls them."""

from __future__ import annotations

import ctypes
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import c, javascript
from steprule.compile import BLOCK, Plan
from steprule.engine import plan
from steprule.formats import FORMATS, Storage
from steprule.language import total
from steprule.language.sums import ALL, rounded_once
from steprule.rules import Rule, load
from tests import ROOT
from tests.backends.test_c import FLAGS, compiled
from tests.backends.test_javascript import node
from tests.cases import Array, assert_same_bits

pytestmark = pytest.mark.apart

SIZES = (3, 2 * BLOCK + 5, 700)


@sr.rule
def by_all(theta, g, m, *, lr: sr.Rate = 0.1, beta: sr.Decay = 0.9):
    """Sums over the tensor and over all, the second of which takes the first; and both sizes."""
    m = beta * m + (1 - beta) * g
    near = m - sr.total(g, over="all") / sr.size(g, over="all")
    ratio = sr.norm(theta) / (math.sqrt(sr.total(near * near, over="all")) + 1e-6)
    return theta - lr * ratio * m / math.sqrt(sr.size(g)), m


@pytest.fixture
def planned() -> Plan:
    return _plan(by_all)


def _places(recipe: Plan) -> list[list[int]]:
    """Return which of the sums each pass finds of all arrays, by their places."""
    found, first = [], 0
    for before in recipe.before:
        found.append([first + k for k, name in enumerate(before.totals) if name.startswith(ALL)])
        first += len(before.totals)
    assert list(map(len, found)) == [1, 1]
    assert first == 3
    return [*found, []]


def _plan(rule: Rule) -> Plan:
    return plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"]))


def _arrays(t: int) -> list[Array]:
    rng = np.random.default_rng(t)
    return [(rng.standard_normal(size) * np.exp2(rng.integers(-9, 9, size))).astype(np.float32) for size in SIZES]


def _over_all(arrays: list[Array]) -> float:
    """Return the sum over all arrays: of the sums of each."""
    return rounded_once([total(array) for array in arrays])


def _expected(steps: int) -> tuple[list[Array], list[Array]]:
    """Return parameters and slots after some steps, by the rule's own lines on arrays, all tensors at once."""
    f = np.float32
    thetas: list[Array] = _arrays(0)
    ms: list[Array] = [np.zeros(size, np.float32) for size in SIZES]
    for t in range(1, steps + 1):
        gs = _arrays(t)
        ms = [f(0.9) * m + f(1 - 0.9) * g for m, g in zip(ms, gs, strict=True)]
        off = f(_over_all(gs) / sum(SIZES))
        length = math.sqrt(_over_all([(m - off) * (m - off) for m in ms])) + 1e-6
        for k, (theta, m) in enumerate(zip(thetas, ms, strict=True)):
            ratio = sr.norm(theta) / length
            thetas[k] = theta - f(0.1 * ratio) * m / f(math.sqrt(theta.size))
    return thetas, ms


def test_sums_over_all_in_c(planned: Plan, tmp_path: Path) -> None:
    """The passes are called for every array before the next one, and their sums added up between them."""
    text = c.emit(planned, "by_all")
    assert "void by_all(" not in text, "no function of one array steps by a sum over all"
    head = " ".join(text[: text.index("*/")].split())
    places = _places(planned)
    for number in (0, 1):
        place, after = places[number][0], f"after by_all_sums{number} put by_all_total of theirs in each."
        assert f"sums[{place}] is over all arrays: {after}" in head
    library = ctypes.CDLL(str(compiled(tmp_path, {"by_all": text}, "-std=c99", *FLAGS)))
    library.by_all_total.restype = ctypes.c_double
    thetas, ms, sums = _arrays(0), [np.zeros(size, np.float32) for size in SIZES], [np.zeros(3) for _ in SIZES]
    wanted, wanted_ms = _expected(3)
    for t in range(1, 4):
        for number, which in enumerate(("sums0", "sums1", "step")):
            for arrays in zip(thetas, _arrays(t), ms, sums, strict=True):
                pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
                late = [ctypes.c_double(sum(SIZES))] if "all_size" in _declared(text, which) else []
                function = getattr(library, f"by_all_{which}")
                function(ctypes.c_size_t(arrays[0].size), *pointers, *late, ctypes.c_double(0.9), ctypes.c_double(0.1))
            for place in places[number]:
                theirs = np.array([own[place] for own in sums])
                whole = library.by_all_total(ctypes.c_size_t(len(theirs)), ctypes.c_void_p(theirs.ctypes.data))
                for own in sums:
                    own[place] = whole
    for k in range(len(SIZES)):
        assert_same_bits(ms[k], wanted_ms[k], f"m of {SIZES[k]}")
        assert_same_bits(thetas[k], wanted[k], f"theta of {SIZES[k]}")


def _declared(text: str, which: str) -> str:
    found = re.search(rf"void by_all_{which}\((.*?)\)", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_sums_over_all_in_javascript(planned: Plan, tmp_path: Path) -> None:
    text = javascript.emit(planned)
    places = _places(planned)
    for place in (places[0][0], places[1][0]):
        assert f"// sums[{place}] is over all arrays: put rounded_once([...]) of theirs there" in text
    (tmp_path / "by_all.mjs").write_text(text)
    given = {"thetas": _arrays(0), "gs": [_arrays(t) for t in range(1, 4)]}
    (tmp_path / "given.json").write_text(json.dumps(given, default=lambda array: array.tolist()))
    names = [javascript.arguments(part.plan) for part in javascript.parts(planned)]
    script = f"""
import * as module from "{tmp_path / "by_all.mjs"}";
import {{ readFileSync }} from "node:fs";
const {{ thetas, gs }} = JSON.parse(readFileSync(process.argv[2], "utf8"));
const float = (array) => Float32Array.from(array), names = {json.dumps(names)};
const own = thetas.map((theta) => ({{ theta: float(theta), m: new Float32Array(theta.length), sums: [] }}));
const values = {{ beta: 0.9, lr: 0.1, _all_size: {sum(SIZES)} }};
for (const step of gs) {{
  [["prelude0", "sums0"], ["prelude1", "sums1"], ["prelude", "kernel"]].forEach(([prelude, kernel], k) => {{
    own.forEach(({{ theta, m, sums }}, n) => {{
      const given = {{ ...values, _size: theta.length, _total: sums }};
      module[kernel](theta, float(step[n]), m, module[prelude](...names[k].map((name) => given[name])), sums);
    }});
    for (const place of {places}[k]) {{
      const whole = module.rounded_once(own.map(({{ sums }}) => sums[place]));
      for (const {{ sums }} of own) sums[place] = whole;
    }}
  }});
}}
console.log(JSON.stringify(own.map(({{ theta }}) => [...theta])));
"""
    for size, found, wanted in zip(
        SIZES, json.loads(node(tmp_path, script, str(tmp_path / "given.json"))), _expected(3)[0], strict=True
    ):
        assert_same_bits(np.array(found, np.float32), wanted, f"theta of {size}")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "c.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_the_program_of_the_docs(level: str, tmp_path: Path) -> None:
    """It compiles without warnings as a whole, at any level, and steps as NumPy does; so does the module."""
    (tmp_path / "scaled.py").write_text(_blocks("python")[0])
    rule = load(f"{tmp_path / 'scaled.py'}:scaled")
    theta = np.array([1, 2, 3], np.float32)
    optimizer = sr.Optimizer(theta, rule)
    for _ in range(50):
        optimizer.step(2 * theta)
    program = _blocks("c")[1]
    (tmp_path / "scaled.c").write_text(c.emit(_plan(rule), "scaled"))
    (tmp_path / "main.c").write_text(program)
    flags = ["-std=c99", level, *FLAGS[1:]]
    files = [str(tmp_path / name) for name in ("scaled.c", "main.c")]
    subprocess.run(["gcc", *flags, "-o", str(tmp_path / "main"), *files, "-lm"], check=True)
    said = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True).stdout
    assert said == " ".join(f"{x:.6f}" for x in theta) + "\n"
    assert f"/* {said.strip()} */" in program
    (tmp_path / "scaled.mjs").write_text(javascript.emit(_plan(rule)))
    (tmp_path / "main.mjs").write_text(_blocks("js")[1])
    printed: Any = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(np.array(printed.stdout.split(), float), theta, atol=1e-6)
