"""The plan: a frozen, target-independent recipe of one fused step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from steprule.compile.lower import Lowering, postorder
from steprule.compile.prelude import Prelude, make_prelude
from steprule.language.node import Node

__all__ = ["Const", "Instruction", "Plan", "Plane", "Ref", "Scalar", "Store", "Value", "make_plan"]


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
    """A number written in the rule, rounded once to the compute type."""

    value: float


Ref: TypeAlias = Value | Scalar | Const


@dataclass(frozen=True)
class Plane:
    """One array that the kernel walks: its name and NumPy's name of its type."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Instruction:
    """One operation on elements; its result is the next value."""

    op: str
    args: tuple[Ref, ...]


@dataclass(frozen=True)
class Store:
    """Write a value into a plane, rounded to the plane's type."""

    plane: int
    value: Ref


@dataclass(frozen=True)
class Plan:
    """What every backend is given: loads, body and stores of one element, and the host prelude.

    Values 0 to ``len(planes) - 1`` are the planes, converted to the compute type on loading; value
    ``len(planes) + k`` is the result of ``body[k]``. All loads come before all stores.
    """

    title: str
    compute: str
    planes: tuple[Plane, ...]
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    prelude: Prelude

    @property
    def loads(self) -> tuple[int, ...]:
        """The planes that are read."""
        refs = [ref for instruction in self.body for ref in instruction.args] + [s.value for s in self.stores]
        used = {ref.index for ref in refs if isinstance(ref, Value)}
        return tuple(index for index in range(len(self.planes)) if index in used)


def make_plan(
    title: str,
    compute: str,
    inputs: tuple[Plane, ...],
    outputs: dict[str, Node],
    scalar_slots: dict[str, Node],
    arguments: tuple[str, ...],
    encode: Callable[[str, Node], Node],
) -> Plan:
    """Return the plan that computes ``outputs`` (by plane name) from the ``inputs``.

    Args:
        title: shown in emitted code.
        compute: NumPy's name of the type of the arithmetic.
        inputs: the planes, in the order of the kernel's address row.
        outputs: the new value of each plane that is written.
        scalar_slots: the new value of each scalar slot.
        arguments: the names that the prelude takes.
        encode: what storing does to a value of that plane, in the language of rules.
    """
    lower = Lowering()
    stored = {name: lower(encode(name, node)) for name, node in outputs.items()}
    hosts = {name: lower(node) for name, node in scalar_slots.items()}
    hoisting = _Hoisting(inputs)
    for node in postorder(stored.values()):
        if node.stage == "element" and node.op != "symbol":
            hoisting.add(node)
    names = [plane.name for plane in inputs]
    stores = tuple(Store(names.index(name), hoisting.ref(node)) for name, node in stored.items())
    prelude = make_prelude(arguments, hoisting.row, hosts)
    return Plan(title, compute, inputs, tuple(hoisting.body), stores, prelude)


class _Hoisting:
    """Splits lowered expressions into the element body and the row of host scalars."""

    def __init__(self, inputs: tuple[Plane, ...]) -> None:
        self.body: list[Instruction] = []
        self._inputs = {plane.name: index for index, plane in enumerate(inputs)}
        self._values: dict[Node, int] = {}
        self._scalars: dict[Node, int] = {}

    @property
    def row(self) -> list[Node]:
        return list(self._scalars)

    def add(self, node: Node) -> None:
        args = tuple(self.ref(arg) for arg in node.args)
        self._values[node] = len(self._inputs) + len(self.body)
        self.body.append(Instruction(node.op, args))

    def ref(self, node: Node) -> Ref:
        if node.stage == "element":
            return Value(self._inputs[node.name] if node.op == "symbol" else self._values[node])
        if node.op == "const":
            return Const(float(node.value))
        return Scalar(self._scalars.setdefault(node, len(self._scalars)))
