"""A suite of races: what it says over problems, what it runs, resumes and refuses, and what it writes."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steprule.errors import HyperparameterError, ProblemError, RuleError, StepruleError
from steprule.race import Plan, Race, Settings, Suite, fit_suite, make_plan, make_plans, run_plan, run_plans, suite
from steprule.race.plan import Task
from steprule.race.run import Run
from steprule.race.runner import run_plan as really_run
from steprule.race.snippets import suite_command
from steprule.race.standing import Standing, stand
from steprule.race.statistics import critical_difference, ranks, ratios
from steprule.race.suite_output import SUITE_FIELDS, suite_latex, suite_spreadsheet, write_suite
from steprule.race.verdict import suite_verdict
from tests.race.cases import QUADRATIC, numbers_of, reported, with_start

RULES = ("sgd", "adam", "lion")
SEEDS = 12


@pytest.mark.parametrize(("rules", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_the_tables(rules: int, q: float) -> None:
    """Demsar 2006, table 5 (a): the critical values of Nemenyi's test at 5 %, already divided by the root of 2."""
    assert critical_difference(rules, 14) == pytest.approx(q * math.sqrt(rules * (rules + 1) / (6 * 14)), rel=3e-4)
    assert critical_difference(1, 3) == math.inf


def test_suites_of_equal_rules_are_seldom_told_apart() -> None:
    """Without ties, which is the hardest case; with the better rule always first it is found."""
    limit = critical_difference(6, 8)
    means = np.argsort(np.random.default_rng(0).random((10_000, 8, 6)), axis=2).mean(axis=1)
    assert 0.03 < np.mean(np.ptp(means, axis=1) >= limit) < 0.05
    assert np.ptp([1, 4, 4, 4, 4, 4]) >= limit


def test_ratios_by_hand() -> None:
    inf, nan = math.inf, math.nan
    steps = np.array([[10.0, 30.0, inf, nan, 0.0], [20.0, 10.0, inf, nan, 5.0], [inf, 10.0, inf, nan, inf]])
    expected = [[1, 3, nan, nan, nan], [2, 1, nan, nan, nan], [inf, 1, nan, nan, nan]]
    np.testing.assert_array_equal(ratios(steps), expected)


def test_mean_ranks_add_up_to_a_constant() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random((5, 5)) * 0.2
        places = ranks(rng.random(5).tolist(), np.maximum(p, p.T))
        assert sum(first + last for first, last in places) == 5 * 6


def _problem(folder: Path, name: str, text: str = QUADRATIC) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def _race(folder: Path, name: str, ends: dict[str, float | None]) -> Race:
    """Return a finished race: each rule goes down in even steps from 6 to about that loss, now above, now below.

    No two differences between rules are equal: SciPy's test takes seconds for ties.
    """
    plan = make_plan(Settings(_problem(folder, name), rules=RULES, lrs=(0.1,), seeds=SEEDS))
    plan = with_start(plan, 6.0)
    losses: dict[str, list[float | None]] = {
        label: [None if end is None else end + (-1) ** seed * (seed + 1) * place / 1e4 for seed in range(SEEDS)]
        for place, (label, end) in enumerate(ends.items(), 1)
    }
    return Race(plan, reported(plan, losses), 1, 1.0, 0, False)


@pytest.fixture
def races(tmp_path: Path) -> list[Race]:
    return [
        _race(tmp_path, "one", {"sgd": 4.0, "adam": 0.0, "lion": 4.0}),
        _race(tmp_path, "two", {"sgd": 4.0, "adam": 2.5, "lion": 5.0}),
        _race(tmp_path, "three", {"sgd": 4.0, "adam": None, "lion": 0.0}),
        _race(tmp_path, "four", {"sgd": None, "adam": 2.0, "lion": 1.0}),
    ]


@pytest.fixture
def standing(races: list[Race]) -> Standing:
    return stand(races)


def test_what_races_say_together(standing: Standing) -> None:
    # The ranks: 2-3, 1, 2-3; 2, 1, 3; 2, 3, 1; 3, 2, 1.
    expected = {"sgd": (2.5 + 2 + 2 + 3) / 4, "adam": (1 + 1 + 3 + 2) / 4, "lion": (2.5 + 3 + 1 + 1) / 4}
    assert dict(zip(standing.labels, standing.mean_ranks, strict=True)) == expected
    assert standing.labels == ("adam", "lion", "sgd")
    assert sum(standing.mean_ranks) == 6
    assert standing.alike("adam") == ["lion", "sgd"]
    # Runs go down evenly in four epochs. The target is just above 4: on the way to 0 it is reached in two, to 2.5 in
    # three, and half of the runs of lion that end around 4 do not reach it. On the last one the reference diverges.
    assert standing.profiled == ["one", "two", "three"]
    of = {label: standing.ratios[standing.labels.index(label)].tolist() for label in RULES}
    assert [of[label][:3] for label in RULES] == [[2, 4 / 3, 2], [1, 1, math.inf], [math.inf, math.inf, 1]]
    assert all(math.isnan(own[3]) for own in of.values())
    assert [standing.share("adam", tau) for tau in (1.0, 100.0)] == [2 / 3, 2 / 3]
    assert [standing.share("sgd", tau) for tau in (1.0, 1.4, 2.0)] == [0, 1 / 3, 1]
    # A trial on each problem.
    assert dict(zip(standing.labels, standing.diverged, strict=True)) == {"sgd": 0.25, "adam": 0.25, "lion": 0}
    assert standing.forgiving == (None, None, None)


