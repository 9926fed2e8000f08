"""State dicts: taken over from this library or from torch.optim, and given to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from steprule.doors.foreign.names import torch_keys
from steprule.doors.planes import other_keys
from steprule.doors.state import ParameterState
from steprule.doors.torch.copies import copied, on_device_of, waiting
from steprule.doors.torch.entry import Entry, coded_keys, entry_of
from steprule.doors.torch.formats import DEFAULTS, OF_FORMATS
from steprule.doors.torch.gathered import Gathered, is_gathered
from steprule.doors.torch.keys import check_keys
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.shards import closed, local_of, opened
from steprule.doors.torch.state import check_entry
from steprule.doors.torch.trained import TRAINED_KEYS, planes_like
from steprule.errors import HyperparameterError, StateError
from steprule.formats import CODING, EARLIER_CODING
from steprule.formats.codec import plain

__all__ = ["check_options", "decoded_state_dict", "loaded_groups", "loaded_state"]


def loaded_groups(
    here: Sequence[dict[str, Any]],
    saved: Sequence[Mapping[str, Any]],
    known: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    needed: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    check: Callable[[Mapping[str, Any], str], object],
    convert: bool,
) -> list[dict[str, Any]]:
    """Return the groups that a state dict makes of those here: their parameters and formats, its other options.

    Args:
        here, saved: the groups.
        known: returns all options and notes that there are defaults of for a group: other keys may be misspelt ones.
        needed: returns those of them that a group needs.
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
        new = _made(old, group, needed(old), convert, where)
        try:
            check_keys(new, {**DEFAULTS, **known(new)}, where)
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
        raise StateError(f"the states are coded as {saved['coding']!r}{where}, this version reads {CODING!r}")
    own = {name: old[name] for name in ("param_names", *OF_FORMATS) if name in old}
    kept = set(OF_FORMATS) - ({"seed"} if "seed" in old and not convert else set())
    taken = {name: value for name, value in deepcopy(dict(saved)).items() if name not in kept}
    # torch adds "differentiable" to the defaults of all classes, and to the groups of none.
    needed = {name: value for name, value in defaults.items() if name != "differentiable" or name in old}
    return {**needed, **own, **taken, "params": old["params"]}


def loaded_state(state_dict: Mapping[str, Any], options: Sequence[GroupOptions], convert: bool) -> dict[Any, Any]:
    """Return the state that a state dict makes, by parameter.

    Tensors of one dimension that were float32, whatever was asked for, take the format that is asked for.

    Raises:
        StateError: when an entry does not belong to its parameter.
    """
    at, state = _homes(state_dict, options), defaultdict[Any, Any](dict)
    saved = {key: group for group in state_dict["param_groups"] for key in group["params"]}
    for key, entry in state_dict["state"].items():
        if key in at:
            (param, own), place = at[key], f"the state of parameter {key!r}"
            converts = convert or (saved[key].get("coding") == EARLIER_CODING and param.dim() < 2)
            given = {name: value for name, value in entry.items() if value is not None}
            state[param] = _loaded_here(given, place, param, own, converts, saved[key])
            _check_slots(given, own, place)
        else:
            state[key] = entry
    return state


def _homes(state_dict: Mapping[str, Any], options: Sequence[GroupOptions]) -> dict[Any, tuple[Tensor, GroupOptions]]:
    """Return which parameter each key of a state dict means, and its group."""
    keys = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    return dict(zip(keys, ((param, own) for own in options for param in own.group["params"]), strict=True))


