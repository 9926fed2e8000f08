"""What a race leaves: results.json, the figures, the page."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.race import Race, Settings, make_plan, race, summarize, write
from steprule.race.figures import curves
from steprule.race.run import Run
from steprule.race.stages import known
from steprule.race.tuning import sensitivity
from steprule.race.words import cells
from steprule.report.theme import spread, styles_of
from steprule.style import LIGHT
from tests.race.cases import QUADRATIC, reported, run_to, runs_of, sgd_plan, shown, with_start, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def test_a_race_that_has_not_begun_leaves_no_report(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam"), lrs=(0.1,), seeds=1))
    assert write(Race(plan, {}, 1, 0.0, 0, True), tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


def test_an_unfinished_race_says_how_much_of_each_rule_is_there(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam", "lion"), lrs=(0.1, 1), seeds=2))
    tasks = known(plan, {})
    runs = {tasks[0]: Run(1, False, 0.5, {}, [1.0] * 5), tasks[1]: Run(diverged=True, history=[1.0])}
    rows = summarize(plan, runs)
    assert [(row.entrant.label, cells(row)[3], cells(row)[9]) for row in rows] == [
        ("sgd", "0.500†", "1/4"), ("adam", "diverged so far", "1/4"), ("lion", "no run yet", "0/4"),
    ]  # fmt: skip
    assert "1/4" in shown(plan, runs, 120)
    html = write(Race(plan, runs, 1, 0.0, 0, True), tmp_path)[-1].read_text()
    assert "<th>runs</th>" in html
    assert "2 of 12 runs" in html
    assert "Nothing can be said yet" in html
    assert "† Of the runs that the setting was selected by" in html


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rules": ("sgd",), "lrs": (0.1, 1)}, "The learning rate alone was tuned, over the 2 given"),
        (
            {"rules": ("sgd", "adamw", "momentum"), "trials": 4},
            "The space of sgd and momentum: lr 0.0003 to 3, warm-up 0 to 0.2; adamw: lr 0.0003 to 3, warm-up 0 to 0.2, "
            "beta2 0.9 to 0.999, weight_decay 0.0001 to 1 (warm-up as a share of the steps).",
        ),
        ({"rules": ("adam(beta2=0.9)",), "trials": 4, "schedule": "constant"}, "adam(beta2=0.9): lr 0.0003 to 3 ("),
        ({"rules": ("rprop",), "trials": 4}, "The rate of rprop is that of the first step, after"),
        ({"rules": ("schedule_free_sgd", "sgd"), "trials": 4}, "The rate of schedule_free_sgd stays constant after"),
    ],
)
def test_the_page_says_what_was_tuned(quadratic: str, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    plan = make_plan(Settings(quadratic, seeds=1, **settings))
    runs = {task: run_to(0.5, plan) for task in known(plan, {})}
    text = " ".join(write(Race(plan, runs, 1, 0.0, 0, False), tmp_path)[-1].read_text().split())
    assert words in text
    assert "within 10&nbsp;% of the rule's own best one, which counts itself" in text


def test_where_all_have_diverged_no_heading_is_left_alone(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd",), lrs=(0.1,), seeds=1))
    runs = {task: Run(diverged=True, history=[1.0]) for task in known(plan, {})}
    html = write(Race(plan, runs, 1, 0.0, 0, False), tmp_path)[-1].read_text()
    assert "Every run that is finished has diverged, so nothing can be said" in html
    assert "as code" not in html
    assert "The way down" not in html
    assert "<th>runs</th>" not in html


def test_the_best_cell_is_marked_only_where_no_other_reads_the_same(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam", "lion"), lrs=(1, 2, 3, 4, 5), seeds=1))

    def page(accuracies: list[float]) -> str:
        found = dict(zip(("sgd", "adam", "lion"), zip((0.1, 0.2, 0.3), accuracies, strict=True), strict=True))
        runs = {
            task: Run(1, False, found[task.rule][0], {"test_accuracy": found[task.rule][1]}, [1.0] * 5)
            for task in known(plan, {})
        }
        return write(Race(plan, runs, 1, 0.0, 0, False), tmp_path)[-1].read_text()

    # All trials of a rule are as good as its best one, which marks none of them.
    assert re.findall(r'<td class="best">([^<]*)', page([0.5, 0.9, 0.7]).split("</table>")[0]) == ["0.100†", "90.0%"]
    assert re.findall(r'<td class="best">([^<]*)', page([0.5, 0.9, 0.9001]).split("</table>")[0]) == ["0.100†"]


@pytest.mark.parametrize(("count", "told"), [(5, True), (4, False)])
def test_sensitivity_tells_the_share_of_trials_near_the_best(quadratic: str, count: int, told: bool) -> None:
    plan = sgd_plan(quadratic, tuple(float(i + 1) for i in range(count)), 1)
    rows = summarize(plan, runs_of(plan, {lr: [1.0 if lr < 3 else 1.5] for lr in plan.lrs}))
    figure = sensitivity(plan, rows, LIGHT)
    assert figure.axes[0].get_title("right") == ("40%" if told else "")
    # Behind, the filled ones, the pale ones, those that diverged.
    filled, pale, lost = (np.size(line.get_xdata()) for line in figure.axes[0].lines[1:4])
    assert (filled, pale, lost) == (2, count - 2, 0)
    assert any(text.get_text() == "training loss" for text in figure.texts)
    assert curves(plan, rows, LIGHT).axes[0].get_ylabel() == "training loss"


LRS = (0.01, 0.03, 0.1, 0.3, 1.0)
TABLE = {
    "rule": str, "finished": int, "expected": int, "setting": dict, "at_edge": bool, "fresh": bool, "loss": float,
    "rank": list, "interval": list, "loss_range": list, "steps_to_target": float, "seconds_to_target": float,
    "runs_at_target": int, "tuning_loss": float, "train_loss": float, "test_accuracy": float, "forgiving": float,
    "forgiving_tolerance": float, "step_us": float,
}  # fmt: skip
RUNS = {
    "rule": str, "specification": str, "hyperparameters": dict, "setting": dict, "schedule": str, "seed": int,
    "tuning": bool, "key": str, "steps": int, "diverged": bool, "train_loss": float, "metrics": dict, "history": list,
    "path": list, "path_steps": list, "validation": list, "clock": list, "step_us": float, "seconds": float,
}  # fmt: skip


def _types(line: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in line.items()}


def test_results_and_report_hold_everything(tmp_path: Path) -> None:
    rules = ("sgd", "adam(beta2=0.9)")
    settings = Settings("digits-logistic", rules=rules, lrs=LRS, seeds=2, epochs=2, jobs=1, output=tmp_path)
    race(settings)
    saved = json.loads((tmp_path / "results.json").read_text())
    assert (saved["format"], saved["complete"], saved["finished"], saved["expected"]) == (2, True, 14, 14)
    assert saved["settings"] == {
        "rules": list(rules), "trials": None, "lrs": list(LRS), "schedule": "linear", "tuning_seeds": [0],
        "seeds": [1, 2], "epochs": 2, "jobs": 1,
    }  # fmt: skip
    assert saved["pairs"]["rules"] == [line["rule"] for line in saved["table"]]
    assert set(saved["versions"]) == {"steprule", "python", "numpy", "scipy", "scikit-learn", "joblib", "matplotlib"}
    assert saved["problem"]["name"] == "digits-logistic"
    assert saved["problem"]["start_loss"] == pytest.approx(math.log(10))
    assert [{**_types(line), "steps_to_target": float, "seconds_to_target": float} for line in saved["table"]] == [
        TABLE
    ] * 2
    assert [_types(line) for line in saved["runs"]] == [RUNS] * 14
    for line in saved["runs"]:
        assert (tmp_path / "runs" / f"{line['key']}.json").is_file()
        assert len(line["history"]) == len(line["validation"]) == len(line["clock"]) == 3
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
        if tag not in ("meta", "img", "source", "link", "wbr"):
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
    text = "".join(page.text)
    for line in saved["table"]:
        assert line["rule"] in text
        assert f"{line['test_accuracy']:.1%}" in text
    assert "Not finished" not in text


def test_names_of_panels_end_before_their_notes(quadratic: str) -> None:
    """However long they are: what does not fit is left out, and marked."""
    rules = ("sgd", "adam(beta1=0.95, beta2=0.9999, eps=1e-6)", "adamw(weight_decay=0.123456)", "momentum_ema")
    plan = make_plan(Settings(quadratic, rules=rules, lrs=(0.1, 0.2, 0.3, 0.4, 0.5), seeds=1))
    rows = summarize(plan, {task: Run(1, False, 0.5, {}, [1.0] * 5) for task in known(plan, {})})
    axes = sensitivity(plan, rows, LIGHT).axes
    names = [one.get_title("left") for one in axes]
    assert {"sgd", "momentum_ema"} <= set(names)
    assert sum(name.endswith("…") for name in names) == 2
    for one in axes:
        left, right = (one._left_title.get_window_extent(), one._right_title.get_window_extent())  # type: ignore[attr-defined]
        assert one.get_title("right") == "100%"
        assert left.x1 < right.x0


def test_numbers_do_not_break_in_the_middle(quadratic: str, tmp_path: Path) -> None:
    plan = sgd_plan(quadratic, (0.1,), 1)
    runs = reported(plan, {"sgd": [3.7e-5]})
    html = write(Race(plan, runs, 1, 0.0, 0, False), tmp_path)[-1].read_text()
    # Browsers break 3.7e-05 after its hyphen, unless told otherwise; cells of tables are.
    assert html.count('<span class="number">3.7e-05</span>') == 2
    prose = re.sub(r'<span class="number">.*?</span>|<td.*?</td>|<dd>.*?</dd>|<pre>.*?</pre>|base64,[^"]*', "", html)
    assert re.findall(r"\de-\d+", prose) == []


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text('"""Less < more & <b>."""\n' + QUADRATIC)
    race(Settings(str(path), rules=("sgd",), lrs=(0.1,), seeds=1, jobs=1, output=tmp_path / "out"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Less &lt; more &amp; &lt;b&gt;.</p>" in html


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
    styles = styles_of(names, LIGHT)
    assert len({repr(style) for style in styles.values()}) == len(names)


@pytest.mark.parametrize(("by", "margin"), [(0.0, "0.00400"), (-0.05, "0.00400"), (-5.0, "0.00400"), (5.0, "0.00900")])
def test_the_page_holds_for_losses_of_any_sign(quadratic: str, tmp_path: Path, by: float, margin: str) -> None:
    rules = ("sgd", "adam", "lion")
    plan = with_start(make_plan(Settings(quadratic, rules=rules, lrs=(1, 2), tuning_seeds=2, seeds=1)), 4.0 + by)
    found = {"sgd": (0.0, 0.2), "adam": (0.1, 0.3), "lion": (0.4, 0.5)}
    runs = {
        task: Run(
            1, False, by + found[task.rule][task.seed], {}, [4.0 + by, by + 100.0, by + found[task.rule][task.seed]]
        )
        for task in known(plan, {})
    }
    done = Race(plan, runs, 1, 0.0, 0, False)
    text = " ".join(re.sub("<[^>]*>", "", write(done, tmp_path)[-1].read_text()).split())
    assert ("Losses of this race can be negative" in text) is (by < 0)
    assert f"which is {margin}." in text
    rows = summarize(plan, runs)
    for figure in (curves(plan, rows, LIGHT), sensitivity(plan, rows, LIGHT)):
        axes = figure.axes[0]
        assert axes.get_yscale() == ("linear" if by < 0 else "log")
        # A loss far above the start does not press the others flat.
        floor = min(by, 0.0)
        assert axes.dataLim.y1 <= floor + 3 * (4.0 + by - floor) + 1e-9


def test_a_loss_below_zero_on_the_way_has_no_logarithm(quadratic: str) -> None:
    plan = sgd_plan(quadratic, (0.1,), 1)
    runs = {task: Run(1, False, 0.5, {}, [2.0, -1.0, 0.5, 0.5, 0.5]) for task in known(plan, {})}
    rows = summarize(plan, runs)
    # Nothing ends below zero, so zero is the least that counts, and what lies below is drawn at the lower end.
    assert curves(plan, rows, LIGHT).axes[0].get_yscale() == "log"
    assert curves(plan, rows, LIGHT).axes[0].dataLim.y0 > 0
