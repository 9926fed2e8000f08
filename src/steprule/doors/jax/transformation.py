"""Rules as transformations of optax, and as steps that return the new parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from steprule.doors.foreign.names import innermost, slot_names
from steprule.doors.jax.evaluated import EvaluatedState
from steprule.doors.jax.leaves import type_of
from steprule.doors.jax.several import Several, multiplied_in, of_routes
from steprule.doors.jax.stepper import Slots, Stepper
from steprule.doors.jax.values import count_of
from steprule.errors import HyperparameterError, RuleError, StructureError
from steprule.rules import Rule
from steprule.rules.catalogue import CATALOGUE, find

__all__ = [
    "MOST_STEPS",
    "State",
    "Step",
    "by_slot",
    "of_stepper",
    "own_slots",
    "step",
    "stepper_of",
    "their_slots",
    "transformation",
]


MOST_STEPS = 2**31 - 1
"""The steps that a state can count."""


class State(NamedTuple):
    """The state of a transformation.

    Attributes:
        count: the steps taken, an int32.
        slots: pytrees like the parameters, of a scalar slot one number; by the names of optax's states where optax has
            the rule (``mu``, ``nu``, ``trace``), which ``optax.tree_utils`` finds them by, else by the rule's own.
    """

    count: Array  # type: ignore[assignment]  # as optax's states, which have it beside the tuple's method, too
    slots: Slots


def _state(stepper: Stepper | Several, count: Any, slots: Any, steps: Any) -> State | EvaluatedState:
    """Return a state, with the hyperparameters of the step after ``steps`` others where these are evaluated by."""
    own = stepper.point(steps)
    return State(count, slots) if own is None else EvaluatedState(count, slots, own)


def transformation(
    rule: str | Rule | None,
    *,
    routes: Sequence[Any] | None = None,
    mask: Any = None,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
    products: str | None = None,
    **hyperparameters: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return a rule as an ``optax.GradientTransformation``.

    The updates are what ``optax.apply_updates`` adds to the parameters, including learning rate and sign. They are
    derived from the rule's expression before anything is rounded, so that float32 parameters with float32 gradients get
    exactly the rule's result, or, if the rule multiplies them by a number or draws them to another point
    (schedule-free), are within two units in the last place of it. They have the dtype that optax's have: the promoted
    dtype of gradients and parameters, or that of the gradients if parameters are not passed, or not read and there are
    no slots. Parameters must be passed to ``update`` if the rule reads them; other arguments are for other
    transformations. Where a gradient is None nothing changes.

    Args:
        rule: a name of the catalogue, or a rule; None if the routes name all there is.
        routes: which parameters another rule is for: a list of ``(selector, rule, options)``. The first whose selector
            matches decides; what none matches is stepped by ``rule``. A selector is ``"matrices"``, a pattern for key
            paths (``"*.kernel"``), or a function of key path and array (docs/routing.md).
        mask: which parameters decay, for rules with ``weight_decay``: a tree of booleans, each for the subtree
            below it, or a callable that makes such a tree from the gradients. Default: all.
        states: the format of the slots, ``"float32"`` or a low-precision one (docs/formats.md), or of some by name.
            Slots of float64 parameters are float64, and those of complex ones have their type.
        min_elements: tensors with fewer elements keep float32 slots. Default 4096. Where all do, ``init`` warns.
        seed: of the stochastic rounding of ``states``; it may be traced. Default 0.
        products: ``"bfloat16"`` or ``"float32"``: what rules with polar factors multiply matrices in. Default: what the
            step is computed in.
        hyperparameters: the rule's, with its own names and defaults. Numbers, JAX arrays (traced ones as
            well: under ``jax.vmap`` one per run), or schedules: functions of the number of steps taken before, from 0,
            like optax's.

    Raises:
        RuleError: when there is no such rule.
        HyperparameterError: for what is unknown, out of its range, without effect, or cannot be traced.
        StructureError: in ``init`` and ``update``, for leaves that are not floating-point arrays or numbers, and trees
            that do not fit.
    """
    if "hyperparameters" in hyperparameters:  # optax.inject_hyperparams gives what ** takes as one argument
        name = rule.name if isinstance(rule, Rule) else repr(rule)
        raise HyperparameterError(
            "optax.inject_hyperparams finds the arguments of a function by its signature, and this one has "
            "**hyperparameters. Name those that are to be injected: "
            f"optax.inject_hyperparams(lambda lr: steprule.jax.transformation({name}, lr=lr))(lr=0.1)"
        )
    made = _stepper(rule, routes, states, min_elements, seed, hyperparameters, mask)
    return of_stepper(made if products is None else multiplied_in(made, products))


def _stepper(
    rule: str | Rule | None,
    routes: Sequence[Any] | None,
    states: Any,
    min_elements: int | None,
    seed: Any,
    hyperparameters: Mapping[str, Any],
    mask: Any,
) -> Stepper | Several:
    """Return what steps by one rule, or by those of routes."""
    if routes is not None:
        return of_routes(rule, routes, states, min_elements, seed, hyperparameters, mask)
    if rule is None:
        raise RuleError("no rule is named; give the name of one, or routes that name rules for all parameters")
    return Stepper.of(rule, by_slot(find(rule), states), min_elements, seed, hyperparameters, mask)


