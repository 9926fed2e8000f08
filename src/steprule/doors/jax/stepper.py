"""One rule with its hyperparameters and formats, stepping pytrees: what all of ``steprule.jax`` is made of."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from steprule.backends.jax_scalars import to_pair
from steprule.doors.jax.evaluated import Point, point
from steprule.doors.jax.leaves import flat, flat_like, format_of, is_complex, paths_of
from steprule.doors.jax.mask import decays
from steprule.doors.jax.passes import PassKind
from steprule.doors.jax.slots import made
from steprule.doors.jax.tree_step import Leaf, Slots, TreeStep
from steprule.doors.jax.values import at_step, checked, count_of, start_of
from steprule.doors.matrices import check_matrix
from steprule.engine import codecs_of
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import FORMATS, MIN_ELEMENTS, Formats, Storage, check_effects, check_seed, without_effect
from steprule.rules import Rule
from steprule.rules.catalogue import find
from steprule.rules.rule import Variant

__all__ = ["Slots", "Stepper"]

_ELSEWHERE = "step it with another transformation (optax.partition), with states='float32'"


# A tree of its values, so that those who walk closures find in a transformation the rates that are arrays.
@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "seed", "mask"],
    meta_fields=["rule", "variant", "formats", "products"],
)
@dataclass(frozen=True, eq=False)
class Stepper:
    """Makes and moves slots.

    Attributes:
        rule: the rule.
        variant: what is fixed of it while tracing.
        values: its hyperparameters: numbers, arrays of JAX, schedules.
        formats: how slots are kept.
        seed: of random rounding; a number, or a traced one.
        mask: the parameters that decay; see ``mask.decays``.
        products: what matrices are multiplied in; None: the type of the arithmetic.
    """

    rule: Rule
    variant: Variant
    values: Mapping[str, Any]
    formats: Formats
    seed: Any
    mask: Any = None
    products: str | None = None

    @classmethod
    def of(
        cls,
        rule: str | Rule,
        states: str | Mapping[str, str],
        min_elements: int | None,
        seed: Any,
        hyperparameters: Mapping[str, Any],
        mask: Any = None,
    ) -> Stepper:
        """Return the stepper of checked options.

        Raises:
            HyperparameterError, RuleError, TargetError: with cause, value and remedy.
        """
        rule = find(rule)
        values = checked(rule, hyperparameters)
        variant = rule.variant(values)
        slots = list(rule.trace(variant).slots)
        min_elements, seed = _known("min_elements", min_elements), _seed(seed)
        small = MIN_ELEMENTS if min_elements is None else min_elements
        formats = Formats.of(states, "nearest", small, slots, numbers=rule.numbers | rule.vectors, points=rule.points)
        given = {"min_elements": min_elements, "seed": seed}
        check_effects({name: value for name, value in given.items() if value is not None}, [formats], [], [])
        if mask is not None and "weight_decay" not in rule.hyperparameters:
            raise HyperparameterError(
                f"mask has no effect: rule {rule.name!r} has no weight_decay. steprule.decoupled(rule) and "
                "steprule.l2(rule) add it"
            )
        return cls(rule, variant, values, formats, 0 if seed is None else seed, mask)

    def init(self, params: Any) -> Slots:
        """Return the slots before the first step."""
        leaves, treedef = flat(params)
        paths = paths_of(params)
        stored = [
            None if leaf is None else self.storage(leaf, path, "parameter", is_complex(leaf))
            for leaf, path in zip(leaves, paths, strict=True)
        ]
        # No error: a label of optax.multi_transform may have nothing but biases.
        sized = [
            (storage, prod(leaf.shape)) for storage, leaf in zip(stored, leaves, strict=True) if storage is not None
        ]
        idle = without_effect({}, [self.formats], [storage for storage, _ in sized], [size for _, size in sized])
        if idle:
            warnings.warn(idle, UserWarning, stacklevel=3)
        trace = self.rule.trace(self.variant)
        slots: Slots = {}
        for slot in self.array_slots:
            # None: as the parameter.
            start = None if slot in self.rule.points else start_of(self.rule, slot, self.values)
            slots[slot] = treedef.unflatten(
                [
                    None if own is None else made(leaf, codecs_of(self.rule, self.variant, own)[slot], start, slot)
                    for leaf, own in zip(leaves, stored, strict=True)
                ]
            )
        for slot in trace.scalars:
            slots[slot] = to_pair(start_of(self.rule, slot, self.values))
        for slot in trace.per_tensor:
            start = start_of(self.rule, slot, self.values)
            # Each has an array of its own: donated, one array cannot be two.
            slots[slot] = treedef.unflatten([None if own is None else to_pair(start) for own in stored])
        return slots

    def point(self, steps: Any) -> Point | None:
        """Return how parameters are evaluated, with the hyperparameters of the step after ``steps`` others.

        None where they are evaluated as they train.
        """
        if self.rule.trace(self.variant).evaluated is None:
            return None
        return point(self.rule, self.variant, at_step(self.rule, self.values, steps))

    @property
    def array_slots(self) -> list[str]:
        """The slots that have an array for each parameter: of its elements, or of its rows or columns."""
        trace = self.rule.trace(self.variant)
        return [*trace.slots, *trace.vectors]

    def take(self, kind: PassKind, params: Any, grads: Any, slots: Slots, t: Any) -> tuple[Any, Slots]:
        """Return the new parameters (``"step"``), or what is to be added to them (``"update"``), and the new slots.

        Args:
            kind: which of both.
            params: the parameters; None where an update does not depend on them.
            grads: their gradients.
            slots: as ``init`` or the last step returned them.
            t: the number of this step, from 1.

        Raises:
            StructureError: when the trees do not fit each other, or a leaf is not of a floating-point type.
            HyperparameterError: when a schedule cannot be traced, or t is not a step number.
        """
        self._check_slots(slots)
        step = TreeStep(self, kind, count_of(t), at_step(self.rule, self.values, t - 1), t, slots)
        leaves, treedef = flat(grads)
        paths = paths_of(grads)
        own = [None] * len(leaves) if params is None else flat_like(params, treedef, "the parameters")
        for path, theta, g in zip(paths, own, leaves, strict=True):
            if params is not None and g is not None:
                format_of(theta, path)
        of_arrays, of_numbers = self.array_slots, [*self.rule.trace(self.variant).per_tensor]
        names = [*of_arrays, *of_numbers]
        columns = {slot: flat_like(slots[slot], treedef, f"the slots {slot!r}") for slot in names}
        parts = zip(paths, own, leaves, decays(self.mask, grads), strict=True)
        moved = step(
            [
                Leaf(
                    number,
                    path,
                    theta,
                    g,
                    {slot: columns[slot][number] for slot in of_arrays},
                    decaying,
                    {slot: columns[slot][number] for slot in of_numbers},
                )
                for number, (path, theta, g, decaying) in enumerate(parts)
            ]
        )
        new = {slot: treedef.unflatten([slots_of_leaf[slot] for _, slots_of_leaf in moved]) for slot in names}
        return treedef.unflatten([result for result, _ in moved]), new | step.scalar_slots()

    def _check_slots(self, slots: Slots) -> None:
        kept = {*self.rule.trace(self.variant).kept}
        if not isinstance(slots, dict) or set(slots) != kept:
            has = sorted(slots) if isinstance(slots, dict) else type(slots).__name__
            raise StructureError(
                f"the state has the slots {has}, but rule {self.rule.name!r} keeps {sorted(kept)} with these options: "
                "it is the state of another rule or of other options. Call init again"
            )

    def storage(self, leaf: Any, path: str, what: str, is_part: bool) -> Storage:
        """Return how a leaf is kept; ``is_part`` of complex numbers, whose slots are always plain numbers.

        Raises:
            StructureError: for what is not of a floating-point type, and for complex numbers in rows and columns.
        """
        kind = FORMATS[format_of(leaf, path, what).compute]  # which refuses what is no array
        check_matrix(self.rule, leaf.shape, f"the {what} {path}")
        if is_part and self.rule.view is not None:
            raise StructureError(
                f"rule {self.rule.name!r} sees the rows and columns of a parameter, but {path} of shape {leaf.shape} "
                "is complex. Give it to a transformation of another rule (optax.partition)"
            )
        if is_part:
            return Storage(kind, flushes=False)
        kept = self.rule.trace(self.variant).slots
        # XLA takes subnormal numbers for zero on CPUs, and on GPUs they cost nothing. Made zero by `where`, slots would
        # be computed twice, once for the parameter: XLA joins loops so.
        return replace(self.formats.storage(kind, leaf.shape, kept, f"{what} {path}", _ELSEWHERE), flushes=False)


def _known(name: str, number: Any) -> Any:
    """Return an array of JAX whose number is known as that number: optax.inject_hyperparams makes arrays of numbers."""
    if isinstance(number, jax.Array) and not isinstance(number, jax.core.Tracer) and number.shape == ():
        return number.item()
    if isinstance(number, jax.core.Tracer):
        raise HyperparameterError(
            f"{name} is fixed while tracing, and is traced; with optax.inject_hyperparams give static_args=({name!r},)"
        )
    return number


def _seed(seed: Any) -> Any:
    """Return a seed: a number where it is known, or a traced integer."""
    if isinstance(seed, jax.core.Tracer):
        if not jnp.issubdtype(seed.dtype, jnp.integer) or seed.shape != ():
            raise HyperparameterError(
                f"seed must be one integer, got {seed.dtype}{list(seed.shape)}. For many runs at once map over it "
                "with jax.vmap"
            )
        return seed
    seed = _known("seed", seed)
    check_seed(0 if seed is None else seed)
    return seed
