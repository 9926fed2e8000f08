"""Rules that sum over their tensor, in the lab: a point is one tensor, and its path has NumPy's bits."""

from __future__ import annotations

import base64
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule import lab
from steprule.backends import javascript
from steprule.lab.entrants import numbers, shown, stepped
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.backends.test_javascript import node
from tests.cases import assert_same_bits

STEPS = 40


@sr.rule
def scaled(theta, g, m, *, t, lr: sr.Rate = 0.05, beta: sr.Decay = 0.9):
    """Each word of sums, of values that are named and of some that are not."""
    m = beta * m + (1 - beta) * g
    length = sr.norm(m)
    centred = m - sr.mean(m)
    ratio = sr.where(length > 0, (1 + sr.rms(theta)) / (length + 1e-6), 1.0)
    spread = sr.total(abs(centred)) / sr.size(g)
    return theta - lr * ratio * (m + 0.1 * centred) / (1 + spread) / math.sqrt(t), m


@sr.rule
def centralized(theta, g, drift: sr.Scalar, *, t, lr: sr.Rate = 0.002):
    """A sum that takes another, and a scalar slot."""
    g = g - 0.5 * sr.mean(g)
    return theta - lr * g / (1 + sr.rms(g - sr.mean(g))) - 1e-4 * drift, 0.5 * drift + 1 / t


@sr.rule
def averaged(theta, g, *, lr: sr.Rate = 0.001):
    """No sum, but the number of elements."""
    return theta - lr * g / sr.size(g)


@sr.rule
def scaled_by_all(theta, g, *, lr: sr.Rate = 0.05):
    """A sum over all tensors, of which the page has one."""
    return theta - lr * g / (1 + sr.norm(g, over="all"))


@sr.rule
def scaled_by_one(theta, g, *, lr: sr.Rate = 0.05):
    """The same over the tensor."""
    return theta - lr * g / (1 + sr.norm(g))


@sr.rule(init={"v": "start"})
def by_number(theta, g, m, v: sr.PerTensor, steps: sr.PerTensor, *, t, lr: sr.Rate = 0.05, start=0.5):
    """Numbers of the tensor: one that the step takes, with its sum, and one that counts."""
    v = 0.9 * v + 0.1 * sr.total(g * g)
    m = 0.8 * m + g / (math.sqrt(v) + 1e-6)
    return theta - lr * m / (1 + steps), m, v, 0.5 * steps + 0.1 / t


@sr.rule(matrices="last", init={"r": "start"})
def by_rows(theta, g, r: sr.PerRow, c: sr.PerColumn, s: sr.PerTensor, *, lr: sr.Rate = 0.05, start=0.25):
    """A point is one row, of as many columns as coordinates, and no matrix of one row."""
    r = 0.5 * r + sr.mean(g * g, over="row") + 0.01 * sr.size(g, over="row") / sr.size(g, over="column")
    c = 0.5 * c + sr.rms(g, over="column") + 0.1 / sr.size(r) + 0.2 / sr.size(c)
    share = sr.where(sr.ndim(g) > 1, 7.0, sr.mean(c, over="row") * r)
    return theta - lr * g / (1.0 + share + c + s), r, c, 0.5 * s + sr.total(c)


RULES = [scaled, centralized, averaged, by_number, by_rows, adafactor, came, adam_mini]
SCRIPT = """
const rule = FACTS, code = RULES.one, surface = RULES.surface;
const bytes = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const given = { values: VALUES, noise: GROUND.noise, scale: 1, seed: 1, steps: STEPS };
const runs = STARTS.map((start) => {
  const run = new Run(rule, code, GROUND, surface, { ...given, start });
  run.advance();
  const slots = Object.fromEntries(rule.slots.map((name) => [name, bytes(run.names.get(name))]));
  const scalars = Object.fromEntries([...run.scalars].map(([name, history]) => [name, [...history]]));
  return [run.done, bytes(run.path), slots, scalars];
});
const crowd = new Crowd(rule, code, GROUND, surface, given, Float32Array.from(STARTS.flat()));
while (!crowd.finished) crowd.step();
console.log(JSON.stringify({ runs, crowd: bytes(crowd.now[0]) }));
"""


