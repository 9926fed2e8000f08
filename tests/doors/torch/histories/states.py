"""What is done to states, state dicts and whole optimizers, as operations of a history."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from tests.doors.torch.cases import frozen
from tests.doors.torch.histories.case import HALF, numbers
from tests.doors.torch.histories.compare import NOTES, POSITIVE, SCALARS
from tests.doors.torch.histories.side import Side, kept_by, one, operation, started


@operation(3)
def state_dropped(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        del side.optimizer.state[p]


@operation(1)
def all_states_dropped(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer.state.clear()


@operation(2)
def states_in_another_dict(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer.state = defaultdict(dict, {p: dict(side.optimizer.state[p]) for p in started(side)})


@operation(3)
def state_in_other_memory(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        for key, value in side.optimizer.state[p].items():
            if isinstance(value, Tensor):
                side.optimizer.state[p][key] = value.clone()


def slots_of(entry: dict[str, Any]) -> list[str]:
    """Return the keys of tensors that may be set to anything: not of a centered RMSprop, with its variance."""
    known = (*SCALARS, *NOTES, *(("square_avg", "grad_avg") if "grad_avg" in entry else ()))
    return sorted(key for key, value in entry.items() if isinstance(value, Tensor) and key not in known)


@operation(3)
def state_filled(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        entry = side.optimizer.state[p]
        for key in one(r, slots_of(entry)):
            entry[key].fill_(r.choice([0.5, 1.0]) if key in POSITIVE else -0.25)


@operation(3)
def state_replaced(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        entry = side.optimizer.state[p]
        for key in one(r, slots_of(entry)):
            value = numbers(r, shape_of(p, key), p.dtype)
            entry[key] = (value.abs() if key in POSITIVE else value).to(entry[key].dtype)


@operation(3)
def step_count_set(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        entry, t = side.optimizer.state[p], float(r.choice([1, 2, 5, 100]))
        if isinstance(entry.get("step"), int):  # torch's SparseAdam
            entry["step"] = int(t)
        elif isinstance(entry.get("step"), Tensor):
            entry["step"] = entry["step"].fill_(t) if r.random() < 0.5 else torch.full_like(entry["step"], t)


@operation(2)
def state_in_shared_memory(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        for value in side.optimizer.state[p].values():
            if isinstance(value, Tensor) and value.numel():
                value.share_memory_()


@operation(2)
def state_of_another_parameter(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, started(side)):
        same = [q for q in side.params if (q.shape, q.dtype, kept_by(side, q)) == (p.shape, p.dtype, kept_by(side, p))]
        for q in one(r, same):
            side.optimizer.state[q] = copy.deepcopy(side.optimizer.state[p])


@operation(3)
def notes_in_a_state(side: Side, r: random.Random, other: Side) -> Any:
    """What wrappers keep there."""
    for p in one(r, started(side)):
        side.optimizer.state[p][r.choice(["origin", "ema"])] = p.detach().clone()
        side.optimizer.state[p]["label"] = r.choice([3, 0.5])


# State dicts


@operation(5)
def state_dict_saved(side: Side, r: random.Random, other: Side) -> Any:
    state = copy.deepcopy(side.optimizer.state_dict())
    side.saved.append(state)
    return sorted(state), [group["params"] for group in state["param_groups"]], sorted(state["state"])


def chosen(side: Side, r: random.Random, other: Side) -> dict[str, Any]:
    """Return a copy of one of the state dicts saved so far, of either side, or of one of now."""
    index, whose = r.randrange(4), r.random()
    if not side.saved or index == 0:
        return copy.deepcopy(side.optimizer.state_dict())
    saved = (side if whose < 0.5 else other).saved
    return copy.deepcopy(saved[-1 - index % len(saved)])


def load(side: Side, state: dict[str, Any]) -> None:
    """Load a state dict. Where a state does not fit its parameter ours refuses it, and torch is not asked."""
    at = dict(zip((k for group in state["param_groups"] for k in group["params"]), side.params, strict=False))
    entries = [(at[k], entry) for k, entry in state["state"].items() if k in at]
    slots = [
        (shape_of(p, k), p, v)
        for p, entry in entries
        for k, v in entry.items()
        if k not in (*SCALARS, *NOTES) and isinstance(v, Tensor)
    ]
    fits = all(v.shape == s and torch.promote_types(v.dtype, state_type(p)) == state_type(p) for s, p, v in slots)
    if not fits and not side.is_ours:
        raise ValueError("a state that does not fit")
    side.call(side.optimizer.load_state_dict, state)
    side.loaded.append((state, frozen(state)))


def shape_of(p: Tensor, key: str) -> tuple[int, ...]:
    """Return the shape of a state of a parameter: its own, but for factors of Adafactor's second moment."""
    if key == "row_var":
        return (*p.shape[:-1], 1)
    return (*p.shape[:-2], 1, *p.shape[-1:]) if key == "col_var" else tuple(p.shape)


