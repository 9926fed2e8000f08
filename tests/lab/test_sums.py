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
from steprule.lab.entrants import shown
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


SCRIPT = """
const rule = FACTS, code = RULES.one, surface = RULES.surface;
const values = Object.fromEntries(rule.hypers.map((hyper) => [hyper.name, hyper.default]));
const bytes = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const given = { values, noise: GROUND.noise, scale: 1, seed: 1, steps: STEPS };
const runs = STARTS.map((start) => {
  const run = new Run(rule, code, GROUND, surface, { ...given, start });
  run.advance();
  return [run.done, bytes(run.path)];
});
const crowd = new Crowd(rule, code, GROUND, surface, given, Float32Array.from(STARTS.flat()));
while (!crowd.finished) crowd.step();
console.log(JSON.stringify({ runs, crowd: bytes(crowd.now[0]) }));
"""


def on_the_page(rule: sr.Rule, surface: lab.Surface, starts: list[Any], folder: Path) -> tuple[list[Any], Any]:
    """Return the paths from some starts, by the page's scripts, and where a crowd of them ends up."""
    facts, text = shown(rule)
    names = [one[key] for one in facts["passes"] for key in ("prelude", "kernel")]
    code = f"const RULES = {{ one: (() => {{ {text} return {{ {', '.join(names)} }}; }})(),\n"
    code += f"surface: (() => {{ {surface.javascript()} return {{ value, slope }}; }})() }};\n"
    ground = {"dimensions": surface.dimensions, "noise": surface.noise, "limits": surface.limits}
    given = {"FACTS": facts, "GROUND": ground, "STARTS": starts, "STEPS": STEPS}
    script = javascript.helpers(code) + code
    script += "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    for asset in ("numbers", "simulation"):
        script += (files("steprule.lab") / "assets" / f"{asset}.js").read_text()
    found = json.loads(node(folder, script + SCRIPT))
    d = surface.dimensions
    paths = [_floats(data).reshape(-1, d)[: done + 1] for done, data in found["runs"]]
    return paths, _floats(found["crowd"]).reshape(-1, d)


def _floats(data: str) -> Any:
    return np.frombuffer(base64.b64decode(data), np.float32)


@pytest.mark.parametrize("name", ["beale", "noisy-bowl", "reddi"])
@pytest.mark.parametrize("rule", [scaled, centralized, averaged], ids=lambda rule: rule.name)
def test_paths_are_numpys(rule: sr.Rule, name: str, tmp_path: Path) -> None:
    surface = lab.surfaces()[name]
    starts = [[x, x / 3 - 0.1][: surface.dimensions] for x in (-0.9, 0.4, 0.7)]
    paths, ends = on_the_page(rule, surface, starts, tmp_path)
    for start, path, end in zip(starts, paths, ends, strict=True):
        expected = lab.trajectory(rule, surface, STEPS, start=tuple(start))
        assert len(path) == STEPS + 1
        assert_same_bits(path, expected, f"{rule.name} from {start}")
        assert_same_bits(end, expected[-1], f"{rule.name} from {start}, of many")


def test_over_all_is_over_the_point(tmp_path: Path) -> None:
    surface, starts = lab.surfaces()["beale"], [[0.5, -0.3], [-1.2, 0.8]]
    paths, ends = on_the_page(scaled_by_all, surface, starts, tmp_path)
    for start, path, end in zip(starts, paths, ends, strict=True):
        expected = lab.trajectory(scaled_by_one, surface, STEPS, start=(start[0], start[1]))
        assert_same_bits(path, expected, f"from {start}")
        assert_same_bits(end, expected[-1], f"from {start}, of many")


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
