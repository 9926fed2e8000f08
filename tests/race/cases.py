"""What the tests of the race share: a small problem, and the numbers of a race."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from steprule.race import Race, Row, Settings, make_plan
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


def numbers_of(done: Race) -> dict[tuple[str, float | None, int], dict[str, Any]]:
    tasks = done.plan.tasks
    return {(tasks[task].label, task.lr, task.seed): found.numbers() for task, found in done.runs.items()}


def sgd_plan(quadratic: str, lrs: tuple[float, ...], seeds: int, start: float = 2.0) -> Plan:
    return replace(make_plan(Settings(quadratic, rules=("sgd",), lrs=lrs, seeds=seeds)), start=start)


def runs_of(plan: Plan, losses: dict[float, list[float | None]]) -> dict[Task, Run]:
    tasks = {(task.lr, task.seed): task for task in plan.tasks}
    return {
        tasks[lr, seed]: Run(10, loss is None, loss, {"test_accuracy": 0.5}, [2.0, loss or 3.0], step_us=4.0)
        for lr, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    }


def shown(rows: Sequence[Row], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(final_table(rows, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    return str(text)
