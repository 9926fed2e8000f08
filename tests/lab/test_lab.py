"""The lab without a browser: surfaces, random numbers, stories, and what the page is made of."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import os
import re
import threading
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy

import steprule as sr
from steprule import lab
from steprule.backends import javascript, latex, mathml
from steprule.engine import PassKey
from steprule.engine import kernel as kernel_of
from steprule.errors import HyperparameterError, ProblemError, RuleError, StepruleError, TargetError
from steprule.formats import FORMATS, Storage
from steprule.lab.entrants import menu, plan_of, shown
from steprule.lab.expressions import as_javascript, as_python, nodes
from steprule.lab.noise import normal, uniform
from steprule.lab.presets import first_view, presets
from steprule.lab.surfaces import NAMES
from steprule.launch.referee import REFEREE
from steprule.race.load import load_problem
from steprule.rules import CATALOGUE
from steprule.rules.named import named, probes
from tests.backends.test_javascript import node
from tests.cases import assert_same_bits

SURFACES = lab.surfaces()
X, Y, T, U = (sympy.Symbol(name, real=True) for name in "xytu")


def _points(surface: lab.Surface, count: int = 200) -> Any:
    rng = np.random.default_rng(3)
    sides = np.array(surface.box[: surface.dimensions])
    return rng.uniform(sides[:, :1], sides[:, 1:], (surface.dimensions, count))


def test_the_surfaces_have_their_names() -> None:
    assert tuple(SURFACES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loss(name: str) -> None:
    surface = SURFACES[name]
    points = _points(surface)
    value = surface.value if surface.sampled is None else surface.sampled
    f = sympy.lambdify((X, Y, T, U), value, "numpy")
    for t, u in ((1, 0.05), (2, 0.5)):
        gradient = surface.gradient(points, t, u)
        for k in range(surface.dimensions):
            ends = []
            for sign in (1, -1):
                moved = points.copy()
                moved[k] += sign * 1e-5
                ends.append(f(moved[0], moved[1] if surface.dimensions > 1 else 0.0, t, u))
            slope = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(gradient[k], np.broadcast_to(slope, gradient[k].shape), rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_minima_are_where_the_mean_gradient_vanishes(name: str) -> None:
    surface = SURFACES[name]
    for point in surface.minima:
        around = [surface.loss(np.array(point) + delta) for delta in 0.01 * np.eye(surface.dimensions)]
        assert all(surface.loss(np.array(point)) <= loss for loss in around)
        if surface.limits is None:
            slope = [sympy.diff(surface.value, symbol).subs({X: point[0], Y: point[-1]}) for symbol in (X, Y)]
            assert max(abs(float(part)) for part in slope) < 1e-3


def test_sampled_losses_have_the_mean_that_is_drawn() -> None:
    sparse, reddi = SURFACES["sparse-bowl"], SURFACES["reddi"]
    assert sparse.sampled is not None
    assert reddi.sampled is not None
    assert sympy.simplify(sympy.integrate(sparse.sampled, (U, 0, 1)) - sparse.value) == pytest.approx(0)
    silence = sympy.lambdify((X, Y, T), SURFACES["silence"].sampled, "numpy")
    steps = np.arange(1.0, 5251.0)
    for x, y in ((0.5, -2.0), (2.0, 1.0)):
        mean = np.broadcast_to(silence(x, y, steps), steps.shape).mean()
        assert mean == pytest.approx(float(SURFACES["silence"].loss(np.array([x, y]))))
    over_a_period = sum(reddi.sampled.subs(T, t) for t in range(1, 102)) / 101
    assert sympy.simplify(over_a_period - reddi.value) == 0


def test_surfaces_of_the_race_are_the_same() -> None:
    for name in ("long-valley", "saddle"):
        problem: Any = load_problem(name).problem
        assert SURFACES[name].box == problem.box
        for point in _points(SURFACES[name], 20).T:
            assert float(SURFACES[name].loss(point)) == pytest.approx(problem.value(*point), rel=1e-12)
            np.testing.assert_allclose(SURFACES[name].gradient(point), problem.slope(*point), rtol=1e-12, atol=1e-12)


def _in_node(surface: lab.Surface, points: Any, t: int, u: float, folder: Path) -> list[list[float]]:
    code = surface.javascript()
    given = np.atleast_2d(points).T.tolist()
    kinks = ", ...kinks(x, y, t, u)" if surface.kinks else ""
    script = f"""{javascript.helpers(code)}{code}
