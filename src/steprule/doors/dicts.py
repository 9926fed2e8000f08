"""State dicts of the NumPy door: what a state is in plain dicts, lists, numbers and arrays, and read from these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.doors.arrays import ONE, numbers_of, outline_of, scalars_of
from steprule.doors.leaf import Leaf
from steprule.doors.match import formula_of
from steprule.doors.state import MOST_STEPS, ParameterState, State
from steprule.doors.stepping import Stepping
from steprule.errors import StateError
from steprule.formats import CODING, EARLIER_CODING

__all__ = ["dict_of", "from_dict"]

_VERSION = 4
"""Since 2 formats are stored; before 3 arrays of one dimension had float32 slots, whatever was asked for; since 4 each
group has its rule."""
_KEYS = ("version", "rule", "t", "groups", "slots")
_OF_GROUP = ({"hyperparameters", "scalars"}, {"hyperparameters", "scalars", "seed"})
"""What a group's part has, in version 1 and since version 2, where formats are told; and, since version 4, a rule."""


def dict_of(state: State, optimizer: Stepping, *, decode: bool = False) -> dict[str, Any]:
    """Return the state dict of an optimizer for which a state is, with copied arrays.

    Args:
        state: its parameters in the optimizer's order.
        optimizer: that loads the dict.
        decode: give low-precision slots as float32 numbers.
    """
    kept = {
        leaf.place: own.decoded() if decode else _copied(own, leaf)
        for leaf, own in zip(optimizer._leaves, state.parameters, strict=True)
    }
    groups = zip(state.groups, scalars_of(optimizer, state), strict=True)
    numbers = zip(kept, numbers_of(optimizer, state), strict=True)
    is_counted = any(group.rule.per_tensor for group in optimizer.groups)
    of_parameters = {"numbers": {place: dict(own) for place, own in numbers}} if is_counted else {}
    return {
        "version": _VERSION,
        "rule": optimizer.rule.name,
        "t": state.one_t(ONE),
        "groups": [
            {"rule": rule, "hyperparameters": dict(own.hyperparameters), "scalars": dict(scalars), "seed": own.seed}
            for rule, (own, scalars) in zip([group.rule.name for group in optimizer.groups], groups, strict=True)
        ],
        "slots": {place: dict(own.planes) for place, own in kept.items()},
        "formats": {place: dict(own.formats) for place, own in kept.items()},
        **of_parameters,
        **({"mode": state.mode} if any(group.rule.evaluated for group in optimizer.groups) else {}),
    }


def _copied(own: ParameterState, leaf: Leaf) -> ParameterState:
    if not own.formats and not own.planes:
        return replace(own, formats=leaf.target.formats, planes=leaf.fresh())
    return replace(own, planes={name: array.copy(order="K") for name, array in own.arrays.items()})


def from_dict(told: Mapping[str, Any], optimizer: Stepping) -> State:
    """Return the state that a state dict tells, of the parameters of an optimizer.

    Raises:
        StateError: when it is not a state dict, or of another rule or other parameters.
    """
    _check_head(told, optimizer)
    _check_parts(told, optimizer)
    here, t, coding = outline_of(optimizer), int(told["t"]), CODING if told["version"] > 2 else EARLIER_CODING
    # Groups begin where those here do: only a checkpoint tells.
    groups = [
        replace(
            own,
            hyperparameters=one["hyperparameters"],
            seed=one.get("seed"),
            coding=coding,
            t=None if own.t is None else t,
            scalars={} if own.t is None else one["scalars"],
        )
        for own, one in zip(here.groups, told["groups"], strict=True)
    ]
    parameters = [
        replace(
            own,
            t=t,
            scalars={**told["groups"][own.group]["scalars"], **_numbers(told, leaf)},
            formats=_formats(told, leaf.place, leaf.kernel.slots, leaf.storage.parameter.compute),
            planes=told["slots"][leaf.place],
        )
        for own, leaf in zip(here.parameters, optimizer._leaves, strict=True)
    ]
    mode = told.get("mode", "train")  # earlier ones are of a model that is trained
    return replace(here, rule=formula_of(optimizer.rule), groups=groups, parameters=parameters, mode=mode)


