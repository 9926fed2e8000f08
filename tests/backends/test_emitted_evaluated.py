"""The evaluated point in emitted texts: the referee's bits in C and JavaScript, and words and formulas that say it."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import c, javascript, latex, mathml
from steprule.backends import numpy as referee
from steprule.engine import plan
from steprule.evaluated import Evaluated, evaluated
from steprule.formats import FORMATS, Storage
from steprule.rules import CATALOGUE, Rule
from tests.backends.test_c import FLAGS, compiled
from tests.cases import Array, assert_same_bits

pytestmark = pytest.mark.apart

FLOAT32 = Storage(FORMATS["float32"])
STORAGES = {
    "float32": FLOAT32,
    "float64": Storage(FORMATS["float64"]),
    "bfloat16": Storage(FORMATS["bfloat16"]),
    "split24": Storage(FORMATS["bfloat16"], "split24"),
    "split32": Storage(FORMATS["bfloat16"], "split32"),
    "low": Storage(FORMATS["float32"], slots=(("z", "bfloat16"),)),
}
SHAPE = (5, 7)


def found_of(rule: Rule, storage: Storage) -> Evaluated:
    found = evaluated(rule, rule.variant(rule.resolve({})), storage)
    assert found is not None
    return found


def text_of(rule: Rule, storage: Storage) -> str:
    recipe = plan(rule, rule.variant(rule.resolve({})), storage, rides=False)
    return c.emit(recipe, "own", rule.init, found_of(rule, storage).plan)


def planes_of(found: Evaluated) -> list[Array]:
    """Return planes of random bits, in which NaN and infinities are as others."""
    rng = np.random.default_rng(5)
    made = []
    for plane in found.plan.kept_planes:
        kind = np.dtype(plane.dtype)
        bits: Array = rng.integers(0, 256, (*SHAPE, kind.itemsize), np.uint8).view(kind)[..., 0]
        made.append(rng.standard_normal(SHAPE).astype(kind) if kind.kind == "f" else bits)
    return made


def by_referee(found: Evaluated, planes: list[Array], values: dict[str, float]) -> None:
    run = referee.load(found.plan)
    prelude: dict[str, Any] = {}
    exec(referee.emit(found.plan), prelude)
    with np.errstate(all="ignore"):
        run(*planes, prelude["prelude"](*(values[name] for name in found.arguments)))


@pytest.mark.parametrize("name", STORAGES)
@pytest.mark.parametrize("rule", ["schedule_free_adamw", "schedule_free_sgd", "asgd", "averaged", "lookahead"])
def test_c_has_the_referees_bits_and_leaves_all_else(rule: str, name: str, tmp_path: Path) -> None:
    if name == "low" and not rule.startswith("schedule_free"):
        return
    own = CATALOGUE.get(rule) or getattr(sr, rule)("adam")
    found = found_of(own, STORAGES[name])
    library = ctypes.CDLL(
        str(compiled(tmp_path, {"own": text_of(own, STORAGES[name])}, "-std=c99", "-Wall", "-Werror", *FLAGS))
    )
    planes = planes_of(found)
    ours, before = [plane.copy() for plane in planes], [plane.copy() for plane in planes]
    values: Any = {hyper.name: hyper.default for hyper in own.hyperparameters.values()}
    by_referee(found, planes, values)
    sizes = [ctypes.c_size_t(size) for size in (SHAPE if found.plan.has_groups else (planes[0].size,))]
    pointers = [ctypes.c_void_p(plane.ctypes.data) for plane in ours]
    library.own_evaluated(*sizes, *pointers, *(ctypes.c_double(values[one]) for one in found.arguments))
    written = {store.plane for store in found.plan.stores}
    for place, (plane, expected, old) in enumerate(zip(ours, planes, before, strict=True)):
        assert_same_bits(plane, expected if place in written else old, found.plan.kept_planes[place].name)


def _stepped(rule: str) -> tuple[sr.Optimizer, dict[str, Array]]:
    rng = np.random.default_rng(2)
    theta = rng.standard_normal(33).astype(np.float32)
    optimizer = sr.Optimizer(theta, rule, lr=0.1)
    for _ in range(4):
        optimizer.step(rng.standard_normal(33).astype(np.float32))
    return optimizer, {"theta": theta, **optimizer.slots}


@pytest.mark.parametrize("rule", ["schedule_free_adamw", "asgd"])
def test_both_have_the_bits_of_an_optimizer(rule: str, tmp_path: Path) -> None:
    own, (optimizer, arrays) = CATALOGUE[rule], _stepped(rule)
    found, expected = found_of(own, FLOAT32), optimizer.evaluated
    library = ctypes.CDLL(str(compiled(tmp_path, {"own": text_of(own, FLOAT32)}, "-std=c99", *FLAGS)))
    out = np.zeros(33, np.float32)
    given = [np.ascontiguousarray(arrays[name]) for name in found.reads]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*given, out)]
    library.own_evaluated(ctypes.c_size_t(33), *pointers, *(ctypes.c_double(0.9) for _ in found.arguments))
    assert_same_bits(out, expected, "C")

    recipe = plan(own, own.variant(own.resolve({})), FLOAT32, rides=False)
    (tmp_path / "own.mjs").write_text(javascript.emit(recipe, own.init, found.plan))
    numbers = [array.tolist() for array in given]
    (tmp_path / "main.mjs").write_text(
        f"""import {{ evaluated, prelude_evaluated }} from "./own.mjs";