const t = {t}, u = {u};
const found = {json.dumps(given)}.map(([x, y = 0]) => [...value(x, y, t, u), ...slope(x, y, t, u){kinks}]);
process.stdout.write(JSON.stringify(found.map((row) => row.map(String))));"""
    return [[float(cell) for cell in row] for row in json.loads(node(folder, script))]


@pytest.mark.parametrize("name", [*NAMES, "own"])
def test_javascript_has_the_bits_of_numpy(name: str, tmp_path: Path) -> None:
    own = (
        "exp(-x**2) * sin(3*y) + abs(x - y) / (1 + y**4) + max(x, 2*y) - sqrt(x**2 + 1)"
        " + log(1 + x**2 + y**2) * tanh(x - y)"
    )
    surface = lab.own(own) if name == "own" else SURFACES[name]
    points = np.concatenate([_points(surface), 1e3 * _points(surface, 20)], axis=1)
    for t, u in ((1, 0.05), (55, 0.7)):
        rows = np.array(_in_node(surface, points, t, u, tmp_path))
        losses = np.broadcast_to(surface.loss(points), points.shape[1:])
        assert_same_bits(rows[:, 0].copy(), np.ascontiguousarray(losses), f"{name} loss")
        for k, slope in enumerate(surface.gradient(points, t, u)):
            assert_same_bits(rows[:, 1 + k].copy(), slope, f"{name} slope {k}")


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("sin(x)", np.sin),
        ("cos(x)", np.cos),
        ("exp(x)", np.exp),
        ("tanh(x)", np.tanh),
        ("tanh(x / 40)", lambda x: np.tanh(x / 40)),
        ("tanh(x * 1e-9)", lambda x: np.tanh(x * 1e-9)),
        ("log(x**2)", lambda x: np.log(x**2)),
        ("log(1 + x * 1e-9)", lambda x: np.log(1 + x * 1e-9)),
        ("x**5", lambda x: x**5),
        ("1/x**3", lambda x: x**-3.0),
    ],
)
def test_functions_that_are_written_out(text: str, function: Any) -> None:
    x = np.linspace(-40.05, 40.05, 4000)
    found = lab.own(text).loss(np.array([x, x]))
    np.testing.assert_allclose(found, function(x), rtol=2e-12, atol=1e-13 if text in ("sin(x)", "cos(x)") else 0)


def test_shared_parts_are_computed_once() -> None:
    z = (X + Y) ** 2
    text = as_python("f", nodes([z * sympy.sin(z) + z]))
    assert text.count("x + y") == 1
    assert as_javascript("f", nodes([X * Y])) == "function f(x, y, t, u) {\n    return [(x * y)];\n}\n"


def test_random_numbers_are_uniform_and_normal() -> None:
    found = np.array([uniform(1, t, 0) for t in range(20_000)])
    assert found.min() >= 0.0
    assert found.max() < 1
    np.testing.assert_allclose(np.histogram(found, 10, (0, 1))[0], 2000, atol=200)
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
    other = np.array([uniform(2, t, 0) for t in range(20_000)])
    assert abs(np.corrcoef(found, other)[0, 1]) < 0.02
    noise = np.array([[normal(1, t, k) for k in (0, 1)] for t in range(10_000)])
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.04)


# What the stories on the page say, in numbers: by NumPy, from the same pairs that make the page's links.
PRESETS = {one["key"]: dict(one["pairs"]) for one in presets()}


def _path(key: str, rule: str, **changed: Any) -> Any:
    pairs = {**PRESETS[key], **changed}
    surface = SURFACES[pairs["surface"]]
    chosen = menu()[rule]
    values: Any = {
        hyper: float(pairs[place])
        for hyper in chosen.hyperparameters
        for place in (hyper, f"{rule}.{hyper}")
        if place in pairs
    }
    start = tuple(map(float, pairs["start"].split(","))) if "start" in pairs else None
    noise = float(pairs["noise"]) if "noise" in pairs else None
    steps = int(pairs.get("steps", surface.steps))
    return lab.trajectory(
        chosen, surface, steps, start=start, noise=noise, scale=float(pairs.get("scale", 1)), **values
    )


def _ends(key: str, rule: str, **changed: Any) -> Any:
    return _path(key, rule, **changed)[-1]


def _moved(key: str, hyper: str, value: str) -> dict[str, str]:
    """Return what a story's slider changes, as the page does: for the rule that is looked into, or for all."""
    pairs = PRESETS[key]
    if pairs.get("scope") == "one":
        return {f"{pairs['look']}.{hyper}": value}
    return {hyper: value, **{place: value for place in pairs if place.endswith(f".{hyper}")}}


def _losses(key: str, rule: str, **changed: Any) -> Any:
    """Return the loss at each step of a story."""
    return SURFACES[PRESETS[key]["surface"]].loss(_path(key, rule, **changed).T.astype(float))


def test_every_story_is_told_below() -> None:
    told = {"valley": "momentum_crosses_the_valley", "stall": "adagrad_stalls", "correction": "bias_correction"}
    told |= {"scale": "scaling_the_loss_changes_no_bit", "bound": "step_bound", "annealing": "annealing"}
    told |= {"amsgrad": "amsgrad", "schedule-free": "schedule_free"}
    told |= {"decay": "weight_decay", "sparse": "sparse_gradients", "saddle": "saddle", "starts": "a_thousand_starts"}
    assert told.keys() == PRESETS.keys()
    assert all(f"test_story_{name}" in globals() for name in told.values())


