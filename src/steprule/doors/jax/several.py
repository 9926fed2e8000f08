"""Several rules on one pytree: each parameter is stepped by the one that its route names, in one state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax

from steprule.doors.jax.evaluated import Point
from steprule.doors.jax.leaves import flat, flat_like, format_of, paths_of
from steprule.doors.jax.passes import PassKind
from steprule.doors.jax.products import PRODUCTS
from steprule.doors.jax.stepper import Slots, Stepper
from steprule.doors.routes import Route, as_routes, routed, states_for
from steprule.errors import HyperparameterError, StructureError, suggest
from steprule.formats import Formats
from steprule.rules import Rule
from steprule.rules.catalogue import find

__all__ = ["Several", "by_leaf", "multiplied_in", "of_routes"]

Assign: TypeAlias = Callable[[Any, Sequence[Any], Sequence[str]], Sequence[int]]
"""From a tree, its arrays and their names to the place of what steps each."""
_OPTIONS = ("states", "min_elements", "mask")
"""What routes may have of their own beside hyperparameters."""


# A tree of its values, as a ``Stepper`` is.
@functools.partial(jax.tree_util.register_dataclass, data_fields=["steppers"], meta_fields=["rule", "assign", "first"])
@dataclass(frozen=True, eq=False)
class Several:
    """Makes and moves the slots of several rules, as a ``Stepper`` does those of one.

    Its slots have the rules' names, and each a tree of all parameters, with None where its rule has none. Scalar slots
    are one for each rule: ``"d[1]"`` is that of the second.

    Attributes:
        steppers: what steps.
        rule: what the names of slots in states follow: the optimizer's own rule, or the first.
        assign: says which of the steppers is for which parameter.
        first: what says so before the first step, and refuses routes that are for nothing; None: ``assign``.
    """

    steppers: tuple[Stepper, ...]
    rule: Rule
    assign: Assign
    first: Assign | None = None

    def init(self, params: Any) -> Slots:
        """Return the slots before the first step."""
        leaves, treedef = flat(params)
        places = self.places(params, leaves, is_first=True)
        made = [
            stepper.init(treedef.unflatten(_own(leaves, places, number)))
            for number, stepper in enumerate(self.steppers)
        ]
        return self.merged(made, [None] * len(leaves), places, treedef)

    def take(self, kind: PassKind, params: Any, grads: Any, slots: Slots, t: Any) -> tuple[Any, Slots]:
        """Return what is new, as ``Stepper.take`` does."""
        leaves, treedef = flat(grads)
        places = self.places(grads, leaves)
        results, made = [], []
        for number, (stepper, own) in enumerate(zip(self.steppers, self.split(slots), strict=True)):
            new, new_slots = stepper.take(kind, params, treedef.unflatten(_own(leaves, places, number)), own, t)
            results.append(treedef.flatten_up_to(new))
            made.append(new_slots)
        moved = [results[max(place, 0)][number] for number, place in enumerate(places)]
        return treedef.unflatten(moved), self.merged(made, by_leaf(slots, treedef), places, treedef)

    def point(self, steps: Any) -> Point | None:
        """Return how parameters are evaluated, where a rule has another point for that."""
        return next((own for stepper in self.steppers if (own := stepper.point(steps)) is not None), None)

    def places(self, tree: Any, leaves: Sequence[Any], *, is_first: bool = False) -> list[int]:
        """Return the place of what steps each leaf; -1 where there is none to step.

        Args:
            tree: of parameters or gradients.
            leaves: its leaves, None among them.
            is_first: whether routes that are for nothing are to be refused.
        """
        found = [number for number, leaf in enumerate(leaves) if leaf is not None]
        paths = paths_of(tree)
        for number in found:
            format_of(leaves[number], paths[number])
        keys = jax.tree_util.tree_leaves_with_path(tree)
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in keys]
        places = [-1] * len(leaves)
        assign = (self.first if is_first else None) or self.assign
        for number, place in zip(found, assign(tree, [leaves[n] for n in found], names), strict=True):
            places[number] = place
        return places

    def split(self, slots: Slots) -> list[Slots]:
        """Return the slots of each stepper, with what is of the others' parameters.

        Raises:
            StructureError: when one is missing.
        """
        wanted = [
            {slot: f"{slot}[{number}]" if slot in own.rule.scalars else slot for slot in _kept(own)}
            for number, own in enumerate(self.steppers)
        ]
        names = {name for own in wanted for name in own.values()}
        if not isinstance(slots, dict) or set(slots) != names:
            has = sorted(slots) if isinstance(slots, dict) else type(slots).__name__
            raise StructureError(
                f"the state has the slots {has}, but these routes keep {sorted(names)}: it is the state of other rules "
                "or routes. Call init again"
            )
        return [{slot: slots[name] for slot, name in own.items()} for own in wanted]

    def merged(
        self, made: Sequence[Slots], before: Sequence[Mapping[str, Any] | None], places: Sequence[int], treedef: Any
    ) -> Slots:
        """Return the slots of all, given those of each stepper.

        Args:
            made: what each has.
            before: what there was of each leaf, which stays where it is not stepped.
            places: of what steps each leaf.
            treedef: of the leaves.
        """
        columns: list[dict[str, list[Any]]] = []
        found: Slots = {}
        for number, (own, slots) in enumerate(zip(self.steppers, made, strict=True)):
            scalars = {f"{slot}[{number}]": slots[slot] for slot in _kept(own) if slot in own.rule.scalars}
            columns.append(
                {slot: treedef.flatten_up_to(tree) for slot, tree in slots.items() if slot not in own.rule.scalars}
            )
            found |= scalars
        for name in dict.fromkeys(name for own in columns for name in own):
            leaves = []
            for number, (place, old) in enumerate(zip(places, before, strict=True)):
                kept = None if old is None else old.get(name)
                leaves.append(columns[place][name][number] if place >= 0 and name in columns[place] else kept)
            found[name] = treedef.unflatten(leaves)
        return found


def by_leaf(slots: Slots, treedef: Any) -> list[dict[str, Any]]:
    """Return what the slots of several rules have of each leaf, by name; scalar slots, which are of rules, have none.

    Raises:
        StructureError: when one has another structure.
    """
    columns = {name: flat_like(tree, treedef, f"the slots {name!r}") for name, tree in slots.items() if name[-1] != "]"}
    return [{name: column[number] for name, column in columns.items()} for number in range(treedef.num_leaves)]


def _kept(stepper: Stepper) -> list[str]:
    return list(stepper.rule.trace(stepper.variant).kept)


def _own(leaves: Sequence[Any], places: Sequence[int], own: int) -> list[Any]:
    """Return the leaves that one of the steppers is for, and None for others."""
    return [leaf if place == own else None for leaf, place in zip(leaves, places, strict=True)]


def of_routes(
    rule: str | Rule | None,
    routes: Any,
    states: Any,
    min_elements: int | None,
    seed: Any,
    hyperparameters: Mapping[str, Any],
    mask: Any,
) -> Several:
    """Return what steps by the rules of routes, and what none is for by a rule of its own.

    Raises:
        HyperparameterError, RuleError, TargetError: with cause, value and remedy.
    """
    own, made = None if rule is None else find(rule), as_routes(routes, None)
    if own is None and hyperparameters:
        raise HyperparameterError(
            f"{next(iter(hyperparameters))} has no effect: no rule is named beside the routes. Give it to their options"
        )
    every = [*(route.rule for route in made), *([] if own is None else [own])]
    steppers = [_of_route(route, own, every, states, min_elements, seed, hyperparameters, mask) for route in made]
    if own is not None:
        is_masked = "weight_decay" in own.hyperparameters or not any("weight_decay" in r.hyperparameters for r in every)
        ways = _ways(own, states_for(own, states, every), min_elements, seed)
        steppers.append(Stepper.of(own, *ways, hyperparameters, mask if is_masked else None))
    _check_points(steppers)
    _check_ways(steppers, min_elements, seed)

    def assign(tree: Any, arrays: Sequence[Any], names: Sequence[str], is_checked: bool = False) -> list[int]:
        return routed(made, names, arrays, own, is_checked=is_checked)

    def first(tree: Any, arrays: Sequence[Any], names: Sequence[str]) -> list[int]:
        places = assign(tree, arrays, names, True)
        if own is not None and hyperparameters and own not in [every[place] for place in places]:
            raise HyperparameterError(
                f"{next(iter(hyperparameters))} has no effect: no parameter is stepped by rule {own.name!r}. Give it "
                "to the options of the routes"
            )
        return places

    return Several(tuple(steppers), own or every[0], assign, first)


def multiplied_in(stepper: Stepper | Several, products: Any) -> Stepper | Several:
    """Return what multiplies matrices in a type.

    Raises:
        HyperparameterError: when it is none of ``PRODUCTS``, or no rule multiplies matrices.
    """
    if products not in PRODUCTS:
        raise HyperparameterError(
            f"products must be None or one of {', '.join(PRODUCTS)}, got {products!r}."
            f"{suggest(str(products), PRODUCTS)}"
        )
    if isinstance(stepper, Several):
        if not any(own.rule.needs_matrices for own in stepper.steppers):
            raise HyperparameterError(f"products={products!r} has no effect: no rule multiplies matrices; remove it")
        every = [replace(own, products=products) if own.rule.needs_matrices else own for own in stepper.steppers]
        return replace(stepper, steppers=tuple(every))
    if not stepper.rule.needs_matrices:
        raise HyperparameterError(
            f"products={products!r} has no effect: rule {stepper.rule.name!r} multiplies no matrices; remove it"
        )
    return replace(stepper, products=products)


def _of_route(
    route: Route,
    own: Rule | None,
    every: Sequence[Rule],
    states: Any,
    min_elements: int | None,
    seed: Any,
    hyperparameters: Mapping[str, Any],
    mask: Any,
) -> Stepper:
    """Return what steps the parameters of a route; one of the optimizer's own rule takes over its hyperparameters."""
    rule = route.rule
    given = {name: value for name, value in route.options.items() if name not in _OPTIONS}
    values = {**hyperparameters, **given} if rule is own else given
    decays = "weight_decay" in rule.hyperparameters
    try:
        ways = _ways(rule, route.options.get("states", states_for(rule, states, every)), min_elements, seed)
        if "min_elements" in route.options:
            ways = (ways[0], route.options["min_elements"], ways[2])
        return Stepper.of(rule, *ways, values, route.options.get("mask", mask if decays else None))
    except HyperparameterError as error:
        raise HyperparameterError(f"{route.place}: {error}") from None