const given = {json.dumps(numbers)}.map((one) => Float32Array.from(one)), out = new Float32Array(33);
evaluated(...given, out, prelude_evaluated({", ".join(["0.9"] * len(found.arguments))}));
console.log(JSON.stringify([...out]));
let said = "";
try {{ evaluated(...given, new Float32Array(3), prelude_evaluated(0.9)); }} catch (error) {{ said = error.message; }}
if (!said.includes("must be equally long")) throw new Error(said);"""
    )
    said = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert_same_bits(np.array(json.loads(said.stdout), np.float32), expected, "JavaScript")


def test_heads_say_how_to_begin_and_to_evaluate() -> None:
    rule = CATALOGUE["schedule_free_sgd"]
    text = " ".join(text_of(rule, FLOAT32).split())
    assert "Before the first step z = theta; other slots are 0." in text
    assert "own_evaluated writes that into theta_evaluated and changes nothing else" in text
    recipe = plan(rule, rule.variant(rule.resolve({})), FLOAT32, rides=False)
    module = javascript.emit(recipe, rule.init, found_of(rule, FLOAT32).plan)
    assert "// Before the first step z = theta; other slots are 0.\n" in module
    assert "//     evaluated(theta, z, theta_evaluated, prelude_evaluated(beta));\n" in module
    assert "evaluated" not in javascript.emit(plan(CATALOGUE["sgd"], (("lr", "number"),), FLOAT32))


def test_formulas_end_with_the_point() -> None:
    rule = CATALOGUE["schedule_free_sgd"]
    assert latex.text(rule).splitlines()[-1] == "x ← θ + (1 - 1 / β)·(z - θ)"
    last = latex.emit(rule).splitlines()[-2]
    assert last == r"x_{t} &= \theta_{t} + \left(1 - \frac{1}{\beta}\right) \, \left(z_{t} - \theta_{t}\right)"
    line = mathml.lines(rule)[-1]
    assert line.name == "x"
    assert '<mn data-of="z" data-age="new"></mn>' in line.numbers
    assert "old" not in line.numbers
    assert latex.point(rule) == "x"
    assert latex.point(CATALOGUE["adam"]) == ""

    @sr.rule(init={"x": "theta"}, evaluated=lambda x: x)
    def mean(theta, g, x, *, lr: sr.Rate = 0.1):
        theta = theta - lr * g
        return theta, 0.9 * x + 0.1 * theta

    assert latex.text(mean).splitlines()[-1] == "θ_evaluated ← x"