def state_type(p: Tensor) -> torch.dtype:
    """Return the type that a state of a parameter may have."""
    return torch.float32 if p.dtype in HALF else p.dtype


@operation(4)
def state_dict_loaded(side: Side, r: random.Random, other: Side) -> Any:
    load(side, chosen(side, r, other))


@operation(2)
def state_dict_loaded_from_a_file(side: Side, r: random.Random, other: Side) -> Any:
    file = io.BytesIO()
    torch.save(chosen(side, r, other), file)
    file.seek(0)
    load(side, torch.load(file, weights_only=r.random() < 0.5))


@operation(2)
def state_dict_loaded_in_half(side: Side, r: random.Random, other: Side) -> Any:
    """Both widen what was saved in fewer bits: torch, by its cast to the parameter's type."""
    state = chosen(side, r, other)
    for entry in state["state"].values():
        for key, value in entry.items():
            if isinstance(value, Tensor) and value.dim() and key not in ("step", *NOTES):
                entry[key] = value.bfloat16()
    if side.case.dtype not in HALF:
        load(side, state)


@operation(2)
def state_dict_loaded_with_plain_counts(side: Side, r: random.Random, other: Side) -> Any:
    state, kind = chosen(side, r, other), r.choice([int, float])
    for entry in state["state"].values():
        if isinstance(entry.get("step"), Tensor) and side.case.name != "SparseAdam":
            entry["step"] = kind(entry["step"])
    load(side, state)


@operation(2)
def state_dict_that_is_refused(side: Side, r: random.Random, other: Side) -> Any:
    state = side.optimizer.state_dict()
    wrong = r.choice(["group", "parameter", "part"])
    groups = copy.deepcopy(state["param_groups"])
    if wrong == "group":
        groups.append(groups[0])
    elif wrong == "parameter":
        groups[-1]["params"].append(99)
    state = {**state, "param_groups": groups}
    if wrong == "part":
        del state["param_groups"]
    side.call(side.optimizer.load_state_dict, state)


# Whole optimizers


def changed_for(side: Side, whole: tuple[list[Tensor], torch.optim.Optimizer]) -> None:
    """Go on with a copy: hooks and schedules stay with the old one."""
    side.spare, side.optimizer = whole
    side.hooks.clear()
    side.schedulers.clear()
    for group in side.groups:
        group.pop("initial_lr", None)


@operation(3)
def copied(side: Side, r: random.Random, other: Side) -> Any:
    changed_for(side, copy.deepcopy((side.spare, side.optimizer)))


@operation(3)
def pickled(side: Side, r: random.Random, other: Side) -> Any:
    for p in side.params:
        p.grad = None
    changed_for(side, pickle.loads(pickle.dumps((side.spare, side.optimizer))))


@operation(4)
def hook_added(side: Side, r: random.Random, other: Side) -> Any:
    def note(kind: str) -> Any:
        return lambda optimizer, *rest: side.log.append(f"{kind}: {len(rest)}")

    def halve(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        side.log.append("halved")
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = 0.5 * p.grad

    def marked(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        side.log.append("marked")
        return {**state, "mark": 1}

    o = side.optimizer
    kind = r.choice(["pre", "halve", "post", "save", "saved", "load", "loaded"])
    made = {
        "pre": lambda: o.register_step_pre_hook(note("pre")),
        "halve": lambda: o.register_step_pre_hook(halve),
        "post": lambda: o.register_step_post_hook(note("post")),
        "save": lambda: o.register_state_dict_pre_hook(note("save")),
        "saved": lambda: o.register_state_dict_post_hook(marked),
        "load": lambda: o.register_load_state_dict_pre_hook(note("load")),
        "loaded": lambda: o.register_load_state_dict_post_hook(note("loaded")),
    }
    side.hooks.append(made[kind]())


@operation(3)
def hook_removed(side: Side, r: random.Random, other: Side) -> Any:
    for hook in one(r, side.hooks):
        hook.remove()
        side.hooks.remove(hook)
