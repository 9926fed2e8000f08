"""One rule with its hyperparameters and formats, stepping pytrees: what all of ``steprule.jax`` is made of."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from steprule import coding, engine
from steprule.backends.jax_math import keys, negative_zero
from steprule.backends.jax_scalars import as_scalar, kept, reloaded
from steprule.doors.jax.leaves import check_like, flat, flat_like, format_of, paths_of, type_of
from steprule.doors.jax.slots import check_kept, is_plain, made, planes_of, slot_of
from steprule.doors.jax.values import at_step, checked, count_of, start_of
from steprule.engine import Kernel
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import FORMATS, MIN_ELEMENTS, Formats, Storage, check_effects, check_seed, stream, without_effect
from steprule.rules import Rule
from steprule.rules.catalogue import find
from steprule.rules.kept import kept_with_rule
from steprule.rules.rule import Variant, symbols_in

__all__ = ["Slots", "Stepper"]

Slots: TypeAlias = dict[str, Any]
"""By name: a pytree like the parameters for a slot of elements, one number for a scalar slot."""
Task = Literal["step", "update"]
Fixed: TypeAlias = tuple[Any, ...]
"""A row of scalars: a number where it is known while tracing, None elsewhere."""


@dataclass(frozen=True)
class Stepper:
    """Makes and moves slots.

    Attributes:
        rule: the rule.
        variant: what is fixed of it while tracing.
        values: its hyperparameters: numbers, arrays of JAX, schedules.
        formats: how slots are kept.
        seed: of random rounding.
    """

    rule: Rule
    variant: Variant
    values: Mapping[str, Any]
    formats: Formats
    seed: int

    @classmethod
    def of(
        cls,
        rule: str | Rule,
        states: str | Mapping[str, str],
        min_elements: int | None,
        seed: int | None,
        hyperparameters: Mapping[str, Any],
    ) -> Stepper:
        """Return the stepper of checked options.

        Raises:
            HyperparameterError, RuleError: with cause, value and remedy.
        """
        rule = find(rule)
        values = checked(rule, hyperparameters)
        variant = rule.variant(values)
        slots = list(rule.trace(variant).slots)
        min_elements, seed = _known(min_elements), _known(seed)
        small = MIN_ELEMENTS if min_elements is None else min_elements
        formats = Formats.of(states, "nearest", small, slots)
        given = {"min_elements": min_elements, "seed": seed}
        check_effects({name: value for name, value in given.items() if value is not None}, [formats], [], [])
        check_seed(seed or 0)
        return cls(rule, variant, values, formats, seed or 0)

    def init(self, params: Any) -> Slots:
        """Return the slots before the first step."""
        leaves, treedef = flat(params)
        paths = paths_of(params)
        stored = [self._storage(leaf, path, "parameter") for leaf, path in zip(leaves, paths, strict=True)]
        # No error: a label of optax.multi_transform may have nothing but biases.
        idle = without_effect({}, [self.formats], stored, [prod(leaf.shape) for leaf in leaves])
        if idle:
            warnings.warn(idle, UserWarning, stacklevel=3)
        trace = self.rule.trace(self.variant)
        slots: Slots = {}
        for slot in trace.slots:
            start = start_of(self.rule, slot, self.values)
            ways = [engine.ways_of(self.rule, self.variant, storage)[slot] for storage in stored]
            slots[slot] = treedef.unflatten(
                [made(leaf, way, start, slot) for leaf, way in zip(leaves, ways, strict=True)]
            )
        for slot in trace.scalars:
            slots[slot] = kept(start_of(self.rule, slot, self.values))
        return slots

    def take(self, task: Task, params: Any, grads: Any, slots: Slots, t: Any) -> tuple[Any, Slots]:
        """Return the new parameters (``"step"``), or what is to be added to them (``"update"``), and the new slots.

        Args:
            task: which of both.
            params: the parameters; None where an update does not depend on them.
            grads: their gradients.
            slots: as ``init`` or the last step returned them.
            t: the number of this step, from 1.

        Raises:
            StructureError: when the trees do not fit each other, or a leaf is not of a floating-point type.
            HyperparameterError: when a schedule cannot be traced, or t is no step number.
        """
        self._check_slots(slots)
        step = _Step(self, task, count_of(t), at_step(self.rule, self.values, t - 1), t, slots)
        leaves, treedef = flat(grads)
        paths = paths_of(grads)
        own = [None] * len(leaves) if params is None else flat_like(params, treedef, "the parameters")
        for path, theta in zip(paths, own, strict=True):
            if params is not None:
                format_of(theta, path)
        trace = self.rule.trace(self.variant)
        columns = [flat_like(slots[slot], treedef, f"the slots {slot!r}") for slot in trace.slots]
        moved = [
            step(number, path, theta, g, dict(zip(trace.slots, row, strict=True)))
            for number, (path, theta, g, *row) in enumerate(zip(paths, own, leaves, *columns, strict=True))
        ]
        new = {slot: treedef.unflatten([slots_of_leaf[slot] for _, slots_of_leaf in moved]) for slot in trace.slots}
        return treedef.unflatten([result for result, _ in moved]), new | step.scalar_slots()

    def _check_slots(self, slots: Slots) -> None:
        trace = self.rule.trace(self.variant)
        kept = {*trace.slots, *trace.scalars}
        if not isinstance(slots, dict) or set(slots) != kept:
            has = sorted(slots) if isinstance(slots, dict) else type(slots).__name__
            raise StructureError(
                f"the state has the slots {has}, but rule {self.rule.name!r} keeps {sorted(kept)} with these options: "
                "it is the state of another rule or of other options. Call init again"
            )

    def _storage(self, leaf: Any, path: str, what: str) -> Storage:
        kind = FORMATS[format_of(leaf, path, what).compute]
        kept = self.rule.trace(self.variant).slots
        # XLA takes subnormal numbers for zero on CPUs, and on GPUs they cost nothing. Made zero by `where`, slots would
        # be computed twice, once for the parameter: XLA joins loops so.
        return replace(self.formats.storage(kind, leaf.shape, kept, f"{what} {path}"), flushes=False)


def _known(number: Any) -> Any:
    """Return an array of JAX whose number is known as that number: optax.inject_hyperparams makes arrays of numbers."""
    if isinstance(number, jax.Array) and not isinstance(number, jax.core.Tracer) and number.shape == ():
        return number.item()
    if isinstance(number, jax.core.Tracer):
        raise HyperparameterError(
            "seed and min_elements are fixed while tracing, and one is traced; with optax.inject_hyperparams give "
            "static_args=('seed', 'min_elements')"
        )
    return number


class _Step:
    """One step of all leaves: what they share is computed once, for each kernel that they need."""

    def __init__(
        self, stepper: Stepper, task: Task, t: Any, values: Mapping[str, Any], steps: Any, slots: Slots
    ) -> None:
        self._stepper, self._task = stepper, task
        trace = stepper.rule.trace(stepper.variant)
        used = symbols_in(list(trace.scalars.values()))
        is_exact = not any(isinstance(value, jax.Array) for name, value in values.items() if name in used)
        scalars = {slot: reloaded(slots[slot], is_exact) for slot in trace.scalars}
        self._arguments = {**values, **scalars, "t": t}
        self._zero = negative_zero(steps)
        self._steps = steps
        # Within a larger program numbers are fixed: constants of it. Outside of one, what changes would compile anew.
        self._is_traced = isinstance(steps, jax.core.Tracer)
        self._rows: dict[Kernel, tuple[tuple[Fixed, tuple[Any, ...]], list[Any]]] = {}

    def __call__(self, number: int, path: str, theta: Any, g: Any, slots: Mapping[str, Any]) -> tuple[Any, Slots]:
        """Return the new parameter, or the update, and the new slots of a leaf."""
        stepper = self._stepper
        format_of(g, path, "gradient")
        if theta is not None:
            check_like(theta, g, path, "parameter")
        # Slots are of the parameter's type, and tell it where the parameter is not given.
        numbers = [plane for slot in slots.values() for plane in planes_of(slot) if type_of(plane).startswith("float")]
        storage = stepper._storage(theta if theta is not None else [*numbers, g][0], path, "parameter")
        if storage.slots and g.ndim < 2:  # a state of before such leaves had fewer bits goes on as it is
            low = [(slot, name) for slot, name in storage.slots if not is_plain(slots[slot], storage.parameter.compute)]
            storage = replace(storage, slots=tuple(low))
        run, kernel, needs_theta = compiled(stepper.rule, stepper.variant, storage, self._task)
        for slot, way in kernel.slots.items():
            check_kept(slots[slot], way, f"slot {slot!r} of {path}")
            check_like(planes_of(slots[slot])[0], g, path, f"slot {slot!r} of")
        if theta is None and needs_theta:
            raise StructureError(f"rule {stepper.rule.name!r} needs the parameters: call update(grads, state, params)")
        keyed = (*self._keys, np.uint32(stream(number))) if kernel.plan.inputs else ()
        planes = tuple(plane for slot in kernel.slots for plane in planes_of(slots[slot]))
        fixed, moving = self._row(kernel)[0]
        dtype = type_of(theta if self._task == "step" else g)
        return run(theta if needs_theta else None, g, planes, moving, self._zero, keyed, fixed=fixed, dtype=dtype)

    @functools.cached_property
    def _keys(self) -> tuple[Any, Any]:
        return keys(self._stepper.seed, self._steps)

    def scalar_slots(self) -> Slots:
        """Return the new scalar slots."""
        stepper = self._stepper
        names = stepper.rule.trace(stepper.variant).scalars
        if not names:
            return {}
        _, kernel, _ = compiled(stepper.rule, stepper.variant, Storage(FORMATS["float32"], flushes=False), self._task)
        return {name: kept(value) for name, value in zip(names, self._row(kernel)[1], strict=True)}

    def _row(self, kernel: Kernel) -> tuple[tuple[Fixed, tuple[Any, ...]], list[Any]]:
        """Return the row of scalars: what is fixed, with None for the others, and the others; and the scalar slots."""
        if kernel not in self._rows:
            prelude, recipe = kernel.function[0], kernel.plan.prelude
            results = prelude(*(self._arguments[name] for name in recipe.arguments))
            length = len(recipe.conditions)
            # Zeros of both signs are one key of what is compiled, and two numbers.
            moves = [not (self._is_traced and isinstance(value, (int, float)) and value) for value in results[:length]]
            row = [as_scalar(value, kernel.plan.compute) for value in results[:length]]
            fixed = tuple(None if moving else value for value, moving in zip(row, moves, strict=True))
            moving_row = tuple(value for value, moving in zip(row, moves, strict=True) if moving)
            self._rows[kernel] = ((fixed, moving_row), list(results[length:]))
        return self._rows[kernel]


@kept_with_rule
def compiled(
    rule: Rule, variant: Variant, storage: Storage, task: Task
) -> tuple[Callable[..., tuple[Any, Slots]], Kernel, bool]:
    """Return the jitted step of one leaf, its kernel, and whether it needs the parameter.

    Leaves of one shape and type are traced once, and a step that is not part of a larger program is one all the same.
    """
    kernel = engine.kernel(rule, variant, storage, "jax", task=task)
    plan, parameter, gradient = kernel.plan, rule.parameter, rule.gradient
    names = [plan.planes[index].name for index in plan.loads]
    of_slots = [coding.plane_name(slot, part.suffix) for slot, way in kernel.slots.items() for part in way.parts]

    def step(
        theta: Any,
        g: Any,
        planes: tuple[Any, ...],
        moving: tuple[Any, ...],
        zero: Any,
        keyed: Any,
        fixed: Fixed,
        dtype: str,
    ) -> tuple[Any, Slots]:
        others = iter(moving)
        scalars = [next(others) if value is None else value for value in fixed]
        named = dict(zip(of_slots, planes, strict=True)) | {parameter: theta, gradient: g}
        first, *rest = kernel.function[1](*(named[name] for name in names), *scalars, zero.astype(plan.compute), *keyed)
        made_of = iter(rest)
        slots = {slot: slot_of([next(made_of) for _ in way.parts], way) for slot, way in kernel.slots.items()}
        return first.astype(jnp.dtype(dtype)), slots

    step.__name__ = step.__qualname__ = rule.name if rule.name.isidentifier() else "step"
    return jax.jit(step, static_argnames=("fixed", "dtype")), kernel, parameter in names