def test_story_momentum_crosses_the_valley() -> None:
    losses = {rule: float(SURFACES["rosenbrock"].loss(_ends("valley", rule))) for rule in ("sgd", "momentum")}
    assert losses["momentum"] < losses["sgd"] / 100
    assert PRESETS["valley"]["sgd.lr"] == PRESETS["valley"]["momentum.lr"]
    twice, more = _moved("valley", "lr", "0.002"), _moved("valley", "lr", "0.005")
    assert _losses("valley", "sgd", **twice)[-1] < losses["sgd"] / 100, "twice the rate helps it"
    assert np.isnan(_ends("valley", "sgd", **more)).all(), "the walls throw it out"
    np.testing.assert_array_equal(_path("valley", "momentum", **more), _path("valley", "momentum"))


def test_story_adagrad_stalls() -> None:
    steps = {rule: np.abs(np.diff(_path("stall", rule), axis=0)).max(axis=1) for rule in ("adagrad", "rmsprop")}
    assert steps["adagrad"][-100:].max() < steps["adagrad"][0] / 50
    assert float(SURFACES["rosenbrock"].loss(_ends("stall", "adagrad"))) > 1
    assert float(SURFACES["rosenbrock"].loss(_ends("stall", "adam"))) < 0.01


def test_story_bias_correction() -> None:
    first = {rule: np.abs(np.diff(_path("correction", rule), axis=0)) for rule in ("adam", "adam_uncorrected")}
    np.testing.assert_allclose(first["adam"][0], 0.1, rtol=1e-5)
    np.testing.assert_allclose(first["adam_uncorrected"][0], 0.1 * 0.1 / math.sqrt(0.001), rtol=1e-5)
    assert first["adam_uncorrected"][:10].mean() > 1.5 * first["adam"][:10].mean()
    corrected, uncorrected = (_losses("correction", rule) for rule in ("adam", "adam_uncorrected"))
    assert uncorrected.max() > 10 * uncorrected[0], "thrown out"
    assert (uncorrected[1:] > corrected[1:]).mean() > 0.9
    assert uncorrected[-1] > 10 * corrected[-1], "not regained by the end"


def test_story_scaling_the_loss_changes_no_bit() -> None:
    plain = _path("scale", "adam", scale="1")
    for power in (-10, -2, 3, 9):
        np.testing.assert_array_equal(_path("scale", "adam", scale=str(2.0**power)), plain)
        assert (_path("scale", "sgd", scale=str(2.0**power)) != _path("scale", "sgd", scale="1")).any()
    # “loss ×” takes other factors as well; sgd crawls, or is thrown out.
    for factor in ("0.001", "0.03", "7.3", "1000"):
        np.testing.assert_allclose(_path("scale", "adam", scale=factor), plain, atol=0.01)
        end = _ends("scale", "sgd", scale=factor)
        far = np.linalg.norm(end - np.array([1, 1])) > 1
        assert far if float(factor) < 1 else not np.isfinite(end).all(), factor


def test_story_step_bound() -> None:
    lr = float(PRESETS["bound"]["lr"])
    adam, rmsprop = (np.abs(np.diff(_path("bound", rule), axis=0)) / lr for rule in ("adam", "rmsprop"))
    assert adam[:, 0].max() <= 1 + 1e-4, "gradients that are alike; places near 2.4 are rounded by 1e-4 of a step"
    assert (adam[:5000, 1] == 0).all(), "the silence"
    assert adam[5000, 1] == pytest.approx(0.1 / math.sqrt(0.001), rel=0.01)
    assert int(np.argmax(adam[:, 1])) == 5000 + 11, "the twelfth gradient"
    assert adam[5011, 1] == pytest.approx(6.5, abs=0.05)
    least_bound = (1 - 0.9) / (math.sqrt(1 - 0.999) * math.sqrt(1 - 0.9**2 / 0.999))
    assert adam.max() < least_bound == pytest.approx(7.3, abs=0.05)
    assert rmsprop[0, 0] == pytest.approx(10, rel=1e-4)
    # It is played from shortly before the silence ends, and slowly enough to be seen.
    seconds = (SURFACES["silence"].steps - int(PRESETS["bound"]["t"])) / int(PRESETS["bound"]["speed"])
    assert 3 < seconds < 8


def test_story_annealing() -> None:
    path = _path("annealing", "adam")
    ratios = np.abs(np.diff(path, axis=0)) / float(PRESETS["annealing"]["lr"])  # of Adam, but for epsilon
    assert ratios[:30].mean() > 0.8
    assert ratios[-100:].mean() < 0.25
    assert np.linalg.norm(path[-1]) < 0.1 * np.linalg.norm(path[0])


def test_story_amsgrad() -> None:
    adam, amsgrad = _path("amsgrad", "adam")[:, 0], _path("amsgrad", "amsgrad")[:, 0]
    assert adam[-101:].max() == 1
    assert adam[-101:].mean() > 0.5
    assert amsgrad[-101:].min() == -1
    assert amsgrad[-101:].mean() < -0.6