def test_the_verdict_has_three_sentences(standing: Standing, races: list[Race], tmp_path: Path) -> None:
    said, unsaid, scope = suite_verdict(standing)
    assert said == (
        "adam has the lowest mean rank, 1.8 of 3 over 4 problems, but mean ranks alone tell it apart from no other "
        "rule; it is told apart as the best of all on one and two."
    )
    assert unsaid.startswith(
        "lion and sgd cannot be told apart from it over all problems (mean ranks must differ by 1.7"
    )
    assert unsaid.endswith("problem by problem, 11 of 12 pairs of rules are told apart.")
    assert (
        scope
        == "All of it holds for one, two, three and four, with 1 learning rate and nothing else and 12 fresh seeds."
    )
    eight = [f"sgd(lr_scale={i})" for i in range(8)]
    alike = replace(standing, labels=("adam", *eight), mean_ranks=tuple(4.6 + i / 10 for i in range(9)), difference=4.0)
    assert suite_verdict(alike)[1].startswith("None of the other 8 rules can be told apart from it over all problems (")
    many = stand([_race(tmp_path, f"p{i}", {"sgd": 4.0, "adam": 0.0, "lion": 3.0}) for i in range(8)])
    assert suite_verdict(many)[0].startswith(
        "adam has the lowest mean rank, 1.0 of 3 over 8 problems, better than sgd;"
    )
    assert many.alike("adam") == ["lion"]


