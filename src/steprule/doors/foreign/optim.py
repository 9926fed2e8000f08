"""torch.optim's state dicts: read for an optimizer of arrays, and made of it."""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from steprule.doors.checkpoint.door import door_of, is_of_torch
from steprule.doors.foreign.names import Library, is_counted, names_for, with_few_axes
from steprule.doors.foreign.states import array_of, states_of, stepped, taken
from steprule.doors.planes import other_keys
from steprule.doors.state import ParameterState, steps_of
from steprule.errors import StateError
from steprule.rules import Rule

__all__ = ["check_dict", "entries_of", "from_torch", "to_torch", "with_entries"]


def from_torch(state: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return a state dict for an optimizer from one of torch.optim, or of steprule.torch with float32 states.

    Classes of steprule.torch load such dicts themselves; for them it is returned as it is. Parameters are matched by
    place. The hyperparameters stay those of the optimizer.

    Args:
        state: what ``state_dict()`` of torch's optimizer returned.
        optimizer: whose ``load_state_dict`` the result is for.

    Raises:
        StateError: when it is of another rule or of other parameters.
    """
    if is_of_torch(optimizer):
        return dict(state)
    here, rules = states_of(optimizer), door_of(optimizer).rules_of(optimizer)
    entries = entries_of(state, len(here.parameters))
    parameters = []
    for place, (entry, label, own) in enumerate(zip(entries, here.labels, here.parameters, strict=True)):
        rule = rules[own.group]
        names = _named(names_for(rule, here.groups[own.group].hyperparameters, "torch"), rule, own)
        idle = _idle(rule, own)
        needed = {names.get(slot, slot) for slot in (*own.planes, *own.scalars) if slot not in idle}
        if entry and not needed <= set(entry):
            raise StateError(f"the state of parameter {place}: {other_keys(map(str, entry), needed)}")
        t = steps_of(entry["step"], f"the step of parameter {place}") if "step" in entry else None
        slots = {slot: array_of(entry[names.get(slot, slot)]) for slot in own.planes if entry and slot not in idle}
        slots |= {slot: np.zeros_like(own.planes[slot]) for slot in idle if entry}
        scalars = {slot: float(entry[names.get(slot, slot)]) for slot in own.scalars if entry}
        parameters.append(stepped(own, label, t if entry else 0, slots, scalars))
    return taken(here, parameters, optimizer)


def to_torch(optimizer: Any, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a state dict that torch.optim's optimizer of the same rule can load, with float32 states.

    Args:
        optimizer: of arrays, or one of steprule.torch (whose ``float32_state_dict`` this is).
        like: the ``state_dict()`` of torch's optimizer, whose groups and hyperparameters it keeps; for arrays.

    Raises:
        StateError: when torch.optim has no such rule.
    """
    if is_of_torch(optimizer):
        made: dict[str, Any] = optimizer.float32_state_dict()
        return made
    if like is None:
        raise TypeError("give like=, the state_dict() of torch's optimizer: arrays do not show its groups")
    torch = importlib.import_module("torch")

    def entry(state: ParameterState, names: Mapping[str, str], rule: Rule) -> dict[str, Any]:
        names, idle = _named(names, rule, state), _idle(rule, state)
        arrays = {names.get(slot, slot): torch.from_numpy(x) for slot, x in state.planes.items() if slot not in idle}
        numbers = {
            names.get(slot, slot): torch.tensor(value, dtype=torch.float64) for slot, value in state.scalars.items()
        }
        counted = {"step": torch.tensor(float(state.t or 0))} if is_counted(rule) else {}
        return {**counted, **arrays, **numbers}

    return with_entries(optimizer, like, "torch", entry)


def _named(names: Mapping[str, str], rule: Rule, own: ParameterState) -> Mapping[str, str]:
    """Return torch's names of the slots of a parameter, which may be others where it has few axes."""
    return {**names, **with_few_axes(rule)[0]} if len(own.shape) < 2 else names


def _idle(rule: Rule, own: ParameterState) -> list[str]:
    """Return the slots of a parameter that say nothing, and that torch does not have."""
    return [slot for slot in with_few_axes(rule)[1] if slot in own.planes] if len(own.shape) < 2 else []


def check_dict(state: object) -> None:
    """Refuse what has not the parts of a state dict of torch.

    Raises:
        StateError: with what it has.
    """
    if not isinstance(state, Mapping):
        raise StateError(f"a state dict is a dict, got a {type(state).__name__}")
    if not {"state", "param_groups"} <= set(state):
        raise StateError(
            "this is not a state dict of a torch optimizer, which has 'state' and 'param_groups': it has "
            f"{sorted(map(str, state))[:6]}. Of a checkpoint, load the optimizer's part"
        )
    entries, groups = state["state"], state["param_groups"]
    if not isinstance(groups, (list, tuple)) or not all(map(_is_group, groups)):
        raise StateError("the state dict's 'param_groups' must be a list of dicts with 'params', a list of keys")
    # Beside the entries of parameters a subclass may have whatever it likes.
    keys = chain.from_iterable(group["params"] for group in groups)
    if not isinstance(entries, Mapping) or not all(isinstance(entries.get(key, {}), Mapping) for key in keys):
        raise StateError("the state dict's 'state' must be a dict of dicts, by parameter")


def _is_group(group: object) -> bool:
    """Whether it is a dict that lists its parameters."""
    params = group.get("params") if isinstance(group, Mapping) else None
    return isinstance(params, (list, tuple)) and all(isinstance(key, Hashable) for key in params)


def entries_of(state: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the entries of a state dict in the order of its parameters; empty ones for those that were not stepped.

    Raises:
        StateError: when it is not a state dict, or of another number of parameters.
    """
    check_dict(state)
    keys = list(chain.from_iterable(group["params"] for group in state["param_groups"]))
    if len(keys) != count:
        raise StateError(f"the state is of {len(keys)} parameters, this optimizer has {count}")
    return [{k: v for k, v in state["state"].get(key, {}).items() if v is not None} for key in keys]


def with_entries(optimizer: Any, like: Mapping[str, Any], library: Library, entry: Any) -> dict[str, Any]:
    """Return a state dict like another with the states of an optimizer, each made by ``entry(state, names, rule)``."""
    state, rules = states_of(optimizer), door_of(optimizer).rules_of(optimizer)
    entries_of(like, len(state.parameters))
    keys = chain.from_iterable(group["params"] for group in like["param_groups"])
    made = {
        key: entry(own, names_for(rule := rules[own.group], state.groups[own.group].hyperparameters, library), rule)
        for key, own in zip(keys, state.parameters, strict=True)
        if own.planes
    }
    return {**like, "state": made}
