"""The intermediate representation: a plan, frozen and independent of targets, of one fused kernel, and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from steprule.compile.prelude import Prelude, split
from steprule.language.bits import INPUTS
from steprule.language.cached import cached_attribute
from steprule.language.ops import OPS, Kind
from steprule.language.sums import ALL, BLOCK, LANES, SIZE

__all__ = [
    "BLOCK",
    "ENCODED",
    "LANES",
    "SIZE",
    "Const",
    "Instruction",
    "Per",
    "Plan",
    "Plane",
    "Ref",
    "Scalar",
    "Store",
    "Sum",
    "Value",
]

Per = Literal["element", "group"]
ENCODED = "encode: how a slot is stored until the next step; a subnormal number of its format becomes 0."
"""What texts that have such parts say of them in their head."""


@dataclass(frozen=True)
class Value:
    """An operand that differs from element to element: a loaded plane, then results of the body."""

    index: int


@dataclass(frozen=True)
class Scalar:
    """An operand from the row of hoisted scalars, rounded once to the compute type."""

    index: int


@dataclass(frozen=True)
class Const:
    """A number written in the rule, rounded once to the compute type; or a word (kind ``int``)."""

    value: float
    kind: Kind = "float"


Ref: TypeAlias = Value | Scalar | Const


@dataclass(frozen=True)
class Plane:
    """One array that the kernel reads or writes.

    Planes of integers hold words: unsigned ones are extended with zeros, signed ones with their sign.

    Attributes:
        name: its name.
        dtype: NumPy's name of its items' type.
        per: what it has a number for.
        packing: how many neighbours in a row an item has the numbers of, the first in the lowest bits. What is left of
            the last item of a row is 0. Where it is more than one, numbers are unsigned words.
    """

    name: str
    dtype: str
    per: Per = "element"
    packing: int = 1

    @property
    def kind(self) -> Kind:
        """What loading gives."""
        return "float" if self.dtype.startswith("float") else "int"

    @property
    def bits(self) -> int:
        """The bits of a number."""
        return 8 * np.dtype(self.dtype).itemsize // self.packing

    @property
    def is_elementwise(self) -> bool:
        """Whether it has an item for each element, so that its shape is the parameter's."""
        return self.per == "element" and self.packing == 1


@dataclass(frozen=True)
class Instruction:
    """One operation; its result is the next value.

    ``phase`` is its place in the plan's phases, ``section`` says what it belongs to: decoding, the rule, or encoding.
    """

    op: str
    args: tuple[Ref, ...]
    phase: int = 0
    section: str = ""


@dataclass(frozen=True)
class Store:
    """Write a value into a plane, rounded to the plane's type, or its lowest bits."""

    plane: int
    value: Ref
    phase: int = 0


@dataclass(frozen=True)
class Sum:
    """A sum over elements, in float64: of a value, of its square, or of how often a condition holds."""

    value: Ref
    is_squared: bool = False
    phase: int = 0


@dataclass(frozen=True)
class Plan:
    """What every backend is given: loads, body and stores, and the host prelude.

    Values 0 to ``len(planes) - 1`` are the planes, numbers converted to the compute type on loading; value
    ``len(planes) + k`` is the result of ``body[k]``.

    A plan without groups has one phase and is for one element: all its loads come before all its stores. A plan with
    groups is for one group, whose phases follow each other: an ``element`` phase runs for every element of the group,
    a ``group`` phase once. ``group_max`` belongs to the element phase of its operand; its result is there for the
    phases after it. Planes are loaded in the first phase of their kind.

    Sums are over all elements of a launch's row, in the order of ``language.sums`` (in a plan with groups, element i
    of a group adds to lane i), and may stand beside stores: a monitored step.

    A plan that needs sums over a tensor has plans ``before`` it, which write nothing. Their sums, rounded to one number
    each, are arguments of the preludes of those that follow: ``totals`` names them, in the order of a plan's sums.
    """

    title: str
    compute: str
    planes: tuple[Plane, ...]
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    prelude: Prelude
    phases: tuple[Per, ...] = ("element",)
    sums: tuple[Sum, ...] = ()
    before: tuple[Plan, ...] = ()
    totals: tuple[str, ...] = ()

    @property
    def late_arguments(self) -> tuple[str, ...]:
        """The names of what the prelude may take of a tensor: its size, and the sums over it so far."""
        return SIZE, *(name for plan in self.before for name in plan.totals if not name.startswith(ALL))

    @cached_attribute
    def split_prelude(self) -> tuple[Prelude, Prelude | None, tuple[int, ...]]:
        """The prelude, the part of it that takes sums over a tensor (None: none does), and the places that this gives.

        See ``prelude.split``.
        """
        if set(self.late_arguments).isdisjoint(self.prelude.arguments):
            return self.prelude, None, ()
        return split(self.prelude, self.late_arguments)

    @property
    def loads(self) -> tuple[int, ...]:
        """The planes that are read."""
        refs = [ref for instruction in self.body for ref in instruction.args]
        refs += [store.value for store in self.stores] + [result.value for result in self.sums]
        used = {ref.index for ref in refs if isinstance(ref, Value)}
        return tuple(index for index in range(len(self.planes)) if index in used)

    @cached_attribute
    def has_groups(self) -> bool:
        """Whether the plan is for groups of elements."""
        return not all(plane.is_elementwise for plane in self.planes)

    @property
    def packings(self) -> list[int]:
        """Of how many elements items hold the numbers, where it is more than one."""
        return sorted({plane.packing for plane in self.planes} - {1})

    @cached_attribute
    def inputs(self) -> tuple[str, ...]:
        """Which of ``language.bits.INPUTS`` it reads: random bits depend on them."""
        return tuple(name for name in INPUTS if any(name == instruction.op for instruction in self.body))

    def phase_of(self, index: int) -> int:
        """Return the phase in which a value comes to be."""
        if index >= len(self.planes):
            return self.body[index - len(self.planes)].phase
        return self.phases.index(self.planes[index].per)

    def kind_of(self, ref: Ref) -> Kind:
        """Return what kind of value a reference is to."""
        if isinstance(ref, Const):
            return ref.kind
        if isinstance(ref, Scalar):
            return "bool" if self.prelude.conditions[ref.index] else "float"
        if ref.index < len(self.planes):
            return self.planes[ref.index].kind
        op = self.body[ref.index - len(self.planes)].op
        return OPS[op].gives if op in OPS else "int"
