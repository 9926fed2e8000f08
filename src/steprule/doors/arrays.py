"""The state of an optimizer of NumPy arrays: written, and read again, checked whole before anything is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf, make_numbers
from steprule.doors.match import fitted, formula_of, name_of
from steprule.doors.state import SCHEDULE, TRAINED, GroupState, ParameterState, State, names_apart
from steprule.doors.stepping import Stepping
from steprule.errors import HyperparameterError, StateError
from steprule.launch.memory import Spans
from steprule.launch.values import GroupValues
from steprule.rules import Rule

__all__ = ["ONE", "numbers_of", "outline_of", "prepared", "scalars_of", "state_of"]

ONE = "an optimizer of NumPy arrays"
"""What has one step count, and one of each scalar slot for a group."""


def outline_of(optimizer: Stepping) -> State:
    """Return the state of an optimizer without its slots."""
    # Groups of the same options are equal, and not the same.
    at = {id(group): index for index, group in enumerate(optimizer.groups)}
    parameters = [
        ParameterState(name, leaf.array.shape, leaf.storage.parameter.name, at[id(leaf.group)], optimizer.t)
        for leaf, name in zip(optimizer._leaves, _names(optimizer), strict=True)
    ]
    used = {own.group for own in parameters}
    groups = [_group(values, None if n in used else optimizer.t) for n, values in enumerate(optimizer.groups)]
    mode = "train" if optimizer._trained is None else "eval"
    return State("steprule.Optimizer", name_of(optimizer.rule), groups, parameters, mode=mode)


def state_of(optimizer: Stepping) -> State:
    """Return the state of an optimizer; arrays are its own."""
    outline = outline_of(optimizer)
    kept = [({}, {}) for _ in optimizer._leaves] if optimizer._trained is None else _trained_of(optimizer)
    parameters = [
        replace(
            own,
            scalars={**leaf.group.scalars, **leaf.numbers},
            formats={**leaf.target.formats, **formats},
            planes={**leaf.planes, **planes},
        )
        for own, leaf, (formats, planes) in zip(outline.parameters, optimizer._leaves, kept, strict=True)
    ]
    return replace(outline, parameters=parameters)


def _trained_of(optimizer: Stepping) -> list[tuple[dict[str, str], dict[str, Array]]]:
    """Return, of each parameter, the format and the planes of what is trained."""
    kept = optimizer._trained or []
    return [leaf.trained(own) for leaf, own in zip(optimizer._leaves, kept, strict=True)]


def _names(optimizer: Stepping) -> list[str | None]:
    """Return the names of parameters: their keys, ``layers.0.w``; of an array alone None."""
    # An array alone has an empty path; the key "" is a name.
    return names_apart([".".join(map(str, path)) if path else None for path in optimizer._structure.paths()])


def _group(values: GroupValues, t: int | None) -> GroupState:
    """Return the state of a group; ``t`` is the step count where it has no parameters."""
    told = {name: dict(SCHEDULE) if callable(value) else value for name, value in values.items()}
    scalars = {} if t is None else dict(values.scalars)
    return GroupState(formula_of(values.rule), told, values.seed, values.first_row, t=t, scalars=scalars)


def prepared(optimizer: Stepping, state: State, convert: bool, hyperparameters: bool) -> Callable[[], None]:
    """Return what takes over a state: it only writes. All that can fail is done here.

    Args:
        optimizer: that is to go on.
        state: whose parameters and groups are in its order.
        convert: whether values in other formats are rounded to nearest in those here.
        hyperparameters: whether they are taken as well.

    Raises:
        StateError: when the state does not belong to the optimizer.
    """
    groups, leaves = optimizer.groups, optimizer._leaves
    t = state.one_t(ONE)
    values = [
        _hyperparameters(told, group, index, hyperparameters)
        for index, (told, group) in enumerate(zip(state.groups, groups, strict=True))
    ]
    scalars, own_numbers = scalars_of(optimizer, state), numbers_of(optimizer, state)
    trained = _rooms(optimizer, state)
    rooms = trained or [[] for _ in leaves]
    planes = [
        (leaf.target.evaluated if room else leaf.target).fitted(own, convert or state.is_earlier(own))
        if own.formats or own.planes or room
        else leaf.fresh()
        for leaf, own, room in zip(leaves, state.parameters, rooms, strict=True)
    ]
    for leaf, room, new in zip(leaves, rooms, planes, strict=True):
        for array, name in zip(room, leaf.trained(room)[1], strict=True):
            plane = new.pop(name)
            array.view(plane.dtype)[...] = plane
    try:
        made = [group.restored(new) for group, new in zip(groups, values, strict=True)]
    except HyperparameterError as error:
        raise StateError(f"the state's hyperparameters do not fit this optimizer: {error}") from None
    writes, count = _writes(leaves, planes), optimizer._count
    seeds = [told.seed if group.seed is not None else None for told, group in zip(state.groups, groups, strict=True)]

    def take() -> None:
        count[0], optimizer._trained = t, trained
        for group, new, own, seed in zip(groups, made, scalars, seeds, strict=True):
            group.take(new)
            group.scalars.update(own)
            if seed is not None:
                group.seed = seed
        for leaf, kept in zip(leaves, own_numbers, strict=True):
            leaf.numbers.update(kept)
        for plane, numbers in writes:
            plane[...] = numbers

    return take


def _rooms(optimizer: Stepping, state: State) -> list[list[Array]] | None:
    """Return memory for what is trained beside the evaluated point that a state is of; None for one that is trained.

    Raises:
        StateError: when the rule has no evaluated point.
    """
    if state.mode == "train" or not (state.t or any(TRAINED in own.formats for own in state.parameters)):
        return None  # before the first step both points are the same
    if all(group.rule.evaluated is None for group in optimizer.groups):
        raise StateError(
            f"the state is of a model at its evaluated point, and rule {optimizer.rule.name!r} has none. Load it in an "
            "optimizer of the state's rule, call train() and save again"
        )
    # Other doors do not keep what is not switched.
    return [
        leaf.room() if leaf.group.rule.evaluated is not None or TRAINED in own.formats else []
        for leaf, own in zip(optimizer._leaves, state.parameters, strict=True)
    ]


def _options(rule: Rule) -> dict[str, Any]:
    """Return what options mean where a state does not name them: it was saved before the rule had them."""
    hypers = rule.hyperparameters.values()
    return {hyper.name: hyper.default for hyper in hypers if hyper.is_static or hyper.default is None}


def _hyperparameters(told: GroupState, group: GroupValues, index: int, wanted: bool) -> dict[str, Any]:
    """Return the hyperparameters to take over for a group, none where none are wanted."""
    if group.seed is not None and told.seed is not None and group.first_row != told.first_row:
        raise StateError(
            f"group {index} begins at row {group.first_row}, in the checkpoint at {told.first_row}: it would be "
            f"rounded by other random bits. Make it with Group(..., first_row={told.first_row})"
        )
    values, where = fitted(told, group.rule, group, index), f"group {index} of the state"
    values = {**_options(group.rule), **values}
    if set(values) != set(group):
        raise StateError(
            f"{where} has the hyperparameters {sorted(values)}, expected {sorted(group)}: is it from another rule?"
        )
    for name, value in values.items() if wanted else ():
        if isinstance(value, Mapping) != callable(group[name]):
            was, now = ("a schedule", "a number") if isinstance(value, Mapping) else ("a number", "a schedule")
            raise StateError(
                f"{name} was {was} when {where} was saved and is {now} here. Give the optimizer {was} for it, "
                "or load with hyperparameters=False"
            )
    numbers = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    _check_slots(numbers, group, where, wanted)
    return numbers if wanted else {}


def _check_slots(told: Mapping[str, Any], group: GroupValues, where: str, wanted: bool) -> None:
    """Check that the options of a state keep the slots that are kept here."""
    rule = group.rule
    try:
        saved = rule.trace(rule.variant(rule.resolve({**group, **told}, group.place)))
    except HyperparameterError as error:
        if wanted:
            raise StateError(f"the state's hyperparameters do not fit this optimizer: {error}") from None
        return
    here = rule.trace(group.variant)
    if {*saved.kept} != {*here.kept}:
        chosen = [name for name, hyper in rule.hyperparameters.items() if hyper.is_static or hyper.optional]
        differing = ", ".join(f"{name}={told[name]!r}" for name in chosen if told.get(name) != group[name])
        raise StateError(
            f"{where} keeps the slots {[*saved.kept]}, this optimizer {[*here.kept]}. Make it with {differing}"
        )


def scalars_of(optimizer: Stepping, state: State) -> list[Mapping[str, float]]:
    """Return the scalar slots of each group.

    Raises:
        StateError: when its parameters do not agree in them, or it has others.
    """
    found: list[Mapping[str, float]] = []
    for index, group in enumerate(optimizer.groups):
        scalars = state.scalars_of(index, ONE, group.per_tensor) or {
            name: group.start_of(name) for name in group.scalars
        }
        if set(scalars) != set(group.scalars):
            raise StateError(
                f"group {index} of the state has the scalar slots {sorted(scalars)}, expected {sorted(group.scalars)}"
            )
        found.append(scalars)
    return found


def numbers_of(optimizer: Stepping, state: State) -> list[Mapping[str, float]]:
    """Return what is one number of each parameter, by slot; before the first step what it starts with.

    Raises:
        StateError: when a parameter lacks one, or has others.
    """
    found: list[Mapping[str, float]] = []
    for leaf, own in zip(optimizer._leaves, state.parameters, strict=True):
        kept = {name: value for name, value in own.scalars.items() if name not in leaf.group.scalars}
        if (own.scalars or own.t) and kept.keys() != leaf.numbers.keys():
            raise StateError(
                f"{leaf.place}: the state has the numbers {sorted(kept)} of it, expected {sorted(leaf.numbers)}"
            )
        found.append(kept or make_numbers(leaf.group))
    return found


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
    return [(plane, _unaliased(new, spans)) for (_, _, plane), new in zip(slots, news, strict=True)]


def _unaliased(array: Array, spans: Spans) -> Array:
    """Return an array that does not lie in any of the spans."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return array.copy(order="K") if array.size and spans.overlaps(low, high - low) else array
