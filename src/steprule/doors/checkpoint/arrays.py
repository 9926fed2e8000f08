"""Checkpoints of the NumPy door: what an optimizer is made of, and an optimizer that goes on from it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from steprule.checkpoint import Stored, decode, short, stored, type_of
from steprule.doors.checkpoint.content import Content, Group, Parameter, labels_of
from steprule.doors.checkpoint.match import check_groups, fitted, formula_of, matched, name_of
from steprule.doors.layout import Array, check_parameter
from steprule.doors.leaf import Leaf, make_kept
from steprule.doors.numpy import Optimizer
from steprule.doors.state import VERSION, formats_of
from steprule.errors import CheckpointError, HyperparameterError, StateError, StructureError
from steprule.launch.values import GroupValues
from steprule.rules import Rule

__all__ = [
    "content_of",
    "fill",
    "loaded",
    "look",
    "names_of",
    "number_of",
    "own_arrays",
    "places_of",
    "prepared",
    "rules_of",
    "state_of",
]

_NUMBERS = ("bool", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def content_of(optimizer: Optimizer) -> Content:
    """Return what a checkpoint says of an optimizer; arrays are the optimizer's own."""
    groups = [_group(formula_of(optimizer.rule), values) for values in optimizer.groups]
    leaves = zip(optimizer._leaves, names_of(optimizer), _indices(optimizer), strict=True)
    parameters = [_parameter(optimizer, leaf, name, group) for leaf, name, group in leaves]
    return Content("steprule.Optimizer", name_of(optimizer.rule), groups, parameters)


def rules_of(optimizer: Optimizer) -> list[Rule]:
    """Return what each group steps by."""
    return [optimizer.rule] * len(optimizer.groups)


def names_of(optimizer: Optimizer) -> list[str | None]:
    """Return the names of parameters: their keys, ``layers.0.w``; of an array alone None."""
    # An array alone has an empty path; the key "" is a name.
    paths = [".".join(map(str, path)) if path else None for path in optimizer._structure.paths()]
    return paths if len(set(paths)) == len(paths) else [None] * len(paths)


def own_arrays(optimizer: Optimizer) -> dict[str, Array]:
    """Return the parameters by the names that a checkpoint has for them."""
    return dict(zip(labels_of(names_of(optimizer)), (leaf.array for leaf in optimizer._leaves), strict=True))


def _group(rule: str, values: GroupValues) -> Group:
    told = {name: {"schedule": True} if callable(value) else value for name, value in values.items()}
    return Group(rule, told, values.seed, values.first_row)


def _parameter(optimizer: Optimizer, leaf: Leaf, name: str | None, group: int) -> Parameter:
    # Two bytes without a sign are the upper half of a float32 here.
    planes = {
        plane: stored(array, f"{leaf.place}: {plane}", "BF16" if array.dtype == np.uint16 else None)
        for plane, array in leaf.planes.items()
    }
    scalars = dict(leaf.group.scalars)
    dtype = leaf.storage.parameter.name
    return Parameter(name, leaf.array.shape, dtype, group, optimizer.t, scalars, formats_of(leaf), planes)


def places_of(content: Content, optimizer: Optimizer) -> list[int]:
    """Return, for every parameter, its place in a checkpoint.

    Raises:
        StateError: when it is of other parameters.
    """
    leaves = optimizer._leaves
    shapes, dtypes = [leaf.array.shape for leaf in leaves], [leaf.storage.parameter.name for leaf in leaves]
    return matched(content, names_of(optimizer), shapes, dtypes)


def prepared(
    optimizer: Optimizer, state: Mapping[str, Any], convert: bool, hyperparameters: bool
) -> Callable[[], None]:
    """Return what takes over a state dict of ``state_of``, and only writes.

    Raises:
        StateError: when it is of another optimizer.
    """
    return optimizer._prepared(state, convert=convert, hyperparameters=hyperparameters)


def loaded(optimizer: Optimizer) -> None:
    """Tell nobody: there are no hooks here."""


def state_of(content: Content, optimizer: Optimizer, convert: bool, hyperparameters: bool) -> dict[str, Any]:
    """Return a state dict for an optimizer, from what a checkpoint holds.

    Raises:
        StateError: when it is of another optimizer.
    """
    leaves = optimizer._leaves
    saved = [content.parameters[place] for place in places_of(content, optimizer)]
    t = _common_t(saved)
    check_groups(saved, _indices(optimizer), len(optimizer.groups), content)
    slots = {
        leaf.place: {name: one.array() for name, one in own.planes.items()} or _fresh(leaf)
        for leaf, own in zip(leaves, saved, strict=True)
    }
    formats = {leaf.place: own.formats or formats_of(leaf) for leaf, own in zip(leaves, saved, strict=True)}
    groups = [
        _group_state(content, optimizer, index, [own for own in saved if own.group == index])
        for index in range(len(optimizer.groups))
    ]
    return {
        "version": VERSION - any(content.is_earlier(own) for own in saved),
        "rule": optimizer.rule.name,
        "t": t,
        "groups": groups,
        "slots": slots,
        "formats": formats,
    }


def _indices(optimizer: Optimizer) -> list[int]:
    """Return the place of every parameter's group; groups of the same options are equal, and not the same."""
    places = {id(group): index for index, group in enumerate(optimizer.groups)}
    return [places[id(leaf.group)] for leaf in optimizer._leaves]