def on_the_page(rule: sr.Rule, surface: lab.Surface, starts: list[Any], folder: Path) -> tuple[list[Any], Any, Any]:
    """Return the paths from some starts, by the page's scripts, where a crowd of them ends up, and slots by step."""
    facts, text = stepped(rule)
    values = {hyper.name: hyper.default for hyper in numbers(rule)}
    names = [one[key] for one in facts["passes"] for key in ("prelude", "kernel")]
    code = f"const RULES = {{ one: (() => {{ {text} return {{ {', '.join(names)} }}; }})(),\n"
    code += f"surface: (() => {{ {surface.javascript()} return {{ value, slope }}; }})() }};\n"
    ground = {"dimensions": surface.dimensions, "noise": surface.noise, "limits": surface.limits}
    given = {"FACTS": facts, "VALUES": values, "GROUND": ground, "STARTS": starts, "STEPS": STEPS}
    script = javascript.helpers(code) + code
    script += "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    for asset in ("numbers", "simulation"):
        script += (files("steprule.lab") / "assets" / f"{asset}.js").read_text()
    found = json.loads(node(folder, script + SCRIPT))
    d = surface.dimensions
    paths = [_floats(data).reshape(-1, d)[: done + 1] for done, data, _, _ in found["runs"]]
    kept = [
        {**{name: _floats(data).reshape(-1, d) for name, data in slots.items()}, **scalars}
        for _, _, slots, scalars in found["runs"]
    ]
    return paths, _floats(found["crowd"]).reshape(-1, d), kept


def _floats(data: str) -> Any:
    return np.frombuffer(base64.b64decode(data), np.float32)


@pytest.mark.parametrize("name", ["beale", "noisy-bowl", "reddi"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_paths_are_numpys(rule: sr.Rule, name: str, tmp_path: Path) -> None:
    surface = lab.surfaces()[name]
    starts = [[x, x / 3 - 0.1][: surface.dimensions] for x in (-0.9, 0.4, 0.7)]
    paths, ends, _ = on_the_page(rule, surface, starts, tmp_path)
    for start, path, end in zip(starts, paths, ends, strict=True):
        expected = lab.trajectory(rule, surface, STEPS, start=tuple(start))
        assert len(path) == STEPS + 1
        assert_same_bits(path, expected, f"{rule.name} from {start}")
        assert_same_bits(end, expected[-1], f"{rule.name} from {start}, of many")


def test_over_all_is_over_the_point(tmp_path: Path) -> None:
    surface, starts = lab.surfaces()["beale"], [[0.5, -0.3], [-1.2, 0.8]]
    paths, ends, _ = on_the_page(scaled_by_all, surface, starts, tmp_path)
    for start, path, end in zip(starts, paths, ends, strict=True):
        expected = lab.trajectory(scaled_by_one, surface, STEPS, start=(start[0], start[1]))
        assert_same_bits(path, expected, f"from {start}")
        assert_same_bits(end, expected[-1], f"from {start}, of many")


def test_slots_of_rows_columns_and_the_tensor(tmp_path: Path) -> None:
    """A number of the row stands beside every coordinate; what there is one number of has a history of its own."""
    surface, start = lab.surfaces()["beale"], (0.4, -0.3)
    _, _, [kept] = on_the_page(by_rows, surface, [[*start]], tmp_path)
    theta = np.array(start, np.float32)
    optimizer = sr.Optimizer(theta, by_rows, backend="numpy")
    assert_same_bits(kept["r"][0], np.full(2, 0.25, np.float32), "r before the first step")
    for t in range(1, STEPS + 1):
        optimizer.step(surface.gradient(theta.astype(np.float64), t, 0.5).astype(np.float32))
        slots = optimizer.slots
        assert slots["r"].shape == (1,)
        assert_same_bits(kept["r"][t], np.full(2, slots["r"][0]), f"r at {t}")
        assert_same_bits(kept["c"][t], slots["c"], f"c at {t}")
        assert kept["s"][t] == float(np.ravel(slots["s"])[0])


def test_the_page_shows_what_sums_come_to() -> None:
    """Named numbers of the tensor are looked into like others; a rule without sums has one pass, as ever."""
    facts, _ = shown(scaled)
    assert {"length", "ratio", "spread"} <= set(facts["probes"])
    assert [one["kernel"] for one in facts["passes"]] == ["sums0", "sums1", "kernel"]
    assert facts["sums"]
    adam, _ = shown(sr.rules.adam)
    assert [one["kernel"] for one in adam["passes"]] == ["kernel"]
    assert not adam["sums"]
    text = lab.page(lab.View((scaled,)))
    assert "return { prelude0, sums0, prelude1, sums1, prelude, kernel };" in text
    assert "function rounded_once(" in text
