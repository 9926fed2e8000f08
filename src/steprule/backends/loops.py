"""The shell of targets whose text is statements and loops: C and JavaScript differ in a table and a few phrases.

A plan without groups is one loop over elements. One with groups walks rows and groups of a row, and in a group the
plan's phases by turns; what one loop over the elements leaves to the next lies in tiles of one group. One that sees
rows and columns walks matrices: ``loops_matrices``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from steprule.backends import loops_sums
from steprule.backends.loops_dialect import Dialect
from steprule.compile import LANES, Const, Plan, Plane, Ref, Store, Value, distinct
from steprule.errors import TargetError
from steprule.formats import GROUP
from steprule.language.ops import Kind

__all__ = ["Writer", "indented", "words"]

_OURS = (
    *("n", "i", "k", "rows", "length", "row", "place", "group", "groups", "offset", "count"),
    *("packed2", "packed4", "packed8"),
)
"""The names of the loops' own numbers."""


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines within a block."""
    return [f"{'    ' * depth}{line}" if line else line for line in lines]


def words(lines: Iterable[str]) -> set[str]:
    """Return the names and words in a text."""
    return set(re.findall(r"\w+", "\n".join(lines)))


class Writer:
    """Writes the body of a kernel. A rule may give its slots any names, so ours keep out of their way.

    Attributes:
        arrays: the names of the planes, in the plan's order.
        taken: all names that the body uses.
    """

    def __init__(self, plan: Plan, dialect: Dialect) -> None:
        """Take a plan.

        Raises:
            TargetError: when it keeps numbers in a type that the target has no name for.
        """
        self._plan, self._dialect = plan, dialect
        _check(plan, dialect)
        numbers = [f"x{number}" for number in range(len(plan.body))]
        self._scalars = [f"s{number}" for number in range(len(plan.prelude.conditions))]
        taken = [*dialect.reserved, *_OURS, *numbers, *self._scalars, *self._own_names()]
        names = [plane.name.replace(".", "_") for plane in plan.planes]
        self.arrays = list(distinct(names, taken).values())
        loaded = distinct([f"{name}_i" for name in names], [*taken, *self.arrays])
        self._values = [*loaded.values(), *numbers]
        self.taken = [*taken, *self.arrays, *self._values]
        self._loaded_first: Sequence[int] = plan.loads
        self._tiled = {index for index in range(len(self._values)) if self._is_read_later(index)}

    def _own_names(self) -> Sequence[str]:
        """Return further names that the body uses."""
        return loops_sums.names(len(self._plan.sums))

    def lines(self, row: Sequence[str]) -> list[str]:
        """Return the statements: the scalars of the ``row``, given as texts, loops over elements or groups, sums."""
        dialect, plan = self._dialect, self._plan
        lines = [self._scalar(index, text) for index, text in enumerate(row)]
        lines += loops_sums.declared(dialect.sums, len(plan.sums))
        if plan.has_groups:
            tiles = sorted(self._tiled)
            lines += [dialect.tile.format(type=self._type(index), name=self._tile(index)) for index in tiles]
            lines += self._groups()
        else:
            inner = [*self._phase(0), *self._sums(0), *self._folded("i", "n")]
            lines += [dialect.count.format(name="i", end="n"), *indented(inner), "}"]
        first = sum(len(before.totals) for before in plan.before)
        return lines + loops_sums.results(dialect.sums, len(plan.sums), first)

    def _groups(self) -> list[str]:
        count, size = self._dialect.count, self._dialect.size
        inner: list[str] = []
        for phase, per in enumerate(self._plan.phases):
            inner += self._phase(phase) if per == "group" else self._elements(phase)
        inner += self._folded("group", "rows * groups")
        left = f"length - place * {GROUP}"
        places = {
            "group": "row * groups + place",
            "offset": f"row * length + place * {GROUP}",
            "count": f"{left} < {GROUP} ? {left} : {GROUP}",
        }
        for packing in self._plan.packings:
            items = f"((length + {packing - 1}) >> {_places(packing)})"
            places[f"packed{packing}"] = f"row * {items} + place * {GROUP // packing}"
        inner = [*self._sizes(places, inner), *inner]
        return [
            size.format(name="groups", text=self._dialect.groups),
            count.format(name="row", end="rows"),
            *indented([count.format(name="place", end="groups"), *indented(inner), "}"]),
            "}",
        ]

    def _sizes(self, texts: Mapping[str, str], inner: Sequence[str]) -> list[str]:
        """Return statements that name integers, but those that lines do not read: compilers warn of them."""
        read = words(inner)
        return [self._dialect.size.format(name=name, text=text) for name, text in texts.items() if name in read]

    def _elements(self, phase: int) -> list[str]:
        """Return the loop over the elements of a group in one phase, with the maxima that it finds."""
        first = len(self._plan.planes)
        maxima = [
            (self._values[first + number], instruction.args[0])
            for number, instruction in enumerate(self._plan.body)
            if instruction.op == "group_max" and instruction.phase == phase
        ]
        body = [*self._phase(phase), *self._sums(phase)]
        body += [self._dialect.larger.format(name=name, word=self._ref(ref, phase)) for name, ref in maxima]
        for index in sorted(self._tiled):
            if self._plan.phase_of(index) == phase:
                body.append(f"{self._tile(index)}[k] = {self._values[index]};")
        body = [*self._sizes({"i": "offset + k"}, body), *body]  # not where all planes are of items and groups
        starts = [self._dialect.maximum.format(name=name) for name, _ in maxima]
        return [*starts, self._dialect.count.format(name="k", end="count"), *indented(body), "}"]

    def _phase(self, phase: int) -> list[str]:
        """Return the loads, the operations and the stores of one element, or one group, in a phase."""
        plan = self._plan
        lines = self._loads([index for index in self._loaded_first if plan.phase_of(index) == phase])
        section = "the rule"
        for number, instruction in enumerate(plan.body):
            if instruction.phase != phase or instruction.op == "group_max":
                continue
            if instruction.section != section:
                section = instruction.section
                lines.append(f"/* {section} */")
            args = [self._ref(ref, phase) for ref in instruction.args]
            spelled = self._dialect.operations[plan.compute][instruction.op]
            lines.append(self._named(len(plan.planes) + number, spelled.format(*args)))
        return lines + [self._stored(store, phase) for store in plan.stores if store.phase == phase]

    def _loads(self, indices: Iterable[int]) -> list[str]:
        planes = self._plan.planes
        return [self._named(index, self._loaded(planes[index], self.arrays[index])) for index in indices]

    def _sums(self, phase: int) -> list[str]:
        """Return the statements that add up what one element gives to each sum of a phase, before its stores count."""
        lane = "k" if self._plan.has_groups else f"i % {LANES}"
        lines: list[str] = []
        for number, result in enumerate(self._plan.sums):
            if result.phase == phase:
                text = self._ref(result.value, phase)
                to = f"lanes{number}[{lane}]"
                lines += loops_sums.added(self._dialect.sums, to, number, text, is_squared=result.is_squared)
        return lines

    def _folded(self, place: str, end: str) -> list[str]:
        count, has_groups = len(self._plan.sums), self._plan.has_groups
        return loops_sums.folded(self._dialect.sums, count, place, end, has_groups=has_groups) if count else []

    def _named(self, index: int, text: str) -> str:
        return self._dialect.value.format(type=self._type(index), name=self._values[index], text=text)

    def _loaded(self, plane: Plane, array: str) -> str:
        text = self._dialect.load[plane.dtype].format(_item(plane, array))
        return f"(({text}) >> {_shift(plane)}) & {2**plane.bits - 1}" if plane.packing > 1 else text

    def _stored(self, store: Store, phase: int) -> str:
        plane, item = self._plan.planes[store.plane], _item(self._plan.planes[store.plane], self.arrays[store.plane])
        value = self._ref(store.value, phase)
        if plane.packing > 1:
            # Elements of an item come one after the other. All have been read: the first clears what was there.
            before = f"((k & {plane.packing - 1}) ? {item} : 0)"
            value = f"({before} | (({value} & {2**plane.bits - 1}) << {_shift(plane)}))"
        return f"{item} = {self._dialect.store[plane.dtype].format(value)};"

    def _scalar(self, index: int, text: str) -> str:
        is_condition = self._plan.prelude.conditions[index]
        spelled = self._dialect.condition if is_condition else self._dialect.number[self._plan.compute]
        kind = self._dialect.types["bool" if is_condition else self._plan.compute]
        return self._dialect.value.format(type=kind, name=f"s{index}", text=spelled.format(text))

    def _ref(self, ref: Ref, phase: int) -> str:
        if isinstance(ref, Const):
            return self._constant(ref)
        if not isinstance(ref, Value):
            return self._scalars[ref.index]
        is_elsewhere = ref.index in self._tiled and self._plan.phase_of(ref.index) != phase
        return f"{self._tile(ref.index)}[k]" if is_elsewhere else self._values[ref.index]

    def _constant(self, ref: Const) -> str:
        if ref.kind == "int":
            return self._dialect.word.format(int(ref.value))
        value = float(np.dtype(self._plan.compute).type(ref.value))
        if np.isnan(value):
            return self._dialect.nan
        text = f"{value!r}{self._dialect.suffix[self._plan.compute]}" if np.isfinite(value) else self._dialect.infinity
        return f"(-{text})" if value == -np.inf else f"({text})" if text.startswith("-") else text

    def _type(self, index: int) -> str:
        kind: Kind = self._plan.kind_of(Value(index))
        return self._dialect.types[self._plan.compute if kind == "float" else kind]

    def _tile(self, index: int) -> str:
        return f"{self._values[index]}_all"

    def _is_read_later(self, index: int) -> bool:
        """Whether a later phase needs a value of the elements that an earlier one has computed."""
        plan, body = self._plan, index - len(self._plan.planes)
        made = plan.phase_of(index)
        if plan.phases[made] != "element" or (body >= 0 and plan.body[body].op == "group_max"):
            return False
        refs: list[Ref] = [ref for one in plan.body if one.phase > made for ref in one.args]
        refs += [store.value for store in plan.stores if store.phase > made]
        refs += [result.value for result in plan.sums if result.phase > made]
        return any(isinstance(ref, Value) and ref.index == index for ref in refs)


def _item(plane: Plane, array: str) -> str:
    """Return the item of a plane that has the number of an element, or of a group."""
    if plane.packing > 1:
        return f"{array}[packed{plane.packing} + (k >> {_places(plane.packing)})]"
    return f"{array}[{'i' if plane.per == 'element' else plane.per}]"


def _shift(plane: Plane) -> str:
    """Return where in its item the number of an element lies."""
    return f"((k & {plane.packing - 1}) << {_places(plane.bits)})"


def _places(number: int) -> int:
    """Return the logarithm of a power of two."""
    return number.bit_length() - 1


def _check(plan: Plan, dialect: Dialect) -> None:
    if plan.view is not None and plan.has_groups:
        raise TargetError(
            f"{plan.title}: {dialect.name} has no loops over rows and columns whose elements have scales in groups; "
            "take --states float32 or bfloat16, or a target that has them: llvm or numpy"
        )
    for store in plan.stores:
        if plan.planes[store.plane].packing > 1 and store.phase == plan.phase_of(store.plane):
            raise TargetError(
                f"{plan.title}: {dialect.name} reads and writes numbers that share an item in two loops, and this plan "
                "has one; a format of such numbers needs a scale"
            )
    for plane in plan.planes:
        if plane.dtype not in dialect.load:
            raise TargetError(
                f"{plan.title}: {dialect.name} has no type {plane.dtype}. Take --dtype bfloat16 or float32, or a "
                "target that has it: llvm, triton or numpy"
            )
