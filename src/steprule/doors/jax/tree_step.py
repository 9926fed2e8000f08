"""One step of all leaves: what they share is computed once, for each kernel that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from math import prod
from operator import add
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

from steprule.backends.jax_math import keys, negative_zero
from steprule.backends.jax_scalars import Exact, as_scalar, from_pair, to_pair
from steprule.doors.jax.leaves import check_like, format_of, is_complex, parts_of, type_of, type_of_update
from steprule.doors.jax.passes import Compiled, Fixed, Passes, PassKind, passes_of, vector_inputs
from steprule.doors.jax.products import Wanted, multiplied
from steprule.doors.jax.slots import check_codec, check_pair, check_planes, is_plain, planes_of
from steprule.engine import Kernel
from steprule.errors import StructureError
from steprule.formats import FORMATS, Storage, stream
from steprule.language.matrices import matrix_sizes
from steprule.language.sums import ALL, ALL_SIZE, SIZES
from steprule.language.walk import postorder, symbols_in
from steprule.rules import Rule
from steprule.rules.rule import Variant

__all__ = ["Leaf", "Slots", "TreeStep"]

Slots: TypeAlias = dict[str, Any]
"""By name: a pytree like the parameters for a slot of elements, one number for a scalar slot."""
Row: TypeAlias = tuple[Fixed, tuple[Any, ...]]
"""A row of scalars: what is known, and the others."""


class StepConfig(Protocol):
    """What is fixed of a step: ``stepper.Stepper``."""

    @property
    def rule(self) -> Rule: ...
    @property
    def variant(self) -> Variant: ...
    @property
    def seed(self) -> Any: ...
    @property
    def products(self) -> str | None: ...
    def storage(self, leaf: Any, path: str, what: str, is_part: bool) -> Storage: ...


@dataclass(frozen=True)
class Leaf:
    """What a step takes of one parameter.

    Attributes:
        number: its place among the gradients.
        path: what it is called in messages.
        theta, g, slots: the parameter, the gradient (None: nothing moves), and the slots by name.
        decays: whether weight decay is for it.
        numbers: its slots that are one number.
    """

    number: int
    path: str
    theta: Any
    g: Any
    slots: Mapping[str, Any]
    decays: bool = True
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A leaf, or the real or imaginary part of one, with the functions that step it."""

    passes: Passes
    leaf: Leaf
    planes: tuple[Any, ...]
    dtype: str
    """Of the new parameter, or of the update."""


Found: TypeAlias = Mapping[str, Any]
"""What is known of a tensor, by name: its sizes, the numbers kept of it, and what passes have found of it so far."""


