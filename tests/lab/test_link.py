"""Links of the lab: Python reads in them what the page's own reader does, run by Node."""

from __future__ import annotations

import json
import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import steprule as sr
from steprule import Rate, lab
from steprule.backends import javascript
from steprule.errors import ProblemError
from steprule.lab.entrants import numbers
from steprule.lab.link import LIMITS, SPEEDS, VIEWS
from steprule.lab.page import constants
from steprule.lab.presets import presets
from steprule.lab.surface import ground_of
from steprule.lab.surfaces import NAMES
from steprule.rules import load
from steprule.style import DARK, LIGHT
from tests.backends.test_javascript import node


@sr.rule(name="a,b%")
def sly(theta, g, *, lr: Rate = 0.01, scale: Rate = 2.0, steps: Rate = 3.0):
    """Its name and its hyperparameters are called as parts of a link."""
    return theta - lr * g * scale * steps


VIEW = lab.View((sly,), lab.own("abs(x) + 3*y**2", (-2.0, 2.0, -1.0, 3.0)))
READER = """
const facts = JSON.parse(readFileSync(process.argv[2], "utf8"));
const all = { ...facts, rules: FACTS_OF(facts.rules, "name"), surfaces: FACTS_OF(facts.surfaces, "key") };
const found = JSON.parse(readFileSync(process.argv[3], "utf8")).map((hash) => {
  const problems = [], linked = fromHash(hash), pairs = linked.length ? linked : facts.first.pairs;
  const state = readState(all, pairs, problems), looks = { ...state.marks };
  state.rules.forEach((name, k) => { looks[name] ??= k; });
  const values = state.rules.map((name) => valuesOf(all, state, name));
  return { ...state, own: 0, common: 0, looks: state.rules.map((name) => looks[name]), values, problems };
});
process.stdout.write(JSON.stringify(found));
"""


def _script(*names: str) -> str:
    folder = files("steprule.lab") / "assets"
    scripts = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return f'import {{ readFileSync }} from "node:fs";\n{constants()}const RULES = {{}};\n{scripts}'


def _read_by_page(links: list[str], folder: Path) -> list[dict[str, Any]]:
    facts = re.search(r'id="facts">(.*?)</script>', lab.page(VIEW), re.DOTALL)
    assert facts is not None
    (folder / "facts.json").write_text(facts[1])
    (folder / "links.json").write_text(json.dumps(links))
    script = _script("numbers", "simulation", "state") + READER
    return list(json.loads(node(folder, script, str(folder / "facts.json"), str(folder / "links.json"))))


def _compare(link: str, page: dict[str, Any]) -> None:
    """Assert that Python reads what the page does; where the page names problems, Python refuses."""
    if page["problems"]:
        with pytest.raises(ProblemError):
            lab.situation(link, VIEW)
        return
    found = lab.situation(link, VIEW)
    assert (found.surface.key, list(found.start)) == (page["surface"], page["start"]), link
    assert [entry.name for entry in found.entries] == page["rules"], link
    assert [entry.slot for entry in found.entries] == page["looks"], link
    for name in (*LIMITS, "look", "view", "theme", "speed"):
        assert getattr(found, "since" if name == "from" else name) == page[name], (link, name)
    assert list(found.turn) == page["turn"], link
    stories = [story["key"] for story in presets()]
    assert found.story == (page["preset"] if page["preset"] in stories else ""), link
    for entry, values in zip(found.entries, page["values"], strict=True):
        defaults = {hyper.name: hyper.default for hyper in numbers(entry.rule)}
        found_too = {"lr"} if link == "#" else set()  # what a page without a link looks for is compared below
        ours = {**defaults, **entry.values}
        assert {k: ours[k] for k in ours.keys() - found_too} == {k: values[k] for k in values.keys() - found_too}, link


def _link(pairs: list[tuple[str, str]]) -> str:
    return "#" + "&".join(f"{quote(key)}={quote(value)}" for key, value in pairs)


BY_HAND = [
    "#",
    "#surface=beale&start=1,1.5&rules=sgd,adam&lr=0.01&adam.lr=0.1&t=40",
    "#rules=adam,adam%20(2)&adam.lr=0.1&adam%20(2).beta2=0.9&look=adam",
    "#surface=own&start=1,-0.5&rules=a%252Cb%2525&*.scale=3&a%2Cb%25.steps=2&scale=0.5&steps=20",
    "#surface=saddle&view=solid&turn=0.3,2&theme=dark&speed=60&marks=7,2.5&rules=sgd,adam",
    "#surface=reddi&view=solid&start=0.5&rules=adam&seed=4294967295&noise=0",
    "#surface=saddle&rules=sgd,,sgd&t=1e9",
    "#surface=saddle&rules=sgd&steps=10.5&t=2.5&seed=1e3",
    "#rules=sgd&theme=blue&speed=61&turn=1&view=flat&axis=3&inside=x&line=y&scope=none&preset=nothing",
    "#rules=sgd&marks=1,1&lr=0.1&lr=0.2",
    "#beta2=1&rules=adam",
    "#lr=-1",
    "#lr=",
    "#lr=Infinity",
    "#noise=nan",
    "#noise=1e7",
    "#scale=0",
    "#surface=nowhere",
    "#start=1",
    "#start=1,2,3",
    "#start=1e31,0",
    "#rules=adm",
    "#rules=adam%20(2)%20(2)",
    "#foo=1",
    "#adam.foo=1",
    "#adm.lr=1",
    "#.lr=0.1",
    "#rules=sgd&stray%=1",
    "#rules=sgd&theme=dar%C3",
]