def test_story_weight_decay() -> None:
    # Both are pulled from (1, 1) towards zero; the coupled one hardly.
    coupled, decoupled = _ends("decay", "l2(adam)"), _ends("decay", "adamw")
    without = _ends("decay", "adamw", weight_decay="0")
    assert np.linalg.norm(decoupled) < np.linalg.norm(coupled) - 0.2 < np.linalg.norm(without)
    more = _moved("decay", "weight_decay", "1.0")
    ends = {rule: np.linalg.norm(_ends("decay", rule, **more)) for rule in ("l2(adam)", "adamw")}
    assert ends["adamw"] < np.linalg.norm(decoupled), "more decay is felt where it is apart"
    assert ends["adamw"] < ends["l2(adam)"] - 0.2


def test_story_sparse_gradients() -> None:
    rates = {rule: float(PRESETS["sparse"][f"{rule}.lr"]) for rule in ("sgd", "adagrad", "adam")}
    # sgd is given nearly what x bears, and more is not to be had.
    assert 0.9 * 0.2 < rates["sgd"] < 0.2
    assert np.abs(_ends("sparse", "sgd", **{"sgd.lr": "0.21"})[0]) > 10
    ends = {rule: _losses("sparse", rule)[-1] for rule in rates}
    assert max(ends["adagrad"], ends["adam"]) < ends["sgd"] / 50
    y = {rule: np.abs(_path("sparse", rule)[:, 1]) for rule in rates}
    seen = int(np.argmax(y["sgd"] < y["sgd"][0]))  # the step after which y has been seen for the first time
    assert y["adagrad"][0] - y["adagrad"][seen] > 2 * (y["sgd"][0] - y["sgd"][seen]), "its steps are long"
    assert y["sgd"][-1] > 10 * max(y["adagrad"][-1], y["adam"][-1])


def test_story_saddle() -> None:
    for rule in ("sgd", "momentum"):
        assert abs(_ends("saddle", rule)[1]) < 0.2, f"{rule} waits on the ridge"
        assert _losses("saddle", rule)[-1] == pytest.approx(0.25, abs=0.02)
    for rule in ("rmsprop", "adam"):
        assert np.argmax(np.abs(_path("saddle", rule)[:, 1]) > 0.5) < 60, f"{rule} leaves at once"
        assert _losses("saddle", rule)[-1] < 0.005


def test_story_schedule_free() -> None:
    rule, surface = "schedule_free_sgd", SURFACES["noisy-bowl"]
    sgd = _losses("schedule-free", "sgd")
    pairs = PRESETS["schedule-free"]
    given: dict[str, Any] = {"noise": float(pairs["noise"]), "lr": float(pairs[f"{rule}.lr"])}
    assert pairs["sgd.lr"] == pairs[f"{rule}.lr"]
    points = {
        where: lab.trajectory(rule, surface, 400, evaluated=where == "x", **given).astype(float) for where in ("x", "y")
    }
    losses = {where: surface.loss(path.T) for where, path in points.items()}
    assert losses["x"][101:].mean() < sgd[101:].mean() / 10
    assert losses["x"][101:].mean() < losses["y"][101:].mean()
    slow = _losses("schedule-free", "sgd", **{"sgd.lr": "0.02"})
    assert slow[-100:].mean() < sgd[-100:].mean() / 10, "a tenth of its rate is calm in the end"
    assert slow[50] > 5 * losses["x"][50], "and takes long"
    # z, by the paper's own relation y = 0.9 x + 0.1 z, jumps as sgd does; so the step's share in the average falls.
    z = (points["y"] - 0.9 * points["x"]) / 0.1
    jumps = {name: np.abs(np.diff(path, axis=0))[-100:].mean() for name, path in {"z": z, **points}.items()}
    of_sgd = np.abs(np.diff(_path("schedule-free", "sgd").astype(float), axis=0))[-100:].mean()
    assert 0.5 * of_sgd < jumps["z"] < 2 * of_sgd
    assert jumps["x"] < jumps["y"] < of_sgd / 5
    others = [
        surface.loss(lab.trajectory(rule, surface, 400, seed=s, evaluated=True, **given).T.astype(float))
        for s in (2, 3, 4)
    ]
    assert np.mean([one[101:] for one in others]) < sgd[101:].mean() / 10, "with other noise too"


