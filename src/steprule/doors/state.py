"""State dicts of the NumPy door: exact copies, checked whole before anything is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf
from steprule.doors.planes import read_planes
from steprule.errors import HyperparameterError, StateError
from steprule.launch.memory import Spans
from steprule.launch.values import GroupValues
from steprule.rules import Rule

__all__ = ["VERSION", "formats_of", "load_state", "save_state"]

VERSION = 3
"""Since 2 formats are told; before 3 arrays of one dimension had float32 slots, whatever was asked for."""
_MOST = 2**63 - 1
"""The steps that can be counted: one more is to come."""
_SCHEDULE = "schedule"
_KEYS = ("version", "rule", "t", "groups", "slots")
_OF_GROUP = ({"hyperparameters", "scalars"}, {"hyperparameters", "scalars", "seed"})
"""What a group's part has, in version 1 and since version 2, where formats are told."""


def save_state(
    rule: Rule, t: int, groups: Sequence[GroupValues], leaves: Sequence[Leaf], decode: bool
) -> dict[str, Any]:
    """Return the state as plain dicts, lists, numbers and copied arrays."""
    return {
        "version": VERSION,
        "rule": rule.name,
        "t": t,
        "groups": [
            {
                "hyperparameters": {name: {_SCHEDULE: True} if callable(v) else v for name, v in group.items()},
                "scalars": dict(group.scalars),
                "seed": group.seed,
            }
            for group in groups
        ],
        "slots": {leaf.place: _decoded_slots(leaf) if decode else _planes(leaf) for leaf in leaves},
        "formats": {leaf.place: formats_of(leaf, decode) for leaf in leaves},
    }


def _planes(leaf: Leaf) -> dict[str, Any]:
    return {name: plane.copy(order="K") for name, plane in leaf.planes.items()}


def _decoded_slots(leaf: Leaf) -> dict[str, Any]:
    return {name: np.array(leaf.slot(name), order="K") for name in leaf.kernel.slots}


def formats_of(leaf: Leaf, decode: bool = False) -> dict[str, str]:
    """Return what a state tells of the formats of a parameter's values."""
    if decode:
        return {name: way.id if way.is_plain else "float32" for name, way in leaf.kernel.slots.items()}
    return {name: way.id for name, way in leaf.beside.items()}


def load_state(
    state: Mapping[str, Any],
    rule: Rule,
    groups: Sequence[GroupValues],
    leaves: Sequence[Leaf],
    count: Array,
    hyperparameters: bool,
    convert: bool,
) -> Callable[[], None]:
    """Return what takes over a state, its t into ``count``: it only writes. All that can fail is done here.

    Raises:
        StateError: when the state does not belong to the optimizer.
    """
    _check_head(state, rule)
    _check_counts(state, groups, leaves)
    values = [
        _group_values(saved, group, i, hyperparameters)
        for i, (saved, group) in enumerate(zip(state["groups"], groups, strict=True))
    ]
    planes = [
        read_planes(state["slots"][leaf.place], _formats_in(state, leaf), leaf, convert or _is_earlier(state, leaf))
        for leaf in leaves
    ]
    try:
        made = [group.restored(new) for group, new in zip(groups, values, strict=True)]
    except HyperparameterError as error:
        raise StateError(f"the state's hyperparameters do not fit this optimizer: {error}") from None
    writes = _writes(leaves, planes)
    saved = [(dict(told["scalars"]), told.get("seed")) for told in state["groups"]]

    t = int(state["t"])

    def take() -> None:
        count[0] = t
        for group, new, (scalars, seed) in zip(groups, made, saved, strict=True):
            group.take(new)
            group.scalars.update(scalars)
            if group.seed is not None and seed is not None:
                group.seed = seed
        for plane, numbers in writes:
            plane[...] = numbers

    return take


def _writes(leaves: Sequence[Leaf], planes: Sequence[Mapping[str, Array]]) -> list[tuple[Array, Array]]:
    """Return the slots and what is to be written to each.

    What lies in the memory of a slot is copied: it may be the optimizer's own, of another slot that is written first.

    Raises:
        StateError: when a slot has become read-only.
    """
    slots = [(leaf, name, plane) for leaf in leaves for name, plane in leaf.planes.items()]
    for leaf, name, plane in slots:
        if not plane.flags.writeable:
            raise StateError(f"{leaf.place}: slot {name} has become read-only; nothing was loaded")
    spans = Spans(np.lib.array_utils.byte_bounds(plane) for _, _, plane in slots if plane.size)
    news = [new for leaf, own in zip(leaves, planes, strict=True) for new in (own[name] for name in leaf.planes)]
    return [(plane, _apart(new, spans)) for (_, _, plane), new in zip(slots, news, strict=True)]


