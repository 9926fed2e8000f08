"""``results.json``: every run of a race, with all that is needed to repeat it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from steprule.race.evidence import Evidence
from steprule.race.plan import versions
from steprule.race.runner import Race
from steprule.race.snippets import command
from steprule.race.summary import Row

__all__ = ["FORMAT", "line", "results"]

FORMAT = 2


def results(race: Race, rows: list[Row], evidence: Evidence) -> dict[str, Any]:
    """Return the content of ``results.json``; docs/race.md describes it."""
    plan = race.plan
    return {
        "format": FORMAT,
        "complete": race.is_complete,
        "finished": len(race.runs),
        "expected": race.expected,
        "problem": {
            "name": plan.problem.name,
            "description": plan.problem.description,
            "sha256": plan.problem.digest or None,
            "metric": plan.found.metric,
            "start_loss": plan.start,
        },
        "settings": {
            "rules": [entrant.label for entrant in plan.entrants],
            "trials": plan.trials,
            "lrs": list(plan.lrs),
            "schedule": plan.schedule,
            "tuning_seeds": list(plan.tuning_seeds),
            "seeds": list(plan.seeds),
            "epochs": plan.epochs,
            "jobs": race.jobs,
        },
        "versions": {**versions(), "joblib": version("joblib"), "matplotlib": version("matplotlib")},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "processors": os.cpu_count()},
        "command": command(plan),
        "reference": evidence.reference,
        "target": evidence.target,
        "table": [line(row, evidence) for row in rows],
        "pairs": {"rules": list(evidence.labels), "seeds": evidence.seeds, "p": evidence.p.tolist()},
        "best_of_k": {label: list(values) for label, values in evidence.budget.items()},
        "runs": [
            {
                "rule": plan.entrant(task).label,
                "specification": plan.entrant(task).given,
                "hyperparameters": dict(task.hyperparameters),
                "setting": dict(task.setting),
                "schedule": task.schedule,
                "seed": task.seed,
                "tuning": task.seed in plan.tuning_seeds,
                "key": task.key,
                **asdict(run),
            }
            for task, run in race.runs.items()
        ],
    }


def line(row: Row, evidence: Evidence) -> dict[str, Any]:
    """Return what is known of a rule, as in ``table``."""
    best, judged = row.best, evidence.judged.get(row.entrant.label)
    reach = judged.reach if judged else None
    return {
        "rule": row.entrant.label,
        "finished": row.finished,
        "expected": row.expected,
        "setting": dict(best.setting) if best else None,
        "at_edge": row.at_edge,
        "fresh": row.is_fresh,
        "loss": best.median if best else None,
        "rank": list(judged.rank) if judged else None,
        "interval": list(judged.interval) if judged and best else None,
        "loss_range": [row.low, row.high] if best else None,
        "steps_to_target": reach.steps if reach else None,
        "seconds_to_target": reach.seconds if reach else None,
        "runs_at_target": reach.runs if reach else None,
        "tuning_loss": row.chosen.median if row.chosen else None,
        "train_loss": row.train_loss,
        "test_accuracy": row.accuracy,
        "forgiving": row.forgiving,
        "forgiving_tolerance": row.tolerance,
        "step_us": row.step_us,
    }
