"""The hyperparameters of a run: what was set, what is tried, and the learning rate as a schedule."""

from __future__ import annotations

from typing import Any

from steprule.race.entrant import WARMUP_STEPS
from steprule.race.plan import Schedule, Task
from steprule.race.space import LR, USUAL_WARMUP, WARMUP
from steprule.schedules import cosine, linear_warmup, sequence

__all__ = ["hyperparameters_of", "rate_of", "warmup_of"]


def hyperparameters_of(task: Task) -> dict[str, Any]:
    """Return what the optimizer of a run is made with."""
    tried = {name: value for name, value in task.setting if name not in (LR, WARMUP)}
    if task.lr is not None:
        tried[LR] = rate_of(task.lr, task.schedule, warmup_of(task), task.steps)
    if task.schedule == "constant" and WARMUP in dict(task.setting):
        tried[WARMUP_STEPS] = float(warmup_of(task))
    return {**tried, **dict(task.hyperparameters)}


def warmup_of(task: Task) -> int:
    """Return for how many steps the learning rate rises, before the one at which it is highest."""
    return round(dict(task.setting).get(WARMUP, USUAL_WARMUP) * task.steps)


def rate_of(lr: float, schedule: Schedule, warmup: int, steps: int) -> Any:
    """Return the learning rate: a number, or a function of the step that rises to ``lr`` and falls to zero.

    At step t of ``steps``, with w = ``warmup``: lr t / w for t <= w; then, with s = (t - w - 1) / (steps - w),
    lr (1 - s), or lr (1 + cos(pi s)) / 2. The first step after the warm-up has the whole rate, and the last one is
    not wasted: its rate is not quite zero, which is what the next step would have.
    """
    if schedule == "constant":
        return lr
    left = max(1, steps - warmup)
    falls = cosine(lr, left) if schedule == "cosine" else _line(lr, left)
    return sequence([linear_warmup(lr, warmup), falls], [warmup]) if warmup else falls


def _line(lr: float, steps: int) -> Any:
    """Return the line from ``lr`` at step 1 to zero at the step after the last one."""
    # Schedules of this kind have their start at t = 0, one step before.
    return linear_warmup(0.0, steps + 1, start=lr * (steps + 1) / steps)
