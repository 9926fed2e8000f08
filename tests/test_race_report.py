"""What a race makes of its runs: the table, results.json, the figures, the page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.race import Race, Settings, make_plan, race, summarize, write
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.theme import LIGHT, spread, styles
from steprule.race.words import cells
from tests.race_cases import QUADRATIC, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def _plan(quadratic: str, lrs: tuple[float, ...], seeds: int, start: float = 2.0) -> Plan:
    return replace(make_plan(Settings(quadratic, rules=("sgd",), lrs=lrs, seeds=seeds)), start=start)


def _runs(plan: Plan, losses: dict[float, list[float | None]]) -> dict[Task, Run]:
    tasks = {(task.lr, task.seed): task for task in plan.tasks}
    return {
        tasks[lr, seed]: Run(10, loss is None, loss, {"test_accuracy": 0.5}, [2.0, loss or 3.0], [], 4.0)
        for lr, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    }


def test_the_best_rate_has_the_lowest_median_over_the_seeds(quadratic: str) -> None:
    plan = _plan(quadratic, (0.1, 1.0, 10.0), 3)
    (row,) = summarize(plan, _runs(plan, {0.1: [0.5, 0.6, 0.7], 1.0: [0.1, 0.65, 0.66], 10.0: [0.01, None, None]}))
    assert row.best is not None
    assert (row.best.lr, row.best.median, row.low, row.high) == (0.1, 0.6, 0.5, 0.7)
    assert row.forgiving == 2 / 3
    assert row.at_edge
    assert cells(row) == ("sgd", "0.1*", "0.6", "0.5 to 0.7", "50.0%", "67%", "4")


def test_forgiving_near_zero_is_measured_by_the_start(quadratic: str) -> None:
    plan = _plan(quadratic, (0.1, 1.0, 10.0), 1)
    # One percent of the start is 0.02, and ten percent of that 0.002.
    (row,) = summarize(plan, _runs(plan, {0.1: [1e-9], 1.0: [0.0019], 10.0: [0.0021]}))
    assert row.tolerance == pytest.approx(0.002)
    assert row.forgiving == 2 / 3


def test_losses_that_are_rounding_are_equal_and_the_earlier_one_wins(quadratic: str) -> None:
    plan = _plan(quadratic, (0.1, 1.0), 1)
    runs = _runs(plan, {0.1: [1e-20], 1.0: [1e-30]})
    for task, found in runs.items():
        found.history.insert(1, 1.0 if task.lr == 1.0 else 0.5)
    (row,) = summarize(plan, runs)
    assert row.best is not None
    assert row.best.lr == 0.1
    assert cells(row)[2] == "<1e-12"


def test_rules_that_diverge_everywhere_come_last(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam"), lrs=(0.1,), seeds=1))
    first, second = plan.tasks
    rows = summarize(plan, {first: Run(diverged=True, history=[1.0]), second: Run(1, False, 0.5, {}, [1.0, 0.5])})
    assert [row.entrant.label for row in rows] == ["adam", "sgd"]
    assert cells(rows[1])[2] == "diverged"


def test_a_race_that_has_not_begun_has_a_report(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam"), lrs=(0.1,), seeds=1))
    paths = write(Race(plan, {}, 1, 0.0, 0, True), tmp_path / "out")
    assert [path.name for path in paths] == ["results.json", "report.html"]
    assert "0 of 2 runs" in paths[-1].read_text()


TABLE = {"rule": str, "finished": int, "expected": int, "lr": float, "at_edge_of_grid": bool, "train_loss": float,
         "train_loss_range": list, "test_accuracy": float, "forgiving": float, "forgiving_tolerance": float,
         "step_us": float}  # fmt: skip
RUNS = {"rule": str, "specification": str, "hyperparameters": dict, "lr": float, "seed": int, "key": str, "steps": int,
        "diverged": bool, "train_loss": float, "metrics": dict, "history": list, "path": list, "step_us": float,
        "seconds": float}  # fmt: skip


def _types(line: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in line.items()}


def test_results_and_report_hold_everything(tmp_path: Path) -> None:
    rules = ("sgd", "adam(beta2=0.9)")
    settings = Settings("digits-logistic", rules=rules, lrs=(0.01, 0.1, 1), seeds=2, epochs=2, jobs=1, output=tmp_path)
    race(settings)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert (saved["format"], saved["complete"], saved["finished"], saved["expected"]) == (1, True, 12, 12)
    assert saved["settings"] == {
        "rules": list(rules), "lrs": [0.01, 0.1, 1.0], "seeds": [0, 1], "epochs": 2, "jobs": 1,
    }  # fmt: skip
    assert set(saved["versions"]) == {"steprule", "python", "numpy", "scipy", "scikit-learn", "joblib", "matplotlib"}
    assert saved["problem"]["name"] == "digits-logistic"
    assert saved["problem"]["start_loss"] == pytest.approx(math.log(10))
    assert [_types(line) for line in saved["table"]] == [TABLE, TABLE]
    assert [_types(line) for line in saved["runs"]] == [RUNS] * 12
    for line in saved["runs"]:
        assert (tmp_path / "runs" / f"{line['key']}.json").is_file()
        assert len(line["history"]) == 3
        assert line["metrics"]["train_loss"] == line["train_loss"] == line["history"][-1]
    for name in ("curves.png", "sensitivity.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "paths.png").exists()
    _check_page((tmp_path / "report.html").read_text(), saved)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "source", "link"):
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe")
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _check_page(html: str, saved: dict[str, Any]) -> None:
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import|\$[a-z]", html)
    text = " ".join(page.text)
    for line in saved["table"]:
        assert line["rule"] in text
        assert f"{line['test_accuracy']:.1%}" in text
    assert "Not finished" not in text


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text('"""Less < more & <b>."""\n' + QUADRATIC)
    race(Settings(str(path), rules=("sgd",), lrs=(0.1,), seeds=1, jobs=1, output=tmp_path / "out"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Less &lt; more &amp; &lt;b&gt;" in html


def test_problems_in_the_plane_have_a_figure_of_paths(tmp_path: Path) -> None:
    race(Settings("saddle", rules=("sgd", "adam"), lrs=(0.1, 30), seeds=1, epochs=2, jobs=1, output=tmp_path))
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG")
    assert "<h2>Paths</h2>" in (tmp_path / "report.html").read_text()


def test_losses_below_zero_are_drawn(quadratic: str, tmp_path: Path) -> None:
    Path(quadratic).write_text(QUADRATIC.replace('{"train_loss": 0.5', '{"train_loss": -20 + 0.5'))
    done = race(Settings(quadratic, rules=("sgd",), lrs=(0.01, 0.1, 1), seeds=1, jobs=1, output=tmp_path / "out"))
    (row,) = summarize(done.plan, done.runs)
    assert row.best is not None
    assert row.best.median < done.plan.start < 0


def test_labels_keep_their_distance_and_their_order() -> None:
    places = spread([0.5, 0.51, 0.2, 0.52], 0.1, 0.0, 1.0)
    assert places[2] == pytest.approx(0.2)
    assert places[0] < places[1] < places[3]
    assert np.diff(sorted(places)).min() >= 0.1 - 1e-12
    assert np.mean([places[0], places[1], places[3]]) == pytest.approx(0.51)
    crowded = spread([1.0] * 30, 0.1, 0.0, 1.0)
    assert min(crowded) >= 0
    assert max(crowded) <= 1 + 1e-12
    assert np.diff(crowded).min() > 0.03


def test_every_rule_of_the_catalogue_has_a_look_of_its_own() -> None:
    names = list(sr.rules.CATALOGUE)
    looks = styles(names, LIGHT)
    assert len({repr(look) for look in looks.values()}) == len(names)