def test_story_a_thousand_starts() -> None:
    surface, side = SURFACES["himmelblau"], 32
    cells = np.meshgrid(*(low + (high - low) * (np.arange(side) + 0.5) / side for low, high in surface.box))
    starts = np.stack([axis.ravel() for axis in cells], axis=1).astype(np.float32)
    reached = {}
    for rule in PRESETS["starts"]["rules"].split(","):
        theta = starts.ravel().copy()
        optimizer = sr.Optimizer(theta, rule, backend="numpy", lr=float(PRESETS["starts"][f"{rule}.lr"]))
        for t in range(1, surface.steps + 1):
            gradient = surface.gradient(theta.astype(float).reshape(-1, 2).T, t)
            with np.errstate(all="ignore"):
                optimizer.step(np.ascontiguousarray(gradient.T).ravel().astype(np.float32))
        off = np.linalg.norm(theta.reshape(-1, 1, 2) - np.array(surface.minima), axis=2)
        reached[rule] = np.where(off.min(axis=1) < 0.33, off.argmin(axis=1), -1)  # as the page counts an arrival
        assert {0, 1, 2, 3} <= set(reached[rule].tolist()), f"{rule}: it depends on the start"
    for one, other in itertools.combinations(reached, 2):
        both = (reached[one] >= 0) & (reached[other] >= 0)
        assert (reached[one] != reached[other])[both].any(), f"{one} and {other}: and differently for each rule"


def test_every_rule_of_the_menu_can_be_shown() -> None:
    assert {name for name, rule in CATALOGUE.items() if not rule.needs_matrices} < set(menu())
    for rule in menu().values():
        facts, code = shown(rule)
        assert {"theta", *facts["slots"], *facts["scalars"]} <= {line["name"] for line in facts["lines"]}
        assert set(facts["hosts"]) <= set(facts["probes"])
        assert facts["text"] == latex.text(rule)
        assert "function kernel(" in code
        json.dumps(facts, allow_nan=False)


# Those that see rows and columns step with their probes in test_sums.py.
@pytest.mark.parametrize("name", [name for name, rule in menu().items() if rule.view is None])
def test_probes_change_no_bit_and_are_what_they_are_called(name: str) -> None:
    rule = menu()[name]
    values = rule.resolve({})
    variant = rule.variant(values)
    rng = np.random.default_rng(0)
    looked = plan_of(rule)
    which: list[PassKey] = [*(("probe", number) for number in range(len(looked.before))), "probe"]
    kernels = [kernel_of(rule, variant, Storage(FORMATS["float32"]), REFEREE, kind=x, rides=False) for x in which]
    passes = [(kernel.plan, kernel.code) for kernel in kernels]
    planes = {plane.name: np.zeros(50, np.float32) for plane in looked.planes}
    planes["theta"][:] = rng.standard_normal(50)
    for slot, start in rule.init.items():
        if slot in planes:
            planes[slot][:] = {**values, **planes}[start] if isinstance(start, str) else start
    scalars = {slot: values[x] if isinstance(x := rule.init.get(slot, 0.0), str) else x for slot in rule.numbers}
    theta = planes["theta"].copy()
    optimizer = sr.Optimizer(theta, rule, backend="numpy")
    for t in range(1, 5):
        planes["g"][:] = rng.standard_normal(50)
        given = {**values, **scalars, "t": t, "_size": 50.0}
        for recipe, code in passes:
            numbers = recipe.prelude.function(*(given[argument] for argument in recipe.prelude.arguments))
            count = len(recipe.prelude.conditions)
            scalars |= dict(zip(recipe.prelude.scalar_slots, numbers[count:], strict=True))
            sums = np.zeros((1, len(recipe.sums)))
            code(*planes.values(), np.array(numbers[:count]), **({"sums": sums} if recipe.sums else {}))
            given |= zip(recipe.totals, sums[0].tolist(), strict=True)
        optimizer.step(planes["g"])
        assert_same_bits(planes["theta"], theta, f"{name} at {t}")
    names = list(probes(named(rule, variant)))
    found = {key: planes[f"probe.{k}"] for k, key in enumerate(names)}
    for key, numbers_seen in found.items():
        if key.removeprefix("sqrt ") in scalars:  # a number of the tensor
            assert set(numbers_seen) == {np.float32(math.sqrt(scalars[key.removeprefix("sqrt ")]))}
        elif key.startswith("sqrt "):
            source = found.get(key.removeprefix("sqrt "), planes.get(key.removeprefix("sqrt ")))
            assert source is not None
            assert_same_bits(numbers_seen, np.sqrt(source), key)
        if key.startswith("1 - "):
            decay = values[key.removeprefix("1 - ").removesuffix("^t")]
            assert set(numbers_seen) == {np.float32(1 - decay**4)}


@pytest.mark.parametrize("name", menu())
def test_formulas_in_mathml_say_what_latex_says(name: str) -> None:
    rule = menu()[name]
    lines = mathml.lines(rule)
    unicode = [line.partition(" ← ") for line in latex.text(rule).splitlines()]
    assert len(lines) == len(unicode)
    for line in lines:
        for side in (line.left, line.right, line.numbers):
            tags = re.findall(r"<(/?)(\w+)[^>]*?(/?)>", side)
            stack: list[str] = []
            for closing, tag, alone in tags:
                if closing:
                    assert stack.pop() == tag
                elif not alone:
                    stack.append(tag)
            assert not stack
        # Every symbol of the right side has a place for its number.
        places = set(re.findall(r'data-of="(\w+)"', line.numbers))
        known = {*rule.hyperparameters, *rule.slots, "theta", "g", "t", *(one.name for one in lines)}
        assert places <= known
        assert places


