"""What the tests of the race share: a small problem, and the numbers of a race."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steprule.race import Race

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