def _formats(told: Mapping[str, Any], place: str, slots: Iterable[str], compute: str) -> Mapping[str, Any]:
    """Return the formats that a dict tells of a parameter; before version 2 there was one."""
    if told["version"] == 1:
        return dict.fromkeys(slots, compute)
    formats = told.get("formats")
    if not isinstance(formats, Mapping) or not isinstance(formats.get(place), Mapping):
        raise StateError(f"the state lacks the formats of {place}, in a dict 'formats'")
    own: Mapping[str, Any] = formats[place]
    return own


def _numbers(told: Mapping[str, Any], leaf: Leaf) -> Mapping[str, float]:
    """Return what a dict tells of a parameter that is one number of it."""
    if not leaf.numbers:
        return {}
    own = numbers.get(leaf.place) if isinstance(numbers := told.get("numbers"), Mapping) else None
    if not isinstance(own, Mapping) or own.keys() != leaf.numbers.keys():
        raise StateError(f"the state lacks the numbers {sorted(leaf.numbers)} of {leaf.place}, in a dict 'numbers'")
    _check_numbers(own, f"{leaf.place} of the state")
    return own


def _check_head(told: Mapping[str, Any], optimizer: Stepping) -> None:
    if not isinstance(told, Mapping) or any(key not in told for key in _KEYS):
        raise StateError(f"this is not a state dict of steprule: it must be a dict with {', '.join(_KEYS)}")
    if type(told["version"]) is not int or not 1 <= told["version"] <= _VERSION:
        raise StateError(f"the state has version {told['version']!r}, this version reads versions 1 to {_VERSION}")
    if not isinstance(told["rule"], str) or told["rule"] != optimizer.rule.name:
        raise StateError(f"the state is for rule {told['rule']!r}, this optimizer's is {optimizer.rule.name!r}")
    if told.get("mode", "train") not in ("train", "eval"):
        raise StateError(f"the state's mode must be 'train' or 'eval', got {told['mode']!r}")
    t = told["t"]
    if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 0 <= t <= MOST_STEPS:
        raise StateError(f"the state's t must be an integer from 0 to 2**63 - 2, got {t!r}")


def _check_parts(told: Mapping[str, Any], optimizer: Stepping) -> None:
    groups, slots = told["groups"], told["slots"]
    if not isinstance(groups, (list, tuple)) or not all(isinstance(item, Mapping) for item in groups):
        raise StateError("the state's groups must be a list of dicts")
    if len(groups) != len(optimizer.groups):
        raise StateError(f"the state has {len(groups)} groups, this optimizer has {len(optimizer.groups)}")
    for index, (one, group) in enumerate(zip(groups, optimizer.groups, strict=True)):
        _check_group(one, f"group {index} of the state")
        if one.get("rule", told["rule"]) != group.rule.name:
            raise StateError(
                f"group {index} of the state is for rule {one.get('rule', told['rule'])!r}, that of this optimizer is "
                f"stepped by {group.rule.name!r}; make it with the same rules and routes"
            )
    if not isinstance(slots, Mapping) or not all(isinstance(item, Mapping) for item in slots.values()):
        raise StateError("the state's slots must be a dict of dicts, by parameter")
    here = {leaf.place for leaf in optimizer._leaves}
    if set(slots) != here:
        missing, unknown = sorted(here - set(slots)), sorted(set(slots) - here)
        words = [f"lacks {missing}"] * bool(missing) + [f"has {unknown} that are not here"] * bool(unknown)
        raise StateError(f"the state is for other parameters: it {', and '.join(words)}")


def _check_group(told: Mapping[str, Any], where: str) -> None:
    parts = (told.get("hyperparameters"), told.get("scalars"))
    if {*told} - {"rule"} not in _OF_GROUP or not all(isinstance(part, Mapping) for part in parts):
        raise StateError(f"{where} must be a dict of the dicts hyperparameters and scalars, a rule and a seed")
    seed = told.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise StateError(f"{where} has the seed {seed!r}, which is not an integer from 0 to 2**63 - 1")
    _check_numbers(told["scalars"], where)


def _check_numbers(told: Mapping[str, Any], where: str) -> None:
    if not all(isinstance(value, float) and not isinstance(value, np.generic) for value in told.values()):
        raise StateError(f"{where} has scalar slots that are not numbers: {dict(told)}")
