"""Two races side by side, and a race that is planned to fit into minutes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steprule.cli import race as verb
from steprule.errors import HyperparameterError, StepruleError
from steprule.race import Race, Settings, fit, make_plan, write
from steprule.race.compare import compare
from steprule.race.plan import Task
from steprule.race.run import Run
from tests.race.cases import reported, with_start, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def _written(quadratic: str, folder: Path, losses: dict[str, list[float | None]], seed: int = 0) -> Path:
    seeds = len(next(iter(losses.values())))
    plan = make_plan(Settings(quadratic, rules=tuple(losses), lrs=(0.1,), seeds=seeds, seed=seed))
    plan = with_start(plan, 2.0)
    write(Race(plan, reported(plan, losses), 1, 0.0, 0, False), folder)
    return folder


def test_what_became_better_and_worse(quadratic: str, tmp_path: Path) -> None:
    one: list[float | None] = [0.5 + 0.01 * seed for seed in range(10)]
    lower: list[float | None] = [0.3 + 0.012 * seed for seed in range(10)]
    mixed: list[float | None] = [0.5 + 0.01 * seed + 0.001 * (seed + 1) * (-1) ** seed for seed in range(10)]
    a = _written(quadratic, tmp_path / "a", {"sgd": one, "adam": lower, "lion": one, "signum": one})
    b = _written(quadratic, tmp_path / "b", {"sgd": lower, "adam": one, "lion": mixed, "radam": one})
    head, *lines = compare(a, b)
    assert head == f"quadratic: training loss, median over the fresh seeds of {a} and {b}"
    said = {line.split(":")[0]: line for line in lines}
    assert set(said) == {"sgd", "adam", "lion"}
    # Ten differences of one sign: 2 / 2^10, three times or twice.
    assert said["sgd"] == "sgd: 0.545 and 0.354, better (p = 0.0059, 10 seeds)"
    assert "0.354 and 0.545, worse (p = 0.0059" in said["adam"]
    assert "cannot be told apart" in said["lion"]


def test_seeds_are_matched_by_their_numbers(quadratic: str, tmp_path: Path) -> None:
    a = _written(quadratic, tmp_path / "a", {"sgd": [0.1, 0.2, 0.3, 0.4]})
    b = _written(quadratic, tmp_path / "b", {"sgd": [0.2, 0.3, 0.4, 0.5]}, seed=1)
    (line,) = compare(a, b)[1:]
    assert line == "sgd: 0.300 and 0.300, cannot be told apart (p = 1, 3 seeds)"
    with pytest.raises(StepruleError, match="no fresh seed in common; race both with the same --seed"):
        compare(a, _written(quadratic, tmp_path / "c", {"sgd": [0.2]}, seed=50))


def test_races_that_cannot_be_compared(quadratic: str, tmp_path: Path) -> None:
    a = _written(quadratic, tmp_path / "a", {"sgd": [0.1]})
    with pytest.raises(StepruleError, match=r"there is no .*none.results\.json; give the folder"):
        compare(a, tmp_path / "none")
    with pytest.raises(StepruleError, match="no rule has fresh runs in both"):
        compare(a, _written(quadratic, tmp_path / "b", {"adam": [0.1]}))
    saved: dict[str, Any] = json.loads((a / "results.json").read_text())
    for change, message in (
        ({"format": 1}, "has format 1, and this version reads 2: earlier ones have no fresh seeds. Run the race again"),
        ({"problem": {**saved["problem"], "name": "other"}}, "have another problem: quadratic and other"),
        ({"problem": {**saved["problem"], "metric": "validation_loss"}}, "have another compared loss"),
    ):
        (tmp_path / "changed").mkdir(exist_ok=True)
        (tmp_path / "changed" / "results.json").write_text(json.dumps({**saved, **change}))
        with pytest.raises(StepruleError, match=message):
            compare(a, tmp_path / "changed")
    (tmp_path / "changed" / "results.json").write_text("{")
    with pytest.raises(StepruleError, match="cannot be read"):
        compare(a, tmp_path / "changed")


def test_compare_on_the_command_line(quadratic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = _written(quadratic, tmp_path / "a", {"sgd": [0.1]})
    verb.race("compare", others=[str(a), str(a)])
    assert "sgd: 0.100 and 0.100, cannot be told apart (p = 1, 1 seed)" in capsys.readouterr().out
    with pytest.raises(HyperparameterError, match="compare takes two folders of finished races, got 1"):
        verb.race("compare", others=[str(a)])
    with pytest.raises(HyperparameterError, match="'sgd' is a word too many: a race has one problem"):
        verb.race("saddle", others=["sgd"])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Runs that take three seconds each, by their own account, and are noted."""
    noted: list[Task] = []

    def run(task: Task, parent: int | None = None) -> Run:
        noted.append(task)
        return Run(1, False, 0.5, {}, [1.0, 0.5], clock=[0.0, 3.0], seconds=3.0)

    monkeypatch.setattr("steprule.race.runner.run", run)
    return noted


@pytest.mark.parametrize(
    ("minutes", "jobs", "trials", "seeds"),
    # Room for 60 m * 0.85 - 10 seconds of runs of 3 s, two rules at a time with one job: 6 s a trial or seed.
    [(1.0, 1, 2, 3), (1.5, 1, 4, 7), (3.0, 1, 8, 12), (4.0, 1, 16, 16), (4.0, 2, 32, 20), (60.0, 1, 64, 32)],
)
def test_trials_and_seeds_fit_into_the_minutes(
    quadratic: str, tmp_path: Path, timed: list[Task], minutes: float, jobs: int, trials: int, seeds: int
) -> None:
    settings = Settings(quadratic, rules=("sgd", "adam"), minutes=minutes, jobs=1)
    plan = make_plan(settings)
    # The runs are timed in this process, where they are noted.
    fit(plan, settings, tmp_path / "out")
    found = fit(plan, replace(settings, jobs=jobs), tmp_path / "out")
    assert (found.trials, len(found.seeds)) == (trials, seeds)
    assert (trials + seeds) * 6 / jobs <= 60 * minutes * 0.85 - 10
    assert f"{trials} trials and {seeds} fresh seeds" in found.note
    assert ("in place of 16 and 16" in found.note) is ((trials, seeds) != (16, 16))
    # One run of each rule was timed, once: the second plan read them from the folder.
    assert [task.rule for task in timed] == ["sgd", "adam"]
    assert [task.setting for task in timed] == [plan.first(entrant)[0] for entrant in plan.entrants]


def test_too_few_minutes_for_too_many_rules(quadratic: str, tmp_path: Path, timed: list[Task]) -> None:
    settings = Settings(quadratic, rules=("sgd", "adam", "lion", "yogi"), minutes=1, jobs=1)
    with pytest.raises(HyperparameterError, match=r"1 minutes are too few for 4 rules .* take about 1\.4\. Give more"):
        fit(make_plan(settings), settings, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"minutes": 0}, "minutes must be a positive number"), ({"trials": 4}, "trials would not be followed"),
     ({"quick": True, "seeds": 3}, "seeds and quick would not be followed"),
     ({"backend": "dask", "address": "a:1"}, "minutes times runs on this machine")],
)  # fmt: skip
def test_wrong_budgets(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        make_plan(replace(Settings("saddle", minutes=1), **change))
