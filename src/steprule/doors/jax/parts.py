"""A run of several rules in JAX as runs of one rule each, which files are written from and read into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steprule.doors.foreign.optax import found_in
from steprule.doors.jax.leaves import flat
from steprule.doors.jax.several import Several, by_leaf
from steprule.doors.jax.training import Training
from steprule.doors.jax.transformation import State as Slots
from steprule.doors.jax.transformation import Step, own_slots, stepper_of, their_slots
from steprule.doors.match import name_of
from steprule.doors.state import State

__all__ = ["Part", "joined", "merged", "own_state", "parts_of"]


@dataclass(frozen=True)
class Part:
    """A rule of a run, with its parameters.

    Attributes:
        run: a run of that rule alone; the parameters of the others are None.
        numbers: the places of its parameters among all leaves.
    """

    run: Training
    numbers: Sequence[int]


def parts_of(run: Training) -> list[Part] | None:
    """Return the parts of a run, of rules that have parameters; None where it has one rule."""
    several = stepper_of(run.transformation)
    if not isinstance(several, Several):
        return None
    leaves, treedef = flat(run.params)
    places = several.places(run.params, leaves)
    own = found_in(run.state, {"slots"})
    every = several.split(own_slots(run.transformation, own.slots))
    used = sorted({*places} - {-1}) or [0]
    return [
        Part(
            Training(
                Step(several.steppers[place]),
                treedef.unflatten([leaf if at == place else None for leaf, at in zip(leaves, places, strict=True)]),
                Slots(own.count, every[place]),
            ),
            [number for number, at in enumerate(places) if at == place],
        )
        for place in used
    ]


def joined(run: Training, parts: Sequence[Part], states: Sequence[State]) -> State:
    """Return the state of a run, given those of its parts: each is a group."""
    several = stepper_of(run.transformation)
    assert several is not None  # it has parts
    found = [
        (number, replace(own, group=group))
        for group, (part, state) in enumerate(zip(parts, states, strict=True))
        for number, own in zip(part.numbers, state.parameters, strict=True)
    ]
    parameters = [own for _, own in sorted(found, key=lambda one: one[0])]
    return State(
        "steprule.jax", name_of(several.rule), [group for state in states for group in state.groups], parameters
    )


def own_state(state: State, group: int) -> State:
    """Return what a state has of one group, as the state of that alone."""
    own = [replace(one, group=0) for one in state.parameters if one.group == group]
    return replace(state, groups=[state.groups[group]], parameters=own, others={})


def merged(run: Training, parts: Sequence[Part]) -> Callable[[Any], Any]:
    """Return what puts the states of the parts into the state of their run."""
    several = stepper_of(run.transformation)
    assert isinstance(several, Several)
    leaves, treedef = flat(run.params)
    places = several.places(run.params, leaves)
    before = found_in(run.state, {"slots"})
    slots = own_slots(run.transformation, before.slots)
    every = several.split(slots)
    for place, part in zip(sorted({*places} - {-1}) or [0], parts, strict=True):
        every[place] = part.run.state.slots
    new = their_slots(run.transformation, several.merged(every, by_leaf(slots, treedef), places, treedef))
    count = parts[0].run.state.count
    return lambda old: old._replace(count=count, slots=new)
