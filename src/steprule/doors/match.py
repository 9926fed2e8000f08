"""Which parameter of a state is which of an optimizer, by name, else by place, and whether it is of its rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from steprule.checkpoint import short
from steprule.doors.state import GroupState, State, is_named
from steprule.errors import StateError
from steprule.rules import CATALOGUE, Rule, decoupled, l2

__all__ = ["aligned", "difference", "fitted", "formula_of", "is_same", "name_of"]


def aligned(saved: State, here: State) -> tuple[State, list[int]]:
    """Return a state with its parameters in the order of those of an optimizer, and their places before.

    By name, where both sides have names; by place where one has none, or no name is on both sides.

    Args:
        saved: the state, of a checkpoint.
        here: the optimizer's; of its parameters no more than what they are.

    Raises:
        StateError: when the number of parameters, some names, a shape, a type, or how they are grouped differs.
    """
    there, names = saved.names, here.names
    if len(there) != len(names):
        raise StateError(
            f"the checkpoint has {len(there)} parameters, this optimizer has {len(names)}{difference(names, there)}"
        )
    by_name = is_named(names) and is_named(there) and not set(names).isdisjoint(there)
    if by_name and set(names) != set(there):
        # By place a parameter would get the state of another, though its own is there.
        raise StateError(
            f"some parameters have other names than in the checkpoint{difference(names, there)}. Name them as they were"
        )
    at = {name: place for place, name in enumerate(there)}
    places = [at[name] for name in names] if by_name else list(range(len(names)))
    if len(saved.groups) != len(here.groups):
        raise StateError(
            f"the checkpoint has {len(saved.groups)} parameter groups, this optimizer has {len(here.groups)}"
        )
    parameters = [saved.parameters[place] for place in places]
    for label, own, now in zip(here.labels, parameters, here.parameters, strict=True):
        if (own.shape, own.dtype) != (now.shape, now.dtype):
            raise StateError(
                f"parameter {label} is {now.dtype} of shape {now.shape}, but in the checkpoint {own.dtype} of shape "
                f"{own.shape}{difference(names, there)}"
            )
        if own.group != now.group:
            raise StateError(
                f"parameter {short(own.name)} is in group {now.group} here, and in group {own.group} of the "
                "checkpoint. Make the groups as they were"
            )
    return replace(saved, parameters=parameters), places


def difference(here: Sequence[str | None], there: Sequence[str | None]) -> str:
    """Return how the names differ, if both have names."""
    if not (is_named(here) and is_named(there)) or set(here) == set(there):
        return ""
    lacks, has = (sorted(map(str, set(a) - set(b))) for a, b in ((here, there), (there, here)))
    words = f". By name, the checkpoint lacks {_some(lacks)}, and has {_some(has)} that are not here"
    return words + _of_wrapper(lacks, has)


_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod)\.)*")
"""What DistributedDataParallel and torch.compile put before the names of a model's parameters."""


def _of_wrapper(here: Sequence[str], there: Sequence[str]) -> str:
    """Return what to do where names differ by what a wrapper of the model puts before them."""
    bare = [sorted(_WRAPPERS.sub("", name, count=1) for name in names) for names in (here, there)]
    own, saved = ({found[0] for name in names if (found := _WRAPPERS.match(name))} for names in (here, there))
    if bare[0] != bare[1] or len(own) != 1 or len(saved) != 1:
        return ""
    (mine,), (theirs,) = own, saved
    inside = ".".join(["model", *mine.split(".")]).rstrip(".")
    if not theirs:
        return f". These are the model's own names without {mine!r}: pass {inside}"
    return (
        f". The model was saved within a wrapper: pass {{{theirs!r} + name: tensor for name, tensor in "
        f"{inside}.state_dict().items()}}; and save the model inside the wrapper, model.{theirs.rstrip('.')}, next time"
    )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" or "none"


def fitted(group: GroupState, rule: Rule, current: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the hyperparameters that a group of a state has for a rule.

    They are the state's if the rule is. A rule without weight decay is also the one with a decay of 0.

    Args:
        group: of the state.
        rule: of the optimizer.
        current: what its group has now.
        index: the group's place, for messages.

    Raises:
        StateError: when it is another rule.
    """
    if group.rule == formula_of(rule):
        return dict(group.hyperparameters)
    inner = _inner(rule)
    if inner is not None and formula_of(inner) == group.rule:
        added = {name: current[name] for name in rule.hyperparameters if name not in inner.hyperparameters}
        return {**group.hyperparameters, **added, "weight_decay": 0.0}
    is_decayed = "weight_decay" not in rule.hyperparameters and any(
        formula_of(decay(rule)) == group.rule for decay in (l2, decoupled)
    )
    if is_decayed and group.hyperparameters.get("weight_decay") == 0:
        return {name: value for name, value in group.hyperparameters.items() if name in rule.hyperparameters}
    raise StateError(
        f"the checkpoint is for rule {short(group.rule)} (group {index}), this optimizer's is {formula_of(rule)!r}"
    )


def formula_of(rule: Rule) -> str:
    """Return what a rule is made of: ``decoupled(adam)`` for ``adamw``, whatever it is called."""
    if not rule.made_by:
        return rule.name
    maker, (inner, *_) = rule.made_by
    return f"{maker.__name__}({formula_of(inner)})"


def name_of(rule: Rule) -> str:
    """Return the name of a rule, that of the catalogue if it is there."""
    formula = formula_of(rule)
    return next((name for name, known in CATALOGUE.items() if formula_of(known) == formula), rule.name)


def is_same(rule: Rule, other: Rule) -> bool:
    """Whether rules are one, or made alike of one: ``schedule_free(sgd)`` is the catalogue's of another name."""
    if rule is other or not (rule.made_by and other.made_by):
        return rule is other
    (maker, (inner, _, *rest)), (others, (inside, _, *more)) = rule.made_by, other.made_by
    alike = maker is others and rest == more and rule.hyperparameters == other.hyperparameters
    return alike and is_same(inner, inside)


def _inner(rule: Rule) -> Rule | None:
    """Return what weight decay was added to, if it was."""
    if not rule.made_by:
        return None
    maker, (inner, *_) = rule.made_by
    return inner if maker in (l2, decoupled) else None
