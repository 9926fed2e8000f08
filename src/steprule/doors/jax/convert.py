"""States of optax's own transformations, for ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steprule.backends.jax_scalars import to_pair
from steprule.doors.foreign.names import names_for
from steprule.doors.foreign.optax import found_in, mapped
from steprule.doors.jax.alias import meant
from steprule.doors.jax.leaves import is_complex
from steprule.doors.jax.slots import encoded, is_coded
from steprule.doors.jax.transformation import MOST_STEPS
from steprule.doors.planes import difference
from steprule.doors.state import steps_of
from steprule.errors import StateError
from steprule.rules import Rule
from steprule.rules.catalogue import find

__all__ = ["encode", "from_optax", "to_optax"]


def from_optax(
    rule: str | Rule, theirs: Any, ours: Any, *, t: int | None = None, convert: bool = False, **hyperparameters: Any
) -> Any:
    """Return a steprule state that continues from an optax state.

    Both may be nested in those of ``optax.chain`` and other wrappers; what is found in ``theirs`` is put into ``ours``.

    Args:
        rule: the name of the transformation in ``steprule.jax``, or the rule that was given to ``transformation``.
        theirs: a state of the corresponding optax transformation, such as ``optax.ScaleByAdamState``.
        ours: what ``init`` of the steprule transformation returned.
        t: the steps taken, for states of optax that do not count them.
        convert: whether ``ours`` may have slots in another format: numbers are then rounded to nearest in that format.
        hyperparameters: those that were passed to the steprule transformation.

    Raises:
        StateError: when optax has no such rule, or a state is of another rule, of other parameters, or, without
            ``convert``, in another format.
    """
    fields = set(_names(rule, hyperparameters).values())
    found, own = found_in(theirs, fields), found_in(ours, {"slots"})
    counted = found.count if "count" in found._fields else None  # a tuple has a method of that name
    if (counted is None) == (t is None):
        raise StateError(
            f"{type(found).__name__} {'counts no steps; give t=' if t is None else 'counts steps; leave t='}"
        )
    _check_fields(rule, fields, own)
    numbers = _numbers(rule, hyperparameters)
    slots = {
        name: _as_pairs(getattr(found, name), own.slots[name], name)
        if name in numbers
        else _like(getattr(found, name), own.slots[name], name, convert)
        for name in own.slots
    }
    count = _count(t, "t") if counted is None else _count(counted, f"the count of {type(found).__name__}")
    return mapped(ours, {"slots"}, lambda old: old._replace(count=count, slots=slots))


def _count(value: Any, what: str) -> Any:
    """Return a step count as states have it; one that is traced is not known, and a state of many runs has many.

    Raises:
        StateError: when it is not a count, or too large.
    """
    for one in () if isinstance(value, jax.core.Tracer) else np.ravel(value).tolist():
        steps_of(one, what, MOST_STEPS)
    return jnp.asarray(value, jnp.int32)


def encode(state: Any, like: Any) -> Any:
    """Return a steprule state in the formats of another one, its numbers rounded to nearest.

    So a float32 run can continue in low precision, and the other way round. ``decode`` is only for reading a state.

    Args:
        state: of a transformation, or slots of a ``Step``; also nested in those of ``optax.chain``.
        like: what ``init`` of the same rule with other ``states`` returned.

    Raises:
        StateError: when one does not fit the other.
    """
    return _in_format(state, like, "the state", convert=True)


def to_optax(rule: str | Rule, ours: Any, theirs: Any, *, convert: bool = False, **hyperparameters: Any) -> Any:
    """Return an optax state that continues from a steprule state: ``theirs`` with the slots and count of ``ours``.

    Args:
        rule, ours, theirs, hyperparameters: see ``from_optax``.
        convert: whether slots may be in another format in ``ours``; they get that of ``theirs``.

    Raises:
        StateError: as ``from_optax``.
    """
    fields = set(_names(rule, hyperparameters).values())
    own, found = found_in(ours, {"slots"}), found_in(theirs, fields)
    _check_fields(rule, fields, own)
    numbers = _numbers(rule, hyperparameters)
    new: dict[str, Any] = {
        name: jax.tree.map(lambda number, pair: pair.sum().astype(number.dtype), getattr(found, name), own.slots[name])
        if name in numbers
        else _like(own.slots[name], getattr(found, name), name, convert)
        for name in own.slots
    }
    if "count" in found._fields:
        new["count"] = own.count.astype(found.count.dtype)
    return mapped(theirs, fields, lambda old: old._replace(**new))


def _as_pairs(tree: Any, old: Any, slot: str) -> Any:
    """Return numbers of optax as states keep them.

    Raises:
        StateError: when they are of other parameters.
    """
    return _in_format(jax.tree.map(lambda x: to_pair(jnp.asarray(x)), tree), old, f"slot {slot!r}", convert=True)


def _meant(rule: str | Rule, hyperparameters: Mapping[str, Any]) -> tuple[Rule, Mapping[str, Any]]:
    return meant(rule, hyperparameters) if isinstance(rule, str) else (find(rule), hyperparameters)


def _numbers(rule: str | Rule, hyperparameters: Mapping[str, Any]) -> set[str]:
    """Return what optax calls the slots that are one number."""
    own, _ = _meant(rule, hyperparameters)
    return {name for slot, name in _names(rule, hyperparameters).items() if slot in own.numbers}


def _names(rule: str | Rule, hyperparameters: Mapping[str, Any]) -> Mapping[str, str]:
    rule, given = _meant(rule, hyperparameters)
    values = rule.resolve(given)
    if not rule.slots:
        raise StateError(f"rule {rule.name!r} keeps no slots, so there is no state to convert; init makes all of it")
    kept = rule.trace(rule.variant(values)).kept
    names = names_for(rule, values, "optax")
    return {slot: name for slot, name in names.items() if slot in kept}


def _check_fields(rule: str | Rule, fields: set[str], own: Any) -> None:
    if fields != set(own.slots):
        name = rule if isinstance(rule, str) else rule.name
        raise StateError(
            f"optax keeps {sorted(fields)} of rule {name!r}, these options {sorted(own.slots)}; give the rule and the "
            "hyperparameters that the transformation was made with"
        )


def _like(tree: Any, old: Any, slot: str, convert: bool) -> Any:
    """Return a tree in the place of a slot, in its format.

    Raises:
        StateError: when it does not fit.
    """
    if any(map(is_complex, jax.tree.leaves(tree))):
        raise StateError(
            f"slot {slot!r} is complex, and does not mean the same: optax squares the absolute value of a gradient, "
            "rules step its real and its imaginary part; begin with what init returns"
        )
    return _in_format(tree, old, f"slot {slot!r}", convert)


def _in_format(tree: Any, like: Any, what: str, convert: bool) -> Any:
    """Return a tree of slots in the formats of another one.

    Raises:
        StateError: when it does not fit, or its formats are others and must not be converted.
    """
    trees: list[tuple[list[Any], Any]] = [jax.tree.flatten(one, is_leaf=is_coded) for one in (tree, like)]
    (news, found), (olds, expected) = trees
    shapes = [[leaf.shape for leaf in leaves] for leaves in (news, olds)]
    if found != expected or shapes[0] != shapes[1]:
        raise StateError(
            f"{what} is for other parameters: {found} with the shapes {shapes[0]} in place of {expected} with "
            f"{shapes[1]}; init both with the same parameters"
        )
    words = [difference(what, _format_of(new), _format_of(old)) for new, old in zip(news, olds, strict=True)]
    if any(words) and not convert:
        raise StateError(f"{max(words)}. With convert=True its numbers are rounded to nearest")
    return jax.tree.map(encoded, tree, like, is_leaf=is_coded) if any(words) else tree


def _format_of(leaf: Any) -> str:
    return leaf.codec.id if is_coded(leaf) else str(leaf.dtype)
