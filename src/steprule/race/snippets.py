"""The settings of a race as code to paste: NumPy, torch, JAX, and the command that runs the race again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from steprule.race.entrant import Entrant
from steprule.race.plan import Plan, Task
from steprule.race.rates import hyperparameters_of, warmup_of
from steprule.race.space import LR

__all__ = ["command", "snippets", "suite_command"]


def command(plan: Plan) -> str:
    """Return the command that runs this race, with all its numbers."""
    schedule = f"--schedule {plan.schedule}"
    own = f"--epochs {plan.epochs} --seed {plan.seed}"
    return f"steprule race {_named(plan)} {_tried(plan)} {schedule} {_seeds(plan)} {own}"


def suite_command(plans: Sequence[Plan]) -> str:
    """Return the command that runs these races, with all numbers that are not the problems' own."""
    first = plans[0]
    own_schedules = all(plan.schedule == plan.problem.schedule for plan in plans)
    schedule = "" if own_schedules else f" --schedule {first.schedule}"
    epochs = f" --epochs {first.epochs}" if len({plan.epochs for plan in plans}) == 1 else " --quick"
    epochs = "" if all(plan.epochs == plan.problem.epochs for plan in plans) else epochs
    names = " ".join(map(_named, plans))
    return f"steprule race --suite {names} {_tried(first)}{schedule} {_seeds(first)}{epochs} --seed {first.seed}"


def _named(plan: Plan) -> str:
    return shlex.quote(plan.problem.spec if plan.problem.digest else plan.problem.name)


def _tried(plan: Plan) -> str:
    rules = ",".join(f"{entrant.given}{_settings(entrant)}" for entrant in plan.entrants)
    tried = f"--trials {plan.trials}" if plan.trials else f"--lrs {','.join(f'{lr:g}' for lr in plan.lrs)}"
    return f"--rules {shlex.quote(rules)} {tried}"


def _seeds(plan: Plan) -> str:
    return f"--tuning-seeds {len(plan.tuning_seeds)} --seeds {len(plan.seeds)}"


def snippets(task: Task, rule: str) -> dict[str, str]:
    """Return the code of an optimizer with the setting of a task, by where it runs.

    Args:
        task: of the plan.
        rule: the rule as an expression there, such as ``"adam"`` with its quotes.
    """
    fixed = {name: value for name, value in hyperparameters_of(task).items() if name != LR}
    rest = "".join(f", {name}={value!r}" for name, value in fixed.items())
    rate = "" if task.lr is None else f", lr={task.lr!r}"
    made = f"steprule.torch.Optimizer(model.parameters(), {rule}{rate}{rest})"
    if not rate or task.schedule == "constant":
        return {
            "NumPy": f"import steprule as sr\n\nopt = sr.Optimizer(params, {rule}{rate}{rest})",
            "PyTorch": f"import steprule.torch\n\noptimizer = {made}",
            "JAX": f"import steprule.jax\n\noptimizer = steprule.jax.transformation({rule}{rate}{rest})",
        }
    ours = _ours(task)
    return {
        "NumPy": f"import steprule as sr\n\n{ours}\nopt = sr.Optimizer(params, {rule}, lr=rate{rest})",
        "PyTorch": f"import torch\n\nimport steprule as sr\nimport steprule.torch\n\n{ours}\noptimizer = {made}\n"
        f"scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step + 1) / {task.lr!r})",
        "JAX": f"import optax\n\nimport steprule.jax\n\n{_optax(task)}\n"
        f"optimizer = steprule.jax.transformation({rule}, lr=rate{rest})",
    }


def _settings(entrant: Entrant) -> str:
    written = ", ".join(f"{name}={value}" for name, value in entrant.hyperparameters)
    return f"({written})" if written else ""


def _ours(task: Task) -> str:
    """Return the schedule of the run, which counts steps from 1."""
    lr, warmup, left = _parts(task)
    falls = (
        f"sr.schedules.cosine({lr!r}, {left})"
        if task.schedule == "cosine"
        else f"sr.schedules.linear_warmup(0.0, {left + 1}, start={lr * (left + 1) / left!r})"
    )
    return (
        f"rate = sr.schedules.sequence([sr.schedules.linear_warmup({lr!r}, {warmup}), {falls}], [{warmup}])"
        if warmup
        else f"rate = {falls}"
    )


def _optax(task: Task) -> str:
    """Return the same schedule by optax, which counts the steps that were taken."""
    lr, warmup, left = _parts(task)
    falls = (
        f"optax.cosine_decay_schedule({lr!r}, {left})"
        if task.schedule == "cosine"
        else f"optax.linear_schedule({lr!r}, 0.0, {left})"
    )
    rises = f"optax.linear_schedule({lr / max(warmup, 1)!r}, {lr!r}, {max(1, warmup - 1)})"
    return f"rate = optax.join_schedules([{rises}, {falls}], [{warmup}])" if warmup else f"rate = {falls}"


def _parts(task: Task) -> tuple[float, int, int]:
    assert task.lr is not None
    warmup = warmup_of(task)
    return task.lr, warmup, max(1, task.steps - warmup)
