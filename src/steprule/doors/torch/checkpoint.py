"""Checkpoints of the PyTorch door: what an optimizer is made of, and an optimizer that goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from steprule.checkpoint import short
from steprule.coding import plane_name
from steprule.doors.checkpoint.content import Content, Group, Parameter, labels_of
from steprule.doors.checkpoint.match import check_groups, formula_of, matched, name_of
from steprule.doors.torch.base import Base
from steprule.doors.torch.checkpoint_numbers import number_json, number_of
from steprule.doors.torch.checkpoint_options import encoded_options, options_for
from steprule.doors.torch.checkpoint_tensors import fill, look, stored_tensor, tensor_of
from steprule.doors.torch.formats import DEFAULTS, STORAGE, keyed, storage_of
from steprule.doors.torch.options import GroupOptions, Naming
from steprule.engine import ways_of
from steprule.errors import StateError
from steprule.formats import CODING, EARLIER_CODING, FORMATS, Kept, saved_way
from steprule.rules import Rule

__all__ = [
    "class_of",
    "content_of",
    "fill",
    "loaded",
    "look",
    "names_of",
    "number_json",
    "number_of",
    "own_arrays",
    "places_of",
    "prepared",
    "state_of",
    "stored_tensor",
]

_FORMATS = (*DEFAULTS, "coding")


def content_of(optimizer: Base) -> Content:
    """Return what a checkpoint says of an optimizer; arrays are the memory of its tensors.

    Raises:
        StateError: when its state is not what its class keeps.
    """
    options = optimizer._options_of(optimizer.param_groups)
    told = [encoded_options(own.group, index, optimizer._option_names) for index, own in enumerate(options)]
    groups = [
        Group(formula_of(own.rule), dict(own.values), own.values.seed, options=one)
        for own, one in zip(options, told, strict=True)
    ]
    items = [(param, index, own) for index, own in enumerate(options) for param in own.group["params"]]
    names = names_of(optimizer)
    parameters = [
        _parameter(optimizer, *item, name, label)
        for item, name, label in zip(items, names, labels_of(names), strict=True)
    ]
    rule = name_of(options[0].rule)  # torch makes no optimizer without a group
    return Content(class_of(optimizer), rule, groups, parameters)


def rules_of(optimizer: Base) -> list[Rule]:
    """Return what each group steps by."""
    return [own.rule for own in optimizer._options_of(optimizer.param_groups)]


def class_of(optimizer: Base) -> str:
    """Return what a checkpoint calls the class of an optimizer."""
    kind = type(optimizer)
    module = "steprule.torch" if kind.__module__.startswith("steprule.doors.torch") else kind.__module__
    return f"{module}.{kind.__qualname__}"


def names_of(optimizer: Base) -> list[str | None]:
    """Return the names of parameters, which they have where they were given with names."""
    names: list[str | None] = []
    for group in optimizer.param_groups:
        names += group.get("param_names") or [None] * len(group["params"])
    return names


def own_arrays(optimizer: Base) -> dict[str, Tensor]:
    """Return the parameters by the names that a checkpoint has for them."""
    params = (param for group in optimizer.param_groups for param in group["params"])
    return dict(zip(labels_of(names_of(optimizer)), params, strict=True))


def _parameter(
    optimizer: Base, param: Tensor, index: int, options: GroupOptions, name: str | None, label: str
) -> Parameter:
    entry = {key: value for key, value in optimizer.state.get(param, {}).items() if value is not None}
    naming, rule = optimizer._naming, options.rule
    dtype = str(param.dtype).removeprefix("torch.")
    own = Parameter(name, tuple(param.shape), dtype, index, _t_of(optimizer, options, entry))
    left = set(entry) - {"step"}
    if not entry:
        return own
    for value, way in _ways(param, options).items():
        keys = keyed(value, way, rule, naming.slots).keys
        for suffix, at in keys.items():
            if at not in entry:
                raise StateError(f"the state of parameter {label} has no {at}; nothing was written")
            own.planes[plane_name(value, suffix)] = stored_tensor(entry[at], f"{label}: {at}")
            left.discard(at)
        if keys:
            own.formats[value] = way.id
    for slot in rule.trace(options.values.variant).scalars:
        own.scalars[slot] = float(entry[naming.slots.get(slot, slot)])
        left.discard(naming.slots.get(slot, slot))
    if left:
        raise StateError(
            f"the state of parameter {label} has {sorted(map(str, left))}, which are no slots of {rule.name!r}; "
            "nothing was written. Remove them, or save them by themselves: save(..., name=value)"
        )
    return own


def _ways(param: Tensor, options: GroupOptions) -> Mapping[str, Kept]:
    variant = options.values.variant
    return ways_of(options.rule, variant, storage_of(options.formats, param, options.rule, variant))


def _t_of(optimizer: Base, options: GroupOptions, entry: Mapping[str, Any]) -> int | None:
    return int(entry.get("step", 0)) if optimizer._naming.counted(options.formats) else None


def places_of(content: Content, optimizer: Base) -> list[int]:
    """Return, for every parameter, its place in a checkpoint.

    Raises:
        StateError: when it is of other parameters.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    dtypes = [str(param.dtype).removeprefix("torch.") for param in params]
    return matched(content, names_of(optimizer), [param.shape for param in params], dtypes)