def _fresh(leaf: Leaf) -> dict[str, Array]:
    """Return what is kept before the first step, for a parameter that has not been stepped."""
    kept = make_kept(leaf.array, leaf.kernel, leaf.group)
    return {plane.name: array for plane, array in zip(leaf.kernel.kept, kept, strict=True)}


def _common_t(saved: Sequence[Parameter]) -> int:
    """Return the step count, which there is one of here.

    Raises:
        StateError: when parameters have been stepped a different number of times.
    """
    # Where nothing is counted, a parameter that has slots has been stepped, and no rule asks how often.
    counts = [int(bool(own.planes)) if own.t is None else own.t for own in saved]
    if len(set(counts)) > 1:
        least, most = counts.index(min(counts)), counts.index(max(counts))
        raise StateError(
            f"parameter {_name(saved, least)} has been stepped {min(counts)} times, {_name(saved, most)} {max(counts)} "
            "times: an optimizer of NumPy arrays has one count for all. Load it in steprule.torch, or give such "
            "parameters an optimizer of their own"
        )
    return counts[0] if counts else 0


def _name(saved: Sequence[Parameter], place: int) -> str:
    name = saved[place].name
    return str(place) if name is None else name


def _group_state(content: Content, optimizer: Optimizer, index: int, members: Sequence[Parameter]) -> dict[str, Any]:
    values, group = optimizer.groups[index], content.groups[index]
    if values.seed is not None and group.seed is not None and values.first_row != group.first_row:
        raise StateError(
            f"group {index} begins at row {values.first_row}, in the checkpoint at {group.first_row}: it would be "
            f"rounded by other random bits. Make it with Group(..., first_row={group.first_row})"
        )
    told = fitted(group, optimizer.rule, values, index)
    _check_slots(told, values, optimizer.rule, index)
    return {"hyperparameters": told, "scalars": _scalars(members, values, index), "seed": group.seed}


def _check_slots(told: Mapping[str, Any], values: GroupValues, rule: Rule, index: int) -> None:
    """Check that the options of a checkpoint keep the slots that are kept here."""
    numbers = {name: value for name, value in told.items() if not isinstance(value, Mapping)}
    try:
        saved = rule.trace(rule.variant(rule.resolve({**values, **numbers})))
    except HyperparameterError as error:
        raise StateError(f"the hyperparameters of the checkpoint do not fit {rule.name!r}: {error}") from None
    here = rule.trace(values.variant)
    if {*saved.slots, *saved.scalars} != {*here.slots, *here.scalars}:
        chosen = {name: told[name] for name, hyper in rule.hyperparameters.items() if hyper.is_static or hyper.optional}
        differing = ", ".join(f"{name}={value!r}" for name, value in chosen.items() if value != values[name])
        raise StateError(
            f"group {index} of the checkpoint keeps the slots {[*saved.slots, *saved.scalars]}, this optimizer "
            f"{[*here.slots, *here.scalars]}. Make it with {differing}"
        )


def _scalars(members: Sequence[Parameter], values: GroupValues, index: int) -> dict[str, float]:
    """Return the scalar slots of a group, which its parameters must agree in."""
    begun = [own for own in members if own.scalars]
    if not begun:
        return {name: values.start_of(name) for name in values.scalars}
    for own in begun[1:]:
        if _bits(own.scalars) != _bits(begun[0].scalars):
            raise StateError(
                f"parameters of group {index} differ in scalar slots, {begun[0].scalars} and {own.scalars}: an "
                "optimizer of NumPy arrays has one of each for a group"
            )
    return begun[0].scalars


def _bits(scalars: Mapping[str, float]) -> dict[str, bytes]:
    return {name: struct.pack("<d", value) for name, value in sorted(scalars.items())}


def look(array: Array, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the types in the format's words that an array can be filled with, the first its own, and the shape.

    Raises:
        StateError: when it cannot be filled.
    """
    try:
        check_parameter(array, name)
    except StructureError as error:
        raise StateError(str(error)) from None
    own = type_of(array.dtype)
    if own is None:
        raise StateError(f"{name} is of type {array.dtype}, which no checkpoint holds")
    # Two bytes without a sign are what NumPy has for the bits of bfloat16.
    return [own, "BF16"] if own == "U16" else [own], (*array.shape, 2) if array.dtype.kind == "c" else array.shape


def fill(array: Array, one: Stored) -> None:
    """Put stored numbers into an array of their type."""
    plain = array.view(np.ndarray)
    if one.dtype == "BF16" and plain.dtype.kind != "u":
        plain = plain.view(np.uint16)
    plain[...] = one.array()


def number_of(mark: str, told: Any) -> Array:
    """Return an array of what was a tensor of one number; float32 for bfloat16, which NumPy has not.

    Raises:
        CheckpointError: when it is none.
    """
    if mark == "$tensor" and isinstance(told, list) and len(told) == 3:
        name, shape, number = told[0], told[1], decode(told[2])
        if name in _NUMBERS and type(number) in (bool, int, float) and shape in ([], [1], [1, 1]):
            with suppress(OverflowError, ValueError), np.errstate(all="ignore"):
                return np.full(shape, number, "float32" if name == "bfloat16" else name)
    raise CheckpointError(f"the document has {short(mark)} with {short(told)}, which means nothing to this steprule")
