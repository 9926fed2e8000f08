"""The state of a run of the JAX door: what a checkpoint holds of it, and what it goes on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steprule.backends.jax_scalars import to_pair
from steprule.checkpoint import short
from steprule.coding import plane_name
from steprule.doors.foreign.names import slot_names
from steprule.doors.foreign.optax import found_in, mapped
from steprule.doors.jax.leaves import flat, flat_like, format_of, is_complex, paths_of
from steprule.doors.jax.leaves import type_of as type_in_jax
from steprule.doors.jax.parts import joined, merged, own_state, parts_of
from steprule.doors.jax.places import Place, fill, like, look, stored_array
from steprule.doors.jax.slots import check_pair, codec_of, planes_of, slot_of, with_sharding_of
from steprule.doors.jax.stepper import Stepper
from steprule.doors.jax.training import Training
from steprule.doors.jax.transformation import MOST_STEPS, Step, stepper_of
from steprule.doors.match import fitted, formula_of, name_of
from steprule.doors.planes import Target
from steprule.doors.state import SCHEDULE, TRAINED, GroupState, ParameterState, State, names_apart, steps_of
from steprule.engine import codecs_of
from steprule.errors import CheckpointError, StateError

__all__ = ["arrays_of", "fill", "look", "outline_of", "prepared", "state_of", "stored_array"]


def _stepper(run: Training) -> tuple[Stepper, Mapping[str, str]]:
    """Return what steps, and the names of its slots in the state.

    Raises:
        TypeError: when it is of somebody else.
    """
    stepper = stepper_of(run.transformation)
    if not isinstance(stepper, Stepper):  # those of several rules come in parts
        raise TypeError(
            f"transformation is of type {type(run.transformation).__name__} and none of steprule.jax; of optax.chain "
            "and other wrappers give the one within: its state is found in theirs"
        )
    theirs = {} if isinstance(run.transformation, Step) else slot_names(stepper.rule, "optax")
    return stepper, {slot: theirs.get(slot, slot) for slot in stepper.rule.slots}


def _leaves(run: Training) -> list[tuple[int, str, Any]]:
    """Return the parameters, with their places among all leaves and what messages call them."""
    leaves, paths = flat(run.params)[0], paths_of(run.params)
    return [(n, path, leaf) for n, (path, leaf) in enumerate(zip(paths, leaves, strict=True)) if leaf is not None]


def arrays_of(run: Training) -> list[Any]:
    """Return the parameters."""
    return [Place(run, number, leaf) for number, _, leaf in _leaves(run)]


def outline_of(run: Training) -> State:
    """Return the state of a run without what is kept of its parameters.

    Raises:
        StructureError: for parameters that are not arrays.
    """
    parts = parts_of(run)
    if parts is not None:
        return joined(run, parts, [outline_of(part.run) for part in parts])
    stepper, _ = _stepper(run)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(run.params)]
    names = names_apart([jax.tree_util.keystr(path, simple=True, separator=".") if path else None for path in paths])
    parameters = []
    for name, (_, path, leaf) in zip(names, _leaves(run), strict=True):
        if not hasattr(leaf, "dtype"):
            format_of(leaf, path)
        parameters.append(ParameterState(name, tuple(leaf.shape), type_in_jax(leaf), 0, None))
    told = {name: dict(SCHEDULE) if callable(value) else _known(name, value) for name, value in stepper.values.items()}
    seed = int(_known("seed", stepper.seed)) if stepper.formats.is_stochastic else None
    return State("steprule.jax", name_of(stepper.rule), [GroupState(formula_of(stepper.rule), told, seed)], parameters)


def _known(name: str, value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise CheckpointError(f"{name} is traced: save and load outside of what is traced")
    return value.item() if isinstance(value, jax.Array) else value


def state_of(run: Training) -> State:
    """Return the state of a run; its arrays are copied to this machine's memory when their turn comes.

    Raises:
        CheckpointError: for arrays that a file cannot hold.
        StateError, StructureError: when the state is not what the transformation keeps.
    """
    parts = parts_of(run)
    if parts is not None:
        others = {name: stored_array(value, name) for name, value in _others(run.state)}
        return replace(joined(run, parts, [state_of(part.run) for part in parts]), others=others)
    stepper, names = _stepper(run)
    outline, own, trace = outline_of(run), found_in(run.state, {"slots"}), stepper.rule.trace(stepper.variant)
    t = steps_of(_known("the count of steps", own.count), "the count of steps")
    scalars = {slot: _number(own.slots[names[slot]], f"slot {slot!r}") for slot in trace.scalars}
    columns = {slot: _column(run, own.slots[names[slot]], slot) for slot in (*stepper.array_slots, *trace.per_tensor)}
    parameters = []
    for place, (label, told) in enumerate(zip(outline.labels, outline.parameters, strict=True)):
        slots = {slot: column[place] for slot, column in columns.items() if not _is_masked(column[place])}
        kept = {slot: _number(slots[slot], f"slot {slot!r} of {label}") for slot in trace.per_tensor if slot in slots}
        formats, planes = {}, {}
        for slot in stepper.array_slots if slots else ():
            value = slots[slot]
            codec = codec_of(value)
            formats[slot] = codec.id
            for spec, plane in zip(codec.planes, planes_of(value), strict=True):
                name = plane_name(slot, spec.suffix)
                planes[name] = stored_array(plane, f"{label}: {name}")
        parameters.append(replace(told, t=t, scalars={**scalars, **kept}, formats=formats, planes=planes))
    others = {name: stored_array(value, name) for name, value in _others(run.state)}
    groups = outline.groups if parameters else [replace(outline.groups[0], t=t, scalars=scalars)]
    return replace(outline, groups=groups, parameters=parameters, others=others)


def _number(pair: Any, what: str) -> float:
    """Return the number that a state keeps as a pair."""
    check_pair(pair, what)
    return float(np.asarray(pair, np.float64).sum())


def _pairs(saved: ParameterState, olds: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the new values of the slots that are a number of a parameter; before the first step they stay.

    Raises:
        StateError: when the state lacks one.
    """
    if not (saved.scalars or saved.t):
        return dict(olds)
    missing = [slot for slot in olds if slot not in saved.scalars]
    if missing:
        raise StateError(f"{path}: the state has no number {missing[0]!r} of it: is it of another rule?")
    return {slot: with_sharding_of(to_pair(saved.scalars[slot]), old) for slot, old in olds.items()}