class TreeStep:
    """One step of all leaves."""

    def __init__(
        self, stepper: StepConfig, kind: PassKind, t: Any, values: Mapping[str, Any], steps: Any, slots: Slots
    ) -> None:
        self._stepper, self._kind, self._slots = stepper, kind, slots
        trace = stepper.rule.trace(stepper.variant)
        used = symbols_in(trace.numbers.values())
        self._is_exact = not any(isinstance(value, jax.Array) for name, value in values.items() if name in used)
        self._has_slope = any(node.stage in ("tensor", "all") for node in postorder(trace.numbers.values()))
        scalars = {slot: self._number(slots[slot], f"slot {slot!r}") for slot in trace.scalars}
        self._arguments = {**values, **scalars, "t": t}
        self._zero = negative_zero(steps)
        self._steps = steps
        # Within a larger program numbers are fixed: constants of it. Outside of one, what changes would compile anew.
        self._is_traced = isinstance(steps, jax.core.Tracer)
        self._preludes: dict[tuple[Kernel, bool], tuple[Any, ...]] = {}
        self._rows: dict[tuple[Kernel, bool], Row] = {}

    def __call__(self, leaves: Sequence[Leaf]) -> list[tuple[Any, Slots]]:
        """Return the new parameter, or the update, and the new slots of each leaf.

        Without a gradient nothing moves. Of complex numbers both parts are stepped, each as a number of its own.
        """
        parts = [self._parts(leaf) for leaf in leaves]
        found = self._sums(parts)
        return [self._moved(leaf, own, of_leaf) for leaf, own, of_leaf in zip(leaves, parts, found, strict=True)]

    def _number(self, pair: Any, what: str) -> Any:
        """Return the number that a state keeps as a pair."""
        check_pair(pair, what)
        return from_pair(pair, self._is_exact, self._has_slope)

    def _parts(self, leaf: Leaf) -> list[Part]:
        """Return what is stepped of a leaf: nothing, the leaf, or the two parts of its numbers."""
        g, path = leaf.g, leaf.path
        if g is None:
            return []
        format_of(g, path, "gradient")
        if leaf.theta is not None:
            check_like(leaf.theta, g, path, "parameter")
        if not is_complex(g):
            return [self._part(leaf)]
        for slot, value in leaf.slots.items():
            check_like(planes_of(value)[0], g, path, f"slot {slot!r} of")
        split = {slot: parts_of(value) for slot, value in leaf.slots.items()}
        both = enumerate(zip(parts_of(leaf.theta), parts_of(g), strict=True))
        return [
            self._part(
                replace(leaf, theta=theta, g=g, slots={slot: parts[i] for slot, parts in split.items()}), is_part=True
            )
            for i, (theta, g) in both
        ]

    def _part(self, leaf: Leaf, is_part: bool = False) -> Part:
        stepper, theta, g, path = self._stepper, leaf.theta, leaf.g, leaf.path
        # Slots are of the parameter's type, and tell it where the parameter is not given.
        planes = [plane for slot in leaf.slots.values() for plane in planes_of(slot)]
        numbers = [plane for plane in planes if type_of(plane).startswith("float")]
        storage = stepper.storage(theta if theta is not None else [*numbers, g][0], path, "parameter", is_part)
        if g.ndim < 2:
            storage = _earlier_storage(storage, leaf.slots)
        passes = passes_of(stepper.rule, stepper.variant, storage, self._kind)
        checked = _checked_planes(passes.step.kernel, leaf.slots, g, path)
        if theta is None and passes.needs_theta:
            raise StructureError(f"rule {stepper.rule.name!r} needs the parameters: call update(grads, state, params)")
        like = theta if leaf.slots or passes.needs_theta else None
        dtype = type_of(theta) if self._kind == "step" else type_of_update(g, like, numbers)
        return Part(passes, leaf, checked, dtype)

    def _sums(self, leaves: Sequence[Sequence[Part]]) -> list[dict[str, Any]]:
        """Return what is known of each leaf before the step; both parts of one that is complex are one tensor.

        What is summed over all leaves becomes an argument of the preludes.
        """
        found = [self._known(own) for own in leaves]
        self._arguments[ALL_SIZE] = max(1, sum(prod(part.leaf.g.shape) for own in leaves for part in own))
        for level in range(max((len(part.passes.before) for own in leaves for part in own), default=0)):
            summed = [self._summed(own, level, so_far) for own, so_far in zip(leaves, found, strict=True)]
            self._multiply(leaves, level, summed)
            for so_far, new in zip(found, summed, strict=True):
                so_far |= new
            of_all = dict.fromkeys(name for new in summed for name in new if name.startswith(ALL))
            self._arguments |= {name: reduce(add, [new[name] for new in summed if new]) for name in of_all}
        return found

    def _known(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Return the sizes of a leaf, and the numbers kept of it."""
        if not parts:
            return {}
        leaf, view = parts[0].leaf, self._stepper.rule.view
        size = max(1, sum(prod(part.leaf.g.shape) for part in parts))
        sizes = (size,) if view is None else (size, *matrix_sizes(leaf.g.shape, view))
        numbers = {slot: self._number(pair, f"slot {slot!r} of {leaf.path}") for slot, pair in leaf.numbers.items()}
        return {**dict(zip(SIZES, sizes, strict=False)), **numbers}

    def _summed(self, parts: Sequence[Part], level: int, found: Found) -> dict[str, Any]:
        """Return what one pass over a leaf finds."""
        if not parts or level >= len(parts[0].passes.before):
            return {}
        one: dict[str, Any]
        one, *others = [self._run(part, part.passes.before[level], found) for part in parts]
        totals = parts[0].passes.before[level].kernel.plan.totals
        return one | {name: reduce(add, (Exact(*own[name]) for own in (one, *others))) for name in totals}

    def _multiply(self, leaves: Sequence[Sequence[Part]], level: int, found: Sequence[dict[str, Any]]) -> None:
        """Let what a pass has left for the host to multiply be what becomes of it."""
        places: list[tuple[dict[str, Any], str]] = []
        wanted: list[Wanted] = []
        for own, so_far in zip(leaves, found, strict=True):
            for part in own if so_far else ():
                plan = part.passes.before[level].kernel.plan
                for product in plan.products:
                    name = plan.planes[product.plane].name
                    places.append((so_far, name))
                    wanted.append(Wanted(part.leaf.path, so_far[name], product.polar, plan.view))
        factors = multiplied(wanted, self._arguments, self._stepper.products)
        for (so_far, name), new in zip(places, factors, strict=True):
            so_far[name] = new

    def _moved(self, leaf: Leaf, parts: Sequence[Part], found: Found) -> tuple[Any, Slots]:
        """Return what is new of a leaf."""
        if not parts:
            return None if self._kind == "update" else leaf.theta, {**leaf.slots, **leaf.numbers}
        (result, slots), *others = [self._run(part, part.passes.step, found, dtype=part.dtype) for part in parts]
        for imaginary, of_imaginary in others:
            result = jax.lax.complex(result, imaginary)
            slots = {slot: jax.lax.complex(slots[slot], of_imaginary[slot]) for slot in leaf.slots}
        return result, slots | self._new_numbers(parts[0], found)

    def _new_numbers(self, part: Part, found: Found) -> Slots:
        """Return the new slots that are one number of a leaf."""
        names = part.leaf.numbers
        if not names:
            return {}
        results = self._results(part.passes.step.kernel, part.leaf.decays, found)
        return {name: to_pair(value) for name, value in zip(names, results[-len(names) :], strict=True)}

    def _run(self, part: Part, compiled: Compiled, found: Found, **options: str) -> Any:
        """Return the results of one pass over a part."""
        leaf = part.leaf
        keyed = (*self._keys, np.uint32(stream(leaf.number))) if compiled.kernel.plan.inputs else ()
        fixed, traced = self._row(compiled.kernel, leaf.decays, found)
        theta = leaf.theta if part.passes.needs_theta else None
        vectors = tuple(found[name] for name in vector_inputs(compiled.kernel))
        return compiled.run(theta, leaf.g, part.planes, vectors, traced, self._zero, keyed, fixed=fixed, **options)

    @cached_property
    def _keys(self) -> tuple[Any, Any]:
        return keys(self._stepper.seed, self._steps)

    def scalar_slots(self) -> Slots:
        """Return the new scalar slots, after the leaves have been stepped."""
        stepper = self._stepper
        names = stepper.rule.trace(stepper.variant).scalars
        if not names:
            return {}
        storage = Storage(FORMATS["float32"], flushes=False)
        kernel = passes_of(stepper.rule, stepper.variant, storage, self._kind).step.kernel
        if not self._arguments.keys() >= {*kernel.plan.parts.first.arguments}:  # no leaf has a gradient to sum
            return {name: self._slots[name] for name in names}
        first = len(kernel.plan.prelude.conditions)
        values = self._prelude(kernel, True)[first : first + len(names)]
        return {name: to_pair(value) for name, value in zip(names, values, strict=True)}

    def _prelude(self, kernel: Kernel, decays: bool) -> tuple[Any, ...]:
        """Return the numbers that do not depend on sums over a tensor."""
        if (kernel, decays) not in self._preludes:
            arguments = self._arguments if decays else {**self._arguments, "weight_decay": 0.0}
            names = kernel.plan.parts.first.arguments
            self._preludes[kernel, decays] = kernel.code.prelude(*(arguments[name] for name in names))
        return self._preludes[kernel, decays]

    def _results(self, kernel: Kernel, decays: bool, found: Found) -> list[Any]:
        """Return the results of a kernel's prelude for a tensor: the scalars, and then the slots that are numbers."""
        parts, first = kernel.plan.parts, self._prelude(kernel, decays)
        results = list(first[: len(kernel.plan.prelude.results)])
        if parts.late is not None:
            carried = first[len(kernel.plan.prelude.conditions) :]
            known = {**dict(zip(parts.first.scalar_slots, carried, strict=True)), **found}
            numbers = kernel.code.late(*(known[name] for name in parts.late.arguments))
            for place, number in zip(parts.late_places, numbers, strict=True):
                results[place] = number
        return results

    def _row(self, kernel: Kernel, decays: bool, found: Found) -> Row:
        """Return the row of scalars of a tensor."""
        width = len(kernel.plan.prelude.conditions)
        if kernel.plan.parts.late is not None:
            return self._rounded(kernel, self._results(kernel, decays, found)[:width])
        if (kernel, decays) not in self._rows:
            self._rows[kernel, decays] = self._rounded(kernel, self._prelude(kernel, decays)[:width])
        return self._rows[kernel, decays]

    def _rounded(self, kernel: Kernel, numbers: Sequence[Any]) -> Row:
        # Zeros of both signs are one key of what is compiled, and two numbers.
        varies = [not (self._is_traced and isinstance(value, (int, float)) and value) for value in numbers]
        row = [as_scalar(value, kernel.plan.compute) for value in numbers]
        fixed = tuple(None if traced else value for value, traced in zip(row, varies, strict=True))
        return fixed, tuple(value for value, traced in zip(row, varies, strict=True) if traced)


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
        if codec.is_elementwise and codec.planes[0].packing == 1:
            check_like(own[0], g, path, f"slot {slot!r} of")
        check_planes(slots[slot], codec, g.shape, f"slot {slot!r} of {path}")
        planes += own
    return tuple(planes)
