"""State dicts: taken over from this library or from torch.optim, and given to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

from torch import Tensor

from steprule.doors.torch.convert import decoded_entry
from steprule.doors.torch.formats import DEFAULTS, coded_keys, formats_of, storage_of
from steprule.doors.torch.keys import check_keys
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.doors.torch.state import LOADING, load_entry
from steprule.engine import ways_of
from steprule.errors import HyperparameterError, StateError
from steprule.formats import CODING, EARLIER_CODING

__all__ = ["check_options", "check_parts", "checked_dict", "decoded_state_dict", "loaded_groups", "loaded_state"]

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
    known: Mapping[str, Any],
    defaults: Mapping[str, Any],
    check: Callable[[Mapping[str, Any], str], None],
    convert: bool,
) -> list[dict[str, Any]]:
    """Return the groups that a state dict makes of those here: their parameters and formats, its other options.

    Args:
        here, saved: the groups.
        known: all options and notes that the optimizer has defaults of: other keys may be misspelt options.
        defaults: those of them that a group needs.
        check: of a group that was made.
        convert: whether the seed, too, stays that of the groups here: a resumed run goes on with its random bits.

    Raises:
        StateError: when they do not fit.
    """
    if len(here) != len(saved):
        raise StateError(
            f"loaded state dict has a different number of parameter groups: {len(saved)}, expected {len(here)}"
        )
    groups = []
    for index, (group, old) in enumerate(zip(saved, here, strict=True)):
        where = f" (group {index})"
        if len(group["params"]) != len(old["params"]):
            raise StateError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                f"{len(group['params'])} parameters, expected {len(old['params'])}{where}"
            )
        new = _made(old, group, defaults, convert, where)
        try:
            check_keys(new, known, where)
            check(new, where)
        except HyperparameterError as error:
            raise StateError(f"the options of the loaded state dict do not fit: {error}") from None
        groups.append(new)
    return groups


def _made(
    old: Mapping[str, Any], saved: Mapping[str, Any], defaults: Mapping[str, Any], convert: bool, where: str
) -> dict[str, Any]:
    """Return a group with the options of a saved one, and with its own parameters and formats."""
    if saved.get("coding", CODING) not in (CODING, EARLIER_CODING):  # the earlier one is converted with the states
        raise StateError(f"the states are coded as {saved['coding']!r}{where}, this steprule reads {CODING!r}")
    own = {name: old[name] for name in ("param_names", *_FORMATS) if name in old}
    kept = set(_FORMATS) - ({"seed"} if "seed" in old and not convert else set())
    taken = {name: value for name, value in deepcopy(dict(saved)).items() if name not in kept}
    # torch adds "differentiable" to the defaults of all classes, and to the groups of none.
    needed = {name: value for name, value in defaults.items() if name != "differentiable" or name in old}
    return {**needed, **own, **taken, "params": old["params"]}


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
    saved = {key: group for group in state_dict["param_groups"] for key in group["params"]}
    state: dict[Any, Any] = defaultdict(dict)
    for key, entry in state_dict["state"].items():
        if key in at:
            (param, own), place = at[key], f"the state of parameter {key!r}"
            converts = convert or (is_earlier(saved[key]) and param.dim() < 2)
            if entry and not converts:
                _check_formats(saved[key], param, own, naming, place)
            state[param] = load_entry(entry, param, own, naming, place, converts)
            _check_slots(entry, own, naming, place)
        else:
            state[key] = entry
    return state


_TELLING: dict[str, type | tuple[type, ...]] = {
    "amsgrad": bool,
    "betas": (tuple, list),
    "clip": bool,
    "initial_accumulator": float,
    "momentum_decay": float,
}
"""Options by which an optimizer with the slots of another is known, and what they are: notes may have the names."""


def check_options(
    here: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
) -> None:
    """Refuse a group with an option of another optimizer, unless the group here has it as a note.

    Raises:
        StateError: naming the option.
    """
    for index, (group, old) in enumerate(zip(saved, here, strict=True)):
        for key, kind in _TELLING.items():
            if key not in defaults and key not in old and isinstance(group.get(key), kind):
                raise StateError(
                    f"the loaded state dict has the option {key!r} (group {index}), which this optimizer does not "
                    f"have: it is of another. {_ANOTHER}"
                )


_ANOTHER = (
    "Load it into one of that class; if its averages are to go on here, remove what is not of this optimizer from the "
    "dict, and set lr and the other options anew, since loading takes those of the dict"
)
_MOMENTS = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_slow", "exp_avg_var", "exp_avg_diff", "exp_inf"),
    *("mu_product", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "previous_grad"),
}
"""Keys of states by which an optimizer is known: nobody else keeps something there under such names. ``sum``, ``prev``
and the like are not among them; where they are slots, others are missing."""


def _check_slots(entry: Mapping[str, Any], own: GroupOptions, naming: Naming, place: str) -> None:
    """Refuse a state with slots that another optimizer has left: its options do not mean what they do here."""
    known = naming.known(own.rule) | set(naming.slots.values())
    codes = {coded: key for key in _MOMENTS for coded in coded_keys(key)}
    left = sorted(key for key, value in entry.items() if value is not None and codes.get(key, key) in _MOMENTS - known)
    if left:
        raise StateError(
            f"{place} has {', '.join(left)}, which this optimizer does not keep: it is of another. {_ANOTHER}"
        )


def _check_formats(group: Mapping[str, Any], param: Tensor, own: GroupOptions, naming: Naming, place: str) -> None:
    """Refuse a state that was kept in other formats than here. Those of torch.optim tell of none."""
    if not any(name in group for name in DEFAULTS):
        return
    rule, variant = own.rule, own.values.variant
    try:
        formats, _ = formats_of(group, rule, naming.slots, "")
    except HyperparameterError as error:
        raise StateError(f"{place}: its formats are unknown: {error}") from None
    was, now = (ways_of(rule, variant, storage_of(one, param, rule, variant)) for one in (formats, own.formats))
    for value, way in now.items():
        if way.id != was[value].id:
            name = "the parameter" if value == rule.parameter else naming.slots.get(value, value)
            words = [one.id if value == rule.parameter else one.name for one in (was[value], way)]
            raise StateError(f"{place}: {name} was kept as {words[0]}, and is kept as {words[1]} here. {LOADING}")


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
