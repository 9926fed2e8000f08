"""What is said of a race: ranks, targets, the verdict in words, code to paste, tables for other programs."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from steprule.race import Settings, make_plan
from steprule.race.export import FIELDS, latex, spreadsheet
from steprule.race.plan import Plan
from steprule.race.rates import rate_of
from steprule.race.snippets import command, snippets
from steprule.race.stages import known
from steprule.race.verdict import verdict
from tests.race.cases import evidence_of, reported, run_to, with_start, write_quadratic

RULES = ("sgd", "adam", "lion")
SEEDS = 12


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    settings = Settings(write_quadratic(tmp_path), rules=RULES, lrs=(0.1,), seeds=SEEDS)
    return with_start(make_plan(settings), 2.0)


def _around(middle: float) -> list[float | None]:
    return [middle + 0.01 * seed for seed in range(SEEDS)]


def _crossing(middle: float) -> list[float | None]:
    """Return losses that are as often below as above those of ``_around``, by steps of another size."""
    return [middle + 0.01 * seed + (0.003 + 0.0001 * seed) * (-1) ** seed for seed in range(SEEDS)]


def test_what_is_rounding_is_equal(plan: Plan) -> None:
    # 1e-12 of the loss at the start, which is 2: what is below is not told apart, nor is a target there.
    losses: dict[str, list[float | None]] = {
        "sgd": [1e-14 * (1 + seed) for seed in range(SEEDS)],
        "adam": [1e-30] * SEEDS,
        "lion": _around(1e-6),
    }
    _, evidence = evidence_of(plan, reported(plan, losses))
    assert {label: judged.rank for label, judged in evidence.judged.items()} == {
        "sgd": (1, 2), "adam": (1, 2), "lion": (3, 3),
    }  # fmt: skip
    assert evidence.target == 2e-12
    reach = evidence.judged["sgd"].reach
    assert reach
    assert reach.runs == SEEDS


def _said(plan: Plan, losses: dict[str, list[float | None]]) -> list[str]:
    return verdict(plan, *evidence_of(plan, reported(plan, losses)), lambda loss: f"{loss:.3f}")


def test_who_is_told_apart_and_who_is_not(plan: Plan) -> None:
    losses = {"sgd": _around(0.5), "adam": _crossing(0.5), "lion": _around(1.0)}
    rows, evidence = evidence_of(plan, reported(plan, losses))
    assert {label: judged.rank for label, judged in evidence.judged.items()} == {
        "sgd": (1, 2), "adam": (1, 2), "lion": (3, 3),
    }  # fmt: skip
    first, second, third = _said(plan, losses)
    best = rows[0].entrant.label
    assert first.startswith(f"{best} has the lowest training loss: median 0.5")
    assert first.endswith(", and is better than lion.")
    assert second.startswith(f"{'adam' if best == 'sgd' else 'sgd'} cannot be told apart from it (Wilcoxon's")
    assert "Holm's correction for 3 pairs, 5 % level): that is no proof that they are equal" in second
    assert "no validation data, so settings were selected and rules compared by the training loss" in third
    assert "12 steps with a linear decay to zero, and 1 learning rate and nothing else" in third


def test_the_best_of_all_and_the_undecided_pair_behind_it(plan: Plan) -> None:
    first, second, _ = _said(plan, {"sgd": _around(0.2), "adam": _crossing(0.5), "lion": _around(0.5)})
    assert first.endswith("and is better than every other rule.")
    assert re.match(r"It cannot tell (adam from lion|lion from adam) \(", second)


def test_too_few_seeds_are_said(plan: Plan, tmp_path: Path) -> None:
    few = make_plan(Settings(plan.problem.spec, rules=RULES, lrs=(0.1,), seeds=5))
    first, second, _ = _said(few, {"sgd": [0.1] * 5, "adam": [0.2] * 5, "lion": [0.3] * 5})
    assert first.endswith("but this race cannot tell it apart from any other rule.")
    assert second == (
        "With 5 seeds no two of 3 rules can be told apart, however they differ; it takes at least 7 (--seeds 7)."
    )


def test_a_rule_that_diverges_everywhere_is_told_apart(plan: Plan) -> None:
    rows, evidence = evidence_of(
        plan, reported(plan, {"sgd": _around(0.5), "adam": _around(0.6), "lion": [None] * SEEDS})
    )
    assert evidence.judged["lion"].rank == (3, 3)
    assert evidence.judged["lion"].reach is None
    assert math.isinf(evidence.judged["lion"].interval[0])
    assert rows[-1].best is None
    (only,) = _said(plan, {label: [None] * SEEDS for label in RULES})
    assert "nothing can be said" in only


def test_no_verdict_before_fresh_seeds(plan: Plan) -> None:
    runs = {task: run_to(0.5, plan) for task in known(plan, {})}
    (only,) = verdict(plan, *evidence_of(plan, runs), str)
    assert only.startswith("Nothing can be said yet")


def test_only_seeds_that_all_rules_have_are_compared(plan: Plan) -> None:
    runs = reported(plan, {"sgd": _around(0.5), "adam": _around(0.6), "lion": _around(0.7)})
    adam = plan.entrants[1]
    del runs[plan.task(adam, plan.first(adam)[0], plan.seeds[3])]
    _, evidence = evidence_of(plan, runs)
    assert evidence.seeds == SEEDS - 1


def test_the_target_is_the_end_of_the_first_rule(plan: Plan) -> None:
    losses = {"sgd": _around(0.5), "adam": _around(0.2), "lion": _around(1.0)}
    _, evidence = evidence_of(plan, reported(plan, losses))
    assert evidence.reference == "sgd"
    assert evidence.target == 0.5 + 0.01 * 6
    of = {label: judged.reach for label, judged in evidence.judged.items()}
    assert of["sgd"] is not None
    assert (of["sgd"].runs, of["sgd"].of, of["sgd"].steps, of["sgd"].seconds) == (7, 12, 12.0, 4.0)
    # Runs of four epochs of three steps fall evenly from 2 to 0.2 ... 0.31, and are at 0.65 and above after three.
    assert of["adam"] is not None
    assert (of["adam"].runs, of["adam"].steps, of["adam"].seconds) == (12, 12.0, 4.0)
    assert of["lion"] is not None
    assert (of["lion"].runs, of["lion"].steps) == (0, math.inf)


def test_the_best_of_k_curve_is_of_the_drawn_trials(plan: Plan) -> None:
    drawn = make_plan(Settings(plan.problem.spec, rules=("sgd",), trials=8, seeds=1))
    drawn = with_start(drawn, 2.0)
    (sgd,) = drawn.entrants
    losses = [0.1, 0.7, None, 0.5, 0.9, 0.8]
    runs = {
        drawn.task(sgd, setting, 0): run_to(loss, drawn) for setting, loss in zip(drawn.first(sgd), losses, strict=True)
    }
    _, evidence = evidence_of(drawn, runs)
    # Without the defaults; the trial that diverged is worth the start.
    assert evidence.budget["sgd"][0] == pytest.approx((0.7 + 2.0 + 0.5 + 0.9 + 0.8) / 5)
    assert len(evidence.budget["sgd"]) == 5


def _executed(code: str, **given: Any) -> dict[str, Any]:
    space = dict(given)
    exec(code, space)
    return space


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_the_code_steps_as_the_race_did(tmp_path: Path, schedule: Any, warmup: float) -> None:
    plan = make_plan(Settings(write_quadratic(tmp_path), rules=("adamw(beta1=0.8)",), trials=2, schedule=schedule))
    setting = (("lr", 0.1), ("warmup", warmup), ("beta2", 0.95), ("weight_decay", 0.5))
    task = plan.task(plan.entrants[0], setting[:1] + setting[2:] if schedule == "constant" else setting, 0)
    code = snippets(task, '"adamw"')
    rate = rate_of(0.1, schedule, round(warmup * 12), 12)
    rates = [rate(t) if callable(rate) else rate for t in range(1, 13)]

    def followed(step: Any) -> list[float]:
        return [float(step()) for _ in range(12)]

    start = np.array([1.0, -2.0])
    ours = start.copy()
    opt = _executed(code["NumPy"], params=ours)["opt"]
    numpy = followed(lambda: (opt.step(2 * ours), ours[0])[1])
    weight = torch.nn.Parameter(torch.tensor(start))
    model = torch.nn.Module()
    model.register_parameter("weight", weight)
    space = _executed(code["PyTorch"], model=model)

    def torch_step() -> float:
        weight.grad = 2 * weight.detach()
        space["optimizer"].step()
        if "scheduler" in space:
            space["scheduler"].step()
        return weight[0].item()

    assert followed(torch_step) == pytest.approx(numpy, rel=1e-9)
    transformation, value = _executed(code["JAX"])["optimizer"], jnp.asarray(start, jnp.float32)
    state = transformation.init(value)
    for expected in numpy:
        update, state = transformation.update(2 * value, state, value)
        value = value + update
        assert float(value[0]) == pytest.approx(expected, abs=2e-5)
    again = start.copy()
    plain = _executed(
        'opt = sr.Optimizer(params, "adamw", lr=lambda t: rates[t - 1], beta1=0.8, beta2=0.95, weight_decay=0.5)',
        sr=__import__("steprule"), params=again, rates=rates,
    )["opt"]  # fmt: skip
    assert followed(lambda: (plain.step(2 * again), again[0])[1]) == numpy


def test_the_command_runs_the_race_again(plan: Plan) -> None:
    assert command(plan) == (
        f"steprule race {plan.problem.spec} --rules sgd,adam,lion --lrs 0.1 --schedule linear --tuning-seeds 1 "
        "--seeds 12 --epochs 4 --seed 0"
    )
    other = make_plan(Settings("saddle", rules=("adam(beta2=0.9)",), trials=4, seed=2, schedule="cosine"))
    assert command(other) == (
        "steprule race saddle --rules 'adam(beta2=0.9)' --trials 4 --schedule cosine --tuning-seeds 1 --seeds 16 "
        "--epochs 20 --seed 2"
    )


def test_tables_for_other_programs(plan: Plan) -> None:
    losses: dict[str, list[float | None]] = {"sgd": _around(0.5), "adam": _around(0.2), "lion": [None] * SEEDS}
    rows, evidence = evidence_of(plan, reported(plan, losses))
    lines = list(csv.DictReader(io.StringIO(spreadsheet(rows, evidence))))
    assert tuple(lines[0]) == FIELDS
    assert [line["rule"] for line in lines] == ["adam", "sgd", "lion"]
    assert float(lines[1]["median"]) == pytest.approx(0.5 + 0.01 * 5.5)
    assert (lines[0]["rank_first"], lines[0]["rank_last"], lines[0]["fresh_seeds"]) == ("1", "1", "12")
    assert (lines[2]["median"], lines[2]["low"], lines[2]["rank_first"]) == ("", "", "3")
    text = latex(plan, rows, evidence)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 4
    assert len({line.count(" & ") for line in body}) == 1
    assert "5 %" not in text.replace(r"5 \%", "")
    assert r"$\mu$s a step" in body[0]