def _random(rng: np.random.Generator) -> str:
    """Return a link of keys that are there, and of values that are mostly fit."""
    rules = ["sgd", "adam", "momentum", "l2(adam)", "adam (2)", "nadam", "rprop", "a,b%"]
    chosen = [str(name) for name in rng.permutation(rules)[: rng.integers(1, 5)]]
    written = ",".join(name.replace("%", "%25").replace(",", "%2C") for name in chosen)

    def number() -> str:
        return f"{rng.choice([-1, 1, 1, 1]) * 10 ** rng.uniform(-6, 1.5):.4g}"

    pool = [
        *((name, number()) for name in ("lr", "eps", "beta2", "noise", "scale", "*.scale", "adam.lr", "momentum.beta")),
        *((f"{name}.lr", number()) for name in chosen),
        *(("steps", str(rng.integers(1, 50))), ("t", str(rng.integers(0, 60))), ("seed", str(rng.integers(0, 2**32)))),
        ("start", f"{number()},{number()}"),
        ("view", str(rng.choice(VIEWS))),
        ("speed", str(rng.choice(SPEEDS))),
        ("turn", f"{rng.normal():.3f},{rng.normal():.3f}"),
        ("marks", ",".join(str(mark) for mark in rng.permutation(9)[: len(chosen)])),
    ]
    picked = [pool[k] for k in rng.permutation(len(pool))[: rng.integers(0, 9)]]
    return _link([("surface", str(rng.choice([*NAMES, "own"]))), ("rules", written), *picked])


def test_python_reads_links_as_the_page_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    stories = [_link([*map(tuple, story["pairs"]), ("preset", story["key"])]) for story in presets()]
    links = [*stories, *BY_HAND, *(_random(rng) for _ in range(400))]
    pages = _read_by_page(links, tmp_path)
    for link, page in zip(links, pages, strict=True):
        _compare(link, page)
    fit = [not page["problems"] for page in pages]
    assert all(fit[: len(stories)])
    assert 100 < sum(fit) < len(links) - 50, "both kinds are to be compared"


def test_a_story_is_its_link() -> None:
    for story in presets():
        by_link = lab.situation(_link([*map(tuple, story["pairs"]), ("preset", story["key"])]))
        assert lab.situation(story["key"]) == by_link
        assert by_link.title == story["title"]


def test_a_whole_address_will_do_and_the_page_itself() -> None:
    link = "surface=saddle&rules=adam&lr=0.1"
    assert lab.situation(f"file:///home/me/steprule-lab.html#{link}") == lab.situation(link)
    assert [entry.name for entry in lab.situation("page").entries][:2] == ["sgd", "momentum"]
    assert [entry.rule for entry in lab.situation("page", VIEW).entries][-1] is sly


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vally", "no story is called 'vally'. Did you mean 'valley'"),
        ("beale", "Or give a link, as in '#surface=beale&rules=sgd,adam'"),
        ("", "no story is called ''. Known: amsgrad, annealing, bound"),
        (
            "#surface=beal&foo=1",
            "There is no surface 'beal'. Did you mean 'beale'? Nothing in the lab is called 'foo'.",
        ),
        ("#rules=", "shows no rule; name some, as in rules=sgd,adam"),
        ("#rules=adm", "There is no rule 'adm'. Did you mean 'adam'"),
        ("#adam.beta2=2", "adam.beta2 cannot be '2': it takes a number in [0, 1)."),
        ("#steps=0", "steps has to be a number from 1 to 10000, not '0'."),
        ("#surface=saddle&start=0", "The start has to be 2 numbers from -1e+30 to 1e+30, not '0'."),
    ],
)
def test_what_is_wrong_with_a_link_is_said(text: str, words: str) -> None:
    with pytest.raises(ProblemError, match=re.escape(words)):
        lab.situation(text)


def test_a_start_without_a_gradient_is_refused() -> None:
    with pytest.raises(ProblemError, match="kink"):
        lab.situation("#surface=own&start=0,1&rules=sgd", VIEW)


@pytest.mark.parametrize("name", [*NAMES, "own"])
def test_heights_are_those_of_the_page(name: str, tmp_path: Path) -> None:
    surface = VIEW.surface if name == "own" else lab.surface(name)
    assert surface is not None
    rng = np.random.default_rng(1)
    sides = np.array(surface.box)
    points = rng.uniform(sides[:, :1], sides[:, 1:], (2, 200))
    facts = {"dimensions": surface.dimensions, "minima": surface.minima, "soft": surface.soft, "box": surface.box}
    code = surface.javascript()
    script = f"""{_script("numbers", "view")}{javascript.helpers(code)}{code}
const heights = new Heights({json.dumps(facts)}, {{ value }});
process.stdout.write(JSON.stringify({json.dumps(points.T.tolist())}.map((point) => heights.height(...point))));"""
    page = np.array(json.loads(node(tmp_path, script)), float)
    np.testing.assert_allclose(ground_of(surface).height(points), page, rtol=1e-9, atol=1e-9)


