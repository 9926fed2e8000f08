"""The drifting target: what it asks for, and that it tells rules apart that forget from one that does not."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from steprule.errors import ProblemError
from steprule.race import Settings, make_plan
from steprule.race.load import load_problem
from steprule.race.problems.drifting_target import Drift
from steprule.race.run import run
from tests.race.cases import QUADRATIC, check_gradient

NAME = "drifting-target"


def _drift() -> Drift:
    problem = load_problem(NAME).problem
    assert isinstance(problem, Drift)
    return problem


def test_loss_and_gradient() -> None:
    problem = _drift()
    params = np.random.default_rng(0).normal(size=20)
    x, y = (array.astype(float) for array in next(iter(problem.batches(np.random.default_rng(1)))))
    loss, grad = problem.loss_and_grad(params, (x, y))
    errors = [sum(a * b for a, b in zip(row, params, strict=True)) - t for row, t in zip(x, y, strict=True)]
    assert loss == pytest.approx(sum(error**2 for error in errors) / 16)
    check_gradient(lambda: problem.loss_and_grad(params, (x, y))[0], params, grad)


def test_the_target_goes_round_once_an_epoch_and_evaluate_is_the_loss_at_its_end() -> None:
    problem = _drift()
    np.testing.assert_allclose(problem.target(0.0), problem.target(1.0), atol=1e-12)
    np.testing.assert_allclose(problem.target(0.25), -problem.target(0.75), atol=1e-12)
    assert problem.evaluate(problem.target(1.0)) == {"train_loss": 0.0}
    # The mean of many samples' losses, noise apart, is what evaluate says.
    params, rng = np.zeros(20), np.random.default_rng(0)
    x = rng.standard_normal((100_000, 20)) * problem.scales
    sampled = 0.5 * np.mean((x @ (params - problem.target(1.0))) ** 2)
    assert problem.evaluate(params)["train_loss"] == pytest.approx(sampled, rel=0.02)


def test_batches_follow_the_target() -> None:
    problem = _drift()
    rng = np.random.default_rng(0)
    for step, (x, y) in enumerate(problem.batches(rng)):
        # 8 samples of 20 weights: y can be told only up to the noise.
        expected = x @ problem.target(step / problem.steps)
        assert np.abs(y - expected).max() < 5 * problem.noise
    assert step == problem.steps - 1


@pytest.mark.parametrize(("rule", "lr", "forgets"), [("adam", 0.3, True), ("adagrad", 1.0, False)])
def test_a_rule_that_never_forgets_follows_ever_less(rule: str, lr: float, forgets: bool) -> None:
    plan = make_plan(Settings(NAME, rules=(rule,), lrs=(lr,)))
    assert plan.schedule == "constant"
    curve = run(plan.task(plan.entrants[0], (("lr", lr),), 0)).curve
    early, late = statistics.fmean(curve[1:5]), statistics.fmean(curve[-4:])
    assert early < 0.5 < plan.start
    # It follows as closely as ever, or is as far away as at the start, where nothing was known.
    assert late < 1.2 * early if forgets else late > plan.start


def test_a_problem_says_how_its_rate_falls_unless_the_user_does(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(QUADRATIC + 'schedule = "cosine"\n')
    assert make_plan(Settings(str(path), rules=("sgd",))).schedule == "cosine"
    assert make_plan(Settings(str(path), rules=("sgd",), schedule="linear")).schedule == "linear"
    path.write_text(QUADRATIC + 'schedule = "step"\n')
    with pytest.raises(ProblemError, match="problem own: schedule must be one of linear, cosine, constant, got 'step'"):
        make_plan(Settings(str(path), rules=("sgd",)))