def test_the_page_needs_nothing_else() -> None:
    text = lab.page()
    assert len(text) < 700_000
    assert not re.search(r"(?:src|href)\s*=|@import|url\((?!.data:font/woff2;)|\bimport\(|fetch\(|XMLHttpRequest", text)
    for address in re.findall(r"https?://[^\s\"')]+", text):
        assert address.startswith(("https://github.com/leeoniya/uPlot", "http://www.w3.org/")), address
    assert "${" not in text.split("<script>")[0]
    assert "</script" not in json.dumps(presets())


def test_a_rule_cannot_end_the_script() -> None:
    @sr.rule(paper="</script><script>alert(1)</script>")
    def sly(theta, g, *, lr=0.1):
        """</script><img src=x onerror=alert(1)>."""
        return theta - lr * g

    text = lab.page(lab.View((sly,)))
    assert "<img" not in text
    named = lab.page(lab.View((sr.maximize(sly, name="</script><script>alert(2)</script>"),)))
    assert named.count("</script>") == lab.page().count("</script>")
    assert text.count("</script>") == lab.page().count("</script>")


def test_uplot_is_the_released_file() -> None:
    folder = files("steprule.lab") / "assets" / "vendor"
    digests = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Permission is hereby granted" in (folder / "uPlot.LICENSE").read_text()


def test_the_font_of_formulas_comes_with_its_licence() -> None:
    folder = files("steprule.lab") / "assets" / "vendor"
    font = (folder / "formulas.woff2").read_bytes()
    assert font.startswith(b"wOF2")
    assert base64.b64encode(font).decode() in lab.page()
    assert "SIL OPEN FONT LICENSE Version 1.1" in (folder / "formulas.LICENSE").read_text()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(y - x**2)**2", "(y−x2)2"),
        ("x*y - x + 1.5", "xy−x+1.5"),
        ("0.5*(x**2 + 8*y**2)", "0.5x2+4y2"),
        ("-x - y", "−x−y"),
        ("1e30*x", "1000000000000000000000000000000.0x"),
    ],
)
def test_formulas_of_surfaces_are_written_as_one_writes_them(expression: str, words: str) -> None:
    """No sum begins with a minus without need, no integer has a point, no minus is a hyphen."""
    assert html.unescape(re.sub("<.*?>", "", lab.own(expression).formula())).replace("\u2062", "") == words


def test_what_cannot_be_shown_is_said() -> None:
    @sr.rule()
    def normal_rule(theta, g, *, t, lr=0.1):
        return theta - lr * math.erf(t) * g

    with pytest.raises(TargetError, match=r"calls math.erf with 1 argument, which JavaScript has no function for"):
        lab.page(lab.View((normal_rule,)))

    with pytest.raises(RuleError, match="'lion' is given 2 times"):
        lab.View((sr.rules.lion, sr.rules.lion))
    with pytest.raises(HyperparameterError, match="--start belongs to a surface"):
        lab.View(start=(1.0, 1.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x + z", "a function of x and y, got 'z' as well"),
        ("x**1.5", "whole powers up to 64 and roots"),
        ("x**65", "whole powers up to 64"),
        ("1/", "is not an expression in x and y"),
        ("3", "is not a function of x and y"),
        ("x > y", "is not a function of x and y"),
        ("foo(x)", "foo is not a function"),
        ("t*x + u", "a function of x and y, got 't', 'u' as well"),
        ("x*I + y", "finite real numbers, got I"),
        ("x/0", "finite real numbers, got zoo"),
        ("exp(1000)*x", "finite real numbers, got exp(1000)"),
        ("1e400*x", "finite real numbers, got 1000"),
        ("2**x", "2**x is written exp(0.693*x)"),
        ("x^2 + 10*y^2", "write ** for powers, as in 'x**2 + 10*y**2'"),
        (
            "sinh(x)",
            "sinh is not a function of surfaces; there are + - * /, whole powers, sqrt, sin, cos, exp, log, tanh, abs",
        ),
        ("Piecewise((x, x > 0))", "a Piecewise needs a last piece for all other points"),
    ],
)
def test_expressions_that_are_no_surface(text: str, words: str) -> None:
    with pytest.raises(ProblemError, match=re.escape(words)):
        lab.own(text)


@pytest.mark.parametrize("text", ["abs(x) + y**2", "max(x, y)", "sqrt(x**2 + y**2)", "min(x, 2*y) + x**2", "sign(x)*x"])
def test_starts_at_a_kink(text: str) -> None:
    surface = lab.own(text)
    with pytest.raises(ProblemError, match=r"is not differentiable at the start \(0, 0\): it has a kink where .* = "):
        surface.check_start((0.0, 0.0))
    surface.check_start((0.5, 0.3))


def test_where_another_is_larger_there_is_no_kink() -> None:
    surface = lab.own("max(x, y, 3)")
    surface.check_start((2.0, 2.0))
    with pytest.raises(ProblemError, match="a kink where x = y"):
        surface.check_start((4.0, 4.0))