def _settings(folder: Path, **more: Any) -> Settings:
    given: dict[str, Any] = {"rules": RULES, "trials": 2, "seeds": 2, "jobs": 1, "output": folder / "out"}
    return Settings(**(given | more))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the reports of the races, which take seconds to draw."""
    monkeypatch.setattr("steprule.race.suites.write_all", lambda race, folder: [folder / "report.html"])


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [
        _problem(tmp_path, name, QUADRATIC.replace("0.1", factor)) for name, factor in (("a b", "0.1"), ("c", "0.3"))
    ]


def test_a_suite_is_its_races(tmp_path: Path, two: list[str]) -> None:
    done = suite(_settings(tmp_path), two)
    assert done.is_complete
    assert not done.interrupted
    for problem, own in zip(two, done.races, strict=True):
        plan = make_plan(_settings(tmp_path, problem=problem))
        alone = run_plan(plan, tmp_path / "alone" / plan.problem.name, jobs=1)
        assert numbers_of(own) == numbers_of(alone)
    folder = tmp_path / "out"
    names = {"suite.json", "table.csv", "table.tex", "profile.png", "report.html", "a b", "c"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "a b" / "report.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_a_suite_goes_on_or_begins_anew(tmp_path: Path, two: list[str]) -> None:
    done = suite(_settings(tmp_path), two)
    again = suite(_settings(tmp_path, jobs=2), two)
    assert [race.resumed for race in again.races] == [len(race.runs) for race in done.races]
    assert numbers_of(again.races[1]) == numbers_of(done.races[1])
    fresh = suite(_settings(tmp_path, fresh=True), two)
    assert [race.resumed for race in fresh.races] == [0, 0]


@pytest.mark.usefixtures("undrawn")
def test_interrupted_it_tells_what_is_finished_and_goes_on(tmp_path: Path, two: list[str]) -> None:
    @contextmanager
    def watching(plan: Plan) -> Iterator[Callable[[dict[Task, Run]], None]]:
        def watch(runs: dict[Task, Run]) -> None:
            if plan.problem.name == "c" and len(runs) == 3:
                raise KeyboardInterrupt

        yield watch

    settings, folder = _settings(tmp_path), tmp_path / "out"
    done = run_plans(make_plans(settings, two), folder, settings, watching=watching)
    assert (done.interrupted, done.is_complete, len(done.finished), len(done.races[1].runs)) == (True, False, 1, 3)
    html = write_suite(done, folder)[-1].read_text()
    assert "<b>Not finished:</b> c." in html
    assert json.loads((folder / "suite.json").read_text())["complete"] is False
    again = suite(settings, two)
    assert (again.is_complete, again.races[1].resumed) == (True, 3)
    assert "Not finished" not in (folder / "report.html").read_text()


def test_nothing_is_written_before_the_first_race_is_finished(tmp_path: Path) -> None:
    assert write_suite(Suite((), (), 0.0, True), tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_minutes_are_for_all_races(tmp_path: Path, two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(plan: Plan, *args: Any, **more: Any) -> Race:
        found = really_run(plan, *args, **more)
        for one in found.runs.values():
            one.seconds = 3.0 if plan.problem.name == "c" else 1.0
        return found

    monkeypatch.setattr("steprule.race.budget.run_plan", timed)
    settings = _settings(tmp_path, trials=None, seeds=None, minutes=5)
    plans = fit_suite(make_plans(settings, two), settings, tmp_path / "out")
    # A trial or a seed of three rules takes 12 s in both; of 255 s, drawing two races leaves 235.
    assert {(plan.trials, len(plan.seeds)) for plan in plans} == {(8, 10)}
    assert 12 * 18 <= 235 < 12 * 20
    with pytest.raises(HyperparameterError, match=r"0.5 minutes are too few for 3 rules on a b and c: .* about 1\.6"):
        fit_suite(plans, replace(settings, minutes=0.5), tmp_path / "out")


def test_what_cannot_be_a_suite_is_refused_before_a_run(tmp_path: Path, two: list[str]) -> None:
    (tmp_path / "other").mkdir()
    same = _problem(tmp_path / "other", "c")
    rules = ("sgd", "muon")
    cases: list[tuple[dict[str, Any], list[str], type[StepruleError], str]] = [
        ({}, [*two, same], ProblemError, "c is the name of 2 problems of the suite; name each once"),
        ({"problem": "saddle"}, two, HyperparameterError, "a suite takes its problems as a list, so problem='saddle'"),
        ({}, ["digits-mpl"], ProblemError, "Did you mean 'digits-mlp'"),
        ({"rules": rules}, ["associative-memory", two[1]], RuleError, r"muon cannot step c: (?s:.*)It can step "
         "associative-memory: race these alone, or leave muon out"),
        ({"rules": rules}, two, RuleError, "It can step none of these problems, or leave muon out"),
        ({"minutes": 3}, two, HyperparameterError, "trials and seeds would not be followed"),
    ]  # fmt: skip
    for change, problems, error, message in cases:
        with pytest.raises(error, match=message):
            suite(_settings(tmp_path, **change), problems)
    assert not (tmp_path / "out").exists()


def test_the_command_makes_the_same_plans(tmp_path: Path, two: list[str]) -> None:
    problems = ["drifting-target", two[0]]
    usual = make_plans(_settings(tmp_path), problems)
    assert [plan.schedule for plan in usual] == ["constant", "linear"]
    end = "--rules sgd,adam,lion --trials 2 --tuning-seeds 1 --seeds 2 --seed 0"
    assert suite_command(usual) == f"steprule race --suite drifting-target {shlex.quote(two[0])} {end}"
    changes: dict[str, Any] = {"schedule": "cosine", "epochs": 3, "seed": 4}
    other = make_plans(_settings(tmp_path, **changes), problems)
    assert "--trials 2 --schedule cosine --tuning-seeds 1 --seeds 2 --epochs 3 --seed 4" in suite_command(other)
    quick = make_plans(_settings(tmp_path, trials=None, seeds=None, quick=True), problems)
    assert "--trials 4 --tuning-seeds 1 --seeds 10 --quick --seed 0" in suite_command(quick)


def test_files_of_a_suite(standing: Standing, races: list[Race], tmp_path: Path) -> None:
    plans = tuple(one.plan for one in races)
    html = write_suite(Suite(plans, tuple(races), 5.0, False), tmp_path / "out")[-1].read_text()
    saved = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert [entry["mean_rank"] for entry in saved["table"]] == list(standing.mean_ranks)
    assert saved["problems"][1]["table"][-1]["ratio"] is None  # lion reaches it never
    lines = list(csv.DictReader(io.StringIO(suite_spreadsheet(standing))))
    assert tuple(lines[0]) == SUITE_FIELDS
    assert [(one["problem"], one["rule"]) for one in lines[:4]] == [
        ("one", "adam"), ("one", "lion"), ("one", "sgd"), ("two", "adam")
    ]  # fmt: skip
    assert float(lines[3]["median"]) == pytest.approx(2.4999)
    tex = suite_latex(standing)
    assert r"sgd & 2.38 & 2--3 & 2 & 2 & 3 & 3/3 & 25\% \\" in tex
    # Every problem has its report, which the page links to; what is better than all others is marked.
    assert set(re.findall(r'href="([^"]+)"', html)) == {
        f"{name}/report.html" for name in ("one", "two", "three", "four")
    }
    assert html.count('<td class="best">') == 4
    assert "Left out of it: four, where the reference" in html
    assert "<details>" not in html.split("How to read this")[1]


@pytest.mark.usefixtures("undrawn")
def test_names_are_escaped(tmp_path: Path, two: list[str]) -> None:
    hard = _problem(tmp_path, "a&b <c>#")
    suite(_settings(tmp_path), [hard])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a&amp;b &lt;c&gt;#" in page
    assert 'href="a%26b%20%3Cc%3E%23/report.html"' in page
    assert "<c>" not in page
