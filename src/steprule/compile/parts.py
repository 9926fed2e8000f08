"""The parts of a plan: planes, operations, stores and sums, and what is computed of rows, columns and matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from steprule.compile.operands import Ref, Value
from steprule.language.node import Stage
from steprule.language.ops import Kind
from steprule.language.polar import Polar
from steprule.language.sums import HOISTED

__all__ = ["ENCODED", "Instruction", "Per", "Plane", "Product", "Store", "Sum", "Vectors"]

Per = Literal["element", "group", "row", "column"]
ENCODED = "encode: how a slot is stored until the next step; a subnormal number of its format becomes 0."
"""What texts that have such parts say of them in their head."""


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
    def phase(self) -> Literal["element", "group"]:
        """What a kernel runs for where it reads it: what rows and columns have is read for elements."""
        return "group" if self.per == "group" else "element"

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
    """A sum over elements, in float64: of a value, of its square, or of how often a condition holds.

    Sums over each row or column have a ``name``, and the ``word`` that says what they come to.
    """

    value: Ref
    is_squared: bool = False
    phase: int = 0
    name: str = ""
    word: str = "total"


@dataclass(frozen=True)
class Vectors:
    """Operations on numbers of rows, of columns, and of matrices, in the type of the plan's arithmetic.

    Value k is the input k, then the results of the body. An input is a slot, a sum over each row or column that a plan
    before has taken, or what such a plan has hoisted, by the name of the plane. Beside the operations on elements there
    are words for sums of numbers of rows over each column, and of columns over each row: ``"mean.column"``.

    Attributes:
        inputs: their names.
        body: the operations.
        hoisted: what the plan's scratch planes hold, in their order.
        slots: the new values of slots, by the place of their plane.
        totals: what is summed over the tensor, and whether it is squared.
        stages: of each value, what it is a number of.
    """

    inputs: tuple[str, ...]
    body: tuple[Instruction, ...]
    hoisted: tuple[Ref, ...] = ()
    slots: tuple[tuple[int, Ref], ...] = ()
    totals: tuple[tuple[Ref, bool], ...] = ()
    stages: tuple[Stage, ...] = ()

    @property
    def computed(self) -> list[int]:
        """Which of what is hoisted is computed: the rest is what a plan before has hoisted, under the same name."""
        before = [Value(index) for index, name in enumerate(self.inputs) if name.startswith(HOISTED)]
        return [number for number, ref in enumerate(self.hoisted) if ref not in before]

    def stage_of(self, ref: Ref) -> Stage:
        """Return what a reference is to a number of."""
        return self.stages[ref.index] if isinstance(ref, Value) else "host"


@dataclass(frozen=True)
class Product:
    """What the host makes of the numbers in a plane, seen as matrices, when the pass that leaves them has run.

    Attributes:
        plane: the place of the plane, which is written.
        polar: what it makes of them.
    """

    plane: int
    polar: Polar
