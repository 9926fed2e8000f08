"""Checkpoints of the PyTorch door: what an optimizer is made of, and an optimizer that goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from torch import Tensor

from steprule.doors.match import formula_of, name_of
from steprule.doors.state import TRAINED, GroupState, ParameterState, State, steps_of
from steprule.doors.torch.base import Base
from steprule.doors.torch.checkpoint_numbers import number_json, number_of
from steprule.doors.torch.checkpoint_options import encoded_options, options_for, options_of
from steprule.doors.torch.checkpoint_tensors import fill, look, stored_array, tensor_of
from steprule.doors.torch.entry import Entry, entry_of
from steprule.doors.torch.evaluating import MODE, trains
from steprule.doors.torch.formats import OF_FORMATS
from steprule.doors.torch.options import GroupOptions
from steprule.errors import StateError
from steprule.rules import Rule

__all__ = [
    "arrays_of",
    "dict_of",
    "fill",
    "look",
    "number_json",
    "number_of",
    "outline_of",
    "prepared",
    "state_of",
    "stored_array",
]


def outline_of(optimizer: Base) -> State:
    """Return the state of an optimizer without what is kept of its parameters, and without its groups' options."""
    names: list[str | None] = []
    for group in optimizer.param_groups:
        names += group.get("param_names") or [None] * len(group["params"])
    items = [(param, index) for index, group in enumerate(optimizer.param_groups) for param in group["params"]]
    parameters = [
        ParameterState(name, tuple(param.shape), str(param.dtype).removeprefix("torch."), index, None)
        for name, (param, index) in zip(names, items, strict=True)
    ]
    return State(class_of(optimizer), "", [GroupState("", {})] * len(optimizer.param_groups), parameters)


def state_of(optimizer: Base) -> State:
    """Return the state of an optimizer; arrays are the memory of its tensors.

    Raises:
        StateError: when its state is not what its class keeps.
    """
    options, outline = optimizer._options_of(optimizer.param_groups), outline_of(optimizer)
    told = [encoded_options(own.group, index, optimizer._option_names) for index, own in enumerate(options)]
    groups = [
        GroupState(formula_of(own.rule), dict(own.values), own.values.seed, options=one)
        for own, one in zip(options, told, strict=True)
    ]
    items = zip(outline.parameters, arrays_of(optimizer), outline.labels, strict=True)
    parameters = [_parameter(optimizer, own, param, options[own.group], label) for own, param, label in items]
    rule = name_of(options[0].rule)  # torch makes no optimizer without a group
    mode = "train" if all(trains(own.group) for own in options if own.rule.evaluated is not None) else "eval"
    return State(outline.made_by, rule, groups, parameters, mode=mode)


def rules_of(optimizer: Base) -> list[Rule]:
    """Return what each group steps by."""
    return [own.rule for own in optimizer._options_of(optimizer.param_groups)]


def class_of(optimizer: Base) -> str:
    """Return what a checkpoint calls the class of an optimizer."""
    kind = type(optimizer)
    module = "steprule.torch" if kind.__module__.startswith("steprule.doors.torch") else kind.__module__
    return f"{module}.{kind.__qualname__}"