def prepared(optimizer: Base, state: dict[str, Any], convert: bool, hyperparameters: bool) -> Callable[[], None]:
    """Return what takes over a state dict of ``state_of``, and only writes.

    Raises:
        StateError: when it is of another optimizer.
    """
    # With convert the formats stay, and the seed with them; but random bits belong to the state.
    seeds = [{"seed": told["seed"]} if "seed" in told else {} for told in state["param_groups"]]
    return optimizer._prepared(state, convert, seeds)


def loaded(optimizer: Base) -> None:
    """Call the hooks of those who want to know."""
    optimizer._call_load_hooks()


def state_of(content: Content, optimizer: Base, convert: bool, hyperparameters: bool) -> dict[str, Any]:
    """Return a state dict for an optimizer, from what a checkpoint holds.

    Raises:
        StateError: when it is of another optimizer.
    """
    saved = [content.parameters[place] for place in places_of(content, optimizer)]
    here = optimizer.param_groups
    check_groups(saved, [index for index, group in enumerate(here) for _ in group["params"]], len(here), content)
    groups = [
        _group_state(content, optimizer, index) if hyperparameters else dict(group) for index, group in enumerate(here)
    ]
    options = _checked(optimizer, groups)
    for group, own, told in zip(groups, options, content.groups, strict=True):
        if own.values.seed is not None and told.seed is not None:
            group["seed"] = told.seed
    entries = _entries(content, saved, optimizer, options, convert)
    places = count()
    packed = [{**_bare(group), "params": [next(places) for _ in group["params"]]} for group in groups]
    for group, told in zip(packed, content.groups, strict=True):
        group |= {"coding": told.coding} if "coding" in group else {}
    return {"state": entries, "param_groups": packed}


def _entries(
    content: Content, saved: Sequence[Parameter], optimizer: Base, options: Sequence[GroupOptions], convert: bool
) -> dict[int, dict[str, Any]]:
    """Return the entries of a state dict by the places of parameters, without those that are empty."""
    items = [(param, own) for own in options for param in own.group["params"]]
    labels = labels_of(names_of(optimizer))
    entries = [
        _entry(optimizer, one, own, param, label, convert or (content.is_earlier(one) and param.dim() < 2))
        for one, (param, own), label in zip(saved, items, labels, strict=True)
    ]
    return {place: entry for place, entry in enumerate(entries) if entry}


def _bare(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _group_state(content: Content, optimizer: Base, index: int) -> dict[str, Any]:
    """Return a group with the options that it goes on with; its formats stay."""
    group = optimizer.param_groups[index]
    new = options_for(content.groups[index], optimizer, group, index, content.made_by == class_of(optimizer))
    if new.get("coding", CODING) not in (CODING, EARLIER_CODING):
        raise StateError(f"the states are coded as {short(new['coding'])}, this steprule reads {CODING!r}")
    new = {name: value for name, value in new.items() if name not in _FORMATS}
    new |= {name: group[name] for name in _FORMATS if name in group}
    return {**optimizer.defaults, **new, "params": group["params"]}


def _checked(optimizer: Base, groups: Sequence[dict[str, Any]]) -> list[GroupOptions]:
    """Return the options of groups, whatever a file made of them."""
    try:
        return optimizer._options_of(groups)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"the options of the checkpoint do not fit this optimizer: {error}") from None


def _check_formats(own: Parameter, param: Tensor, options: GroupOptions, label: str) -> None:
    """Check that values are kept as they were: widened they would go on with other bits."""
    ways = _ways(param, options).items()
    here = {value: way.id for value, way in ways if value != options.rule.parameter or len(way.parts) > 1}
    for value in (*here, *own.formats):
        was, now = own.formats.get(value, "nearest"), here.get(value, "nearest")
        if was != now:
            raise StateError(
                f"parameter {label}: {value} is kept as {now!r} here, in the checkpoint as {short(was)}. Make "
                "the optimizer with the same states and weights, or load with convert=True, which rounds"
            )


def _entry(
    optimizer: Base, own: Parameter, options: GroupOptions, param: Tensor, label: str, convert: bool
) -> dict[str, Any]:
    """Return an entry of a state dict, in torch's names."""
    if own.formats and not convert:
        _check_formats(own, param, options, label)
    naming = optimizer._naming
    if (not own.planes and not own.scalars and not own.t) or (own.t == 0 and not naming.counts):
        return {}
    entry = _planes(own, options.rule, param, naming, label)
    entry |= {naming.slots.get(slot, slot): value for slot, value in own.scalars.items()}
    if not naming.counted(options.formats):
        return entry
    # What was not counted has been stepped if its slots are there, and its rule does not ask how often.
    return {**entry, "step": 1.0 if own.t is None else float(own.t)}


def _planes(own: Parameter, rule: Rule, param: Tensor, naming: Naming, label: str) -> dict[str, Any]:
    """Return the planes of a checkpoint by their keys in a state."""
    entry: dict[str, Any] = {}
    kind = FORMATS[STORAGE.get(param.dtype, "float64" if param.dtype is torch.complex128 else "float32")]
    for value, id_ in own.formats.items():
        way = saved_way(id_, kind, is_slot=value != rule.parameter)
        if way is None:
            raise StateError(
                f"{label}: the checkpoint has {value} in the format {short(id_)}, unknown to this steprule"
            )
        for suffix, at in keyed(value, way, rule, naming.slots).keys.items():
            if (plane := plane_name(value, suffix)) in own.planes:
                entry[at] = tensor_of(own.planes[plane])
    return entry