def _column(run: Training, tree: Any, slot: str) -> list[Any]:
    """Return a slot of every parameter."""
    slots = flat_like(tree, flat(run.params)[1], f"the slots {slot!r}")
    return [slots[number] for number, _, _ in _leaves(run)]


def _is_masked(value: Any) -> bool:
    """Whether it stands for a parameter that the transformation does not step: that of ``optax.masked``."""
    return type(value).__name__ == "MaskedNode"


def _others(state: Any) -> list[tuple[str, Any]]:
    """Return what other transformations keep in a state that ours is nested in, by place."""
    rest = mapped(state, {"slots"}, lambda _: None)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(rest)]


def prepared(run: Training, state: State, convert: bool, hyperparameters: bool) -> Callable[[], None]:
    """Return what puts a state, whose parameters are in the run's order, into its place.

    Raises:
        StateError: when it is of another run.
    """
    parts = parts_of(run)
    if parts is not None:
        for group, part in enumerate(parts):
            prepared(part.run, own_state(state, group), convert, hyperparameters)()
        return _taking(run, _with_others(mapped(run.state, {"slots"}, merged(run, parts)), state))
    _check_mode(state)
    stepper, names = _stepper(run)
    _check_group(state.groups[0], stepper, hyperparameters)
    own, trace = found_in(run.state, {"slots"}), stepper.rule.trace(stepper.variant)
    t = steps_of(state.one_t("a transformation"), "a step count of JAX, which is an int32,", MOST_STEPS)
    scalars = state.scalars_of(0, "a transformation", trace.per_tensor)
    wanted = {slot: scalars.get(slot) for slot in trace.scalars}
    slots = {names[slot]: own.slots[names[slot]] for slot in (*stepper.array_slots, *trace.per_tensor)}
    treedef = flat(run.params)[1]
    columns = {name: flat_like(tree, treedef, f"the slots {name!r}") for name, tree in slots.items()}
    for (number, path, leaf), saved in zip(_leaves(run), state.parameters, strict=True):
        olds = {slot: columns[names[slot]][number] for slot in stepper.array_slots}
        pairs = {slot: columns[names[slot]][number] for slot in trace.per_tensor}
        if any(map(_is_masked, (*olds.values(), *pairs.values()))):
            if saved.formats or not saved.scalars.keys().isdisjoint(pairs):
                raise StateError(f"{path} has slots in the checkpoint, and is masked here; mask what was masked")
            continue
        target = _target(stepper, leaf, path)
        planes = target.fitted(saved, convert or state.is_earlier(saved)) if saved.formats or olds else {}
        for slot, old in olds.items():
            columns[names[slot]][number] = _slot(slot, old, target, planes, tuple(leaf.shape))
        for slot, new in _pairs(saved, pairs, path).items():
            columns[names[slot]][number] = new
    kept = {name: treedef.unflatten(column) for name, column in columns.items()}
    kept |= {names[slot]: own.slots[names[slot]] if value is None else to_pair(value) for slot, value in wanted.items()}
    count = with_sharding_of(jnp.asarray(t, jnp.int32), own.count)
    new = mapped(run.state, {"slots"}, lambda old: old._replace(count=count, slots=kept))
    return _taking(run, _with_others(new, state))