def test_pieces_and_whole_powers_that_are_floats() -> None:
    surface = lab.own("Piecewise((x**2.0, x > 0), (abs(x)**3, True)) + y**2")
    np.testing.assert_array_equal(surface.loss(np.array([[2.0, -2.0], [1.0, 1.0]])), [5.0, 9.0])
    assert surface.gradient(np.array([2.0, 1.0])).tolist() == [4.0, 2.0]


def test_an_own_surface_has_a_box() -> None:
    surface = lab.own("sin(x) + y**2", (-12, 12, -1, 5))
    assert surface.box == ((-12.0, 12.0), (-1.0, 5.0))
    assert surface.start == pytest.approx((8.0, 4.0))
    assert lab.own("x**2 + y**2").box == ((-3.0, 3.0), (-3.0, 3.0))
    assert lab.own("x**2 + y**2").start == (2.0, 2.0)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((1, 2, 3), "a box has 4 numbers, x from and to and y from and to, as in -2,2,-1,3; got 1,2,3"),
        ((2, 1, 0, 1), "from a smaller to a larger number, of less than 1e30, as in -2,2,-1,3; got 2,1,0,1"),
        ((0, 1, 2, 2), "got 0,1,2,2"),
        ((0, math.nan, 0, 1), "got 0,nan,0,1"),
        ((0, math.inf, 0, 1), "got 0,inf,0,1"),
    ],
)
def test_boxes_that_are_none(box: tuple[float, ...], words: str) -> None:
    with pytest.raises(ProblemError, match=re.escape(words)):
        lab.own("x**2 + y**2", box)


def test_starts_that_are_none() -> None:
    with pytest.raises(ProblemError, match="has 2 coordinates, got 1"):
        SURFACES["beale"].check_start((1.0,))
    for name, start in (("beale", (1e39, 1.0)), ("reddi", (5.0,)), ("beale", (math.nan, 1.0))):
        with pytest.raises(ProblemError, match="lies between"):
            SURFACES[name].check_start(start)
    with pytest.raises(ProblemError, match="no finite loss or gradient at the start"):
        lab.own("1/x + y").check_start((0.0, 1.0))
    with pytest.raises(ProblemError, match=r"no surface is called 'bale'\. Did you mean 'beale'"):
        lab.surface("bale")


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "lab.html"
    assert lab.write("one", target) == target
    assert lab.write("two", target).read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["lab.html"]
    with pytest.raises(StepruleError, match=r"cannot write .*deep: it is a folder. Choose another place"):
        lab.write("x", target.parent)
    with pytest.raises(
        StepruleError, match=r"cannot write .*: a part of this path is a file. Choose another place: --output FILE"
    ):
        lab.write("x", target / "below.html")
    assert target.read_text() == "two"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    lab.write("through", pipe)
    reader.join()
    assert read == ["through"]
    assert pipe.is_fifo()
    link, real = tmp_path / "link.html", tmp_path / "real.html"
    real.write_text("old")
    link.symlink_to(real)
    lab.write("new", link)
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_the_server_answers_this_machine_alone() -> None:
    server = lab.Server("<p>page</p>", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server.address) as answer:
            assert answer.read() == b"<p>page</p>"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.address}etc/passwd")
        for host in ("127.0.0.1", "localhost:1234"):  # browsers leave out port 80
            own = urllib.request.Request(server.address, headers={"Host": host})
            with urllib.request.urlopen(own) as answer:
                assert answer.status == 200
        foreign = urllib.request.Request(server.address, headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(foreign)
        port = int(server.address.rstrip("/").rpartition(":")[2])
        with pytest.raises(StepruleError, match=rf"cannot serve on port {port}: Address already in use"):
            lab.Server("", port)
    finally:
        server.close()
        thread.join()
    with pytest.raises(StepruleError, match="cannot serve on port 70000: there is no such port"):
        lab.Server("", 70_000)


def test_the_referee_of_the_page() -> None:
    """``trajectory`` against a plain loop."""
    found = lab.trajectory("momentum", SURFACES["noisy-bowl"], 5, seed=3, scale=0.5, lr=0.1, mu=0.5)
    x, b = np.array([-2.6, 1.8]), np.zeros(2)
    for t in range(1, 6):
        g = 0.5 * np.array([x[0], 8 * x[1]]) + 2.0 * np.array([normal(3, t, 0), normal(3, t, 1)])
        b = 0.5 * b + g
        x = x - 0.1 * b
        np.testing.assert_allclose(found[t], x, rtol=1e-5)
    assert found.dtype == np.float32


def test_logarithms_of_every_size() -> None:
    surface = lab.own("log(x)")
    x = np.concatenate(
        [10.0 ** np.linspace(-307, 308, 5001), np.linspace(0.5, 2.5, 4001), 2.0 ** np.arange(-1022, 1024)]
    )
    found = surface.loss(np.array([x, x]))
    np.testing.assert_allclose(found, np.log(x), rtol=1e-14, atol=1e-16)
    edges = np.array([0.0, -1.0, np.inf, np.nan, 5e-324, 1.0])
    expected = [-np.inf, np.nan, np.inf, np.nan, np.log(5e-324), 0.0]
    np.testing.assert_allclose(surface.loss(np.array([edges, edges])), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "box", "expected"),
    [
        ("x**2 + 10*y**2 - 5.0", None, [(0, 0)]),
        ("sin(x) + y**2", (-10, 10, -2, 2), [(-2.5 * math.pi, 0), (-0.5 * math.pi, 0), (1.5 * math.pi, 0)]),
        ("max(abs(x - 1), 2*abs(y + 0.3))", None, [(1, -0.3)]),  # a kink from every side
        ("(x**2 - 1)**2 + y**2 + x/10", (-3, 3, -0.5, 0.5), [(-1.01227, 0), (0.98726, 0)]),
        ("10*x**2 - 100*cos(6*x) + y**2 - 100*cos(6*y)", None, [(0, 0)]),  # of many, the deepest
        ("x**2 + y**2 + 1/(x - 0.013)", None, [(0.80239, 0)]),  # and a pole is none
        ("(x**2 + y**2 - 2)**2", None, []),  # a floor along a circle
        ("x**2", None, []),  # a floor along a line
        ("x**2 + y**2", (1, 2, 1, 2), []),  # outside of what is drawn
        ("x*y", None, []),
        ("exp(-x**2 - y**2)", None, []),
    ],
)
def test_minima_are_found(text: str, box: Any, expected: list[tuple[float, float]]) -> None:
    found = sorted(lab.own(text, box).minima)
    assert len(found) == len(expected)
    for point, true in zip(found, expected, strict=True):
        np.testing.assert_allclose(point, true, atol=1e-4)


