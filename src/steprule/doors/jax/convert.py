"""States of optax's own transformations, for ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from steprule.doors.checkpoint.content import Group
from steprule.doors.foreign.names import names_for
from steprule.doors.foreign.optax import found_in, mapped
from steprule.doors.jax.alias import meant
from steprule.doors.jax.leaves import is_complex
from steprule.doors.jax.slots import EightBit
from steprule.doors.jax.transformation import State, innermost
from steprule.errors import StateError
from steprule.rules import Rule
from steprule.rules.catalogue import find

__all__ = ["from_optax", "to_optax"]


def from_optax(rule: str | Rule, theirs: Any, ours: Any, *, t: int | None = None, **hyperparameters: Any) -> Any:
    """Return a state of ours that goes on where one of optax stands.

    Both may be nested in those of ``optax.chain`` and other wrappers; what is found in ``theirs`` is put into ``ours``.

    Args:
        rule: the name of the transformation in ``steprule.jax``, or the rule that was given to ``transformation``.
        theirs: a state of optax's transformation that means the same, as ``optax.ScaleByAdamState``.
        ours: what ``init`` of ours returned, with slots in float32 (float64).
        t: the steps taken, for states of optax that do not count them.
        hyperparameters: as they were given to it.

    Raises:
        StateError: when optax has no such rule, or a state is of another rule or of other parameters.
    """
    fields = set(_names(rule, hyperparameters).values())
    found, own = found_in(theirs, fields), found_in(ours, {"slots"})
    counted = found.count if "count" in found._fields else None  # a tuple has a method of that name
    if (counted is None) == (t is None):
        raise StateError(
            f"{type(found).__name__} {'counts no steps; give t=' if t is None else 'counts steps; leave t='}"
        )
    _check_fields(rule, fields, own)
    slots = {name: _like(getattr(found, name), own.slots, name) for name in own.slots}
    new = State(jnp.asarray(t if counted is None else counted, jnp.int32), slots)
    return mapped(ours, {"slots"}, lambda _: new)


def to_optax(rule: str | Rule, ours: Any, theirs: Any, **hyperparameters: Any) -> Any:
    """Return a state of optax that goes on where one of ours stands: ``theirs`` with our slots and count.

    Args:
        rule, ours, theirs, hyperparameters: see ``from_optax``.

    Raises:
        StateError: as ``from_optax``.
    """
    fields = set(_names(rule, hyperparameters).values())
    own, found = found_in(ours, {"slots"}), found_in(theirs, fields)
    _check_fields(rule, fields, own)
    new = {name: _like(own.slots[name], {name: getattr(found, name)}, name) for name in own.slots}
    if "count" in found._fields:
        new["count"] = own.count.astype(found.count.dtype)
    return mapped(theirs, fields, lambda old: old._replace(**new))


def _names(rule: str | Rule, hyperparameters: Mapping[str, Any]) -> Mapping[str, str]:
    rule, given = meant(rule, hyperparameters) if isinstance(rule, str) else (find(rule), hyperparameters)
    values = rule.resolve(given)
    if not rule.slots:
        raise StateError(f"rule {rule.name!r} keeps no slots, so there is no state to convert; init makes all of it")
    kept = rule.trace(rule.variant(values)).slots
    names = names_for(Group(innermost(rule).name, values), "optax")
    return {slot: name for slot, name in names.items() if slot in kept}


def _check_fields(rule: str | Rule, fields: set[str], own: Any) -> None:
    if fields != set(own.slots):
        name = rule if isinstance(rule, str) else rule.name
        raise StateError(
            f"optax keeps {sorted(fields)} of rule {name!r}, these options {sorted(own.slots)}; give the rule and the "
            "hyperparameters that the transformation was made with"
        )


def _like(tree: Any, slots: Mapping[str, Any], slot: str) -> Any:
    """Return a tree in the place of a slot.

    Raises:
        StateError: when it does not fit.
    """
    old = slots.get(slot)
    if any(map(is_complex, jax.tree.leaves(tree))):
        raise StateError(
            f"slot {slot!r} is complex, and does not mean the same: optax squares the absolute value of a gradient, "
            "rules step its real and its imaginary part; begin with what init returns"
        )
    if any(isinstance(leaf, EightBit) for leaf in jax.tree.leaves(old, is_leaf=lambda x: isinstance(x, EightBit))):
        raise StateError(
            f"slot {slot!r} is kept in 8 bits; states are converted in float32, so make it with states='float32'"
        )
    shapes, expected = (jax.tree.map(lambda x: (x.shape, x.dtype), t) for t in (tree, old))
    if shapes != expected:
        raise StateError(
            f"slot {slot!r} is of other parameters or another type: {shapes} in place of {expected}; init both with "
            "the same parameters"
        )
    return tree
