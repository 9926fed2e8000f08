"""What is done to parameters and groups, as operations of a history."""

from __future__ import annotations

import random
from typing import Any

import torch

from tests.doors.torch.histories.case import HALF, laid, numbers
from tests.doors.torch.histories.side import Side, gradient, one, operation, some, started, with_gradient


@operation(3)
def data_replaced(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, side.params):
        p.data = laid(r, numbers(r, p.shape, p.dtype))


@operation(2)
def data_of_another_shape(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, side.params):
        p.grad = None
        p.data = numbers(r, (r.choice([2, 6]), 7), p.dtype)
        side.optimizer.state.pop(p, None)
        p.grad = gradient(side, r, p)


@operation(2)
def state_of_another_shape(side: Side, r: random.Random, other: Side) -> Any:
    """The old states do not fit: nothing is stepped before they are gone."""
    for p in one(r, [p for p in started(side) if p.numel() > 1]):
        p.grad = None
        # As many axes as before: with others Adafactor has states of other names.
        p.data = numbers(r, (p.numel() + 1,) if p.dim() < 2 else (*p.shape[:-1], p.shape[-1] + 1), p.dtype)
        p.grad = gradient(side, r, p)
        try:
            return side.step()
        finally:
            side.optimizer.state.pop(p)
    return None


@operation(2)
def data_of_another_type(side: Side, r: random.Random, other: Side) -> Any:
    if side.case.dtype in HALF:
        return
    for p in one(r, side.params):
        p.grad = None
        p.data = p.data.to(torch.float64 if p.dtype == torch.float32 else torch.float32)
        side.optimizer.state.pop(p, None)


@operation(3)
def data_changed(side: Side, r: random.Random, other: Side) -> Any:
    with torch.no_grad():
        for p in some(r, side.params):
            p.mul_(0.5) if r.random() < 0.5 else p.data.add_(0.25)


@operation(2)
def requires_grad_changed(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, side.params):
        p.requires_grad_(not p.requires_grad)


@operation(2)
def parameter_replaced(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, [g for g in side.groups if g["params"]]):
        index = r.randrange(len(group["params"]))
        side.spare.append(group["params"][index])
        group["params"][index] = side.case.parameter(r)


@operation(2)
def parameter_taken_out(side: Side, r: random.Random, other: Side) -> Any:
    if len(side.params) > 1:
        for group in one(r, [g for g in side.groups if g["params"]]):
            index = r.randrange(len(group["params"]))
            side.spare.append(group["params"].pop(index))
            if "param_names" in group:
                group["param_names"].pop(index)


@operation(2)
def parameter_moved(side: Side, r: random.Random, other: Side) -> Any:
    """To the end of a group, perhaps of another one: its state stays its own, if it has what the options ask for."""
    for group in one(r, [g for g in side.groups if g["params"]]):
        index, to = r.randrange(len(group["params"])), r.choice(side.groups)
        if any(bool(group.get(key)) != bool(to.get(key)) for key in ("amsgrad", "centered", "momentum")):
            side.optimizer.state.pop(group["params"][index], None)
        for key in ("params", "param_names"):
            if key in group:
                to[key].append(group[key].pop(index))


@operation(2)
def list_replaced(side: Side, r: random.Random, other: Side) -> Any:
    for group in one(r, side.groups):
        group["params"] = list(group["params"])


@operation(3)
def group_added(side: Side, r: random.Random, other: Side) -> Any:
    if len(side.groups) < 4:
        group = side.case.drawn_group(r, r.choice([0, 1]))
        if side.spare and not side.case.is_named and r.random() < 0.5:
            p = side.spare.pop()
            side.optimizer.state.pop(p, None)  # torch would miss what other options keep
            group["params"].append(p)
        side.call(side.optimizer.add_param_group, group)


@operation(1)
def group_that_is_refused(side: Side, r: random.Random, other: Side) -> Any:
    new = side.case.drawn_group(r, 1)
    wrong = r.choice([{"params": side.groups[0]["params"]}, {**new, "params": [3.0]}, {"lr": 0.1}])
    side.call(side.optimizer.add_param_group, wrong)


@operation(1)
def groups_reordered(side: Side, r: random.Random, other: Side) -> Any:
    side.groups.reverse()


@operation(1)
def group_removed(side: Side, r: random.Random, other: Side) -> Any:
    if len(side.groups) > 1:
        side.schedulers.clear()
        group = side.groups.pop(r.randrange(len(side.groups)))
        for p in group["params"]:
            side.optimizer.state.pop(p, None)


@operation(2)
def parameters_share_memory(side: Side, r: random.Random, other: Side) -> Any:
    """Stepped one after the other; torch's form for several tensors at once is another matter. Then apart again."""
    if side.case.name == "Adafactor":  # see docs/torch.md
        return
    same = [q for q in with_gradient(side) if q.numel()]
    for p in one(r, same if not any(group.get("foreach") for group in side.groups) else []):
        for q in one(r, [q for q in same if q is not p and (q.shape, q.dtype) == (p.shape, p.dtype)]):
            q.data = p.data
            side.step()
            q.data = q.detach().clone()