OPENED = """
const lab = Object.create(Lab.prototype), idle = () => {};
const facts = JSON.parse(readFileSync(process.argv[2], "utf8"));
Object.assign(lab, {
  facts: { ...facts, rules: FACTS_OF(facts.rules, "name"), surfaces: FACTS_OF(facts.surfaces, "key") },
  heights: new Map(), runs: new Map(), $: () => ({}), running: idle, say: idle, wake: idle, note: idle,
  edit(change) { change(this.state); this.refresh(); },
});
lab.load("");
while (lab.workOnRates(Infinity)) { /* until all rates have been tried */ }
process.stdout.write(JSON.stringify(lab.state.rules.map((name) => [name, valuesOf(lab.facts, lab.state, name)])));
"""


def _opened(view: lab.View, folder: Path) -> dict[str, dict[str, float]]:
    """Return the hyperparameters of the rules of a page that has just been opened, by its own scripts."""
    text = lab.page(view)
    facts = re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)
    script = re.search(r'<script>\n"use strict";(.*)\nconst lab = new Lab[^\n]*\s*</script>', text, re.DOTALL)
    assert facts is not None
    assert script is not None
    (folder / "facts.json").write_text(facts[1])
    code = f'import {{ readFileSync }} from "node:fs";\n{script[1]}{OPENED}'
    return dict(json.loads(node(folder, code, str(folder / "facts.json"))))


@sr.rule
def fixed(theta, g, m, *, beta=0.9):
    """It has no rate."""
    m = beta * m + (1 - beta) * g
    return theta - 0.01 * m, m


@pytest.mark.parametrize(
    ("rules", "surface", "start"),
    [
        ([], None, None),
        pytest.param(["sgd", "adam"], None, None, marks=pytest.mark.slow),
        (["lion", "momentum", "rprop"], "beale", (0.5, -1.0)),
        (["adam(beta2=0.9)", "adam(lr=0.25)", fixed], "himmelblau", None),
        pytest.param(["adam", "adagrad", "l2(adam)"], "noisy-bowl", None, marks=pytest.mark.slow),
        pytest.param(["adam", "amsgrad"], "reddi", None, marks=pytest.mark.slow),
        pytest.param(["sgd", "adam"], "sparse-bowl", None, marks=pytest.mark.slow),
        pytest.param(["rmsprop"], "silence", None, marks=pytest.mark.slow),
        pytest.param([], "abs(x) + 3*y**2", (2.0, 1.0), marks=pytest.mark.slow),
        ([sly, "sgd"], "log(x) + y**2", None),
        pytest.param(["sgd", "momentum"], "1e6*x**4 + y**2", None, marks=pytest.mark.slow),
    ],
)
def test_a_page_has_the_rates_that_it_finds(
    rules: list[Any], surface: str | None, start: tuple[float, ...] | None, tmp_path: Path
) -> None:
    loaded = tuple(load(rule) if isinstance(rule, str) else rule for rule in rules)
    view = lab.View(loaded, None if surface is None else lab.surface(surface), start)
    found = {
        entry.name: {**{one.name: one.default for one in numbers(entry.rule)}, **entry.values}
        for entry in lab.situation("page", view).entries
    }
    assert found == _opened(view, tmp_path)


def test_rates_that_are_set_are_kept() -> None:
    view = lab.View((load("sgd(lr=0.003)"), load("adam(beta2=0.9)")))
    sgd, adam = lab.situation("page", view).entries
    assert sgd.values == {"lr": 0.003}
    assert adam.values == {"beta2": 0.9, "lr": 0.2}
    assert lab.situation("#rules=sgd,adam", view).entries[0].values == {}, "links have theirs"
    assert lab.situation("page").entries[0].values == {"lr": 0.05}, "it has rates of its own"


def test_the_page_has_the_colours_of_films() -> None:
    text = lab.page()
    for theme in (LIGHT, DARK):
        assert f"--paper: {theme.paper};" in text
        assert json.dumps(list(theme.palette)) in text
        assert f'"low": {json.dumps(list(theme.low))}' in text
    assets = [
        path.read_text(encoding="utf-8") for path in (files("steprule.lab") / "assets").iterdir() if path.is_file()
    ]
    for theme in (LIGHT, DARK):
        colors = {theme.paper, theme.text, theme.muted, *theme.palette} - {"#ffffff"}
        assert not [color for color in colors if any(color in asset for asset in assets)], "written twice"


def test_rounding_is_javascripts() -> None:
    assert [lab.situation(f"#rules=sgd&steps={n}").steps for n in ("2.5", "3.5", "2.4999")] == [3, 4, 2]
    assert math.isclose(lab.situation("#rules=sgd&noise=0.25").noise, 0.25)
