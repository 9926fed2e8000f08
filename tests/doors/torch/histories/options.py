"""What is done to the options of groups, by hand and by schedules, as operations of a history."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler

from tests.doors.torch.histories.case import BETAS, HALF, OPTIONS
from tests.doors.torch.histories.side import Side, one, operation


def takes_tensors(side: Side) -> bool:
    """Return whether torch takes tensors for options: not with foreach=True, which means nothing to us."""
    return not any(group.get("foreach") for group in side.groups)


@operation(4)
def lr_set(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        group["lr"] = r.choice([0.02, 0.005, 0.0])


@operation(3)
def lr_set_to_a_tensor(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        value = torch.tensor(0.02, dtype=r.choice([torch.float32, torch.float64]))
        if takes_tensors(side):
            group["lr"] = value


@operation(3)
def lr_changed_where_it_lies(side: Side, r: random.Random, other: Side) -> Any:
    for group in side.groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].mul_(0.5)


@operation(3)
def betas_set(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        if side.case.name in BETAS:
            group["betas"] = r.choice([(0.7, 0.9), [0.85, 0.99], (0.0, 0.9)])


@operation(2)
def betas_set_to_tensors(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        if side.case.name in ("Adam", "AdamW") and takes_tensors(side) and side.case.dtype not in HALF:
            group["betas"] = tuple(torch.tensor(beta, dtype=torch.float64) for beta in (0.75, 0.9375))


@operation(5)
def option_set(side: Side, r: random.Random, other: Side) -> Any:
    """One that asks for no state which is not there: torch would miss its key, where ours starts it.

    The momentum of SGD is not set back to 0 where it has left a buffer.
    """
    for group in one(r, side.groups):
        keys = [
            key for key in OPTIONS[side.case.name] if key not in ("amsgrad", "centered", "initial_accumulator_value")
        ]
        for key in one(r, [key for key in keys if (side.case.name, key) != ("RMSprop", "momentum")]):
            value = r.choice(OPTIONS[side.case.name][key])
            if key == "momentum" and any(side.optimizer.state.get(p) for p in group["params"]):
                continue
            if not group.get("nesterov") and not (key == "nesterov" and (group["momentum"] == 0 or group["dampening"])):
                group[key] = value


@operation(2)
def direction_changed(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, [group for group in side.groups if "maximize" in group]):
        group["maximize"] = not group["maximize"]


@operation(2)
def implementation_changed(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, [group for group in side.groups if "foreach" in group]):
        group["foreach"] = r.choice([None, False])


@operation(2)
def note_in_a_group(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        group[r.choice(["layer", "tag", "no_decay"])] = r.choice(["encoder", 3, None])


@operation(2)
def notes_that_look_like_options(side: Side, r: random.Random, other: Side) -> Any:
    note = r.choice(["param_name", "state", "weight", "lr_scale", "param_groups"])
    group = {"params": [side.case.parameter(r)], note: 1.0}
    if len(side.groups) < 4 and not side.case.is_named:
        side.call(side.optimizer.add_param_group, group)


@operation(1)
def note_in_the_defaults(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer.defaults["note"] = 1


@operation(1)
def momentum_set_back(side: Side, r: random.Random, other: Side) -> Any:
    """A buffer that is no longer used stays in the state, and goes through state dicts."""
    for group in one(r, side.groups):
        if side.case.name == "SGD" and not group["nesterov"]:
            group["momentum"] = r.choice([0, 0.9])


@operation(3)
def schedule_begun(side: Side, r: random.Random, other: Side) -> Any:
    kind = r.choice(["step", "exponential", "cosine", "lambda"])
    if side.schedulers or any("initial_lr" in group for group in side.groups):
        return
    o = side.optimizer
    made: dict[str, Callable[[], Any]] = {
        "step": lambda: lr_scheduler.StepLR(o, 2, gamma=0.7),
        "exponential": lambda: lr_scheduler.ExponentialLR(o, 0.9),
        "cosine": lambda: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, eta_min=1e-4),
        "lambda": lambda: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    }
    side.schedulers.append(made[kind]())


@operation(6)
def step_and_schedule(side: Side, r: random.Random, other: Side) -> Any:
    moved = side.step()
    for scheduler in side.schedulers:
        scheduler.step()
    return moved


@operation(2)
def refused_options(side: Side, r: random.Random, other: Side) -> Any:
    """Numbers out of range, which torch steps with: ours does not, and says so. It is not done to torch's."""
    wrong = r.choice([("lr", -1.0), ("lr", float("nan")), ("weight_decay", -0.1), ("maximise", True)])
    group = r.choice(side.groups)
    if (wrong[0] not in group and wrong[0] != "maximise") or side.hooks:
        return
    if not side.is_ours:
        raise ValueError(wrong)
    before = dict(group)
    group[wrong[0]] = wrong[1]
    try:
        if wrong[0] == "maximise":
            side.call(side.optimizer.add_param_group, {"params": [torch.nn.Parameter(torch.ones(2))], "maximise": True})
        side.step()
    finally:
        group.clear()
        group.update(before)