def _apart(array: Array, spans: Spans) -> Array:
    """Return an array that does not lie in any of the spans."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return array.copy(order="K") if array.size and spans.meet(low, high - low) else array


def _is_earlier(state: Mapping[str, Any], leaf: Leaf) -> bool:
    """Whether slots in float32 are meant to take the format that is asked for."""
    return state["version"] < 3 and leaf.array.ndim < 2


def _formats_in(state: Mapping[str, Any], leaf: Leaf) -> Mapping[str, Any]:
    """Return the formats that the state tells for a parameter; before version 2 there was one."""
    if state["version"] == 1:
        return dict.fromkeys(leaf.kernel.slots, leaf.storage.parameter.compute)
    formats = state.get("formats")
    if not isinstance(formats, Mapping) or not isinstance(formats.get(leaf.place), Mapping):
        raise StateError(f"the state does not tell the formats of {leaf.place}, in a dict 'formats'")
    told: Mapping[str, Any] = formats[leaf.place]
    return told


def _check_head(state: Mapping[str, Any], rule: Rule) -> None:
    if not isinstance(state, Mapping) or any(key not in state for key in _KEYS):
        raise StateError(f"this is no state dict of steprule: it must be a dict with {', '.join(_KEYS)}")
    if type(state["version"]) is not int or not 1 <= state["version"] <= VERSION:
        raise StateError(f"the state has version {state['version']!r}, this steprule reads versions 1 to {VERSION}")
    if state["rule"] != rule.name:
        raise StateError(f"the state is of rule {state['rule']!r}, this optimizer's is {rule.name!r}")
    t = state["t"]
    if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 0 <= t < _MOST:
        raise StateError(f"the state's t must be a whole number from 0 to 2**63 - 2, got {t!r}")


def _check_counts(state: Mapping[str, Any], groups: Sequence[GroupValues], leaves: Sequence[Leaf]) -> None:
    saved = state["groups"]
    if not isinstance(saved, (list, tuple)) or not all(isinstance(item, Mapping) for item in saved):
        raise StateError("the state's groups must be a list of dicts")
    if len(saved) != len(groups):
        raise StateError(f"the state has {len(saved)} groups, this optimizer has {len(groups)}")
    slots = state["slots"]
    if not isinstance(slots, Mapping) or not all(isinstance(item, Mapping) for item in slots.values()):
        raise StateError("the state's slots must be a dict of dicts, by parameter")
    here = {leaf.place for leaf in leaves}
    if set(slots) != here:
        missing, unknown = sorted(here - set(slots)), sorted(set(slots) - here)
        words = [f"lacks {missing}"] * bool(missing) + [f"has {unknown} that are not here"] * bool(unknown)
        raise StateError(f"the state is of other parameters: it {', and '.join(words)}")


def _group_values(saved: Mapping[str, Any], group: GroupValues, index: int, wanted: bool) -> dict[str, Any]:
    """Return the hyperparameters to take over for one group."""
    where = f"group {index} of the state"
    _check_group(saved, group, where)
    taken: dict[str, Any] = {}
    for name, value in saved["hyperparameters"].items() if wanted else ():
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


def _check_group(saved: Mapping[str, Any], group: GroupValues, where: str) -> None:
    parts = (saved.get("hyperparameters"), saved.get("scalars"))
    if set(saved) not in _OF_GROUP or not all(isinstance(part, Mapping) for part in parts):
        raise StateError(f"{where} must be a dict of the dicts hyperparameters and scalars, and a seed")
    seed = saved.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise StateError(f"{where} has the seed {seed!r}, which is no whole number from 0 to 2**63 - 1")
    if set(saved["scalars"]) != set(group.scalars):
        raise StateError(f"{where} has the scalar slots {sorted(saved['scalars'])}, expected {sorted(group.scalars)}")
    if not all(isinstance(value, float) and not isinstance(value, np.generic) for value in saved["scalars"].values()):
        raise StateError(f"{where} has scalar slots that are no numbers: {saved['scalars']}")
    if set(saved["hyperparameters"]) != set(group):
        known = sorted(saved["hyperparameters"])
        raise StateError(f"{where} has the hyperparameters {known}, expected {sorted(group)}: is it of another rule?")
