"""State dicts: taken over from this library or from torch.optim, and given to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

from steprule.doors.torch.convert import decoded_entry
from steprule.doors.torch.formats import DEFAULTS
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.state import load_entry
from steprule.errors import HyperparameterError, StateError
from steprule.formats import CODING, EARLIER_CODING

__all__ = ["check_parts", "checked_dict", "decoded_state_dict", "loaded_groups", "loaded_state"]

_FORMATS = (*DEFAULTS, "coding")


def checked_dict(state_dict: object) -> dict[str, Any]:
    """Return a shallow copy of a state dict.

    Raises:
        StateError: when it is none.
    """
    if not isinstance(state_dict, Mapping):
        raise StateError(f"a state dict is a dict, got a {type(state_dict).__name__}")
    return dict(state_dict)


def check_parts(state_dict: Mapping[str, Any]) -> None:
    """Check that a dict has the parts of an optimizer's state dict.

    Raises:
        StateError: with what it has.
    """
    if not {"state", "param_groups"} <= set(state_dict):
        raise StateError(
            "this is no state dict of an optimizer, which has 'state' and 'param_groups': it has "
            f"{sorted(map(str, state_dict))[:6]}. Of a checkpoint, load the optimizer's part"
        )


def loaded_groups(
    here: Sequence[dict[str, Any]],
    saved: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    check: Callable[[Mapping[str, Any], str], None],
    convert: bool,
) -> list[dict[str, Any]]:
    """Return the groups that a state dict makes of those here: their parameters, the options that were saved.

    Args:
        convert: whether the formats stay those of the groups here.

    Raises:
        StateError: when they do not fit.
    """
    if len(here) != len(saved):
        raise StateError(
            f"loaded state dict has a different number of parameter groups: {len(saved)}, expected {len(here)}"
        )
    groups = []
    for index, (group, old) in enumerate(zip(saved, here, strict=True)):
        if len(group["params"]) != len(old["params"]):
            raise StateError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                f"{len(group['params'])} parameters, expected {len(old['params'])} (group {index})"
            )
        own = {"param_names": old["param_names"]} if "param_names" in old else {}
        taken = deepcopy(dict(group))
        if taken.get("coding") == EARLIER_CODING:
            taken["coding"] = CODING  # what differs is converted with the states
        if taken.get("coding", CODING) != CODING:
            raise StateError(
                f"the states are coded as {taken['coding']!r} (group {index}), this steprule reads {CODING!r}"
            )
        if convert:
            taken = {name: value for name, value in taken.items() if name not in _FORMATS}
        # A state dict without formats, as torch.optim's, leaves them as they are here.
        own |= {name: old[name] for name in _FORMATS if name in old}
        # torch adds "differentiable" to the defaults of all classes, and to the groups of none.
        known = {name: value for name, value in defaults.items() if name != "differentiable" or name in old}
        new = {**known, **own, **taken, "params": old["params"]}
        try:
            check(new, f" (group {index})")
        except HyperparameterError as error:
            raise StateError(f"the options of the loaded state dict do not fit: {error}") from None
        groups.append(new)
    return groups


def loaded_state(
    state_dict: Mapping[str, Any], options: Sequence[GroupOptions], naming: Naming, convert: bool
) -> dict[Any, Any]:
    """Return the state that a state dict makes, by parameter.

    Tensors of one dimension that were float32, whatever was asked for, take the format that is asked for.

    Raises:
        StateError: when an entry does not belong to its parameter.
    """
    keys = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    params = [(param, own) for own in options for param in own.group["params"]]
    at = dict(zip(keys, params, strict=True))
    earlier = {k for group in state_dict["param_groups"] if is_earlier(group) for k in group["params"]}
    state: dict[Any, Any] = defaultdict(dict)
    for key, entry in state_dict["state"].items():
        if key in at:
            param, own = at[key]
            converts = convert or (key in earlier and param.dim() < 2)
            state[param] = load_entry(entry, param, own, naming, f"the state of parameter {key!r}", converts)
        else:
            state[key] = entry
    return state


def is_earlier(group: Mapping[str, Any]) -> bool:
    """Whether a group was saved when tensors of one dimension kept float32 states."""
    return group.get("coding") == EARLIER_CODING


def decoded_state_dict(state_dict: dict[str, Any], options: Sequence[GroupOptions], naming: Naming) -> dict[str, Any]:
    """Return a state dict with float32 slots, and without what torch.optim does not know."""
    groups = [{k: v for k, v in group.items() if k not in _FORMATS} for group in state_dict["param_groups"]]
    keys = chain.from_iterable(group["params"] for group in groups)
    at = dict(zip(keys, ((param, own) for own in options for param in own.group["params"]), strict=True))
    state = {
        key: decoded_entry(entry, at[key][0], at[key][1].rule, naming.slots, naming.counts) if key in at else entry
        for key, entry in state_dict["state"].items()
    }
    return {**state_dict, "state": state, "param_groups": groups}
