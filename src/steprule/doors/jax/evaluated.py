"""The point at which parameters are evaluated, in JAX: a function of a state and the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from steprule import evaluated as planned
from steprule.backends.jax import load
from steprule.backends.jax_math import negative_zero
from steprule.backends.jax_scalars import as_scalar, from_pair, to_pair
from steprule.doors.foreign.names import slot_names
from steprule.doors.foreign.optax import found_in
from steprule.doors.jax.leaves import flat, flat_like, format_of, is_complex, parts_of, paths_of, type_of
from steprule.doors.jax.slots import is_coded
from steprule.errors import StateError, StructureError
from steprule.formats import FORMATS, Storage
from steprule.language.walk import symbols_in
from steprule.rules import Rule
from steprule.rules.cache import cached_with_rule
from steprule.rules.rule import Variant

__all__ = ["EvaluatedState", "Point", "evaluated", "point", "schedule_free_eval_params"]


@dataclass(frozen=True)
class _Computed:
    """What computes the evaluated point of an array: its prelude, and the jitted function that runs it."""

    arguments: tuple[str, ...]
    prelude: Callable[..., tuple[Any, ...]]
    run: Callable[..., Any]


@cached_with_rule
def _computed(rule: Rule, variant: Variant, compute: str) -> _Computed:
    found = planned.evaluated(rule, variant, Storage(FORMATS[compute], flushes=False))
    assert found is not None  # only rules with such a point come here
    code = load(found.plan)

    def evaluated(theta: Any, slots: Mapping[str, Any], scalars: Sequence[Any], steps: Any, dtype: str) -> Any:
        arrays = [theta if name == rule.parameter else slots[name] for name in found.reads]
        [result] = code.kernel(*arrays, *scalars, negative_zero(steps).astype(compute))
        # Before the first step the point is the parameter, whatever format its slots have, and infinite ones too.
        return jnp.where(steps > 0, result.astype(jnp.dtype(dtype)), theta)

    return _Computed(found.arguments, code.prelude, jax.jit(evaluated, static_argnames="dtype"))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """How the parameters of a state are evaluated: by which rule, and with which hyperparameters.

    Attributes:
        values: the hyperparameters that the evaluated point depends on, by the rule's names, as they were in the last
            step: each an array of two numbers, whose sum it is.
        rule: the rule.
        variant: what is fixed of it while tracing.
    """

    values: dict[str, Any]
    # As metadata of the tree: states of different rules have different structures.
    rule: Rule = field(metadata={"static": True})
    variant: Variant = field(metadata={"static": True})

    def of(self, params: Any, slots: Mapping[str, Any], steps: Any) -> Any:
        """Return the evaluated parameters.

        Args:
            params: the parameters that are trained.
            slots: of their state, by the rule's names.
            steps: how many steps have been taken, which may be traced.

        Raises:
            StructureError: when the slots are of other parameters.
        """
        leaves, treedef = flat(params)
        trace = self.rule.trace(self.variant)
        used = symbols_in([trace.evaluated]) if trace.evaluated is not None else frozenset()
        columns = {
            slot: flat_like(slots[slot], treedef, f"the slots {slot!r}", "parameters")
            for slot in trace.slots
            if slot in used
        }
        steps = jnp.asarray(steps)
        new = [
            self._leaf(leaf, path, {slot: column[number] for slot, column in columns.items()}, steps)
            for number, (leaf, path) in enumerate(zip(leaves, paths_of(params), strict=True))
        ]
        return treedef.unflatten(new)

    def _leaf(self, theta: Any, path: str, slots: Mapping[str, Any], steps: Any) -> Any:
        """Return one evaluated parameter; one that no step moves as it is."""
        if theta is None or any(slot is None or type(slot).__name__ == "MaskedNode" for slot in slots.values()):
            return theta
        compute = format_of(theta, path).compute
        numbers = {slot: value.decode() if is_coded(value) else value for slot, value in slots.items()}
        for slot, value in numbers.items():
            if value.shape != theta.shape or is_complex(value) != is_complex(theta):
                raise StructureError(
                    f"slot {slot!r} of {path} is {type_of(value)}{list(value.shape)}, and the parameter "
                    f"{type_of(theta)}{list(theta.shape)}: the state is of other parameters"
                )
        if not is_complex(theta):
            return self._part(theta, numbers, steps, compute, type_of(theta))
        split = {slot: parts_of(value) for slot, value in numbers.items()}
        parts = [
            self._part(part, {slot: own[k] for slot, own in split.items()}, steps, compute, compute)
            for k, part in enumerate(parts_of(theta))
        ]
        return jax.lax.complex(*parts)

    def _part(self, theta: Any, slots: Mapping[str, Any], steps: Any, compute: str, dtype: str) -> Any:
        own = _computed(self.rule, self.variant, compute)
        numbers = [from_pair(self.values[name], is_exact=True, has_slope=True) for name in own.arguments]
        scalars = [as_scalar(value, compute) for value in own.prelude(*numbers)]
        return own.run(theta, slots, scalars, steps, dtype=dtype)


def point(rule: Rule, variant: Variant, values: Mapping[str, Any]) -> Point | None:
    """Return how parameters are evaluated with these hyperparameters of a step; None where they are as they train."""
    trace = rule.trace(variant)
    if trace.evaluated is None:
        return None
    used = symbols_in([trace.evaluated])
    return Point({name: to_pair(value) for name, value in values.items() if name in used}, rule, variant)


class EvaluatedState(NamedTuple):
    """The state of a transformation whose parameters are evaluated at another point than they train at.

    Attributes:
        count, slots: as of ``State``.
        point: how ``evaluated`` computes that point; not to be changed.
    """

    count: Array  # type: ignore[assignment]  # as that of State
    slots: dict[str, Any]
    point: Point


def evaluated(state: Any, params: Any) -> Any:
    """Return the parameters as they are to be evaluated: ``x`` of schedule-free, the average of ``averaged``, ...

    The function of optax's ``schedule_free_eval_params``, and of that name too, for every rule with an evaluated point.
    It changes nothing: training goes on from ``params`` and ``state``. It may be jitted, mapped and differentiated.
    Each array is rounded once to its type. Before the first step, and where a rule has no evaluated point or does not
    step a parameter, these are the parameters as they are.

    Args:
        state: what ``init`` or ``update`` of the transformation returned, or the state of an ``optax.chain`` or another
            wrapper around it.
        params: the parameters after that ``update``.

    Raises:
        StateError: when there is no such state, or more than one.
        StructureError: when the parameters are others.
    """
    try:
        found = found_in(state, {"slots"})
    except StateError as error:
        raise StateError(
            f"{error}. Call evaluated(state, params), with the state of one transformation of steprule.jax; of "
            "optax.partition and multi_transform give the inner states one by one"
        ) from None
    if not isinstance(found, EvaluatedState):
        return params
    rule = found.point.rule
    ours = {name: slot for slot, name in slot_names(rule, "optax").items()}
    return found.point.of(params, {ours.get(name, name): slot for name, slot in found.slots.items()}, found.count)


schedule_free_eval_params = evaluated
"""``evaluated``, under the name that optax has for it."""