def _taking(run: Training, whole: Any) -> Callable[[], None]:
    def take() -> None:
        run.state = whole

    return take


def _slot(slot: str, old: Any, target: Target, planes: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """Return the new value of a slot, where the old one is."""
    codec = target.codecs[slot]
    arrays = [jnp.asarray(planes[plane_name(slot, spec.suffix)]) for spec in codec.planes]
    return jax.tree.map(with_sharding_of, slot_of(arrays, codec, shape), old)


def _target(stepper: Stepper, leaf: Any, path: str) -> Target:
    storage = stepper.storage(leaf, path, "parameter", is_complex(leaf))
    codecs, kind = codecs_of(stepper.rule, stepper.variant, storage), format_of(leaf, path)
    return Target(path, tuple(leaf.shape), kind, codecs, stepper.rule.parameter, is_complex(leaf))


def _check_mode(state: State) -> None:
    """Refuse a state whose parameters are the evaluated point: a run's are always those that are trained.

    Raises:
        StateError: with the way to those.
    """
    if state.mode == "eval" and any(TRAINED in own.formats for own in state.parameters):
        raise StateError(
            f"it was saved by {state.made_by} in eval mode, so its parameters are the evaluated point, and a run of "
            "JAX has those that are trained. Load it there, call train(), and save it again"
        )


def _check_group(saved: GroupState, stepper: Stepper, hyperparameters: bool) -> None:
    """Check that a state goes on by the rule and the hyperparameters that a transformation was made with."""
    here = {name: dict(SCHEDULE) if callable(value) else _known(name, value) for name, value in stepper.values.items()}
    told = fitted(saved, stepper.rule, here, 0)
    other = sorted(name for name in {*told, *here} if told.get(name) != here.get(name))
    if other and hyperparameters:
        was, now = (", ".join(f"{name}={short(of.get(name))}" for name in other) for of in (told, here))
        raise StateError(
            f"the run was saved with {was}, and this transformation has {now}. Make it with the same, or load "
            "with hyperparameters=False, which keeps its own"
        )
    if saved.seed is not None and stepper.formats.is_stochastic:
        if saved.seed != _known("seed", stepper.seed):
            raise StateError(f"the run was saved with seed={saved.seed}; make the transformation with that")
        if saved.first_row:
            raise StateError(f"the arrays begin at row {saved.first_row} of larger ones, which this door cannot step")


def _with_others(state: Any, saved: State) -> Any:
    """Return a state with what other transformations kept; of a file of another door, that has none, as it is.

    Raises:
        StateError: when they are others.
    """
    if saved.made_by != "steprule.jax":
        return state
    here = dict(_others(state))
    if here.keys() != saved.others.keys():
        raise StateError(
            f"the state has {sorted(here)} of other transformations, that of the checkpoint {sorted(saved.others)}: "
            "nest it as it was"
        )
    new = {name: like(name, saved.others[name].array(), old) for name, old in here.items()}
    ours = found_in(state, {"slots"})
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if leaf is ours else new[jax.tree_util.keystr(path)], state, is_leaf=lambda x: x is ours
    )