@pytest.mark.parametrize("name", ["himmelblau", "rosenbrock", "beale", "saddle", "long-valley", "rastrigin"])
def test_minima_that_are_known_are_found(name: str) -> None:
    surface = SURFACES[name]
    (x0, x1), (y0, y1) = surface.box
    found = sorted(lab.own(str(surface.value), (x0, x1, y0, y1)).minima)
    np.testing.assert_allclose(found, sorted(surface.minima), atol=1e-4)


def test_rules_that_are_called_alike_have_their_file_behind_their_name() -> None:
    @sr.rule
    def adam(theta, g, *, lr=0.1):
        return theta - lr * g

    def made(by: float) -> sr.Rule:
        @sr.rule(name="mine")
        def mine(theta, g, *, lr=0.1):
            return theta - by * lr * g

        return mine

    view = lab.View((adam, made(2.0), sr.rules.lion))
    assert [rule.name for rule in view.rules] == ["adam (test_lab.py)", "mine", "lion"]
    first = dict(first_view(view)["pairs"])
    assert first["rules"] == "adam (test_lab.py),mine,lion"
    assert first["look"] == "adam (test_lab.py)"
    with pytest.raises(RuleError, match=r"rule 'mine \(test_lab\.py\)' is given 2 times"):
        lab.View((made(2.0), made(3.0)))


@pytest.mark.parametrize(
    ("names", "look"), [(("sgd", "momentum", "adam"), "momentum"), (("sgd",), "sgd"), (("lion", "adam"), "lion")]
)
def test_the_first_view_looks_into_a_rule_that_has_something_inside(names: tuple[str, ...], look: str) -> None:
    assert dict(first_view(lab.View(tuple(menu()[name] for name in names)))["pairs"])["look"] == look


def test_surfaces_by_name_and_by_expression() -> None:
    assert lab.surface("rosenbrock") is SURFACES["rosenbrock"]
    own = lab.surface("x**2 + y**2", box=(-1, 2, -3, 4))
    assert (own.value, own.box) == (lab.own("x**2 + y**2").value, ((-1, 2), (-3, 4)))
    by_name = lab.trajectory("adam", "rosenbrock", 10, lr=0.1)
    assert_same_bits(by_name, lab.trajectory("adam", SURFACES["rosenbrock"], 10, lr=0.1), "by name")
    by_expression = lab.trajectory("adam", "x**2 + 4*y**2", 10, lr=0.1)
    assert_same_bits(by_expression, lab.trajectory("adam", lab.own("x**2 + 4*y**2"), 10, lr=0.1), "by expression")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lab.surface("bale"), "no surface is called 'bale'. Did you mean 'beale'"),
        (lambda: lab.surface("x**2 +"), "is not an expression in x and y"),
        (lambda: lab.surface("beale", box=(0, 1, 0, 1)), "a box belongs to an expression; 'beale' has its own"),
        (lambda: lab.trajectory("adam", "rosenbrok", 1), "Did you mean 'rosenbrock'?"),
        (lambda: lab.trajectory("adam", None, 1), "a surface is what lab.surface returns, its name or an"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_surface(call: Any, words: str) -> None:
    with pytest.raises(ProblemError, match=re.escape(words)):
        call()
