"""The plan of a race: entrants, settings, tasks, and the keys of runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steprule.errors import HyperparameterError, RuleError, StepruleError
from steprule.race import DEFAULT_RULES, Settings, make_plan, run_plan, summarize, write
from steprule.race.entrant import entrants
from steprule.race.stages import known
from steprule.race.words import cells
from tests.race.cases import QUADRATIC, numbers_of, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def test_the_default_race() -> None:
    plan = make_plan(Settings())
    assert plan.problem.name == "digits-mlp"
    assert tuple(entrant.label for entrant in plan.entrants) == DEFAULT_RULES
    assert (plan.trials, plan.schedule, plan.tuning_seeds, plan.seeds) == (16, "linear", (0,), tuple(range(1, 17)))
    assert (plan.lrs[0], plan.lrs[-1]) == (3e-4, 3.0)
    assert plan.found.metric == "validation_loss"
    quick = make_plan(Settings(quick=True))
    assert (quick.trials, len(quick.seeds), quick.epochs) == (4, 10, 6)


def test_tasks_go_from_a_coarse_grid_to_a_fine_one(quadratic: str) -> None:
    settings = Settings(quadratic, rules=("sgd",), lrs=(1, 2, 3, 4, 5, 6, 7, 8, 9), tuning_seeds=2, seeds=3, seed=5)
    plan = make_plan(settings)
    assert [task.lr for task in known(plan, {})] == 2 * [1, 5, 9, 3, 7, 2, 4, 6, 8]
    assert [task.seed for task in known(plan, {})] == 9 * [5] + 9 * [6]
    assert plan.seeds == (7, 8, 9)


def test_entrants_with_hyperparameters() -> None:
    found = entrants(["sgd, adam(beta2=0.99, eps=1e-6)", "momentum(nesterov=True)", "amsgrad(correction=none)"])
    assert [entrant.label for entrant in found] == [
        "sgd",
        "adam(beta2=0.99, eps=1e-06)",
        "momentum(nesterov=True)",
        "amsgrad(correction=none)",
    ]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("adm", RuleError, "Did you mean 'adam'"),
        ("adam(bata1=0.9)", HyperparameterError, "no hyperparameter 'bata1'"),
        ("adam(beta1=2)", HyperparameterError, r"beta1 must be a number in \[0, 1\), got 2"),
        ("adam(beta1=0.9, x)", HyperparameterError, "'x' is not a name=value"),
        ("adam(lr=1)", HyperparameterError, "the race chooses lr; give the learning rates by --lrs"),
        ("adam,sgd,adam", RuleError, "adam is given 2 times"),
        (" , ", RuleError, "no rule to race"),
        ("adam(beta2=0.9", RuleError, r"^adam\(beta2=0.9: the parenthesis is not closed\."),
        ("sgd,adam(beta2=0.9,lion", RuleError, "the parenthesis is not closed"),
        ("adam beta2=0.9)", RuleError, r"there is a \) without a \("),
    ],
)
def test_wrong_entrants(text: str, kind: type[StepruleError], message: str) -> None:
    with pytest.raises(kind, match=message):
        entrants([text])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"lrs": (0.1, -0.1)}, r"learning rates must be positive numbers, got \[0.1, -0.1\]"),
        ({"lrs": (math.nan,)}, "learning rates must be positive"),
        ({"quick": True, "lrs": (0.1,), "seeds": 1, "epochs": 3}, "quick does nothing beside trials"),
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"tuning_seeds": 0}, "tuning seeds must be at least 1, got 0"),
        ({"trials": 3, "lrs": (0.1,)}, "trials does nothing beside lrs"),
        ({"schedule": "step"}, "schedule must be one of linear, cosine, constant, got 'step'"),
    ],
)
def test_wrong_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        make_plan(replace(Settings("saddle"), **change))


def test_learning_rates_for_rules_that_have_none(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(RULE)
    settings = Settings("saddle", rules=(f"{tmp_path}/own.py:adam",))
    assert len(known(make_plan(settings), {})) == 1
    with pytest.raises(HyperparameterError, match="do nothing: no rule of this race has one"):
        make_plan(replace(settings, lrs=(0.1,)))


RULE = """
from steprule import rule, Rate, sign
@rule
def mine(theta, g, *, lr: Rate = 0.1):
    return (theta - lr * sign(g),)
@rule
def adam(theta, g):
    return (theta - 0.125 * g,)
"""


def test_rules_of_the_users_own(quadratic: str, tmp_path: Path) -> None:
    path = tmp_path / "rules_of_mine.py"
    path.write_text(RULE)
    rules = (f"{path}:mine", "adam", f"{path}:adam", "sgd")
    plan = make_plan(Settings(quadratic, rules=rules, lrs=(0.1, 0.125), schedule="constant", seeds=1))
    assert [entrant.label for entrant in plan.entrants] == ["mine", "adam", f"{path}:adam", "sgd"]
    done = run_plan(plan, tmp_path / "out", jobs=1)
    numbers = numbers_of(done)
    # A rule without a learning rate runs once a seed.
    assert numbers[f"{path}:adam", (), 0] == numbers["sgd", (("lr", 0.125),), 0]
    assert len(done.runs) == 2 + 2 + 1 + 2 + 4
    row = next(row for row in summarize(plan, done.runs) if not row.entrant.has_lr)
    assert cells(row)[2] == "none"
    write(done, tmp_path / "out")


def test_a_run_is_used_again_only_if_its_numbers_are_the_same(quadratic: str, tmp_path: Path) -> None:
    own = tmp_path / "own_rules.py"
    own.write_text(RULE)
    base = Settings(quadratic, rules=(f"{own}:mine",), lrs=(0.1,), seeds=1)

    def key(settings: Settings) -> str:
        return known(make_plan(settings), {})[0].key

    first = key(base)
    assert key(replace(base, jobs=2, output=tmp_path, epochs=4)) == first
    different = [
        key(replace(base, lrs=(0.2,))),
        key(replace(base, seed=1)),
        key(replace(base, epochs=5)),
        key(replace(base, schedule="cosine")),
        key(replace(base, problem="saddle")),
        key(replace(base, rules=("sgd",))),
        key(replace(base, rules=("momentum",))),
        key(replace(base, rules=("momentum(mu=0.5)",))),
    ]
    own.write_text(RULE.replace("lr * sign", "2 * lr * sign"))
    different.append(key(base))
    own.write_text(RULE)
    Path(quadratic).write_text(QUADRATIC.replace("0.1 * batch", "0.2 * batch"))
    different.append(key(base))
    assert len({first, *different}) == 1 + len(different)


def test_a_key_depends_on_the_versions(quadratic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(quadratic, rules=("sgd",), lrs=(0.1,), seeds=1)
    first = known(make_plan(settings), {})[0].key
    monkeypatch.setattr("steprule.race.plan.versions", lambda: {"numpy": "another"})
    assert known(make_plan(settings), {})[0].key != first
