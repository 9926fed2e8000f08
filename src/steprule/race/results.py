"""``results.json``: every run of a race, with all that is needed to repeat it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from steprule.race.plan import versions
from steprule.race.runner import Race
from steprule.race.summary import Row

__all__ = ["FORMAT", "results"]

FORMAT = 1


def results(race: Race, rows: list[Row]) -> dict[str, Any]:
    """Return the content of ``results.json``; docs/race.md describes it."""
    plan = race.plan
    return {
        "format": FORMAT,
        "complete": race.is_complete,
        "finished": len(race.runs),
        "expected": len(plan.tasks),
        "problem": {
            "name": plan.problem.name,
            "description": plan.problem.description,
            "sha256": plan.problem.digest or None,
            "start_loss": plan.start,
        },
        "settings": {
            "rules": [entrant.label for entrant in plan.entrants],
            "lrs": list(plan.lrs),
            "seeds": list(plan.seeds),
            "epochs": plan.epochs,
            "jobs": race.jobs,
        },
        "versions": {**versions(), "joblib": version("joblib"), "matplotlib": version("matplotlib")},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "processors": os.cpu_count()},
        "table": [_line(row) for row in rows],
        "runs": [
            {
                "rule": plan.tasks[task].label,
                "specification": plan.tasks[task].given,
                "hyperparameters": dict(task.hyperparameters),
                "lr": task.lr,
                "seed": task.seed,
                "key": task.key,
                **asdict(run),
            }
            for task, run in race.runs.items()
        ],
    }


def _line(row: Row) -> dict[str, Any]:
    best = row.best
    return {
        "rule": row.entrant.label,
        "finished": row.finished,
        "expected": row.expected,
        "lr": best.lr if best else None,
        "at_edge_of_grid": row.at_edge,
        "train_loss": best.median if best else None,
        "train_loss_range": [row.low, row.high] if best else None,
        "test_accuracy": row.accuracy,
        "forgiving": row.forgiving,
        "forgiving_tolerance": row.tolerance,
        "step_us": row.step_us,
    }
