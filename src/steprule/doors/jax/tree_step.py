"""One step of all leaves: what they share is computed once, for each kernel that they need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from steprule import coding, engine
from steprule.backends import jax as jax_functions
from steprule.backends.jax_math import keys, negative_zero
from steprule.backends.jax_scalars import as_scalar, from_pair, to_pair
from steprule.compile import Plan
from steprule.doors.jax.leaves import check_like, format_of, is_complex, parts_of, type_of, type_of_update
from steprule.doors.jax.slots import check_codec, check_planes, is_plain, planes_of, slot_of
from steprule.engine import Kernel
from steprule.errors import StructureError
from steprule.formats import FORMATS, Storage, stream
from steprule.language.walk import symbols_in
from steprule.rules import Rule
from steprule.rules.cache import cached_with_rule
from steprule.rules.rule import Variant

__all__ = ["JAX", "PassKind", "Slots", "TreeStep"]

PassKind = Literal["step", "update"]
Slots: TypeAlias = dict[str, Any]
"""By name: a pytree like the parameters for a slot of elements, one number for a scalar slot."""
Fixed: TypeAlias = tuple[Any, ...]
"""A row of scalars: a number where it is known while tracing, None elsewhere."""


@dataclass(frozen=True)
class JaxLoader:
    """What makes functions of JAX's arrays of plans."""

    name = "jax"

    def load(self, plan: Plan) -> tuple[Any, Any]:
        """Return the prelude and the kernel, of the convention of ``backends/jax.py``."""
        return jax_functions.load(plan)


JAX = JaxLoader()


class StepConfig(Protocol):
    """What is fixed of a step: ``stepper.Stepper``."""

    @property
    def rule(self) -> Rule: ...
    @property
    def variant(self) -> Variant: ...
    @property
    def seed(self) -> Any: ...
    def storage(self, leaf: Any, path: str, what: str, is_part: bool) -> Storage: ...


class TreeStep:
    """One step of all leaves."""

    def __init__(
        self, stepper: StepConfig, kind: PassKind, t: Any, values: Mapping[str, Any], steps: Any, slots: Slots
    ) -> None:
        self._stepper, self._kind = stepper, kind
        trace = stepper.rule.trace(stepper.variant)
        used = symbols_in(trace.scalars.values())
        is_exact = not any(isinstance(value, jax.Array) for name, value in values.items() if name in used)
        scalars = {slot: from_pair(slots[slot], is_exact) for slot in trace.scalars}
        self._arguments = {**values, **scalars, "t": t}
        self._zero = negative_zero(steps)
        self._steps = steps
        # Within a larger program numbers are fixed: constants of it. Outside of one, what changes would compile anew.
        self._is_traced = isinstance(steps, jax.core.Tracer)
        self._rows: dict[tuple[Kernel, bool], tuple[tuple[Fixed, tuple[Any, ...]], list[Any]]] = {}

    def __call__(
        self, number: int, path: str, theta: Any, g: Any, slots: Mapping[str, Any], decays: bool = True
    ) -> tuple[Any, Slots]:
        """Return the new parameter, or the update, and the new slots of a leaf.

        Without a gradient nothing moves. Of complex numbers both parts are stepped, each as a number of its own.

        Args:
            number: the place of the leaf among the gradients.
            path: what it is called in messages.
            theta, g, slots: its parameter, gradient and slots.
            decays: whether weight decay is for it.
        """
        if g is None:
            return None if self._kind == "update" else theta, dict(slots)
        format_of(g, path, "gradient")
        if theta is not None:
            check_like(theta, g, path, "parameter")
        if not is_complex(g):
            return self._step(number, path, theta, g, slots, decays)
        for slot, value in slots.items():
            check_like(planes_of(value)[0], g, path, f"slot {slot!r} of")
        split = {slot: parts_of(value) for slot, value in slots.items()}
        (real, reals), (imaginary, imaginaries) = (
            self._step(number, path, theta, g, {slot: parts[i] for slot, parts in split.items()}, decays, is_part=True)
            for i, (theta, g) in enumerate(zip(parts_of(theta), parts_of(g), strict=True))
        )
        return jax.lax.complex(real, imaginary), {
            slot: jax.lax.complex(reals[slot], imaginaries[slot]) for slot in slots
        }

    def _step(
        self, number: int, path: str, theta: Any, g: Any, slots: Mapping[str, Any], decays: bool, is_part: bool = False
    ) -> tuple[Any, Slots]:
        stepper = self._stepper
        # Slots are of the parameter's type, and tell it where the parameter is not given.
        numbers = [plane for slot in slots.values() for plane in planes_of(slot) if type_of(plane).startswith("float")]
        storage = stepper.storage(theta if theta is not None else [*numbers, g][0], path, "parameter", is_part)
        if g.ndim < 2:
            storage = _earlier_storage(storage, slots)
        run, kernel, needs_theta = compiled(stepper.rule, stepper.variant, storage, self._kind)
        planes = _checked_planes(kernel, slots, g, path)
        if theta is None and needs_theta:
            raise StructureError(f"rule {stepper.rule.name!r} needs the parameters: call update(grads, state, params)")
        keyed = (*self._keys, np.uint32(stream(number))) if kernel.plan.inputs else ()
        fixed, traced = self._row(kernel, decays)[0]
        like = theta if slots or needs_theta else None
        dtype = type_of(theta) if self._kind == "step" else type_of_update(g, like, numbers)
        return run(theta if needs_theta else None, g, planes, traced, self._zero, keyed, fixed=fixed, dtype=dtype)

    @functools.cached_property
    def _keys(self) -> tuple[Any, Any]:
        return keys(self._stepper.seed, self._steps)

    def scalar_slots(self) -> Slots:
        """Return the new scalar slots."""
        stepper = self._stepper
        names = stepper.rule.trace(stepper.variant).scalars
        if not names:
            return {}
        _, kernel, _ = compiled(stepper.rule, stepper.variant, Storage(FORMATS["float32"], flushes=False), self._kind)
        return {name: to_pair(value) for name, value in zip(names, self._row(kernel, True)[1], strict=True)}

    def _row(self, kernel: Kernel, decays: bool) -> tuple[tuple[Fixed, tuple[Any, ...]], list[Any]]:
        """Return the row of scalars: what is fixed, with None for the others, and the others; and the scalar slots."""
        if (kernel, decays) not in self._rows:
            prelude, recipe = kernel.code[0], kernel.plan.prelude
            arguments = self._arguments if decays else {**self._arguments, "weight_decay": 0.0}
            results = prelude(*(arguments[name] for name in recipe.arguments))
            length = len(recipe.conditions)
            # Zeros of both signs are one key of what is compiled, and two numbers.
            varies = [not (self._is_traced and isinstance(value, (int, float)) and value) for value in results[:length]]
            row = [as_scalar(value, kernel.plan.compute) for value in results[:length]]
            fixed = tuple(None if traced else value for value, traced in zip(row, varies, strict=True))
            traced_row = tuple(value for value, traced in zip(row, varies, strict=True) if traced)
            self._rows[kernel, decays] = ((fixed, traced_row), list(results[length:]))
        return self._rows[kernel, decays]


