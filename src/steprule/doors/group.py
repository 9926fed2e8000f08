"""Parameter groups of the NumPy door: arrays with a rule, hyperparameters and formats of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.doors.layout import check_parameter
from steprule.doors.leaf import Leaf
from steprule.doors.routes import as_routes, routed, states_for
from steprule.doors.structure import Structure, keystr
from steprule.errors import HyperparameterError, RuleError, StructureError
from steprule.formats import Formats, check_seed
from steprule.launch.guards import Guards
from steprule.launch.values import GroupValues
from steprule.rules import Rule, find
from steprule.rules.rule import ARGUMENTS

__all__ = ["Group", "Grouping", "grouping", "seed_groups"]

_FORMATS = ("states", "weights", "min_elements")
_OWN = (*_FORMATS, "update_clip")
"""What groups and routes may have of their own beside hyperparameters."""


class Group:
    """Parameters with hyperparameters of their own: ``steprule.Group(params, lr=1e-4)``.

    Pass a list of groups as the parameters of an ``Optimizer``; gradients are then a list with
    one structure per group. ``states``, ``weights``, ``min_elements`` and ``update_clip`` may differ from the
    optimizer's, too.

    Args:
        params: an array, or nested lists, tuples and dicts of arrays.
        rule: what steps them: a name of the catalogue, or any ``Rule``. Default: the optimizer's. A group with another
            rule than the optimizer's does not take over its hyperparameters, which are those of that rule.
        first_row: for arrays that are a part of larger ones, the index of their first row there. Stochastic rounding
            then gives the same bits as for the whole arrays.
        hyperparameters: those of the rule.
    """

    def __init__(
        self, params: Any, *, rule: str | Rule | None = None, first_row: int = 0, **hyperparameters: Any
    ) -> None:
        if isinstance(first_row, bool) or not isinstance(first_row, int) or first_row < 0:
            raise HyperparameterError(f"first_row must be an integer of at least 0, got {first_row!r}")
        for name in hyperparameters:
            if name in ARGUMENTS and name not in _OWN:
                raise HyperparameterError(f"{name} is for all groups together; give it to the Optimizer itself")
        self.params = params
        self.rule = None if rule is None else find(rule)
        self.first_row = first_row
        self.update_clip: bool | None = hyperparameters.pop("update_clip", None)
        if self.update_clip is not None and not isinstance(self.update_clip, bool):
            raise HyperparameterError(f"update_clip must be True or False, got {self.update_clip!r}")
        self.formats = {name: hyperparameters.pop(name) for name in _FORMATS if name in hyperparameters}
        self.hyperparameters = hyperparameters

    def __repr__(self) -> str:
        told: dict[str, Any] = {} if self.rule is None else {"rule": self.rule.name}
        told |= {**self.hyperparameters, **self.formats}
        told |= {} if self.update_clip is None else {"update_clip": self.update_clip}
        return f"Group({type(self.params).__name__}{''.join(f', {name}={value!r}' for name, value in told.items())})"


@dataclass(frozen=True)
class Grouping:
    """The groups of an optimizer, given as such or made by routes.

    Attributes:
        groups: what was said of each.
        rules: what steps each.
        places: how messages name them.
        structure: of the parameters.
        trees: the parameters.
        of_leaves: the place of the group of each parameter.
    """

    groups: Sequence[Group]
    rules: Sequence[Rule]
    places: Sequence[str]
    structure: Structure
    trees: Any
    of_leaves: Sequence[int]

    def values(self, own: Rule | None, hyperparameters: Mapping[str, Any], guards: Guards) -> tuple[GroupValues, ...]:
        """Return the checked hyperparameters of each group.

        Args:
            own: the optimizer's own rule, which
            hyperparameters: are for.
            guards: those of the optimizer.

        Raises:
            HyperparameterError: unknown, out of range, or without effect.
        """
        if hyperparameters and own not in self.rules:
            whose = "no rule is the optimizer's own" if own is None else f"no parameter is stepped by rule {own.name!r}"
            name, value = next(iter(hyperparameters.items()))
            raise HyperparameterError(
                f"{name}={value!r} has no effect: {whose}. Give it to the groups, or to the options of the routes"
            )
        return tuple(
            GroupValues(
                rule,
                {**hyperparameters, **group.hyperparameters} if rule is own else group.hyperparameters,
                place,
                guards.guard(update_clip=group.update_clip),
            )
            for group, rule, place in zip(self.groups, self.rules, self.places, strict=True)
        )

    def formats(self, states: Any, weights: str, min_elements: int) -> list[Formats]:
        """Return the formats of each group, given those of the optimizer.

        Raises:
            HyperparameterError: for a format or a slot that does not exist.
        """
        wanted = {"states": states, "weights": weights, "min_elements": min_elements}
        return [
            Formats.of(
                **{**wanted, "states": states_for(rule, states, self.rules), **group.formats},
                slots=rule.element_slots,
                where=place,
                numbers=rule.numbers | rule.vectors,
                points=rule.points,
            )
            for group, rule, place in zip(self.groups, self.rules, self.places, strict=True)
        ]


def grouping(params: Any, own: Rule | None, routes: Any) -> Grouping:
    """Return the groups of the parameters of an optimizer.

    Args:
        params: a structure of arrays, or a list of groups.
        own: the optimizer's own rule; None if it has none.
        routes: of the parameters of a structure.

    Raises:
        StructureError: for parameters that cannot be updated in place.
        RuleError: for parameters without a rule.
        HyperparameterError: for routes that are wrong.
    """
    groups = _as_groups(params)
    if routes is not None:
        if groups is not None:
            raise HyperparameterError(
                "routes and groups both say what steps which parameter; name the rules in the groups, "
                "Group(params, rule=...), or leave the groups out"
            )
        return _by_routes(params, own, routes)
    places = [""] if groups is None else [f" (group {index})" for index in range(len(groups))]
    trees = params if groups is None else [group.params for group in groups]
    made = [Group(params)] if groups is None else groups
    rules = [_rule_of(group, own, place) for group, place in zip(made, places, strict=True)]
    structure = Structure.of(trees)
    of_leaves = [0 if groups is None else path[0] for path in structure.paths()]
    return Grouping(made, rules, places, structure, trees, of_leaves)


def _rule_of(group: Group, own: Rule | None, place: str) -> Rule:
    rule = group.rule or own
    if rule is None:
        raise RuleError(
            f"no rule is named{place}. Name one: Optimizer(params, rule='adam'), Group(params, rule='adam')"
        )
    return rule


def _by_routes(params: Any, own: Rule | None, routes: Any) -> Grouping:
    """Return a group for each route, and one for what no route is for, if there is any."""
    structure, made = Structure.of(params), as_routes(routes, (*_OWN, "first_row"))
    paths = list(structure.paths())
    found = zip(structure.leaves(params, "params"), paths, strict=True)
    arrays = [check_parameter(leaf, f"params{keystr(path)}") for leaf, path in found]
    of_leaves = routed(made, [".".join(map(str, path)) for path in paths], arrays, own)
    groups = [Group(None, rule=route.rule, **route.options) for route in made]
    rules, places = [route.rule for route in made], [f" ({route.place})" for route in made]
    if own is not None and (len(made) in of_leaves or not made):
        groups, rules, places = [*groups, Group(None)], [*rules, own], [*places, ""]
    return Grouping(groups, rules, places, structure, params, of_leaves)


def _as_groups(params: Any) -> list[Group] | None:
    """Return the groups if ``params`` is a list of them, None if it is a plain structure."""
    if isinstance(params, Group):
        return [params]
    if not isinstance(params, (list, tuple)) or not any(isinstance(item, Group) for item in params):
        return None
    for index, item in enumerate(params):
        if not isinstance(item, Group):
            raise StructureError(
                f"params[{index}] is a {type(item).__name__} among groups; wrap it: steprule.Group(...)"
            )
    return list(params)


def seed_groups(
    seed: int | None, given: Sequence[Group], groups: Sequence[GroupValues], leaves: Sequence[Leaf]
) -> None:
    """Give the groups that round stochastically their seed, and all of them where they begin.

    Raises:
        HyperparameterError: for an option that has no effect on any parameter.
    """
    if seed is not None:
        check_seed(seed)
    for own, values in zip(given, groups, strict=True):
        values.first_row = own.first_row
    for leaf in leaves:
        if leaf.kernel.plan.inputs:
            leaf.group.seed = seed or 0
    for values in groups:
        if values.first_row and values.seed is None:
            raise HyperparameterError(
                f"first_row={values.first_row} has no effect: no rounding is stochastic{values.place}; remove it"
            )
