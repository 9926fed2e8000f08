"""How Triton spells a plan: the table of operations, and the lines of one block of elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steprule.backends.triton_lines import TYPES, halves, needed
from steprule.compile import Const, Instruction, Plan, Plane, Ref, Scalar, Sum, Value
from steprule.formats import GROUP

__all__ = ["Code"]

PLACES = {
    "element": ("at", "live"),
    "group": ("group", "is_group"),
    "row": ("row", "is_row"),
    "column": ("column", "is_column"),
}
"""How the places of the items of a plane are called, and which of them there are."""
_SIGNED = ".to(tl.int32, bitcast=True)"
_WORD = ".to(tl.uint32, bitcast=True)"

_TRITON = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "abs": "tl.abs({0})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "{0} == 0",
    "where": "tl.where({0}, {1}, {2})",
    "bits": f"{{0}}{_WORD}",
    "real": "{0}.to(tl.float32, bitcast=True)",
    "whole": f"{{0}}{_SIGNED}.to(tl.float32)",
    "half": "{0}.to(tl.float16).to(tl.float32)",
    "word_add": "{0} + {1}",
    "word_sub": "{0} - {1}",
    "word_mul": "{0} * {1}",
    "word_and": "{0} & {1}",
    "word_or": "{0} | {1}",
    "word_xor": "{0} ^ {1}",
    "shift_left": "{0} << {1}",
    "shift_right": "{0} >> {1}",
    "word_maximum": f"tl.maximum({{0}}{_SIGNED}, {{1}}{_SIGNED}){_WORD}",
    "word_minimum": f"tl.minimum({{0}}{_SIGNED}, {{1}}{_SIGNED}){_WORD}",
    "word_lt": "{0} < {1}",
    "word_eq": "{0} == {1}",
    "word_where": "tl.where({0}, {1}, {2})",
    "group_max": "tl.max(tl.where(live, {0}, zero), axis=1, keep_dims=True)",
    "index": "at.to(tl.uint32) + first",
    "stream": "stream",
    "key0": "key0",
    "key1": "key1",
}
# Triton's own minus takes from +0, and loses the sign of a zero; its / and sqrt of float32 are approximations.
_OF_TYPE = {
    "float32": {
        "neg": "({0}.to(tl.uint32, bitcast=True) ^ 0x80000000).to(tl.float32, bitcast=True)",
        "div": "tl.div_rn({0}, {1})",
        "sqrt": "tl.sqrt_rn({0})",
    },
    "float64": {
        "neg": "({0}.to(tl.uint64, bitcast=True) ^ 0x8000000000000000).to(tl.float64, bitcast=True)",
        "div": "{0} / {1}",
        "sqrt": "tl.sqrt({0})",
    },
}


class Code:
    """Writes the parts of a kernel, for every shell.

    The lines expect the names ``p0``, ``p1``, ... (pointers to the first element of each plane), ``s0``, ... (scalars),
    ``at`` (the elements' places), ``live`` (which of them there are), ``group`` and ``is_group`` (the same of groups),
    or ``row``, ``is_row``, ``column`` and ``is_column`` (of the rows and columns of all matrices), and the words of
    random bits. Of the body, it writes what stores and sums need.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._spelt = {**_TRITON, **_OF_TYPE[plan.compute]}
        sums = (*plan.sums, *plan.row_sums, *plan.column_sums)
        results = [*(store.value for store in plan.stores), *(result.value for result in sums)]
        self._needed = needed(plan.body, len(plan.planes), results)

    @property
    def loads(self) -> list[int]:
        """The planes that are loaded."""
        return [index for index in self.plan.loads if index in self._needed]

    @property
    def touched(self) -> list[int]:
        """The planes that are loaded or stored."""
        return sorted({*self.loads, *(store.plane for store in self.plan.stores)})

    def entry(self, words: Mapping[str, int]) -> list[str]:
        """Load what the table says of ``row``.

        Args:
            words: where in a line of the table each of its words is.
        """
        plan = self.plan
        lines = [
            f"a{index} = tl.load(gradients.to(tl.pointer_type(tl.int64)) + row)"
            if index == 1
            else f"a{index} = tl.load(words + {index})"
            for index in self.touched
        ]
        if plan.has_groups:
            lines += [f"length = tl.load(words + {words['row_length']})"]
            lines += [f"groups = tl.load(words + {words['groups_a_row']})"]
        if plan.inputs:
            lines += [f"first = tl.load(words + {words['first_index']}).to(tl.uint32)"]
            lines += [f"stream = tl.load(words + {words['stream']}).to(tl.uint32)"]
        if plan.sums:
            lines.append(f"out = tl.load(words + {words['sums']}).to(tl.pointer_type(tl.float64))")
        if plan.prelude.conditions or plan.inputs:
            lines.append(f"scalars = tl.load(words + {words['scalars']}).to(tl.pointer_type(tl.float64))")
        return [*lines, *self.scalars()]

    def pointers(self, *, aligned: bool) -> list[str]:
        """Make pointers of the addresses ``a0``, ``a1``, ...; a promise about them must stand where they are made."""
        types = {index: f"tl.pointer_type({TYPES[self.plan.planes[index].dtype]})" for index in self.touched}
        if not aligned:
            return [f"p{index} = a{index}.to({kind})" for index, kind in types.items()]
        return [f"p{index} = tl.multiple_of(a{index}.to({kind}), 16)" for index, kind in types.items()]

    def scalars(self) -> list[str]:
        """Load the scalars at ``scalars``, rounded to the compute type, and the keys of random bits after them."""
        kind, conditions = TYPES[self.plan.compute], self.plan.prelude.conditions
        lines = [
            f"s{index} = tl.load(scalars + {index})" + (" != 0.0" if is_condition else f".to({kind})")
            for index, is_condition in enumerate(conditions)
        ]
        if self.plan.inputs:  # as 64-bit integers: not every target converts large numbers to unsigned words alike
            lines += [f"key{k} = tl.load(scalars + {len(conditions) + k}).to(tl.int64).to(tl.uint32)" for k in (0, 1)]
        return lines

    def body(self, *, masked: bool) -> list[str]:
        """Load and compute, phase by phase. Masked: only what is live."""
        return [*self.loading(masked=masked), *self.operations()]

    def loading(self, *, masked: bool) -> list[str]:
        """Load what is computed with."""
        lines = ["zero = tl.full((), 0, tl.uint32)"] if self.plan.has_groups else []
        for packing in self.plan.packings:
            lines += self._items(packing, masked)
        for index in self.loads:
            lines += [f"q{index} = {self._item(index, masked)}"] if self.plan.planes[index].packing > 1 else []
            lines.append(f"v{index} = {self._load(index, masked)}")
        return lines

    def operations(self) -> list[str]:
        """Compute."""
        lines, section = list[str](), ""
        for index, instruction in enumerate(self.plan.body, len(self.plan.planes)):
            if index not in self._needed:
                continue
            if instruction.section != section:
                section = instruction.section
                lines.append(f"# {section}")
            lines.append(f"v{index} = {self.spelled(instruction)}")
        return lines

    def spelled(self, instruction: Instruction) -> str:
        """Return how an operation is written."""
        return self._spelt[instruction.op].format(*map(self.ref, instruction.args))

    def stores(self, *, masked: bool) -> list[str]:
        """Write the results."""
        lines = []
        for store in self.plan.stores:
            plane = self.plan.planes[store.plane]
            place, live = PLACES[plane.per]
            if plane.packing > 1:
                lines += self._packed(store.plane, self.ref(store.value), masked)
                continue
            value = f"{self.ref(store.value)}.to({TYPES[plane.dtype]})"
            lines.append(f"tl.store(p{store.plane} + {place}, {value}{f', {live}' if masked else ''})")
        return lines

    def _items(self, packing: int, masked: bool) -> list[str]:
        """Find the places of the items of a tile of groups, where each holds the numbers of so many elements."""
        lane = f"tl.arange(0, {GROUP // packing})[None, :]"
        if not masked:
            return [f"item{packing} = group * {GROUP // packing} + {lane}"]
        up = packing - 1
        row = f"group // groups * ((length + {up}) // {packing})"
        return [
            f"item{packing} = {row} + group % groups * {GROUP // packing} + {lane}",
            f"held{packing} = is_group & ({lane} < (left + {up}) // {packing})",
        ]

    def _packed(self, index: int, value: str, masked: bool) -> list[str]:
        """Write items that hold the numbers of several elements, with zeros in what is left of a row's last."""
        plane = self.plan.planes[index]
        axes = ", ".join(["2"] * (plane.packing.bit_length() - 1))
        wide = f"tl.where(live & (at >= 0), {value} & {self._mask(plane)}, zero)"
        lines = [f"q{index} = tl.reshape({wide}, (at.shape[0], {GROUP // plane.packing}, {axes}))"]
        names = [f"q{index}"]
        while len(names) < plane.packing:  # the last axis, of neighbours, first
            halves = [[f"{name}0", f"{name}1"] for name in names]
            lines += [f"{low}, {high} = tl.split({name})" for name, (low, high) in zip(names, halves, strict=True)]
            names = [low for low, _ in halves] + [high for _, high in halves]
        # Of 4 the first two names are those of elements 0 and 2.
        places = [sum(int(bit) << k for k, bit in enumerate(name.removeprefix(f"q{index}"))) for name in names]
        shifted = [f"({name} << {place * plane.bits})" for name, place in zip(names, places, strict=True)]
        item = f"({' | '.join(shifted)}).to({TYPES[plane.dtype]})"
        return [*lines, f"tl.store(p{index} + item{plane.packing}, {item}{f', held{plane.packing}' if masked else ''})"]

    def _item(self, index: int, masked: bool) -> str:
        plane = self.plan.planes[index]
        mask = f", held{plane.packing}, other=0" if masked else ""
        return f"tl.load(p{index} + item{plane.packing}{mask}).to(tl.uint32)"

    def _unpacked(self, index: int) -> str:
        plane = self.plan.planes[index]
        texts = [f"((q{index} >> {field * plane.bits}) & {self._mask(plane)})" for field in range(plane.packing)]
        while len(texts) > 1:  # the first axis that is joined, of the farthest apart, is the first of the shape
            half = len(texts) // 2
            texts = [f"tl.join({low}, {high})" for low, high in zip(texts[:half], texts[half:], strict=True)]
        return f"tl.reshape({texts[0]}, (group.shape[0], {GROUP}))"

    def _mask(self, plane: Plane) -> str:
        return f"tl.full((), {2**plane.bits - 1}, tl.uint32)"

    def sums(self) -> list[str]:
        """Add to the lanes ``sum0``, ``sum1``, ..."""
        lines = []
        for number, result in enumerate(self.plan.sums):
            lines += self.added(f"sum{number}", result)
        return lines

    def added(self, lanes: str, result: Sum) -> list[str]:
        """Add what is live to lanes."""
        wide = f"tl.where(live, {self.ref(result.value)}.to(tl.float64), 0.0)"
        return [f"wide = {wide}", f"{lanes} += wide{' * wide' if result.is_squared else ''}"]

    def totals(self) -> list[str]:
        """Add the upper half of the lanes to the lower until one is left, and write the sums."""
        lines = []
        for number in range(len(self.plan.sums)):
            lines += halves(f"sum{number}")
            lines.append(f"tl.store(out + {number} + tl.arange(0, 1), left)")
        return lines

    def ref(self, ref: Ref) -> str:
        """Return how an operand is written."""
        if isinstance(ref, Value):
            return f"v{ref.index}"
        if isinstance(ref, Scalar):
            return f"s{ref.index}"
        return self._constant(ref)

    def _constant(self, const: Const) -> str:
        if const.kind == "int":
            return f"tl.full((), {int(const.value) & 0xFFFFFFFF}, tl.uint32)"
        value = float(np.dtype(self.plan.compute).type(const.value))
        if value == 0 and np.signbit(value):  # full takes it for +0
            return self._spelt["neg"].format(f"tl.full((), 0.0, {TYPES[self.plan.compute]})")
        text = repr(value) if np.isfinite(value) else f'float("{value}")'
        return f"tl.full((), {text}, {TYPES[self.plan.compute]})"

    def _load(self, index: int, masked: bool) -> str:
        plane = self.plan.planes[index]
        if plane.packing > 1:
            return self._unpacked(index)
        place, live = PLACES[plane.per]
        text = f"tl.load(p{index} + {place}{f', {live}, other=0' if masked else ''})"
        if plane.dtype == self.plan.compute:
            return text
        if plane.kind == "float":
            return f"{text}.to({TYPES[self.plan.compute]})"
        return f"{text}.to(tl.uint32)" if plane.dtype.startswith("u") else f"{text}.to(tl.int32){_WORD}"
