"""How LLVM IR spells a plan: the table of operations, and the lines of one element or one group."""

from __future__ import annotations

from steprule.backends.llvm_operations import BYTES, double, ir_type, operation, scalar_lines, written_out
from steprule.compile import LANES, Const, Instruction, Plan, Ref, Sum, Value

__all__ = ["WORDS", "Code", "indented"]

WORDS = (
    *("row_length", "groups_a_row", "first_index", "stream", "sums"),
    *("matrix_rows", "matrix_columns", "row_sums", "column_sums"),
)
"""What follows the addresses, as 64-bit integers: the elements of a row of the first axis, the groups of a row, the
number that random bits give to the first element, the number of the tensor's stream of them, and the address of the
sums, one row of float64 a block. Where the tensor is seen as matrices these follow: the rows of a matrix, its columns,
and the addresses of the partial sums of rows and columns (``launch/vectors.py`` has their shapes)."""

_OF_KIND = {"int": "i32", "bool": "i1"}


def indented(lines: list[str]) -> str:
    """Return the text of lines within a function."""
    return "\n".join(f"  {line}" for line in lines)


class Code:
    """Writes the parts of a kernel, for either shell."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._real = ir_type(plan.compute)

    def entry(self) -> list[str]:
        """Load addresses, words and scalars, and round the scalars to the compute type."""
        lines: list[str] = []
        for index in self._touched():
            lines += [
                f"%a{index} = getelementptr ptr, ptr %addresses, i64 {index}",
                f"%p{index} = load ptr, ptr %a{index}, !invariant.load !4",
            ]
        scalars = range(len(self.plan.prelude.conditions))
        return [*lines, *(line for index in scalars for line in scalar_lines(self.plan, index)), *self._words()]

    def loaded(self) -> list[str]:
        """Return the names that ``entry`` defines for the lines of elements and groups, each after its type."""
        names = [f"ptr %p{index}" for index in self._touched()]
        for index, is_condition in enumerate(self.plan.prelude.conditions):
            names.append(f"{'i1' if is_condition else self._real} %s{index}")
        if self.plan.inputs:
            names += [f"i32 %{word}" for word in ("first", "stream.word", "key0.word", "key1.word")]
        return names

    def _words(self) -> list[str]:
        """Load the words that the plan needs."""
        planes, row = len(self.plan.planes), len(self.plan.prelude.conditions)
        wanted = WORDS[2:4] if self.plan.inputs else ()
        lines: list[str] = []
        for word in wanted:
            place = planes + WORDS.index(word)
            lines += [
                f"%w.{word} = getelementptr i64, ptr %addresses, i64 {place}",
                f"%{word} = load i64, ptr %w.{word}, !invariant.load !4",
            ]
        if not self.plan.inputs:
            return lines
        lines += ["%first = trunc i64 %first_index to i32", "%stream.word = trunc i64 %stream to i32"]
        for key in (0, 1):
            lines += [*double(row + key), f"%key{key}.word = fptoui double %d{row + key} to i32"]
        return lines

    def counters(self, phase: int, begin: str, before: str) -> tuple[list[str], list[str], list[str]]:
        """Return the lines that count an element's index times a number in steps, since adding is cheaper.

        They are those before the loop over the elements, at its head, and at its end.

        Args:
            phase: of the loop.
            begin: the name of its first element's place, in 32 bits.
            before: the block that comes before it.
        """
        first, head, end = [], [], []
        for number, instruction in enumerate(self.plan.body):
            if instruction.phase == phase and (factor := self._counted(instruction)):
                name = f"%v{len(self.plan.planes) + number}"
                first += [f"{name}.index = add i32 {begin}, %first", f"{name}.first = mul i32 {name}.index, {factor}"]
                head.append(f"{name} = phi i32 [ {name}.first, %{before} ], [ {name}.next, %loop{phase} ]")
                end.append(f"{name}.next = add i32 {name}, {factor}")
        return first, head, end

    def _counted(self, instruction: Instruction) -> int:
        """Return the number that an instruction multiplies the index by; 0 for any other instruction."""
        if instruction.op != "word_mul":
            return 0
        index, factor = instruction.args
        body = index.index - len(self.plan.planes) if isinstance(index, Value) else -1
        is_index = body >= 0 and self.plan.body[body].op == "index"
        return int(factor.value) if is_index and isinstance(factor, Const) else 0

    def elements(self, phase: int) -> list[str]:
        """One element in one phase: loads, body, stores. Its place is ``%at`` with the phase's number."""
        return self._at(f"%at{phase}", phase, ", !llvm.access.group !0")

    def group(self, phase: int) -> list[str]:
        """One group in one phase, at ``%group``: loads, body, stores."""
        return self._at("%group", phase, "")

    def _at(self, place: str, phase: int, access: str) -> list[str]:
        elements = [(index, self.stored(index)) for index in self._touched(phase) if not self.is_of_row(index)]
        lines = [f"%e{i}.{phase} = getelementptr {kind}, {self._place(i, phase, place)}" for i, kind in elements]
        for index in self.plan.loads:
            if self.plan.phase_of(index) == phase and not self.is_of_row(index):
                lines += self.load(index, phase, access)
        return [*lines, *self.instructions(phase), *self._stores(phase, access)]

    def _place(self, index: int, phase: int, place: str) -> str:
        """Return where a plane has its number: what shares an item has been taken apart by ``llvm_packs``."""
        if self.plan.planes[index].per == "column":
            return f"ptr %p{index}, i64 %column{phase}"
        return (
            f"ptr %pack{index}, i64 %i{phase}" if self.plan.planes[index].packing > 1 else f"ptr %p{index}, i64 {place}"
        )

    def is_of_row(self, index: int) -> bool:
        """Whether a plane has numbers of rows, which are loaded before the loop over elements."""
        return self.plan.planes[index].per == "row"

    def instructions(self, phase: int) -> list[str]:
        """The body of one phase, but for maxima over a group and what is counted."""
        lines: list[str] = []
        section = "the rule"
        for number, instruction in enumerate(self.plan.body):
            if instruction.phase != phase or instruction.op == "group_max" or self._counted(instruction):
                continue
            if instruction.section != section:
                section = instruction.section
                lines.append(f"; {section}")
            name = f"%v{len(self.plan.planes) + number}"
            args = [self.ref(ref, phase) for ref in instruction.args]
            lines += operation(instruction.op, args, self._real, name, phase)
        return lines

    def sums(self, phase: int) -> list[str]:
        """Add to the lanes of the sums of one phase; the lane is ``%i`` with the phase's number.

        Those of sums over rows follow.
        """
        lines: list[str] = []
        for number, result in enumerate((*self.plan.sums, *self.plan.row_sums)):
            if result.phase != phase:
                continue
            lines += self.widened(number, result, phase)
            lines += [
                f"%j{number} = add i64 %i{phase}, {number * LANES}",
                f"%b{number} = getelementptr double, ptr %sums, i64 %j{number}",
                f"%o{number} = load double, ptr %b{number}, align 8, !llvm.access.group !0",
                f"%n{number} = fadd double %o{number}, %d.{number}",
                f"store double %n{number}, ptr %b{number}, align 8, !llvm.access.group !0",
            ]
        return lines

    def widened(self, number: int, result: Sum, phase: int) -> list[str]:
        """Give what is added to a sum the name ``%d.`` with its number."""
        value = self.ref(result.value, phase)
        if self.plan.kind_of(result.value) == "bool":
            return [f"%d.{number} = uitofp i1 {value} to double"]
        # IR has no copy: a float64 value is cast to what it is.
        wide = f"fpext float {value} to double" if self._real == "float" else f"bitcast double {value} to double"
        if not result.is_squared:
            return [f"%d.{number} = {wide}"]
        return [f"%u{number} = {wide}", f"%d.{number} = fmul double %u{number}, %u{number}"]

    def ref(self, ref: Ref, phase: int) -> str:
        """Return how an operand is written in a phase."""
        if isinstance(ref, Const):
            return written_out(ref, self.plan.compute)
        if not isinstance(ref, Value):
            return f"%s{ref.index}"
        made = self.plan.phase_of(ref.index)
        is_elsewhere = made != phase and self.plan.phases[made] == "element" and not self._is_of_group(ref.index)
        return f"%v{ref.index}.{phase}" if is_elsewhere else f"%v{ref.index}"

    def type_of(self, index: int) -> str:
        """Return the type of a value."""
        return _OF_KIND.get(self.plan.kind_of(Value(index)), self._real)

    def _is_of_group(self, index: int) -> bool:
        """Whether a value of an element phase is one of all elements of a group: a maximum, or a number of a row."""
        body = index - len(self.plan.planes)
        return self.plan.body[body].op == "group_max" if body >= 0 else self.is_of_row(index)

    def load(self, index: int, phase: int, access: str) -> list[str]:
        """Load a number of a plane from ``%e`` with its index and the phase's number."""
        plane, stored = self.plan.planes[index], self.stored(index)
        load = f"load {stored}, ptr %e{index}.{phase}, align {BYTES[stored]}{access}"
        if stored == self._real:
            return [f"%v{index} = {load}"]
        if plane.kind == "int":
            extend = "zext" if plane.dtype.startswith("u") else "sext"
            return [f"%l{index} = {load}", f"%v{index} = {extend} {stored} %l{index} to i32"]
        return [f"%l{index} = {load}", f"%v{index} = fpext {stored} %l{index} to {self._real}"]

    def _stores(self, phase: int, access: str) -> list[str]:
        lines: list[str] = []
        for store in self.plan.stores:
            if store.phase != phase:
                continue
            index, stored, value = store.plane, self.stored(store.plane), self.ref(store.value, phase)
            if stored != self._real:
                kind = self.plan.planes[index].kind
                cut = f"trunc i32 {value}" if kind == "int" else f"fptrunc {self._real} {value}"
                lines.append(f"%r{index} = {cut} to {stored}")
                value = f"%r{index}"
            lines.append(f"store {stored} {value}, ptr %e{index}.{phase}, align {BYTES[stored]}{access}")
        return lines

    def stored(self, index: int) -> str:
        """Return the type of a plane's items."""
        return ir_type(self.plan.planes[index].dtype)

    def _touched(self, phase: int | None = None) -> list[int]:
        """Return the planes that are loaded or stored, in one phase or in any."""
        loads = {i for i in self.plan.loads if phase in (None, self.plan.phase_of(i))}
        return sorted(loads | {store.plane for store in self.plan.stores if phase in (None, store.phase)})
