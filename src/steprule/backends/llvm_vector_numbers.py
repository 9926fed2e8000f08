"""Numbers of rows, columns and matrices in machine code: where they come from, how they are computed, where they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from steprule.backends.llvm_operations import ir_type, operation, scalar_lines, written_out
from steprule.compile import LANES, Const, Plan, Ref, Scalar, Value, Vectors
from steprule.language.node import Stage

__all__ = ["Arguments", "Numbers"]


class Arguments(NamedTuple):
    """What follows the addresses of a plan's inputs, each an address but for the last two.

    Attributes:
        hoisted: where the first of what is hoisted goes.
        slots: where the first of the slots lies that have new values.
        totals: where the first of the partial sums over the tensor goes.
        sizes: where the rows and the columns of a matrix stand.
    """

    hoisted: int
    slots: int
    totals: int
    sizes: int

    @property
    def width(self) -> int:
        """How many there are, with the inputs."""
        return self.sizes + 2

    @classmethod
    def of(cls, own: Vectors) -> Arguments:
        """Return where in a row of addresses what stands."""
        hoisted = len(own.inputs)
        slots = hoisted + len(own.hoisted)
        totals = slots + len(own.slots)
        return cls(hoisted, slots, totals, totals + len(own.totals))


class Numbers:
    """Writes the lines of numbers: those of rows and columns once in every loop that needs them.

    Values are called ``%v`` with their number, and within a loop with its name. What a row or column has is at ``.at``
    of the loop.

    Args:
        plan, own: the plan, and what it has of rows and columns.
    """

    def __init__(self, plan: Plan, own: Vectors) -> None:
        self.plan, self.own, self.at = plan, own, Arguments.of(own)
        self._real = ir_type(plan.compute)
        self._sums = {
            result.name: (result, number, len(results))
            for before in plan.before
            for results in (before.row_sums, before.column_sums)
            for number, result in enumerate(results)
        }
        self._dtypes = {plane.name: plane.dtype for own in (*plan.before, plan) for plane in own.planes}
        self.levels = [0] * len(own.inputs)
        """Of each value, how many sums lie before it, of numbers of rows or columns."""
        for instruction in own.body:
            below = max(map(self.level, instruction.args), default=0)
            self.levels.append(below + ("." in instruction.op))
        self.room = LANES * (len(own.body) + len(own.totals) + len(own.inputs) + 1)
        """The float64 in the buffers: of what a loop sums, with the inputs that are sums at the end."""

    def reached(self, roots: Sequence[Ref], stage: Stage | None = None) -> list[int]:
        """Return the values that these are computed from, or those of a stage that one finds going back along it."""
        found: set[int] = set()
        stack = [ref.index for ref in roots if isinstance(ref, Value)]
        while stack:
            index = stack.pop()
            if index not in found and stage in (None, self.own.stages[index]):
                found.add(index)
                if index >= len(self.own.inputs):
                    args = self.own.body[index - len(self.own.inputs)].args
                    stack += [ref.index for ref in args if isinstance(ref, Value)]
        return sorted(found)

    def entry(self) -> list[str]:
        """Load the addresses and the sizes."""
        lines: list[str] = []
        for place in range(self.at.sizes):
            lines.append(f"%a{place} = getelementptr ptr, ptr %addresses, i64 {place}")
            lines.append(f"%p{place} = load ptr, ptr %a{place}, !invariant.load !4")
        for place, name in enumerate(("rows", "columns"), self.at.sizes):
            lines.append(f"%a{place} = getelementptr i64, ptr %addresses, i64 {place}")
            lines.append(f"%{name} = load i64, ptr %a{place}, !invariant.load !4")
        return lines

    def added_up(self, index: int, x: str) -> list[str]:
        """Add up the partial sums of a tile of rows or columns, where an input is such a sum."""
        name, side = self.own.inputs[index], self.own.stages[index]
        if name not in self._sums:
            return []
        result, number, count = self._sums[name]
        y = f"%{x}.in{index}"
        if side == "row":
            item, parts, of = f"i64 {y}.item, ", "%across", "columns"
            place = [
                f"{y}.item = mul i64 %across, {count}",
                f"{y}.part = add i64 {count}, 0",
                f"{y}.at = mul i64 %{x}.first, {y}.item",
                f"{y}.own = add i64 {y}.at, {number}",
            ]
        else:
            item, parts, of = "", "%down", "rows"
            place = [
                f"{y}.part = mul i64 %columns, {count}",
                f"{y}.strips = mul i64 %m, %down",
                f"{y}.before = mul i64 {y}.strips, {y}.part",
                f"{y}.number = mul i64 %columns, {number}",
                f"{y}.at = add i64 {y}.before, {y}.number",
                f"{y}.own = add i64 {y}.at, %{x}.t",
            ]
        return [
            *place,
            f"{y}.from = getelementptr double, ptr %p{index}, i64 {y}.own",
            f"{y}.to = getelementptr double, ptr %buffers, i64 {self._buffer_of(index)}",
            f"call void @added.{side}(ptr {y}.to, ptr {y}.from, {item}i64 {y}.part, i64 {parts}, i64 %{x}.n)",
            *([f"call void @divided(ptr {y}.to, double %{of}.real, i64 %{x}.n)"] * (result.word in ("mean", "rms"))),
        ]

    def _buffer_of(self, index: int) -> int:
        """Return where the buffer of an input begins: after those of the sums that a loop takes."""
        return self.room - LANES * (len(self.own.inputs) - index)

    def number(self, index: int, x: str) -> list[str]:
        """Give the number of a row or column its name in a loop."""
        if index >= len(self.own.inputs):
            return self.operation(index, f".{x}")
        name, y = self.own.inputs[index], f"%v{index}.{x}"
        if name in self._sums:
            result = self._sums[name][0]
            lines = [
                f"{y}.from = getelementptr double, ptr {f'%{x}.in{index}.to'}, i64 %{x}.i",
                f"{y}.sum = load double, ptr {y}.from, !llvm.access.group !0",
            ]
            return lines + self.rooted(result.word, y, f"{y}.sum")
        stored = ir_type(self._dtypes[name])
        at = f"{y}.from = getelementptr {stored}, ptr %p{index}, i64 %{x}.at"
        if stored == self._real:
            return [at, f"{y} = load {stored}, ptr {y}.from, !llvm.access.group !0"]
        return [at, f"{y}.l = load {stored}, ptr {y}.from, !llvm.access.group !0", *self._cast(y, f"{y}.l", stored)]

    def rooted(self, word: str, name: str, averaged: str) -> list[str]:
        """Give a name to what a word for a sum comes to, given the sum or mean."""
        if word not in ("norm", "rms"):
            return self._cast(name, averaged, "double")
        root = f"{name}.root = call double @llvm.sqrt.f64(double {averaged})"
        return [root, *self._cast(name, f"{name}.root", "double")]

    def _cast(self, name: str, value: str, kind: str, to: str = "") -> list[str]:
        """Give a name to a number of one type as one of another."""
        to = to or self._real
        if kind == to:  # IR has no copy
            return [f"{name} = bitcast {kind} {value} to {to}"]
        return [f"{name} = {'fpext' if kind == 'float' else 'fptrunc'} {kind} {value} to {to}"]

    def operation(self, index: int, suffix: str) -> list[str]:
        """Compute a value of the body, and give it its name with a suffix."""
        instruction = self.own.body[index - len(self.own.inputs)]
        args = [self._ref(ref, suffix) for ref in instruction.args]
        return operation(instruction.op, args, self._real, f"%v{index}{suffix}")

    def store(self, place: int, dtype: str, ref: Ref, x: str) -> list[str]:
        """Store a number of a loop where the address at this place leads."""
        stored, y = ir_type(dtype), f"%{x}.to{place}"
        value, lines = self._ref(ref, f".{x}"), [f"{y} = getelementptr {ir_type(dtype)}, ptr %p{place}, i64 %{x}.at"]
        if stored != self._real:
            lines += self._cast(f"{y}.cast", value, self._real, stored)
            value = f"{y}.cast"
        return [*lines, f"store {stored} {value}, ptr {y}, !llvm.access.group !0"]

    def _ref(self, ref: Ref, suffix: str) -> str:
        if isinstance(ref, Const):
            return written_out(ref, self.plan.compute)
        if isinstance(ref, Scalar):
            return f"%s{ref.index}"
        return f"%v{ref.index}" if self.own.stages[ref.index] == "matrix" else f"%v{ref.index}{suffix}"

    def is_sum(self, index: int) -> bool:
        """Whether a value is a sum of numbers of rows or columns."""
        inputs = len(self.own.inputs)
        return index >= inputs and "." in self.own.body[index - inputs].op

    def level(self, ref: Ref) -> int:
        """Return the level of an operand."""
        return self.levels[ref.index] if isinstance(ref, Value) else 0

    def scalars(self, used: set[int]) -> list[str]:
        """Load scalars."""
        return [line for index in sorted(used) for line in scalar_lines(self.plan, index)]

    def widened(self, name: str, ref: Ref, x: str) -> list[str]:
        """Give a number of a loop a name as a float64."""
        return self._cast(name, self._ref(ref, f".{x}"), self._real, "double")
