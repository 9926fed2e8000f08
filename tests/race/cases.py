"""What the tests of the race share: a small problem, and the numbers of a race."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from steprule.doors.structure import Structure
from steprule.race import Race, Row, Settings, make_plan, summarize
from steprule.race.check import Found
from steprule.race.evidence import Evidence, judge
from steprule.race.live import final_table
from steprule.race.plan import Plan, Task
from steprule.race.run import Run

QUADRATIC = """
import numpy as np
epochs = 4
def init(rng): return {"a": [rng.normal(size=3).astype("f4")], "b": rng.normal(size=2)}
def batches(rng): yield from rng.normal(size=(3, 2))
def loss_and_grad(p, batch):
    loss = 0.5 * float(p["a"][0] @ p["a"][0]) + 0.5 * float(p["b"] @ p["b"]) + 0.1 * float(batch @ p["b"])
    return loss, {"a": [p["a"][0].copy()], "b": p["b"] + 0.1 * batch}
def evaluate(p):
    return {"train_loss": 0.5 * float(p["a"][0] @ p["a"][0]) + 0.5 * float(p["b"] @ p["b"]), "size": 1.5}
"""


def write_quadratic(folder: Path) -> str:
    """Write the problem file and return its path."""
    path = folder / "quadratic.py"
    path.write_text(QUADRATIC)
    return str(path)


def numbers_of(done: Race) -> dict[tuple[str, Any, int], dict[str, Any]]:
    """Return the numbers of all runs by rule, setting and seed."""
    return {
        (done.plan.entrant(task).label, task.setting, task.seed): found.numbers() for task, found in done.runs.items()
    }


def with_start(plan: Plan, start: float) -> Plan:
    """Return a plan whose problem starts at another loss."""
    return replace(plan, found=Found(plan.found.metric, start, plan.found.batches))


def sgd_plan(quadratic: str, lrs: tuple[float, ...], seeds: int, start: float = 2.0) -> Plan:
    """Return a race of gradient descent over these rates, each on that many tuning seeds, and one fresh seed."""
    settings = Settings(quadratic, rules=("sgd",), lrs=lrs, tuning_seeds=seeds, seeds=1)
    return with_start(make_plan(settings), start)


def runs_of(plan: Plan, losses: dict[float, list[float | None]]) -> dict[Task, Run]:
    """Return finished trials of one rule, seed by seed."""
    (entrant,) = plan.entrants
    return {
        plan.task(entrant, (("lr", lr),), seed): Run(
            10, loss is None, loss, {"test_accuracy": 0.5}, [2.0, loss or 3.0], step_us=4.0
        )
        for lr, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    }


def reported(plan: Plan, losses: dict[str, list[float | None]]) -> dict[Task, Run]:
    """Return a finished race over one learning rate: the fresh runs of each rule, and tuning runs as good as the first.

    A rule that diverges on the first seed has diverged in its trials as well.
    """
    runs: dict[Task, Run] = {}
    for entrant in plan.entrants:
        own = losses[entrant.label]
        for setting in plan.first(entrant):
            for seed in plan.tuning_seeds:
                runs[plan.task(entrant, setting, seed)] = run_to(own[0], plan)
            for seed, loss in zip(plan.seeds, own, strict=True):
                if own[0] is not None:
                    runs[plan.task(entrant, setting, seed)] = run_to(loss, plan)
    return runs


def run_to(loss: float | None, plan: Plan) -> Run:
    """Return a run that falls in even steps from the plan's start to a loss, or diverges after an epoch."""
    if loss is None:
        return Run(1, True, None, {}, [plan.start], clock=[0.0], step_us=4.0)
    history = [plan.start + (loss - plan.start) * epoch / plan.epochs for epoch in range(plan.epochs)] + [loss]
    clock = [float(epoch) for epoch in range(plan.epochs + 1)]
    return Run(plan.steps, False, loss, {"train_loss": loss}, history, clock=clock, step_us=4.0)


def evidence_of(plan: Plan, runs: dict[Task, Run]) -> tuple[list[Row], Evidence]:
    """Return the rows of a race and what can be said of them."""
    rows = summarize(plan, runs)
    return rows, judge(plan, runs, rows)


def shown(plan: Plan, runs: dict[Task, Run], width: int) -> str:
    """Return the table as a terminal of that width shows it."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(final_table(*evidence_of(plan, runs), console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    return str(text)


def check_gradient(loss: Any, params: Any, grads: Any) -> None:
    """Compare with central differences, element by element. Smooth at the point, so the error is O(h^2)."""
    structure = Structure.of(params)
    for array, grad in zip(structure.leaves(params), structure.leaves(grads), strict=True):
        assert array.shape == grad.shape
        for index in np.ndindex(array.shape):
            kept, h = array[index], 1e-6
            array[index] = kept + h
            above = loss()
            array[index] = kept - h
            below = loss()
            array[index] = kept
            assert grad[index] == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-8)