def _loaded_here(
    given: dict[str, Any], place: str, param: Tensor, options: GroupOptions, convert: bool, saved: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a copy of an entry; that of a parameter that is stepped whole is read as a whole."""
    if not is_gathered(param, options):
        return _loaded(given, entry_of(param, options, place), param, options, convert, saved)
    whole = Gathered.of(param, given)
    form = entry_of(whole.param, options, place)
    entry = _loaded(whole.entry, form, whole.param, options, convert, saved)
    return {**entry, **whole.closed({key: entry[key] for key in entry if key in {*form.known, *TRAINED_KEYS}})}


def _loaded(
    given: dict[str, Any], form: Entry, param: Tensor, options: GroupOptions, convert: bool, saved: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a copy of an entry of the group ``saved``, with every slot in the parameter's layout and on its device."""
    whole, param = param, local_of(param)
    given = dict(opened(given, whole, form.what))
    if not form.is_begun(given):
        return {key: waiting(key, value, param, form.off(given)) for key, value in given.items()}
    if convert and form.is_counted and not form.naming.counts:
        given = {"step": torch.ones(()), **given}  # it was not counted; only where the slots start does it matter
    # What is lost beside a parameter starts anew where that is meant.
    own = form.read(given, None if convert else saved)
    _check_whole(given, own, form)
    planes = form.fitted(own, convert)
    is_coded = {
        plane: not codec.is_plain for value, codec in form.codecs.items() for plane in form.planes(value, codec)
    }
    numbers = {"step", *form.scalars.values()}
    others = {
        key: copied(value) if key in numbers else waiting(key, value, param, form.off(given))
        for key, value in given.items()
        if key not in (form.known if form.rule.evaluated is None else {*form.known, *TRAINED_KEYS})
    }
    entry = {**others, **{form.keys[plane]: on_device_of(one, param, is_coded[plane]) for plane, one in planes.items()}}
    if form.rule.evaluated is not None and TRAINED_KEYS[0] in given:
        beside = [entry[one.key] for one in form.planes(form.parameter, form.codecs[form.parameter]).values()]
        entry |= zip(TRAINED_KEYS, planes_like(given, form, [param, *beside], convert=convert), strict=False)
    _, fresh = check_entry(entry, param, options, form=form)
    entry |= fresh
    return {**entry, **closed({key: value for key, value in entry.items() if key not in others}, whole)}


def _check_whole(given: Mapping[str, Any], own: ParameterState, form: Entry) -> None:
    """Refuse an entry without what a step has left there. What is there in other formats is told more exactly later."""
    needed = set(form.scalars.values())
    if form.naming.counts or (form.is_counted and not form.slots):
        needed.add("step")
    if not needed <= given.keys() or not set(form.slots) <= own.formats.keys():
        raise StateError(f"{form.what}: {other_keys(map(str, given), needed | set(form.keys.values()))}")


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
                    f"have: it comes from another one. {_ANOTHER}"
                )


_ANOTHER = (
    "Load it into one of the class that saved it; to keep its averages here, remove what is not this optimizer's from "
    "the dict, and set lr and the other options anew, since loading takes those of the dict"
)


def _check_slots(entry: Mapping[str, Any], own: GroupOptions, place: str) -> None:
    """Refuse a state with slots that another optimizer has left: its options do not mean what they do here."""
    foreign = torch_keys() - own.naming.known(own.rule) - set(own.naming.slots.values())
    codes = {coded: key for key in foreign for coded in (key, *coded_keys(key))}
    left = sorted(key for key in entry if key in codes)
    if left:
        raise StateError(f"{place} has {', '.join(left)}, which this optimizer does not keep: from another? {_ANOTHER}")


def decoded_state_dict(state_dict: dict[str, Any], options: Sequence[GroupOptions]) -> dict[str, Any]:
    """Return a state dict with float32 slots, and without what torch.optim does not know."""
    groups = [{k: v for k, v in group.items() if k not in OF_FORMATS} for group in state_dict["param_groups"]]
    at = _homes(state_dict, options)
    state = {
        key: _decoded(entry, at[key][0], at[key][1]) if key in at else entry
        for key, entry in state_dict["state"].items()
    }
    return {**state_dict, "state": state, "param_groups": groups}


def _decoded(entry: Mapping[str, Any], param: Tensor, options: GroupOptions) -> dict[str, Any]:
    """Return an entry with float32 slots and nothing beside the parameter, as torch.optim has it."""
    rule, what = options.rule, f"the state of a parameter of shape {tuple(param.shape)}"
    if is_gathered(param, options):
        whole = Gathered.of(param, entry)
        return whole.closed(_decoded(whole.entry, whole.param, options))
    kind = entry_of(param, options, what).kind
    codecs = {slot: plain(kind.compute, flushes=True) for slot in rule.element_slots}
    form = entry_of(param, options, what, codecs=codecs)
    own = form.read(opened(entry, param, what))
    form = replace(form, codecs={slot: codecs[slot] for slot in own.formats})
    new = closed({form.keys[plane]: tensor for plane, tensor in form.fitted(own, convert=True).items()}, param)
    left = form.known | (set() if options.naming.counts else {"step"})
    return {**{key: value for key, value in entry.items() if key not in left}, **new}
