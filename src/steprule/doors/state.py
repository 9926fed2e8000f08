"""State dicts of the NumPy door: exact copies, checked whole before anything is taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steprule.doors.group import GroupValues
from steprule.doors.walk import Leaf
from steprule.errors import StateError
from steprule.rules import Rule

__all__ = ["load_state", "save_state"]

VERSION = 1
_SCHEDULE = "schedule"
_KEYS = ("version", "rule", "t", "groups", "leaves")


def save_state(rule: Rule, t: int, groups: Sequence[GroupValues], leaves: Sequence[Leaf]) -> dict[str, Any]:
    """Return the state as plain dicts, lists, numbers and copied arrays."""
    return {
        "version": VERSION,
        "rule": rule.name,
        "t": t,
        "groups": [
            {
                "hyperparameters": {name: {_SCHEDULE: True} if callable(v) else v for name, v in group.items()},
                "scalars": dict(group.scalars),
            }
            for group in groups
        ],
        "leaves": [
            {name: slot.copy(order="K") for name, slot in zip(leaf.kernel.slots, leaf.slots, strict=True)}
            for leaf in leaves
        ],
    }


def load_state(
    state: Mapping[str, Any], rule: Rule, groups: Sequence[GroupValues], leaves: Sequence[Leaf], hyperparameters: bool
) -> int:
    """Take over a state and return its t. Everything is checked before anything is changed."""
    _check_head(state, rule)
    _check_counts(state, groups, leaves)
    values = [
        _group_values(saved, group, i, hyperparameters)
        for i, (saved, group) in enumerate(zip(state["groups"], groups, strict=True))
    ]
    for saved, leaf in zip(state["leaves"], leaves, strict=True):
        _check_leaf(saved, leaf)
    before = [dict(group) for group in groups]
    try:
        for group, new in zip(groups, values, strict=True):
            group.update(new)
    except Exception as error:
        for group, old in zip(groups, before, strict=True):
            group.update(old)
        raise StateError(f"the state's hyperparameters do not fit this optimizer: {error}") from None
    for group, saved in zip(groups, state["groups"], strict=True):
        group.scalars.update(saved["scalars"])
    for saved, leaf in zip(state["leaves"], leaves, strict=True):
        for name, slot in zip(leaf.kernel.slots, leaf.slots, strict=True):
            slot[...] = saved[name]
    return int(state["t"])


def _check_head(state: Mapping[str, Any], rule: Rule) -> None:
    if not isinstance(state, Mapping) or any(key not in state for key in _KEYS):
        raise StateError(f"this is no state dict of steprule: it must be a dict with {', '.join(_KEYS)}")
    if state["version"] != VERSION:
        raise StateError(f"the state has version {state['version']!r}, this steprule reads version {VERSION}")
    if state["rule"] != rule.name:
        raise StateError(f"the state is of rule {state['rule']!r}, this optimizer's is {rule.name!r}")
    t = state["t"]
    if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or t < 0:
        raise StateError(f"the state's t must be a whole number of at least 0, got {t!r}")


def _check_counts(state: Mapping[str, Any], groups: Sequence[GroupValues], leaves: Sequence[Leaf]) -> None:
    for key, here in (("groups", groups), ("leaves", leaves)):
        if not isinstance(state[key], (list, tuple)) or not all(isinstance(item, Mapping) for item in state[key]):
            raise StateError(f"the state's {key} must be a list of dicts")
        if len(state[key]) != len(here):
            raise StateError(f"the state has {len(state[key])} {key}, this optimizer has {len(here)}")


def _group_values(saved: Mapping[str, Any], group: GroupValues, index: int, wanted: bool) -> dict[str, Any]:
    """Return the hyperparameters to take over for one group."""
    where = f"group {index} of the state"
    if set(saved) != {"hyperparameters", "scalars"} or set(saved["scalars"]) != set(group.scalars):
        raise StateError(f"{where} must hold hyperparameters and the scalar slots {sorted(group.scalars)}")
    if not all(isinstance(value, float) for value in saved["scalars"].values()):
        raise StateError(f"{where} has scalar slots that are no numbers: {saved['scalars']}")
    if not wanted:
        return {}
    if set(saved["hyperparameters"]) != set(group):
        raise StateError(
            f"{where} has the hyperparameters {sorted(saved['hyperparameters'])}, expected {sorted(group)}"
        )
    taken: dict[str, Any] = {}
    for name, value in saved["hyperparameters"].items():
        was_schedule = isinstance(value, Mapping)
        if was_schedule != callable(group[name]):
            was, now = ("a schedule", "a number") if was_schedule else ("a number", "a schedule")
            raise StateError(
                f"{name} was {was} when {where} was saved and is {now} here. Give the optimizer {was} for it, "
                "or load with hyperparameters=False"
            )
        if not was_schedule:
            taken[name] = value
    return taken


def _check_leaf(saved: Mapping[str, Any], leaf: Leaf) -> None:
    if set(saved) != set(leaf.kernel.slots):
        raise StateError(f"{leaf.place}: the state has the slots {sorted(saved)}, expected {sorted(leaf.kernel.slots)}")
    for name, slot in zip(leaf.kernel.slots, leaf.slots, strict=True):
        array = saved[name]
        if not isinstance(array, np.ndarray) or array.shape != slot.shape or array.dtype != slot.dtype:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise StateError(f"{leaf.place}: slot {name} of the state is {got}, expected {slot.dtype} {slot.shape}")