def _ways(rule: Rule, states: Any, min_elements: int | None, seed: Any) -> tuple[Any, int | None, Any]:
    """Return how the slots of a rule are kept, without options that have no effect on these."""
    numbers, points = rule.numbers | rule.vectors, rule.points
    chosen = Formats.of(states, "nearest", 0, rule.element_slots, numbers=numbers, points=points)
    return states, min_elements if chosen.states else None, seed if chosen.is_stochastic else None


def _check_ways(steppers: Sequence[Stepper], min_elements: int | None, seed: Any) -> None:
    """Refuse options that have no effect on any rule."""
    if min_elements is not None and not any(own.formats.states for own in steppers):
        raise HyperparameterError(f"min_elements={min_elements} has no effect where all states are float32; remove it")
    if seed is not None and not any(own.formats.is_stochastic for own in steppers):
        raise HyperparameterError(f"seed={seed} has no effect: nothing is rounded stochastically here; remove it")


def _check_points(steppers: Sequence[Stepper]) -> None:
    names = list(dict.fromkeys(own.rule.name for own in steppers if own.rule.trace(own.variant).evaluated is not None))
    if len(names) > 1:
        raise HyperparameterError(
            f"rules {names[0]!r} and {names[1]!r} both have a point of their own to be evaluated at; a state here has "
            "one. Give each a transformation of its own (optax.partition)"
        )