def arrays_of(optimizer: Base) -> list[Tensor]:
    """Return the parameters."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def _parameter(
    optimizer: Base, own: ParameterState, param: Tensor, options: GroupOptions, label: str
) -> ParameterState:
    """Return a parameter's state, with its planes by the rule's names."""
    form = entry_of(param, options, label)
    entry = {key: value for key, value in optimizer.state.get(param, {}).items() if value is not None}
    t = steps_of(entry.get("step", 0), f"the step of parameter {label}") if form.is_counted else None
    own = replace(own, t=t)
    if not entry:
        return own
    form = form.evaluated if TRAINED in entry and form.rule.evaluated is not None else form
    lacking = sorted(set(form.keys.values()) - entry.keys())
    if lacking:
        raise StateError(f"the state of parameter {label} has no {lacking[0]}; nothing was written")
    left = set(entry) - {"step", *form.keys.values(), *form.scalars.values()}
    if left:
        raise StateError(
            f"the state of parameter {label} has {sorted(map(str, left))}, which are not slots of {form.rule.name!r}; "
            "nothing was written. Remove them, or save them by themselves: save(..., name=value)"
        )
    planes = {plane: stored_array(entry[key], f"{label}: {key}") for plane, key in form.keys.items()}
    scalars = {slot: float(entry[key]) for slot, key in form.scalars.items()}
    return form.whole(replace(own, scalars=scalars, formats=form.formats, planes=planes))


def prepared(optimizer: Base, state: State, convert: bool, hyperparameters: bool) -> Callable[[], None]:
    """Return what takes over a state, whose parameters are in the optimizer's order, and only writes.

    Raises:
        StateError: when it is of another optimizer.
    """
    here = optimizer.param_groups
    groups = [_group(state, optimizer, i) if hyperparameters else dict(group) for i, group in enumerate(here)]
    options, labels = _checked(optimizer, groups), outline_of(optimizer).labels
    if (
        state.mode != "train"
        and not optimizer._has_evaluated
        and any(TRAINED in own.formats for own in state.parameters)
    ):
        raise StateError(
            f"the state is of a model at its evaluated point, which {class_of(optimizer)} does not have. Load it in an "
            "optimizer that has, call its train() and save again"
        )
    fitted = [
        _fitted(own, entry_of(param, options[own.group], f"parameter {label}"), convert or state.is_earlier(own))
        for own, param, label in zip(state.parameters, arrays_of(optimizer), labels, strict=True)
    ]
    made = _dict(replace(state, parameters=fitted), optimizer, groups, options)
    # With convert the formats stay, and the seed with them; but random bits belong to the state.
    seeds = [{"seed": told["seed"]} if "seed" in told else {} for told in made["param_groups"]]
    return optimizer._prepared(made, convert, seeds)


def _fitted(own: ParameterState, form: Entry, convert: bool) -> ParameterState:
    if not own.formats:
        return own
    form = form.evaluated if TRAINED in own.formats and form.rule.evaluated is not None else form
    own = form.bare(own)
    tensors = {plane: tensor_of(array) for plane, array in own.arrays.items()}
    return replace(own, planes=form.fitted(replace(own, planes=tensors), convert), formats=form.formats)


def dict_of(state: State, optimizer: Base) -> dict[str, Any]:
    """Return the state dict of an optimizer for which a state is, in its order; the options are the optimizer's."""
    groups = [dict(group) for group in optimizer.param_groups]
    return _dict(state, optimizer, groups, _checked(optimizer, groups))


def _dict(
    state: State, optimizer: Base, groups: Sequence[dict[str, Any]], options: Sequence[GroupOptions]
) -> dict[str, Any]:
    """Return a state in the words of torch's state dicts."""
    entries = [
        _entry(own, param, options[own.group])
        for own, param in zip(state.parameters, arrays_of(optimizer), strict=True)
    ]
    places = count()
    packed = [{**options_of(group), "params": [next(places) for _ in group["params"]]} for group in groups]
    is_own = state.made_by == class_of(optimizer)
    for group, own, told in zip(packed, options, state.groups, strict=True):
        if own.values.seed is not None and told.seed is not None:
            group["seed"] = told.seed
        if own.rule.evaluated is not None and optimizer._has_evaluated:
            group[MODE] = bool((told.options or {}).get(MODE, True)) if is_own else state.mode == "train"
    return {"state": {place: entry for place, entry in enumerate(entries) if entry}, "param_groups": packed}


def _group(state: State, optimizer: Base, index: int) -> dict[str, Any]:
    """Return a group with the options that it goes on with; its formats stay."""
    group = optimizer.param_groups[index]
    new = options_for(state.groups[index], optimizer, group, index, state.made_by == class_of(optimizer))
    new = {name: value for name, value in new.items() if name not in OF_FORMATS}
    new |= {name: group[name] for name in OF_FORMATS if name in group}
    return {**optimizer._known(group), **new, "params": group["params"]}


def _checked(optimizer: Base, groups: Sequence[dict[str, Any]]) -> list[GroupOptions]:
    """Return the options of groups, whatever a file made of them."""
    try:
        return optimizer._options_of(groups)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"the options of the checkpoint do not fit this optimizer: {error}") from None


def _entry(own: ParameterState, param: Tensor, options: GroupOptions) -> dict[str, Any]:
    """Return an entry of a state dict, in torch's names."""
    if (not own.planes and not own.scalars and not own.t) or (own.t == 0 and not options.naming.counts):
        return {}
    form = entry_of(param, options, "a parameter")
    if unknown := sorted(own.scalars.keys() - form.scalars.keys()):
        known = ", ".join(form.scalars) or "none"
        raise StateError(
            f"the checkpoint keeps {unknown[0]!r}, a number that this rule has no slot for; it has: {known}"
        )
    entry = {form.scalars[slot]: value for slot, value in own.scalars.items()} | form.written(form.bare(own))
    if not form.is_counted:
        return entry
    # What was not counted has been stepped if its slots are there, and its rule does not ask how often.
    return {**entry, "step": 1.0 if own.t is None else float(own.t)}
