"""optax's states: named tuples of trees, found in whatever they are nested in, read and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from steprule.doors.foreign.names import names_for
from steprule.doors.foreign.states import array_of, states_of, stepped, taken
from steprule.doors.numpy import Optimizer
from steprule.doors.state import State, steps_of
from steprule.errors import StateError, StructureError

__all__ = ["found_in", "from_optax", "mapped", "to_optax"]

_BESIDE = {"count", "point"}
"""What a state may have beside its slots: the steps, and, of ours, how its parameters are evaluated."""


def from_optax(state: Any, optimizer: Optimizer, *, t: int | None = None) -> dict[str, Any]:
    """Return a state dict for an optimizer from a state of optax.

    The parameters must have the same structure in both, and keys are matched by name. The hyperparameters stay those
    of the optimizer.

    Args:
        state: what ``init`` or ``update`` of optax returned; arrays of any library that NumPy can read.
        optimizer: of arrays, not in groups; ``load_state_dict`` of it takes the result.
        t: the steps taken, for states that do not count them.

    Raises:
        StateError: when it is of another rule or of other parameters.
    """
    here = states_of(_checked(optimizer))
    names, fields = _names(optimizer, here)
    found = found_in(state, fields)
    if "count" not in found._fields and t is None:
        raise StateError(f"{type(found).__name__} does not count steps; give t=")
    what = f"the count of {type(found).__name__}"
    count = steps_of(found.count, what) if "count" in found._fields else steps_of(t, "t")
    if t is not None and t != count:
        raise StateError(f"{type(found).__name__} has counted {count} steps, and t={t} was given; leave it out")
    rule = optimizer.rule
    scalars = {slot: float(getattr(found, name)) for slot, name in names.items() if slot in rule.scalars}
    try:
        trees = {
            slot: optimizer._structure.leaves(getattr(found, name), name)
            for slot, name in names.items()
            if slot not in scalars
        }
    except StructureError as error:
        raise StateError(f"the state is for other parameters: {error}") from None
    parameters = []
    for place, (label, own) in enumerate(zip(here.labels, here.parameters, strict=True)):
        slots = {slot: array_of(leaves[place]) for slot, leaves in trees.items()}
        numbers = {slot: float(slots.pop(slot)) for slot in rule.per_tensor & slots.keys()}
        parameters.append(stepped(own, label, count, slots, {**scalars, **numbers}))
    return taken(here, parameters, optimizer)


def to_optax(optimizer: Optimizer, like: Any) -> Any:
    """Return a state of optax with the slots and the step count of an optimizer, as NumPy arrays.

    Args:
        optimizer: of arrays, not in groups.
        like: a state of the optax optimizer (``init(params)``), in which the slots are replaced.

    Raises:
        StateError: when optax has no such rule, or ``like`` is of another.
    """
    here = states_of(_checked(optimizer))
    names, fields = _names(optimizer, here)
    found_in(like, fields)
    rule = optimizer.rule
    numbers = {slot: [np.float64(own.scalars[slot]) for own in here.parameters] for slot in names.keys() & rule.numbers}
    new: dict[str, Any] = {
        name: numbers[slot][0]
        if slot in rule.scalars
        else optimizer._structure.rebuild(numbers.get(slot) or [own.planes[slot] for own in here.parameters])
        for slot, name in names.items()
    }

    def replaced(old: Any) -> Any:
        if "count" not in old._fields:
            return old._replace(**new)
        kind = np.asarray(old.count).dtype
        t = steps_of(optimizer.t, f"a step count of {type(old).__name__}, which is an {kind},", np.iinfo(kind).max)
        return old._replace(**new, count=np.asarray(t, kind))

    return mapped(like, fields, replaced)


def _checked(optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer) or len(optimizer.groups) > 1:
        raise TypeError("states of optax go to and from a steprule.Optimizer without groups")
    return optimizer


def _names(optimizer: Optimizer, here: State) -> tuple[Mapping[str, str], set[str]]:
    names = names_for(optimizer.rule, here.groups[0].hyperparameters, "optax")
    names = {
        slot: name
        for slot, name in names.items()
        if all(slot in {**own.planes, **own.scalars} for own in here.parameters)
    }
    return names, set(names.values())


def _is_wanted(state: Any, fields: set[str]) -> bool:
    own = set(getattr(state, "_fields", ()))
    return isinstance(state, tuple) and own - _BESIDE == fields and bool(own)


def found_in(state: Any, fields: set[str]) -> Any:
    """Return the one named tuple with these fields.

    Raises:
        StateError: when there is none, or more than one.
    """
    found = list(_tuples(state, fields))
    if len(found) != 1:
        raise StateError(f"the state has {len(found)} named tuples with the fields {sorted(fields)}, expected one")
    return found[0]


def _tuples(state: Any, fields: set[str]) -> Iterator[Any]:
    if _is_wanted(state, fields):
        yield state
    elif isinstance(state, (tuple, list, Mapping)):
        for child in state.values() if isinstance(state, Mapping) else state:
            yield from _tuples(child, fields)


def mapped(state: Any, fields: set[str], change: Callable[[Any], Any]) -> Any:
    """Return the state with every named tuple that has these fields changed."""
    if _is_wanted(state, fields):
        return change(state)
    if isinstance(state, Mapping):
        return {key: mapped(child, fields, change) for key, child in state.items()}
    if isinstance(state, (tuple, list)):
        children = [mapped(child, fields, change) for child in state]
        return type(state)(*children) if hasattr(state, "_fields") else type(state)(children)
    return state
