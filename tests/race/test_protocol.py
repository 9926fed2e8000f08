"""The protocol of a race: equal trials, schedules, selection by validation, fresh seeds, the edge of a space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.race import Race, Settings, make_plan, run_plan, summarize
from steprule.race.entrant import entrants
from steprule.race.plan import Plan, Schedule, Task
from steprule.race.rates import hyperparameters_of, rate_of
from steprule.race.run import Run, run
from steprule.race.space import LR, WARMUP, Setting, dimensions, draw, value_of
from steprule.race.stages import is_complete, known, selected, trials
from steprule.rules import CATALOGUE
from tests.race.cases import QUADRATIC, numbers_of, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def _settle(plan: Plan, loss: Any) -> dict[Task, Run]:
    """Return a finished race whose runs end at ``loss(rule, setting, seed)``; None has diverged."""
    runs: dict[Task, Run] = {}
    while todo := [task for task in known(plan, runs) if task not in runs]:
        for task in todo:
            value = loss(task.rule, dict(task.setting), task.seed)
            runs[task] = Run(1, value is None, value, {}, [2.0, value or 2.0], clock=[0.0, 1.0])
    return runs


RULES = ("adam", "sgd", "adamw(weight_decay=0.1)", "schedule_free_adamw", "lion")


def test_every_rule_has_as_many_trials_and_steps(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=RULES, trials=8, tuning_seeds=2, seeds=3))
    # The best rate of each rule lies elsewhere: at an edge for some.
    best = {"adam": 1e-2, "sgd": 100.0, "adamw": 1e-6, "schedule_free_adamw": 0.1, "lion": 1.0}
    runs = _settle(plan, lambda rule, setting, seed: 1 + abs(math.log(setting["lr"] / best[rule])))
    assert is_complete(plan, runs)
    assert {task.steps for task in runs} == {12}
    for entrant in plan.entrants:
        own = [task for task in runs if task.rule == entrant.spec]
        assert len({task.setting for task in own}) == 8
        assert [sum(task.seed == seed for task in own) for seed in (0, 1)] == [8, 8]
        assert [sum(task.seed == seed for task in own) for seed in (2, 3, 4)] == [1, 1, 1]
        assert {task.setting for task in own if task.seed > 1} == {selected(plan, runs, entrant)}


def test_all_rules_try_the_same_rates_and_their_own_defaults_first(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=RULES, trials=8))
    settings = {entrant.label: trials(plan, {}, entrant) for entrant in plan.entrants}
    rates = {tuple(value_of(setting, LR) for setting in own[1:]) for own in settings.values()}
    assert len(rates) == 1
    assert dict(settings["adam"][0]) == {"lr": 0.001, "warmup": 0.05, "beta2": 0.999}
    assert dict(settings["lion"][0]) == {"lr": 0.0001, "warmup": 0.05, "beta2": 0.99}
    # What the user has set is not tuned.
    assert set(dict(settings["adamw(weight_decay=0.1)"][0])) == {"lr", "warmup", "beta2"}
    assert set(dict(settings["schedule_free_adamw"][0])) == {"lr", "warmup", "beta2", "weight_decay"}
    assert set(dict(settings["sgd"][0])) == {"lr", "warmup"}


def test_draws_fill_the_space_and_go_on() -> None:
    (adamw,) = entrants(["adamw"])
    space = dimensions(adamw, (1e-4, 1.0), has_schedule=True)
    settings = draw(space, 3, 0, 16)
    assert settings == draw(space, 3, 0, 10) + draw(space, 3, 10, 16)
    assert settings != draw(space, 4, 0, 16)
    rates = np.array([value_of(setting, LR) for setting in settings])
    # One in each sixteenth of the range.
    assert sorted(np.floor(4 * (np.log10(rates) + 4)).astype(int)) == list(range(16))
    for one in space:
        values = [dict(setting)[one.name] for setting in settings]
        assert one.low <= min(values) < max(values) <= one.high
        # In two halves of its range there are about as many.
        assert 6 <= sum(value < one.at(0.5) for value in values) <= 10


@pytest.mark.parametrize(("best", "beyond"), [(1e3, "above"), (1e-9, "below"), (0.03, None)])
def test_the_space_is_widened_where_the_best_rate_is_at_its_edge(
    quadratic: str, best: float, beyond: str | None
) -> None:
    plan = make_plan(Settings(quadratic, rules=("adam", "sgd"), trials=16, seeds=1))
    runs = _settle(plan, lambda rule, setting, seed: 1 + abs(math.log(setting["lr"] / best)))
    for row in summarize(plan, runs):
        rates = [point.lr for point in row.points if point.lr is not None]
        first, last = rates[:12], rates[12:]
        assert len(last) == 4
        low, high = min(first), max(first)
        if beyond == "above":
            assert all(high <= rate <= 10 * high for rate in last)
        elif beyond == "below":
            assert all(low / 10 <= rate <= low for rate in last)
        else:
            assert all(3e-4 <= rate <= 3 for rate in last)
        # After that, a rate that is still the last one tried is flagged.
        assert row.at_edge is (beyond is not None)


def test_a_grid_is_tuned_alone_and_not_widened(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("adamw",), lrs=(0.1, 1.0, 10.0), seeds=2))
    runs = _settle(plan, lambda rule, setting, seed: setting["lr"])
    assert {task.setting for task in runs} == {(("lr", lr),) for lr in (0.1, 1.0, 10.0)}
    (row,) = summarize(plan, runs)
    assert row.at_edge
    assert (len(row.points), row.best and row.best.lr, row.is_fresh) == (3, 0.1, True)


def test_a_rule_that_diverges_everywhere_has_no_fresh_runs(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("adam", "sgd"), trials=4, seeds=3))
    runs = _settle(plan, lambda rule, setting, seed: None if rule == "sgd" else 0.5)
    assert is_complete(plan, runs)
    assert len(runs) == 4 + 3 + 4
    first, last = summarize(plan, runs)
    assert (first.entrant.label, last.entrant.label, last.best) == ("adam", "sgd", None)
    assert (last.finished, last.expected) == (4, 4)


VALIDATED = QUADRATIC.replace('"size": 1.5', '"validation_loss": float(np.abs(p["b"]).sum())')


def test_settings_are_selected_by_the_validation_loss_on_tuning_seeds_alone(quadratic: str) -> None:
    Path(quadratic).write_text(VALIDATED)
    plan = make_plan(Settings(quadratic, rules=("sgd",), lrs=(0.1, 1.0), tuning_seeds=3, seeds=3))
    assert plan.found.metric == "validation_loss"
    runs: dict[Task, Run] = {}
    while todo := [task for task in known(plan, runs) if task not in runs]:
        for task in todo:
            # The training loss prefers 1.0, the validation loss 0.1; on fresh seeds it is the other way round.
            good = (task.lr == 0.1) is (task.seed < 3)
            runs[task] = Run(1, False, task.lr == 0.1, {}, [2.0, 0.0], validation=[2.0, 0.25 if good else 0.75])
    (row,) = summarize(plan, runs)
    assert row.best is not None
    assert (row.best.lr, row.best.values, row.is_fresh) == (0.1, [0.75] * 3, True)
    assert row.chosen is not None
    assert row.chosen.median == 0.25


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 0), ("linear", 4), ("cosine", 0), ("cosine", 4)])
def test_rates_rise_to_the_whole_one_and_fall_to_zero(schedule: Any, warmup: int) -> None:
    steps, lr = 20, 0.3
    rate = rate_of(lr, schedule, warmup, steps)
    for t in range(1, steps + 2):
        if t <= warmup:
            expected = lr * t / warmup
        else:
            share = (t - warmup - 1) / (steps - warmup)
            expected = lr * (1 - share) if schedule == "linear" else lr * (1 + math.cos(math.pi * share)) / 2
        assert rate(t) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert rate(warmup + 1) == pytest.approx(lr, rel=1e-12)


def _task(plan: Plan, setting: Setting) -> Task:
    return plan.task(plan.entrants[0], setting, 3)


def test_a_run_with_a_schedule_is_the_plain_loop(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("adamw(beta1=0.8)",)))
    found = run(_task(plan, ((LR, 0.1), (WARMUP, 0.25), ("beta2", 0.95), ("weight_decay", 0.5))))
    problem = plan.problem.problem
    params = problem.init(np.random.default_rng([3, 0]))
    rates = [0.1 * t / 3 if t <= 3 else 0.1 * (1 - (t - 4) / 9) for t in range(1, 13)]
    optimizer = sr.Optimizer(params, "adamw", lr=lambda t: rates[t - 1], beta1=0.8, beta2=0.95, weight_decay=0.5)
    for epoch in range(4):
        for batch in problem.batches(np.random.default_rng([3, 1, epoch])):
            optimizer.step(problem.loss_and_grad(params, batch)[1])
    assert found.train_loss == pytest.approx(problem.evaluate(params)["train_loss"], rel=1e-12)


def test_a_schedule_free_rule_keeps_its_rate_and_is_evaluated_at_its_point(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("schedule_free_adamw",)))
    task = _task(plan, ((LR, 0.1), (WARMUP, 0.25), ("beta2", 0.95), ("weight_decay", 0.5)))
    assert hyperparameters_of(task) == {"lr": 0.1, "warmup_steps": 3.0, "beta2": 0.95, "weight_decay": 0.5}
    found = run(task)
    problem = plan.problem.problem
    params = problem.init(np.random.default_rng([3, 0]))
    optimizer = sr.Optimizer(params, "schedule_free_adamw", **hyperparameters_of(task))
    for epoch in range(4):
        for batch in problem.batches(np.random.default_rng([3, 1, epoch])):
            optimizer.step(problem.loss_and_grad(params, batch)[1])
    assert found.train_loss == problem.evaluate(optimizer.evaluated)["train_loss"]
    assert found.train_loss != problem.evaluate(params)["train_loss"]


@pytest.mark.parametrize(
    ("rule", "exempt"),
    [("schedule_free_sgd", True), ("schedule_free(lion)", True), ("cautious(schedule_free_adamw)", True),
     ("adam", False), ("lookahead(adam)", False), ("asgd", False), ("rprop", True), ("maximize(rprop)", True)],
)  # fmt: skip
def test_which_rules_keep_their_rate(quadratic: str, rule: str, exempt: bool) -> None:
    plan = make_plan(Settings(quadratic, rules=(rule,)))
    assert plan.task(plan.entrants[0], ((LR, 0.1),), 0).schedule == ("constant" if exempt else "linear")


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_every_rule_of_the_catalogue_can_be_raced(quadratic: str, schedule: Schedule) -> None:
    rules = tuple(name for name, rule in CATALOGUE.items() if not rule.needs_matrices)
    plan = make_plan(Settings(quadratic, rules=rules, schedule=schedule))
    for entrant in plan.entrants:
        assert not run(plan.task(entrant, plan.first(entrant)[0], 3)).diverged


def test_a_whole_race_is_the_same_for_every_number_of_jobs_and_when_resumed(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("adam", "schedule_free_sgd"), trials=8, seeds=2))
    whole = run_plan(plan, tmp_path / "one", jobs=1)
    assert len(whole.runs) == 2 * (8 + 2)
    for path in sorted((tmp_path / "one" / "runs").iterdir())[::3]:
        path.unlink()
    again = run_plan(plan, tmp_path / "one", jobs=2)
    assert 0 < again.resumed < 20
    assert numbers_of(again) == numbers_of(whole)
    assert isinstance(again, Race)
    assert again.expected == len(again.runs)