def _earlier_storage(storage: Storage, slots: Mapping[str, Any]) -> Storage:
    """Return the storage of a leaf; a state from before such leaves had low-precision slots stays as it is."""
    low = [(slot, name) for slot, name in storage.slots if not is_plain(slots[slot], storage.parameter.compute)]
    return replace(storage, slots=tuple(low))


def _checked_planes(kernel: Kernel, slots: Mapping[str, Any], g: Any, path: str) -> tuple[Any, ...]:
    """Return the planes of all slots, which are kept as the kernel has them and are of the gradient's shape."""
    planes: list[Any] = []
    for slot, codec in kernel.slots.items():
        check_codec(slots[slot], codec, f"slot {slot!r} of {path}")
        own = planes_of(slots[slot])
        if codec.planes[0].packing == 1:
            check_like(own[0], g, path, f"slot {slot!r} of")
        check_planes(slots[slot], codec, g.shape, f"slot {slot!r} of {path}")
        planes += own
    return tuple(planes)


@cached_with_rule
def compiled(
    rule: Rule, variant: Variant, storage: Storage, kind: PassKind
) -> tuple[Callable[..., tuple[Any, Slots]], Kernel, bool]:
    """Return the jitted step of one leaf, its kernel, and whether it needs the parameter.

    Leaves of one shape and type are traced once, and a step that is not part of a larger program is one all the same.
    """
    kernel = engine.kernel(rule, variant, storage, JAX, kind=kind)
    plan, parameter, gradient = kernel.plan, rule.parameter, rule.gradient
    names = [plan.planes[index].name for index in plan.loads]
    of_slots = [coding.plane_name(slot, spec.suffix) for slot, codec in kernel.slots.items() for spec in codec.planes]

    def step(
        theta: Any,
        g: Any,
        planes: tuple[Any, ...],
        traced: tuple[Any, ...],
        zero: Any,
        keyed: Any,
        fixed: Fixed,
        dtype: str,
    ) -> tuple[Any, Slots]:
        others = iter(traced)
        scalars = [next(others) if value is None else value for value in fixed]
        named = dict(zip(of_slots, planes, strict=True)) | {parameter: theta, gradient: g}
        first, *rest = kernel.code[1](*(named[name] for name in names), *scalars, zero.astype(plan.compute), *keyed)
        new = iter(rest)
        slots = {k: slot_of([next(new) for _ in codec.planes], codec, g.shape) for k, codec in kernel.slots.items()}
        return first.astype(jnp.dtype(dtype)), slots

    step.__name__ = step.__qualname__ = rule.name if rule.name.isidentifier() else "step"
    return jax.jit(step, static_argnames=("fixed", "dtype")), kernel, parameter in names