def of_stepper(
    stepper: Stepper | Several, kept: tuple[str, str] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return a stepper as a transformation; ``kept`` is a slot and the type that it must be kept in."""
    theirs = slot_names(stepper.rule, "optax")
    ours = {name: slot for slot, name in theirs.items()}

    def init(params: optax.Params) -> State | EvaluatedState:
        slots = stepper.init(params)
        if kept is not None:
            _check_type(slots[kept[0]], kept[1])
        return _state(stepper, jnp.zeros((), jnp.int32), _renamed(slots, theirs), 0)

    def update(
        updates: optax.Updates, state: State | EvaluatedState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, State | EvaluatedState]:
        del extra  # what other transformations of a chain are given, such as value=
        _check_state(state, stepper.rule)
        count = optax.safe_increment(state.count)
        new, slots = stepper.take("update", params, updates, _renamed(state.slots, ours), count)
        return new, _state(stepper, count, _renamed(slots, theirs), state.count)

    update.stepper = stepper  # type: ignore[attr-defined]
    return optax.GradientTransformationExtraArgs(init, update)


def stepper_of(transformation: Any) -> Stepper | Several | None:
    """Return what a transformation of ours, or a ``Step``, steps by; None of others."""
    if isinstance(transformation, Step):
        return transformation._stepper
    stepper: Stepper | Several | None = getattr(getattr(transformation, "update", None), "stepper", None)
    return stepper


def own_slots(transformation: Any, slots: Slots) -> Slots:
    """Return the slots of a state of a transformation, or of a ``Step``, by the rule's names."""
    ours = {name: slot for slot, name in _named(transformation).items()}
    return {ours.get(name, name): slot for name, slot in slots.items()}


def their_slots(transformation: Any, slots: Slots) -> Slots:
    """Return slots by the names that a state of a transformation, or of a ``Step``, has for them."""
    theirs = _named(transformation)
    return {theirs.get(name, name): slot for name, slot in slots.items()}


def _named(transformation: Any) -> Mapping[str, str]:
    stepper = stepper_of(transformation)
    return {} if stepper is None or isinstance(transformation, Step) else slot_names(stepper.rule, "optax")


def by_slot(rule: Rule, states: Any) -> Any:
    """Return formats of slots by the rule's names of them."""
    ours = {name: slot for slot, name in slot_names(rule, "optax").items()}
    return _renamed(states, ours) if isinstance(states, Mapping) else states


def _renamed(slots: Any, names: Mapping[str, str]) -> Any:
    return {names.get(name, name): slot for name, slot in slots.items()} if isinstance(slots, Mapping) else slots


def _check_state(state: Any, rule: Rule) -> None:
    """Refuse what is not a state of ours, such as optax's when the import was exchanged in the middle of a run.

    Raises:
        StructureError: with the order of the arguments, and the way from optax's where it has such a state.
    """
    if not hasattr(state, "slots") or not hasattr(state, "count"):
        own = rule if CATALOGUE.get(rule.name) is rule else innermost(rule)
        name = repr(own.name) if CATALOGUE.get(own.name) is own else own.name
        begun = f"state = steprule.jax.from_optax({name}, state, optimizer.init(params)), once"
        way = (
            f"A state of optax goes on here by {begun}" if slot_names(rule, "optax") else "Begin with what init returns"
        )
        raise StructureError(
            f"the state is a {type(state).__name__}, not a State as init of this transformation returns: call "
            f"update(grads, state, params). {way}"
        )


def _check_type(tree: Any, dtype: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if type_of(leaf) != dtype:
            name = jax.tree_util.keystr(path) or "the array"
            raise StructureError(
                f"the moment of {name} is kept as {type_of(leaf)} and cannot be kept as {dtype}: it has the type that "
                "steps are computed in (float32 for parameters of 16 bits), or for real parameters below float64 "
                "bfloat16"
            )


class Step:
    """A rule on pytrees of JAX: ``step(theta, g, slots, t)`` returns the new parameters and the new slots."""

    def __init__(self, stepper: Stepper | Several) -> None:
        self._stepper = stepper

    def __repr__(self) -> str:
        return f"<step of {self._stepper.rule!r}>"

    def init(self, theta: Any) -> Slots:
        """Return the slots before the first step, by the rule's names."""
        return self._stepper.init(theta)

    def __call__(self, theta: Any, g: Any, slots: Slots, t: Any) -> tuple[Any, Slots]:
        """Return the new parameters, rounded once to their type, and the new slots.

        Args:
            theta: the parameters.
            g: their gradients; None where there is none.
            slots: by name, as ``init`` or the step before returned them.
            t: the number of this step, 1 at the first; it may be traced. Schedules are called with ``t - 1``.

        Raises:
            StructureError: when the trees do not fit each other.
            HyperparameterError: when t is not a step number, or a schedule cannot be traced.
        """
        return self._stepper.take("step", theta, g, slots, t)

    def evaluated(self, theta: Any, slots: Slots, t: Any) -> Any:
        """Return the parameters as they are to be evaluated after a step.

        Args:
            theta: the parameters that the step returned.
            slots: its slots.
            t: its number.

        Raises:
            StructureError: when the slots are of other parameters.
            HyperparameterError: when t is not a step number.
        """
        count_of(t)  # refuses what is none
        own = self._stepper.point(t - 1)
        return theta if own is None else own.of(theta, slots, t)


def step(
    rule: str | Rule | None,
    *,
    routes: Sequence[Any] | None = None,
    mask: Any = None,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
    products: str | None = None,
    **hyperparameters: Any,
) -> Step:
    """Return a rule as a function of pytrees that returns the new parameters directly.

    Nothing is lost on the way: parameters of float16 and bfloat16 are computed in float32 and rounded once, and on CPUs
    the new float32 parameters have the bits of the referee. Arguments and errors are those of ``transformation``.
    """
    made = _stepper(rule, routes, states, min_elements, seed, hyperparameters, mask)
    return Step(made if products is None else multiplied_in(made, products))
